"""Which margins a backtest compares, each by the name that its series has in the margin table.

Of a champion and of ``ewma``, the method of the rules rung:

- ``C through engine``, ``ewma through engine``: served by the engine within the limits of the settings;
- ``C through plain limiter``: the champion within ``plain_limiter``, where a fall waits for hours;
- ``C requirement``, ``ewma requirement``: what the forecast asks for, no rule applied;
- ``ewma with 25 % buffer``: ``ewma`` through the engine with rule 13's buffer, full at the first decision:
  25 % on top in calm, released under stress, as Article 28 of Regulation (EU) 153/2013 has it;
- ``static``: ES of all losses before the first decision, per symbol and side.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from features.bars import Market
from models.margin.limits import Limits, Ratio
from models.margin.types import EngineState
from models.settings import MarginSettings
from training.margin.losses import static_table
from training.margin.requirements import requirement_table
from training.margin.simulation import Run, plain_limiter, simulate
from training.margin.table import answered_table
from training.margin.tape import RULES_MODEL, ForecastTableError, horizons_of, levels_of, tapes
from training.parallel import IN_THIS_PROCESS, Workers

#: Article 28 (1) (a) of Regulation (EU) 153/2013.
BUFFER = Ratio(0.25)


def through_engine(model: str) -> str:
    """The name of the series of a model served by the engine."""
    return f"{model} through engine"


def runs(champion: str, limits: Limits) -> dict[str, Run]:
    """What goes through the engine, by the name of its series; the champion's comes first."""
    buffered = replace(limits, buffer_ratio=BUFFER)
    full = EngineState(buffer=(BUFFER, BUFFER, BUFFER, BUFFER))
    return {
        through_engine(champion): Run(champion, limits),
        f"{champion} through plain limiter": Run(champion, plain_limiter(limits)),
        through_engine(RULES_MODEL): Run(RULES_MODEL, limits),
        f"{RULES_MODEL} with {BUFFER:.0%} buffer".replace("%", " %"): Run(RULES_MODEL, buffered, full),
    }


def margin_table(
    forecasts: pd.DataFrame,
    market: Market,
    margin: MarginSettings,
    champion: str,
    workers: Workers = IN_THIS_PROCESS,
) -> pd.DataFrame:
    """The margin table of every series of the module, at every bar from the first forecast to the last.

    Args:
        forecasts: a forecast table of the champion and of ``ewma`` (see ``tape.tapes``).
        market: the bars that they were made from, with history before for base and static rates.
        margin: kinds, base rates and limits, as the server reads them.
        champion: the model that the engine is given as its champion.
        workers: who decides; a job is one contract of one series.

    Raises ``ForecastTableError`` as ``tapes`` does, and ``ValueError`` where a symbol has no loss before the
    first decision.
    """
    names = dict.fromkeys((champion, RULES_MODEL))
    times, contracts = tapes(forecasts, market, margin, tuple(names))
    if not contracts:
        raise ForecastTableError(f"no symbol has a whole forecast of {list(names)}; backtest these models")
    plan = runs(champion, margin.limits)
    answers = simulate(contracts, plan.values(), workers)
    parts = [answered_table(name, times, own) for name, own in zip(plan, answers, strict=True)]
    horizons, levels = horizons_of(margin), levels_of(margin)
    parts += [
        requirement_table(forecasts, model, levels, horizons=horizons, base=parts[0]) for model in names
    ]
    symbols = [contract.symbol for contract in contracts]
    level = levels["maintenance"]
    parts.append(static_table(market.select(symbols), times, horizons=horizons, level=level))
    return pd.concat(parts, ignore_index=True)
