"""Which regime a symbol is in: filtered probabilities of calm, normal, stressed and crisis, ordered by
volatility.

A hidden Markov chain with four states, stepping by an hour (by a bar where bars are longer), observed through

    y = ln(volatility of the step / the symbol's usual one),  volatility = sqrt(mean Parkinson variance of the
    step),

which is Gaussian about a mean per state with one common deviation. With one deviation the evidence for a more
volatile state grows with y without end, so no extreme hour is ever read as calm. The filter (Hamilton 1989)
runs forward over the last two days, starting from how often each state occurs; it never looks ahead and never
smooths.

What is learned, over all symbols together: a training hour's state is where its EWMA volatility, relative to
the symbol's usual, falls among all hours: the lower half is calm, the next 35 % normal, 12 % stressed, the
highest 3 % crisis. Means, deviation and transitions are those of the hours so labelled. So the names mean the
same after every refit. A training window of less than ``FIT_NEEDS`` gives the stated typical values instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.durations import window_bars
from features.pipeline import Feature, State
from features.volatility import DAY, HOUR, LOG_RATIO_BOUND, parkinson_variance, sigma
from features.windows import Array, log_ratio, rolling_mean

REGIMES = ("calm", "normal", "stressed", "crisis")
#: Shares of time below which a state ends: calm is the lower half.
SHARE_BELOW = (0.50, 0.85, 0.97)
STATE_SHARE = np.diff([0.0, *SHARE_BELOW, 1.0])

FILTER_STEPS = 48
LOOK_BACK = 10 * DAY
FIT_NEEDS = 14 * DAY

# What hourly bars of large coins showed, rounded: for a training window too short to tell.
_TYPICAL_MEAN = np.array([-0.3, 0.25, 0.75, 1.3])
_TYPICAL_DEVIATION = 0.45
_TYPICAL_STAY = 0.95


def _step_bars(interval: pd.Timedelta) -> int:
    return window_bars(HOUR, interval)


def _step_volatility(market: Market) -> Array:
    """sqrt(mean Parkinson variance) of the last step, per bar; NaN where less than half of it is known."""
    variance = rolling_mean(parkinson_variance(market), _step_bars(market.interval))
    return np.sqrt(variance)


def _observations(market: Market, usual: Array) -> Array:
    y = log_ratio(_step_volatility(market), np.broadcast_to(usual, market.close.shape), LOG_RATIO_BOUND)
    return np.where(market.close.notna().to_numpy(), y, np.nan)


def _fit(market: Market) -> State:
    """Learn usual volatilities and the chain (see the module). ``pooled`` serves symbols not trained on."""
    volatility, level = _step_volatility(market), sigma(market)
    usual, usual_level = _positive_median(volatility), _positive_median(level)
    y = _observations(market, usual)
    x = log_ratio(level, np.broadcast_to(usual_level, level.shape), LOG_RATIO_BOUND)
    step = _step_bars(market.interval)
    y, x = y[::step], x[::step]
    both = np.isfinite(y) & np.isfinite(x)
    chain = (
        _learned_chain(x, y, both)
        if both.sum() >= FIT_NEEDS / (step * market.interval) and np.ptp(x[both]) > 0
        else _typical_chain()
    )
    symbols = {s: float(u) for s, u in zip(market.symbols, usual, strict=True)}
    return {"usual": symbols, "pooled": float(np.median(usual)), **chain}


def _positive_median(values: Array) -> Array:
    """Median over time of what is above 0, by symbol; 1 for a symbol that never moved, of which nothing can
    be said (its y is held at the lower bound: calm)."""
    medians = [np.median(c[c > 0]) if (c > 0).any() else 1.0 for c in values.T]
    return np.array(medians, dtype="float64")


def _learned_chain(x: Array, y: Array, both: NDArray[np.bool_]) -> State:
    bounds = np.quantile(x[both], SHARE_BELOW)
    label = np.where(both, np.searchsorted(bounds, x), -1)
    groups = [y[label == k] for k in range(len(REGIMES))]
    if any(
        len(g) < 10 for g in groups
    ):  # many equal volatilities: the quantiles do not tell four states apart
        return _typical_chain()
    # Sorted, should a rare state's few hours have a mean out of order; the labels are ordered already.
    mean = np.sort([g.mean() for g in groups])
    residual = np.concatenate([g - g.mean() for g in groups])
    now, after = label[:-1], label[1:]
    seen = (now >= 0) & (after >= 0)
    count = np.full((len(REGIMES), len(REGIMES)), 0.5)
    np.add.at(count, (now[seen], after[seen]), 1.0)
    return _chain(mean, max(float(residual.std()), 0.05), count / count.sum(axis=1, keepdims=True))


def _typical_chain() -> State:
    leave = (1 - _TYPICAL_STAY) * STATE_SHARE / (1 - STATE_SHARE[:, np.newaxis])
    transition = np.where(np.eye(len(REGIMES)) == 1, _TYPICAL_STAY, leave)
    return _chain(_TYPICAL_MEAN, _TYPICAL_DEVIATION, transition)


def _chain(mean: Array, deviation: float, transition: Array) -> State:
    return {
        "mean": [float(m) for m in mean],
        "deviation": float(deviation),
        "transition": [[float(p) for p in row] for row in transition],
    }


def filter_probabilities(y: Array, state: State, steps: int, step_bars: int) -> NDArray[np.float64]:
    """Filtered probabilities (time, symbol, state) of the chain in ``state`` given y[t], y[t - step_bars],
    ...

    Row t starts ``steps`` steps back from ``STATE_SHARE`` and runs forward to y[t]. An unknown y (NaN) says
    nothing: the chain moves on without evidence. All rows and symbols run at once, one loop over the steps.
    """
    rows, symbols = y.shape
    mean, transition = np.array(state["mean"]), np.array(state["transition"])
    score = -0.5 * ((y[:, :, np.newaxis] - mean) / state["deviation"]) ** 2
    # Relative to the likeliest state, so that no row of likelihoods underflows to zero.
    likelihood = np.exp(score - score.max(axis=2, keepdims=True))
    likelihood[np.isnan(y)] = 1.0
    before = (steps - 1) * step_bars
    padded = np.concatenate([np.ones((before, symbols, len(mean))), likelihood])
    filtered = np.broadcast_to(STATE_SHARE, likelihood.shape)
    for start in range(0, before + 1, step_bars):
        filtered = (filtered @ transition) * padded[start : start + rows]
        filtered /= filtered.sum(axis=2, keepdims=True)
    return filtered


def filter_steps(interval: pd.Timedelta) -> int:
    """Steps of the filter: two days of hours, or as many bars as the look-back holds where bars are
    longer."""
    return max(1, min(FILTER_STEPS, window_bars(LOOK_BACK, interval) // _step_bars(interval)))


def _regime(market: Market, state: State) -> Mapping[str, pd.DataFrame]:
    """Filtered probabilities in [0, 1] that sum to one. NaN at a missing bar, and while fewer than half of
    the filter's steps are known (warm-up)."""
    usual = np.array([state["usual"].get(s, state["pooled"]) for s in market.symbols], dtype="float64")
    steps, step_bars = filter_steps(market.interval), _step_bars(market.interval)
    y = _observations(market, usual)
    filtered = filter_probabilities(y, state, steps, step_bars)
    warm = ~np.isnan(rolling_mean(y, steps * step_bars))
    return market.frames(
        {f"regime_{name}": np.where(warm, filtered[:, :, k], np.nan) for k, name in enumerate(REGIMES)}
    )


FEATURES = (
    Feature(
        tuple(f"regime_{name}" for name in REGIMES),
        *("regime", LOOK_BACK, ("close", "high", "low"), _regime, _fit),
    ),
)
