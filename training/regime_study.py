"""What the regimes are worth: how early they warn of the worst hours against simpler rules, and whether their
names mean the same after every refit.

The rules, on what was known at each decision time:

    regimes            P(stressed or crisis) above one half, by all that the bars allow to observe
    volatility at 1/2  the same of chains that observe volatility alone
    volatility         the same, above the threshold that alarms as often as ``regimes``
    ewma               EWMA volatility above the threshold that alarms as often as ``regimes``

The market's are asked about its mean return, a symbol's own about its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.bars import Market
from features.regime_observations import over_symbols
from features.volatility import sigma
from features.windows import Array
from training.early_warning import Alarm, Span, costs_of, hourly_moves, threshold_for, warnings_of
from training.regime_refits import CHAINS, followed, quarterly_refits, stability, tense

#: The scope that is asked about the mean return of all symbols.
MARKET = "market"
HALF = 0.5


@dataclass(frozen=True)
class RegimeStudy:
    """``warnings``: a row per worst hour of the market and rule (``training.early_warning.warnings_of``).
    ``costs``: a row per ``scope`` (the market, then each symbol) and rule (``costs_of``). ``stability``: as
    ``training.regime_refits.stability``. ``scores``: the rules' numbers for the market, by time, those of
    ``ewma`` in logarithms; ``moves``: the market's mean hourly return. ``observed``: what the newest chain of
    the market observes."""

    market: Market
    warnings: pd.DataFrame
    costs: pd.DataFrame
    stability: pd.DataFrame
    scores: pd.DataFrame
    moves: pd.Series[float]
    observed: tuple[str, ...]


def study_regimes(
    market: Market, worst: int, start: pd.Timestamp | None = None, end: pd.Timestamp | None = None
) -> RegimeStudy:
    """Learn the regimes anew every quarter, follow them, and ask the rules at the decision times in [start,
    end] that follow the first refit.

    Raises ``ValueError`` where the history is too short to learn on, or the span to find ``worst`` hours in.
    """
    refits, plain = quarterly_refits(market), quarterly_refits(market, ["volatility"])
    whole, alone = followed(market, refits), followed(market, plain)
    level = np.log(sigma(market))
    moves = hourly_moves(market)
    first = next(iter(whole.values())).index[0]
    span = slice(first if start is None else max(first, start), end)
    if moves.loc[span].empty:
        raise ValueError(
            f"no decision time lies between {span.start} and {end or market.times[-1]}; the regimes "
            f"are learned first at {first}, and the bars end at {market.times[-1]}"
        )
    costs, warnings, scores = [], pd.DataFrame(), pd.DataFrame()
    for scope in (MARKET, *market.symbols):
        prefix = CHAINS["market" if scope == MARKET else "symbol"]
        by_rule = pd.DataFrame(
            {
                "regimes": _of_scope(tense(whole, prefix), scope),
                "volatility": _of_scope(tense(alone, prefix), scope),
                "ewma": _of_scope(pd.DataFrame(level, market.times, list(market.symbols)), scope),
            }
        ).loc[span]
        asked = Span.of(moves[scope].loc[span], market.interval, worst)
        alarms = _alarms(by_rule)
        costs += [{"scope": scope, **costs_of(asked, alarm)} for alarm in alarms]
        if scope == MARKET:
            warnings = pd.concat([warnings_of(asked, alarm) for alarm in alarms], ignore_index=True)
            scores = by_rule
    return RegimeStudy(
        market,
        warnings,
        pd.DataFrame(costs),
        stability(market, refits),
        scores,
        moves[MARKET].loc[span],
        tuple(refits[-1].state["market"]["observations"]),
    )


def _of_scope(frame: pd.DataFrame, scope: str) -> pd.Series[float]:
    """A symbol's column; of the market, the mean of the known symbols (its chain is the same for all)."""
    if scope != MARKET:
        return frame[scope]
    return pd.Series(over_symbols(frame.to_numpy())[:, 0], frame.index)


def _alarms(scores: pd.DataFrame) -> list[Alarm]:
    values: dict[str, Array] = {str(name): column.to_numpy() for name, column in scores.items()}
    regimes = Alarm.of("regimes", values["regimes"], HALF)
    return [
        regimes,
        Alarm.of("volatility at 1/2", values["volatility"], HALF),
        *(
            Alarm.of(name, values[name], threshold_for(values[name], regimes.share))
            for name in ("volatility", "ewma")
        ),
    ]
