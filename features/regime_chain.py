"""A hidden Markov chain of four ordered states seen through Gaussian observations, and its filter.

The states are those of ``REGIMES``. An observation y, a vector that begins with volatility, is Gaussian about
a mean per state with one covariance C for all states, so that what it says for state k is linear,

    evidence_k = m_k' C^-1 y - m_k' C^-1 m_k / 2,

and grows with volatility without end: no extreme hour is ever read as calm. Parts of y that are unknown are
left out of m, C and y, which is exact for a Gaussian. C is the long-run covariance of what the state does not
explain, summed over lags of up to ``LAGS`` steps with Bartlett's weights, so that what several steps see
together is not counted once for each of them.

The filter (Hamilton 1989) runs forward over a fixed number of steps from how often each state occurs. It
never looks ahead and never smooths.

Sources: Hamilton 1989; Newey and West 1987 (the long-run covariance).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.windows import Array

REGIMES = ("calm", "normal", "stressed", "crisis")
#: Shares of time below which a state ends: calm is the lower half.
SHARE_BELOW = (0.50, 0.85, 0.97)
STATE_SHARE = np.diff([0.0, *SHARE_BELOW, 1.0])

#: What a chain has learned: JSON values.
Chain = dict[str, Any]

LAGS = 4
#: Fewer steps than this in a state tell nothing of it.
LEAST_IN_STATE = 10
#: No observation is taken to be surer than this (standard deviation of what the state does not explain).
LEAST_DEVIATION = 0.05
#: Added to each variance, so that two observations that say the same do not cancel each other.
RIDGE = 0.01

# What hourly bars of large coins showed, rounded: for a training window too short to tell.
_TYPICAL_MEAN = np.array([[-0.3], [0.25], [0.75], [1.3]])
_TYPICAL_DEVIATION = 0.45
_TYPICAL_STAY = 0.95

#: Columns filtered at once: as many as stay in the processor's cache.
_BLOCK = 8192


def typical_chain() -> Chain:
    """Of volatility alone, in units of ``features.regime``."""
    leave = (1 - _TYPICAL_STAY) * STATE_SHARE / (1 - STATE_SHARE[:, np.newaxis])
    transition = np.where(np.eye(len(REGIMES)) == 1, _TYPICAL_STAY, leave)
    return _chain(("volatility",), _TYPICAL_MEAN, np.array([[_TYPICAL_DEVIATION**2]]), transition)


def learned_chain(names: Sequence[str], y: Array, label: NDArray[np.int64]) -> Chain | None:
    """Means, covariance and transitions of labelled steps.

    Args:
        names: of the observations; the first is volatility.
        y: observations, shape (observation, step, series); a step where one is NaN is not learned from.
        label: the state of each step and series, -1 where it is unknown.

    None where a state has fewer than ``LEAST_IN_STATE`` steps, or where volatility would not speak for the
    more volatile of two states, whatever else is known: then these observations make no chain.
    """
    label = np.where(np.isfinite(y).all(axis=0), label, -1)
    if any((label == k).sum() < LEAST_IN_STATE for k in range(len(REGIMES))):
        return None
    mean = np.stack([y[:, label == k].mean(axis=1) for k in range(len(REGIMES))])
    residual = np.where(label >= 0, y - mean[label].transpose(2, 0, 1), 0.0)
    covariance = _long_run_covariance(residual, int((label >= 0).sum()))
    if not _volatility_speaks_for_the_more_volatile(mean, covariance):
        return None
    now, after = label[:-1], label[1:]
    seen = (now >= 0) & (after >= 0)
    count = np.full((len(REGIMES), len(REGIMES)), 0.5)
    np.add.at(count, (now[seen], after[seen]), 1.0)
    return _chain(names, mean, covariance, count / count.sum(axis=1, keepdims=True))


def _long_run_covariance(residual: Array, known: int) -> Array:
    """Sum over lags of Bartlett's weight times the autocovariance of residuals (observation, step, series),
    which are 0 where they are unknown."""
    covariance: Array = np.einsum("dts,ets->de", residual, residual)
    for lag in range(1, min(LAGS, residual.shape[1])):
        product = np.einsum("dts,ets->de", residual[:, lag:], residual[:, :-lag])
        covariance += (1 - lag / LAGS) * (product + product.T)
    covariance /= known
    variance = np.maximum(covariance.diagonal(), LEAST_DEVIATION**2) * (1 + RIDGE)
    np.fill_diagonal(covariance, variance)
    return covariance


def _volatility_speaks_for_the_more_volatile(mean: Array, covariance: Array) -> bool:
    others = range(1, len(covariance))
    for known in (rest for size in range(len(covariance)) for rest in combinations(others, size)):
        weight, _ = _evidence_weights(mean, covariance, [0, *known])
        if (np.diff(weight[0]) <= 0).any():
            return False
    return True


def _chain(names: Sequence[str], mean: Array, covariance: Array, transition: Array) -> Chain:
    return {
        "observations": list(names),
        "mean": mean.tolist(),
        "covariance": covariance.tolist(),
        "transition": transition.tolist(),
    }


def _evidence_weights(mean: Array, covariance: Array, known: Sequence[int]) -> tuple[Array, Array]:
    """Weights (known observation, state) and constants (state) of the evidence."""
    m = mean[:, known]
    weight = np.linalg.solve(covariance[np.ix_(known, known)], m.T).astype("float64")
    return weight, -0.5 * (m.T * weight).sum(axis=0)


def likelihoods(y: Array, chain: Chain) -> Array:
    """Likelihood of each state relative to the likeliest, shape (state, time x symbol), of observations
    (observation, time, symbol); 1 everywhere where volatility is unknown."""
    mean, covariance = np.array(chain["mean"]), np.array(chain["covariance"])
    flat = y.reshape(len(y), -1)
    known = ~np.isnan(flat)
    pattern = (known * (1 << np.arange(len(y)))[:, np.newaxis]).sum(axis=0)
    found = np.zeros((len(REGIMES), flat.shape[1]))
    for code in np.unique(pattern[known[0]]):
        parts = [d for d in range(len(y)) if code >> d & 1]
        weight, constant = _evidence_weights(mean, covariance, parts)
        here = pattern == code
        found[:, here] = weight.T @ flat[np.ix_(parts, here)] + constant[:, np.newaxis]
    found -= found.max(axis=0)
    return np.exp(found, out=found)


def filter_probabilities(y: Array, chain: Chain, steps: int, step_bars: int) -> Array:
    """Filtered probabilities (time, symbol, state) given y[:, t], y[:, t - step_bars], ...

    Args:
        y: observations, shape (observation, time, symbol), in the order of the chain; NaN where unknown.
        chain: as ``learned_chain`` gives it.
        steps: how many steps each row looks back.
        step_bars: rows between two steps.

    Row t starts ``steps`` steps back from ``STATE_SHARE`` and runs forward to y[:, t]. Where nothing is known
    the chain moves on without evidence. All rows and symbols run at once, one loop over the steps.
    """
    rows, symbols = y.shape[1:]
    step = step_bars * symbols
    evidence = likelihoods(y, chain)
    padded = np.concatenate([np.ones((len(REGIMES), (steps - 1) * step)), evidence], axis=1)
    arrive = np.array(chain["transition"]).T
    filtered = np.empty_like(evidence)
    for first in range(0, rows * symbols, _BLOCK):
        width = min(_BLOCK, rows * symbols - first)
        now = np.repeat(STATE_SHARE[:, np.newaxis], width, axis=1)
        ahead = np.empty_like(now)
        for k in range(steps):
            np.matmul(arrive, now, out=ahead)
            start = first + k * step
            np.multiply(ahead, padded[:, start : start + width], out=now)
            if k % 4 == 3 or k == steps - 1:  # often enough that nothing underflows
                now /= now.sum(axis=0)
        filtered[:, first : first + width] = now
    return filtered.reshape(len(REGIMES), rows, symbols).transpose(1, 2, 0)
