"""Finite windows over bars: lagged values, (decayed) sums, means and extremes of the last ``bars`` rows.

Every function takes an array (time, symbol), newest row last, and gives one of the same shape whose row ``t``
uses rows ``t - bars + 1 ... t`` only. Sums are built by doubling, S_2k[t] = S_k[t] + decay^k S_k[t - k]:
about 2 log2(bars) additions of whole arrays, no running total. So a spike leaves no rounding error behind
once it has left the window, and a row gets the same bits whether it is computed from a whole history or from
its window alone, which is what makes batch and online agree.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: A window mean needs this share of its bars; below it (warm-up, holes) the answer is NaN.
MINIMUM_SHARE = 0.5


def lag(values: Array, bars: int) -> Array:
    """``values[t - bars]``; NaN in the first ``bars`` rows."""
    if bars == 0:
        return values
    out = np.full_like(values, np.nan)
    out[bars:] = values[:-bars]
    return out


def _folded(
    values: Array,
    bars: int,
    start: float,
    merge: Callable[[Array, Array], Array],
    weigh: Callable[[Array, int], Array],
) -> Array:
    """Merge rows t, t-1, ..., t-bars+1, of which the one ``j`` back is weighed by ``weigh(., j)``, by
    doubling."""
    if bars < 1:
        raise ValueError(f"a window has at least one bar, not {bars}")
    rows = len(values)
    total = np.full_like(values, start)
    block, size, done = values, 1, 0
    while done < min(bars, rows):
        if bars & size:
            total[done:] = merge(total[done:], weigh(block[: rows - done], done))
            done += size
        if 2 * size <= bars and size < rows:
            doubled = block.copy()
            doubled[size:] = merge(block[size:], weigh(block[:-size], size))
            block = doubled
        size *= 2
    return total


def rolling_sum(values: Array, bars: int, decay: float = 1.0) -> Array:
    """Sum of decay^j values[t - j], 0 <= j < bars. Values must be finite; rows before the first count as
    0."""
    if decay == 1.0:
        return _folded(values, bars, 0.0, np.add, lambda block, _: block)
    return _folded(values, bars, 0.0, np.add, lambda block, age: block * decay**age)


def rolling_max(values: Array, bars: int) -> Array:
    """Largest of the last ``bars`` values; NaN are passed over; -inf where there is none."""
    known = np.where(np.isnan(values), -np.inf, values)
    return _folded(known, bars, -np.inf, np.maximum, lambda block, _: block)


def rolling_min(values: Array, bars: int) -> Array:
    """Smallest of the last ``bars`` values; NaN are passed over; inf where there is none."""
    return -rolling_max(-values, bars)


def rolling_count(known: NDArray[np.bool_], bars: int) -> NDArray[np.int64]:
    """How many of the last ``bars`` are true. Whole numbers are exact, so here a running total does."""
    total = np.cumsum(known, axis=0, dtype="int64")
    count = total.copy()
    count[bars:] -= total[:-bars]
    return count


def rolling_mean(values: Array, bars: int, least: int | None = None) -> Array:
    """Mean of the values that are known (not NaN) among the last ``bars``; NaN where fewer than ``least`` are
    (default ``MINIMUM_SHARE`` of the window)."""
    known = ~np.isnan(values)
    count = rolling_count(known, bars)
    total = rolling_sum(np.where(known, values, 0.0), bars)
    least = max(1, int(np.ceil(MINIMUM_SHARE * bars))) if least is None else least
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count >= least)


def decayed_mean(values: Array, bars: int, decay: float, least: int) -> Array:
    """Exponentially weighted mean, weights decay^j normalised over the known values among the last ``bars``;
    NaN where fewer than ``least`` are known."""
    known = ~np.isnan(values)
    count = rolling_count(known, bars)
    weight = rolling_sum(known.astype("float64"), bars, decay)
    total = rolling_sum(np.where(known, values, 0.0), bars, decay)
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=count >= least)


def quotient(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator; NaN where either is NaN or the denominator is not above 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    out: Array = np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator > 0)
    return out


def log_ratio(value: Array, base: Array, bound: float) -> Array:
    """ln(value / base) held within +-bound, so that a zero or one absurd print stays a number; NaN where
    either is NaN or the base is not above 0."""
    ratio = quotient(value, base)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm: Array = np.log(ratio)
    return logarithm.clip(-bound, bound)
