"""The impulse response of a margin: how it answers a shock, next to what it would have been without.

A *response* is the loss that the margin of a long covers (``-ln(1 - rate)``), divided by what it covers at
the same hour of the same path without the shock. So calm has the response 1, and a margin that answers a
doubled volatility fully has 2. Hour 0 is the last decision before the shock. Taking the same path twice,
shocked and not, is the generalised impulse response of Koop, Pesaran, Potter (1996); the median over the
paths is shown.

=====================  ==================================================================================
shock                  what happens
=====================  ==================================================================================
volatility doubles     every return from then on is twice what it was
single jump            one bar falls by ``JUMP`` times the hour's usual volatility, and all is as before
slow burn              the factor on the returns grows evenly from 1 to 2 over five days, and stays
feed outage            no bar for twelve hours, while the market goes on as before
=====================  ==================================================================================

=====================  ==================================================================================
series                 what answers
=====================  ==================================================================================
engine                 the rules rung (EWMA) through the safety engine, default limits
informed engine        a champion that knows the true volatility an hour late, through the same engine
plain limiter          the rules rung through the reference limiter (``PLAIN``)
EWMA requirement       what the rules rung asks for, no engine; over a silent feed its last number stands
GARCH requirement      GJR-GARCH fitted on calm, no engine; likewise
=====================  ==================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.margin.engine import decide
from models.margin.limits import Limits, Ratio
from models.margin.overrides import Overrides
from models.margin.types import KINDS, Candidate, Candidates, EngineState, MarketState, Rates
from training.margin.garch_requirement import fitted, losses_covered
from training.margin.scenarios.background import seconds
from training.margin.scenarios.calm import HOUR_S, Calm, calm
from training.margin.scenarios.contract import INITIAL, MAINTENANCE, Contract, grid, late

Array = NDArray[np.float64]

DOUBLED, JUMPED, BURNED, SILENT = "volatility doubles", "single jump", "slow burn", "feed outage"
SHOCKS: Final = (DOUBLED, JUMPED, BURNED, SILENT)
#: Which response a shock should settle at.
TARGETS: Final = {DOUBLED: 2.0, JUMPED: 1.0, BURNED: 2.0, SILENT: 1.0}
ENGINE, INFORMED, PLAIN_LIMITER, EWMA, GARCH = SERIES = (
    "engine",
    "informed engine",
    "plain limiter",
    "EWMA requirement",
    "GARCH requirement",
)
#: The reference limiter: follows every rise by the same steps, falls after 6 h, by 5 % an hour.
PLAIN: Final = Limits(release_ratio=Ratio(0.0), fall_after_s=6 * HOUR_S, down_limit_1h=Ratio(0.05))

#: Hours of calm to learn from, of decisions before the shock, and of response.
LEARN, BEFORE, AFTER = 3600, 48, 240
#: A jump, in volatilities of an hour; how long the burn takes, and the outage, in hours.
JUMP, BURN_HOURS, OUTAGE_HOURS = 8.0, 120, 12
HOURLY_VOLATILITY: Final = 0.005
PATHS: Final = 40
#: GARCH is fitted on so many hours of another calm path.
GARCH_HOURS: Final = 20_000
#: Of the response that is asked for, how much counts as there.
SETTLED: Final = 0.9
#: No month begins within the response, so base rates stand still.
_SHOCK_AT: Final = "2026-02-10 00:00"


@dataclass(frozen=True)
class Responses:
    """What was measured.

    Attributes:
        hours: (H,) from ``-BEFORE`` on; 0 is the last decision before the shock.
        response: by shock, series and kind, (path, H).
        rates: likewise, the margin rates of a long with the shock, fractions of notional.
    """

    hours: NDArray[np.int64]
    response: Mapping[tuple[str, str, str], Array]
    rates: Mapping[tuple[str, str, str], Array]

    def middle(self, shock: str, series: str, kind: str) -> Array:
        """(H,), the median over the paths."""
        found: Array = np.median(self.response[shock, series, kind], axis=0)
        return found


def responses(paths: int = PATHS, seed: int = 7) -> Responses:
    """Simulate so many paths, shock each in every way, and let every series answer.

    The same arguments give the same answer. Raises ``ValueError`` for less than one path.
    """
    if paths < 1:
        raise ValueError(f"paths is {paths}; give at least 1")
    made = calm(LEARN + BEFORE + AFTER, HOUR_S, seed, hourly_volatility=HOURLY_VOLATILITY, paths=paths)
    parameters = fitted(calm(GARCH_HOURS, HOUR_S, seed + 1, hourly_volatility=HOURLY_VOLATILITY).returns)
    covered: dict[tuple[str, str, str], Array] = {}
    for series, (shock, kind, losses) in _all(made, parameters):
        covered[shock, series, kind] = losses
    response = {key: losses / covered["", key[1], key[2]] for key, losses in covered.items() if key[0]}
    rates = {key: -np.expm1(-losses) for key, losses in covered.items() if key[0]}
    return Responses(np.arange(-BEFORE, AFTER + 1), response, rates)


def measures(found: Responses, kind: str) -> pd.DataFrame:
    """A row per shock and series: ``overshoot``, ``hours_to_90``, ``largest_step``.

    Of the middle response: how far it goes beyond where it should settle, as a fraction of that; and the
    hours until 90 % of what a lasting shock asks for is there, or until 90 % of what a passing one added is
    gone again (NaN: not within the response). The largest step is the largest rise of the rate within an hour
    on a path, a fraction, the median over the paths.
    """
    after = found.hours >= 0
    lines = []
    for shock in SHOCKS:
        for series in SERIES:
            middle = found.middle(shock, series, kind)[after]
            rates = found.rates[shock, series, kind][:, after]
            lines.append(
                {
                    "shock": shock,
                    "series": series,
                    "overshoot": max(float(middle.max()) / TARGETS[shock] - 1, 0.0),
                    "hours_to_90": hours_to_settle(middle, TARGETS[shock]),
                    "largest_step": float(np.median((rates[:, 1:] / rates[:, :-1] - 1).max(axis=1))),
                }
            )
    return pd.DataFrame(lines)


def hours_to_settle(middle: Array, target: float) -> float:
    """Hours from 0 on until 90 % of the way from 1 to the target is done; where the target is 1, until 90 %
    of the way up to the peak is undone. NaN where that is not within the response; 0 where nothing moved."""
    if target != 1:
        done = (middle - 1) / (target - 1) >= SETTLED
        return float(np.argmax(done)) if done.any() else math.nan
    peak = int(np.argmax(middle))
    undone = middle[peak:] - 1 <= (1 - SETTLED) * (middle[peak] - 1)
    return float(peak + np.argmax(undone)) if undone.any() else math.nan


def _all(made: Calm, parameters: Mapping[str, float]) -> Iterator[tuple[str, tuple[str, str, Array]]]:
    """Every series, (shock, kind, losses covered (path, H)); the shock "" is none."""
    begins = LEARN + BEFORE + 1  # the first bar of a shock
    times_s = grid(seconds(_SHOCK_AT) - (begins - 1) * HOUR_S, HOUR_S, LEARN + BEFORE + AFTER + 1)
    still = np.zeros((1, made.returns.shape[1]))
    calm_returns = np.vstack([still, made.returns])
    calm_volatility = np.vstack([made.volatility[:1], made.volatility])
    unshocked: list[Contract] = []
    for shock in ("", *SHOCKS):
        returns, factor, known = _shocked(calm_returns, shock, begins)
        closes = np.where(known[:, np.newaxis], np.exp(np.cumsum(returns, axis=0)), np.nan)
        seen = np.where(known[:, np.newaxis], returns, np.nan)
        seen[1:][~known[:-1]] = np.nan  # nobody knows the return across a hole
        for kind, tail in zip(KINDS, (INITIAL, MAINTENANCE), strict=True):
            horizon = round(tail.horizon_s / HOUR_S)
            garch = losses_covered(seen, parameters, begins=begins, horizon=horizon, level=tail.level)
            yield GARCH, (shock, kind, garch[LEARN:].T)
        answers: dict[str, list[Array]] = {series: [] for series in SERIES if series != GARCH}
        for path in range(returns.shape[1]):
            volatility = late(calm_volatility[:, path] * factor, 1)
            contract = Contract(times_s, closes[:, path], LEARN, volatility)
            if shock:
                contract = replace(contract, like=unshocked[path])
            else:
                unshocked.append(contract)
            for series, rates in _answers(contract, known).items():
                answers[series].append(rates)
        for series, by_path in answers.items():
            for place, kind in enumerate(KINDS):
                yield series, (shock, kind, -np.log1p(-np.array(by_path)[:, :, place]))


def _shocked(returns: Array, shock: str, begins: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The returns with the shock (T, path), the factor on the volatility (T,), and which bars are there."""
    factor, known = np.ones(len(returns)), np.ones(len(returns), dtype=bool)
    if shock == DOUBLED:
        factor[begins:] = 2.0
    elif shock == BURNED:
        factor[begins:] = np.minimum(1 + np.arange(1, len(returns) - begins + 1) / BURN_HOURS, 2.0)
    elif shock == SILENT:
        known[begins : begins + OUTAGE_HOURS] = False
    shocked = returns * factor[:, np.newaxis]
    if shock == JUMPED:
        shocked[begins] = -JUMP * HOURLY_VOLATILITY
    return shocked, factor, known


def _answers(contract: Contract, known: NDArray[np.bool_]) -> dict[str, Array]:
    """Rates of a long, (H, kind), of every series that rests on the rules rung."""
    newest = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))[LEARN:]
    now_s = contract.times_s[LEARN:]
    markets = [contract.market(int(bar)) for bar in newest]
    rules = [contract.rules(int(bar)) for bar in newest]
    champions = [contract.champion(int(bar)) for bar in newest]
    nobody: list[Candidate | None] = [None] * len(rules)
    return {
        ENGINE: _served(nobody, rules, markets, now_s, Limits()),
        INFORMED: _served(champions, rules, markets, now_s, Limits()),
        PLAIN_LIMITER: _served(nobody, rules, markets, now_s, PLAIN),
        EWMA: np.array([_long(asked.requirement) for asked in rules]),
    }


def _served(
    champions: Sequence[Candidate | None],
    rules: Sequence[Candidate],
    markets: Sequence[MarketState],
    now_s: Array,
    limits: Limits,
) -> Array:
    state, rates = EngineState(), []
    for champion, asked, market, now in zip(champions, rules, markets, now_s, strict=True):
        candidates = Candidates(champion=champion, rules=asked)
        decision, state = decide(candidates, market, limits, Overrides(), state, float(now))
        rates.append(_long(decision.served_rates))
    return np.array(rates)


def _long(rates: Rates) -> tuple[float, float]:
    return rates[0], rates[1]
