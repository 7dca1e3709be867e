"""Coarser bars from finer ones, and finer grids laid exactly beneath a coarser one.

Frames are wide (time x symbol), float64, indexed by close times. A coarse bar needs all of its fine bars;
where one is missing it is missing, never made from what is left. Columns beyond the bar contract are merged
as ``features.columns`` says, from the values that are known.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.columns import EXTRA_COLUMNS
from features.durations import format_duration

#: Grids that features may ask for beneath the decision grid, finest first.
RESOLUTIONS = tuple(pd.Timedelta(minutes=m) for m in (1, 5, 15, 30))

_BAR_MERGES = {"open": "first", "high": "max", "low": "min", "close": "last"}


def fine_bars(coarse: pd.Timedelta, fine: pd.Timedelta) -> int:
    """How many fine bars make a coarse one, at least two. Raises ``ValueError`` where it is not a whole
    number."""
    bars, rest = divmod(coarse, fine)
    if bars < 2 or rest != pd.Timedelta(0):
        raise ValueError(
            f"bars of {format_duration(fine)} do not divide bars of {format_duration(coarse)} into two or "
            f"more; give finer ones whose interval does"
        )
    return int(bars)


def beneath(
    columns: Mapping[str, pd.DataFrame], fine: pd.Timedelta, times: pd.DatetimeIndex, coarse: pd.Timedelta
) -> dict[str, pd.DataFrame]:
    """Fine columns on the grid that lies beneath the coarse close ``times``: k rows for each of them, the
    last of which closes with it. Rows outside are cut; bars that are not there are NaN."""
    k = fine_bars(coarse, fine)
    grid = pd.date_range(times[0] - coarse + fine, periods=k * len(times), freq=fine, name="time", unit="ns")
    return {name: frame.reindex(grid) for name, frame in columns.items()}


def merged(
    columns: Mapping[str, pd.DataFrame], fine: pd.Timedelta, coarse: pd.Timedelta
) -> dict[str, pd.DataFrame]:
    """Columns of coarse bars from those of fine ones whose rows fill whole coarse bars (see ``beneath``)."""
    k = fine_bars(coarse, fine)
    close = columns["close"]
    times = pd.DatetimeIndex(close.index[k - 1 :: k], name="time")
    complete = np.isfinite(_by_coarse_bar(close, k)).all(axis=1)
    out = {}
    for name, frame in columns.items():
        merge = EXTRA_COLUMNS[name].merge if name in EXTRA_COLUMNS else _BAR_MERGES.get(name, "sum")
        values = np.where(complete, _merge(merge, _by_coarse_bar(frame, k)), np.nan)
        out[name] = pd.DataFrame(values, times, frame.columns)
    return out


def _by_coarse_bar(frame: pd.DataFrame, k: int) -> NDArray[np.float64]:
    """(coarse bar, fine bar within it, symbol)."""
    return frame.to_numpy(dtype="float64").reshape(-1, k, frame.shape[1])


def _merge(merge: str, cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the fine bars; NaN where none of them is known."""
    if merge == "first":
        return cube[:, 0]
    if merge == "last":
        newest = cube.shape[1] - 1 - np.isfinite(cube)[:, ::-1].argmax(axis=1)
        last: NDArray[np.float64] = np.take_along_axis(cube, newest[:, np.newaxis], axis=1)[:, 0]
        return last
    if merge == "sum":
        return np.where(np.isnan(cube).all(axis=1), np.nan, np.nansum(cube, axis=1))
    over = {"max": np.nanmax, "min": np.nanmin}.get(merge, np.nanmean)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(All-NaN slice|Mean of empty slice)", RuntimeWarning)
        found: NDArray[np.float64] = over(cube, axis=1)
    return found
