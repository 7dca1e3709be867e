"""What a margin saves: the ratio of two average margins at equal shortfall.

A margin m is scaled by the one constant c at which its total shortfall, ``sum max(loss - c m, 0)`` over all
rows (time, contract), equals that of a reference margin s. The ratio is ``c mean(m) / mean(s)``: below 1, the
same protection is had from less margin. It does not change when m is multiplied by a constant.

The total shortfall is a convex, decreasing, piecewise linear function of c with a kink where c m meets a
loss, so that c is found exactly: sort the kinks, add up losses and rates from the largest kink down, and
solve the one linear piece on which the reference's total lies. Where the reference has no shortfall at all, c
is the smallest constant at which m has none either.

The interval is a paired block bootstrap: calendar weeks (Monday to Sunday, UTC) are drawn with replacement,
as many as there are, the same weeks for every series and the reference, and the ratio is computed anew. Since
half of a shortfall may lie in a few dozen rows, the interval is wide where a single week decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Resamples of the bootstrap, and where its random numbers begin.
RESAMPLES = 1000
SEED = 20240601
#: The interval's probability.
CONFIDENCE = 0.95
#: In resamples, kinks below this part of the whole sample's constant are looked at only where it takes them.
_NEAR = 0.6


@dataclass(frozen=True)
class MarginRatio:
    """Of one series against the reference.

    Attributes:
        scale: the constant c; NaN where no row has a loss above 0.
        ratio: ``c mean(m) / mean(s)``.
        low, high: its interval; NaN without resamples, or within a single week.
        difference, difference_low, difference_high: ratio less that of the series compared with, paired.
    """

    scale: float
    ratio: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


class _Kinks:
    """A margin's kinks, largest first, with the week of each: what every resample needs, sorted once."""

    def __init__(self, loss: Array, rate: Array, week: NDArray[np.intp], weeks: int) -> None:
        positive = loss > 0
        kink = loss[positive] / rate[positive]
        order = np.argsort(-kink, kind="stable")
        self.kink, self.week = kink[order], week[positive][order]
        self.loss, self.rate = loss[positive][order], rate[positive][order]
        self.margin = np.bincount(week, rate, minlength=weeks)  # sum of the rates of each week
        self.near = len(self.kink)

    def scale(self, total: float, drawn: Array) -> float:
        """The constant at which the shortfall, each week counted as often as drawn, is ``total``."""
        for rows in dict.fromkeys((self.near, len(self.kink))):
            weight = drawn[self.week[:rows]]
            losses = np.cumsum(weight * self.loss[:rows])
            rates = np.cumsum(weight * self.rate[:rows])
            shortfall = losses - self.kink[:rows] * rates  # at each kink
            beyond = int(np.searchsorted(np.maximum.accumulate(shortfall), total, side="right"))
            if beyond < rows or rows == len(self.kink):
                break
        if beyond == 0 or rates[beyond - 1] == 0:
            return float("nan")
        return float((losses[beyond - 1] - total) / rates[beyond - 1])


def scale_at(loss: Array, rate: Array, total: float) -> float:
    """The constant c at which ``sum max(loss - c rate, 0)`` is ``total``; rows of NaN are left out.

    NaN where no loss is above 0. Raises ``ValueError`` where a rate is not above 0, or where no c >= 0
    reaches the total, which the sum of all losses above 0 bounds.
    """
    known = ~(np.isnan(loss) | np.isnan(rate))
    losses, rates = loss[known], rate[known]
    _check(losses, rates)
    most = float(losses[losses > 0].sum())
    if not 0 <= total <= most * (1 + 1e-12):
        raise ValueError(
            f"total shortfall is {total!r}; it must lie within 0 and that of no margin, {most!r}"
        )
    kinks = _Kinks(losses, rates, np.zeros(len(losses), dtype=np.intp), 1)
    return kinks.scale(total, np.ones(1))


def calendar_weeks(times: pd.DatetimeIndex) -> NDArray[np.intp]:
    """The calendar week (UTC) of each time, numbered from 0 in the order of time, without gaps."""
    monday = times.tz_convert("UTC").tz_localize(None).to_period("W-SUN")
    week: NDArray[np.intp] = np.unique(monday.asi8, return_inverse=True)[1]
    return week


def margin_ratios(
    times: pd.DatetimeIndex,
    loss: Array,
    rates: Mapping[str, Array],
    reference: Array,
    *,
    compared_with: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, MarginRatio]:
    """Each series' ratio to the reference, on the rows that all of them have.

    Args:
        times: (T,) decision times, from which the weeks come.
        loss: (T, C) in rate terms; NaN where unknown.
        rates: (T, C) by series; above 0, NaN where there is no row.
        reference: (T, C), the margin whose shortfall the others are brought to.
        compared_with: the series that differences are taken from; None: differences are NaN.
        resamples: of the bootstrap; 0 leaves the intervals NaN. About a millisecond each.
        seed: of its random numbers; the same weeks are drawn for the same seed and number of weeks.

    Raises ``ValueError`` where no row is common, a rate is not above 0, or ``compared_with`` is no series.
    """
    if compared_with is not None and compared_with not in rates:
        raise ValueError(f"series {compared_with!r} to compare with is not there; there are {list(rates)}")
    if resamples < 0:
        raise ValueError(f"resamples is {resamples}; give 0 or more")
    known = ~(np.isnan(loss) | np.isnan(reference))
    for rate in rates.values():
        known &= ~np.isnan(rate)
    if not known.any():
        raise ValueError("the series and the reference share no row with a known loss; serve the same times")
    week = np.broadcast_to(calendar_weeks(times)[:, np.newaxis], known.shape)[known]
    week = np.unique(week, return_inverse=True)[1]
    weeks = int(week.max()) + 1
    losses, fixed = loss[known], reference[known]
    _check(losses, fixed)
    fixed_margin = np.bincount(week, fixed, minlength=weeks)
    fixed_short = np.bincount(week, np.maximum(losses - fixed, 0.0), minlength=weeks)
    drawn = _draws(weeks, resamples, seed)

    found: dict[str, tuple[float, float, Array]] = {}
    for name, rate in rates.items():
        _check(losses, rate[known])
        kinks = _Kinks(losses, rate[known], week, weeks)
        every = np.ones(weeks)
        scale = kinks.scale(float(fixed_short.sum()), every)
        kinks.near = int(np.searchsorted(-kinks.kink, -_NEAR * scale)) if scale > 0 else kinks.near
        scales = np.array([kinks.scale(float(d @ fixed_short), d) for d in drawn])
        with np.errstate(invalid="ignore"):
            resampled = scales * (drawn @ kinks.margin) / (drawn @ fixed_margin)
        found[name] = (scale, scale * float(kinks.margin.sum() / fixed_margin.sum()), resampled)

    base = None if compared_with is None else found[compared_with]
    answers = {}
    for name, (scale, ratio, resampled) in found.items():
        low, high = _interval(resampled)
        if base is None:
            difference, less, more = float("nan"), float("nan"), float("nan")
        else:
            difference = ratio - base[1]
            less, more = _interval(resampled - base[2])
        answers[name] = MarginRatio(scale, ratio, low, high, difference, less, more)
    return answers


def _draws(weeks: int, resamples: int, seed: int) -> Array:
    """How often each week is drawn, shape (resample, week); none where there is one week alone."""
    if weeks < 2:
        return np.empty((0, weeks))
    counts = np.random.default_rng(seed).multinomial(weeks, np.full(weeks, 1 / weeks), size=resamples)
    return counts.astype("float64")


def _interval(values: Array) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _check(loss: Array, rate: Array) -> None:
    if loss.shape != rate.shape:
        raise ValueError(f"losses have shape {loss.shape} and rates {rate.shape}; give one rate a loss")
    if not (rate > 0).all():
        raise ValueError(
            f"{int((~(rate > 0)).sum())} rates are not above 0; a margin rate is a fraction above 0"
        )
