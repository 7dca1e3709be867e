"""The named crashes: their windows, their worst hours, and when a margin began to rise.

Definitions, per symbol:

- fall: the lowest close of the window over the highest one before it within the window, less 1;
- worst hour: the largest fall of the close over one hour (one bar where bars are longer). It begins at the
  close before, which is the last decision time at which nothing of it was known;
- raised: a multiplier beyond 1.25 times its median over the 7 days before (a day of them at least);
- onset: the first decision time, from a day before the window on, at which the multiplier of the long side is
  raised. The lead is counted from it to the beginning of the worst hour: positive is a warning, and 0 is a
  margin that had begun to rise by the very decision that had to carry the worst hour.

A margin that has stood high for days, or that follows the hours of the day, makes an onset say less. So
beside it stand the multiplier at the beginning of the worst hour, and how often the margin is raised at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.durations import window_bars
from training.margin.served import ServedMargin

#: A multiplier is raised when it is beyond so many times its median ...
RAISED = 1.25
#: ... over this long before, of which this much must be known.
BEFORE = pd.Timedelta(days=7)
LEAST_BEFORE = pd.Timedelta(days=1)
HOUR = pd.Timedelta(hours=1)


@dataclass(frozen=True)
class Crash:
    """A window of decision times, ``start <= time < end`` (UTC), and the bars that show it."""

    name: str
    start: pd.Timestamp
    end: pd.Timestamp
    bars: str


def _crash(name: str, start: str, end: str, bars: str) -> Crash:
    return Crash(name, pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC"), bars)


CRASHES = (
    _crash("12-13 March 2020", "2020-03-12", "2020-03-14", "2h"),
    _crash("19 May 2021", "2021-05-19", "2021-05-20", "2h"),
    _crash("13 June 2022", "2022-06-13", "2022-06-14", "1h"),
    _crash("18 June 2022", "2022-06-18", "2022-06-19", "1h"),
    _crash("8-9 November 2022", "2022-11-08", "2022-11-10", "1h"),
    _crash("5 August 2024", "2024-08-05", "2024-08-06", "30m"),
    _crash("10 October 2025", "2025-10-10", "2025-10-11", "30m"),
)


@dataclass(frozen=True)
class WorstHour:
    """When the largest fall within an hour began (a decision time), its depth, and that of the whole fall."""

    begins: pd.Timestamp
    hour_fall: float
    fall: float


def worst_hour(closes: pd.Series[float], interval: pd.Timedelta) -> WorstHour | None:
    """Of the closes of a window, the one at its start included; None where no hour is known.

    Depths are at most 0 where prices fell, as fractions. A missing close (NaN) makes its own hours unknown.
    """
    values = closes.to_numpy(dtype="float64")
    bars = window_bars(HOUR, interval)
    change = values[bars:] / values[:-bars] - 1
    if np.isnan(change).all():
        return None
    first = int(np.nanargmin(change))
    peak = np.fmax.accumulate(values)
    return WorstHour(closes.index[first], float(change[first]), float(np.nanmin(values / peak - 1)))


def raised(margin: ServedMargin) -> NDArray[np.bool_]:
    """Where the multiplier exceeds 1.25 times its median over the 7 days before, shape (time, contract).

    Served rates stand in where no multiplier is known: it is the same where the base rate stands still. False
    where less than a day is known.
    """
    unknown = np.isnan(margin.multiplier).all()
    moving = pd.DataFrame(margin.rate if unknown else margin.multiplier)
    least = max(LEAST_BEFORE // margin.interval, 1)
    usual = moving.rolling(BEFORE // margin.interval, min_periods=least).median().shift(1)
    found: NDArray[np.bool_] = (moving > RAISED * usual).to_numpy()
    return found


def covers(margin: ServedMargin, crash: Crash) -> bool:
    """Whether decision times reach from the crash's beginning to its end."""
    times = margin.times
    return bool(times[0] <= crash.start and times[-1] >= crash.end - margin.interval)
