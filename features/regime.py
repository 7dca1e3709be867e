"""Which regime a symbol is in, and the market: filtered probabilities of calm, normal, stressed and crisis,
ordered by volatility.

Two hidden Markov chains (``features.regime_chain``), one for every symbol (``regime_*``) and one for the
market as a whole (``market_regime_*``, the same for all symbols), stepping by an hour (by a bar where bars
are longer). A symbol's chain sees its own volatility, toxicity and liquidity and how much the symbols move
together (``features.regime_observations``); the market's sees their means over the symbols known at that
time. Volatility is always needed. A chain is learned on those of the others that the training bars have; one
that is missing later, for an hour or for good, is left out of the evidence, and the rest carries on. So bars
without taker volume have regimes too, of prices and volume.

What is learned, over all symbols together: the state of a training hour is where the volatility of the day
around it, relative to the symbol's usual, falls among all hours: the lower half is calm, the next 35 %
normal, 12 % stressed, the highest 3 % crisis. Means, covariance and transitions are those of the hours so
labelled, so the names mean the same after every refit. A training window of less than ``FIT_NEEDS`` gives the
stated typical values of volatility alone instead.

How stable the names are, and how early they warn: ``docs/regimes.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import window_bars
from features.pipeline import Feature, State
from features.regime_chain import (
    REGIMES,
    SHARE_BELOW,
    Chain,
    filter_probabilities,
    learned_chain,
    typical_chain,
)
from features.regime_observations import (
    OBSERVATIONS,
    USED_COLUMNS,
    WEEK,
    observations,
    over_symbols,
    step_bars,
    step_volatility,
)
from features.volatility import DAY, LOG_RATIO_BOUND, parkinson_variance
from features.windows import Array, log_ratio, rolling_mean

FILTER_STEPS = 48
LOOK_BACK = 10 * DAY
FIT_NEEDS = 14 * DAY


def filter_steps(interval: pd.Timedelta) -> int:
    """Steps of the filter: two days of hours, or as many as the look-back holds beside the week that the
    oldest of them is held against."""
    room = window_bars(LOOK_BACK, interval) - window_bars(WEEK, interval) - 1
    return max(1, min(FILTER_STEPS, room // step_bars(interval)))


def learned_regimes(market: Market, observing: Sequence[str] = OBSERVATIONS) -> State:
    """Usual volatilities and both chains, of all that the market has of ``observing``.

    ``pooled`` serves symbols not trained on.
    """
    usual = _positive_median(step_volatility(market))
    around = _volatility_of_the_day_around(market)
    level = log_ratio(around, _positive_median(around)[np.newaxis], LOG_RATIO_BOUND)
    found = {name: y for name, y in observations(market, usual).items() if name in observing}
    together = {name: over_symbols(y) for name, y in found.items()}
    step = step_bars(market.interval)
    least = FIT_NEEDS / (step * market.interval)
    return {
        "usual": {s: float(u) for s, u in zip(market.symbols, usual, strict=True)},
        "pooled": float(np.median(usual)),
        "symbol": _learned(found, level, step, least),
        "market": _learned(together, over_symbols(level), step, least),
    }


def _positive_median(values: Array) -> Array:
    """Median over time of what is above 0, by symbol; 1 for a symbol that never moved, of which nothing can
    be said (its volatility is held at the lower bound: calm)."""
    medians = [np.median(c[c > 0]) if (c > 0).any() else 1.0 for c in values.T]
    return np.array(medians, dtype="float64")


def _volatility_of_the_day_around(market: Market) -> Array:
    """sqrt(mean Parkinson variance) of the day (three bars at least) in whose middle a row is: what a
    training hour is named by, and no other hour, because it knows what came after. NaN at both ends."""
    bars = max(window_bars(DAY, market.interval), 3)
    mean = rolling_mean(parkinson_variance(market), bars)
    around = np.full_like(mean, np.nan)
    around[: -(bars // 2)] = mean[bars // 2 :]
    return np.sqrt(around)


def _learned(found: Mapping[str, Array], level: Array, step: int, least: float) -> Chain:
    """The chain of the observations that are known in half of the labelled steps; of volatility alone where
    together they make none; else the typical one."""
    level = level[::step]
    named = np.isfinite(level) & np.isfinite(found["volatility"][::step])
    if named.sum() < least or np.ptp(level[named]) == 0:
        return typical_chain()
    label = np.where(named, np.searchsorted(np.quantile(level[named], SHARE_BELOW), level), -1)
    known = [name for name, y in found.items() if np.isfinite(y[::step][named]).mean() >= 0.5]
    for names in (known, ["volatility"]):
        chain = learned_chain(names, np.stack([found[name][::step] for name in names]), label)
        if chain is not None:
            return chain
    return typical_chain()


def _filtered(found: Mapping[str, Array], chain: Chain, interval: pd.Timedelta) -> Array:
    """Probabilities (time, symbol, state), NaN in warm-up."""
    volatility = found["volatility"]
    unknown = np.full_like(volatility, np.nan)
    y = np.stack([found.get(name, unknown) for name in chain["observations"]])
    steps, step = filter_steps(interval), step_bars(interval)
    filtered = filter_probabilities(y, chain, steps, step)
    cold = np.isnan(rolling_mean(volatility, steps * step))
    return np.where(cold[:, :, np.newaxis], np.nan, filtered)


def regimes(market: Market, state: State) -> Mapping[str, pd.DataFrame]:
    """Filtered probabilities in [0, 1] that sum to one, of the symbol and of the market. NaN at a missing
    bar, and while fewer than half of the filter's steps are known (warm-up). Raises ``ValueError`` for what
    an earlier version of this file learned."""
    if "market" not in state:
        raise ValueError(
            f"the regimes were learned by an earlier version (they have {sorted(state)}, without 'market'); "
            f"retrain the model"
        )
    usual = np.array([state["usual"].get(s, state["pooled"]) for s in market.symbols], dtype="float64")
    found = observations(market, usual)
    own = _filtered(found, state["symbol"], market.interval)
    together = {name: over_symbols(y) for name, y in found.items()}
    whole = np.broadcast_to(_filtered(together, state["market"], market.interval), own.shape)
    return market.frames(
        {f"regime_{name}": own[:, :, k] for k, name in enumerate(REGIMES)}
        | {f"market_regime_{name}": whole[:, :, k] for k, name in enumerate(REGIMES)}
    )


FEATURES = (
    Feature(
        (*(f"regime_{name}" for name in REGIMES), *(f"market_regime_{name}" for name in REGIMES)),
        *("regime", LOOK_BACK, ("close", "high", "low"), regimes, learned_regimes),
        uses=USED_COLUMNS,
    ),
)
