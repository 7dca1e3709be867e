"""What time it is, and how volatile that time usually is: hour of the day, weekend, and a learned hourly
profile.

All times are UTC. A row at decision time t speaks of what comes after t: the bar that opens at t. The row of
a missing bar is NaN, like everywhere. Windows are none: a row depends on its own time alone, and on what was
learned.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.pipeline import Feature, State
from features.volatility import DAY, HOUR, log_returns
from features.windows import Array

#: Cells of the profile: weekday hours 0 to 23, then those of Saturday and Sunday.
CELLS = 48
#: A cell is shrunk towards no effect as if it had been seen this often more with the symbol's mean size of
#: moves.
SHRUNK_BY_BARS = 20.0
#: Single moves count at most this multiple of the symbol's mean one, so that one crash does not become a
#: habit.
MOVE_CAP = 6.0

#: The cell of each hour of the week, from Monday 00:00.
_CELL_OF_WEEK = np.array([24 * (day >= 5) + hour for day in range(7) for hour in range(24)])


def _hour(times: pd.DatetimeIndex) -> Array:
    """Hours since midnight, fraction included."""
    since: Array = ((times - times.normalize()) / HOUR).to_numpy(dtype="float64")
    return since


def _weekend(times: pd.DatetimeIndex) -> Array:
    return np.where(times.day_of_week.to_numpy() >= 5, 1.0, 0.0)


def _clock(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Hour of the day as sin and cos of its angle, and weekend: 1 on Saturday and Sunday, else 0."""
    angle = 2 * np.pi * _hour(market.times) / 24
    parts = {"hour_sin": np.sin(angle), "hour_cos": np.cos(angle), "weekend": _weekend(market.times)}
    shape = market.close.shape
    return market.frames({name: np.broadcast_to(p[:, np.newaxis], shape) for name, p in parts.items()})


def _cells(times: pd.DatetimeIndex) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return (24 * _weekend(times) + np.floor(_hour(times))).astype("int64")


def _fit_profile(market: Market) -> State:
    """Mean size of a move by cell, as ln relative to the symbol's mean over all cells.

    A bar belongs to the cell in which it opened; a bar longer than an hour speaks for every hour that it
    covers. Sizes are capped and cells shrunk (see the constants); a cell never seen is 0. ``pooled``, the
    mean over the symbols, serves symbols that were not in the training window.
    """
    moves = np.abs(log_returns(market))
    opened = market.times - market.interval
    profiles: dict[str, list[float]] = {}
    for i, symbol in enumerate(market.symbols):
        known = np.isfinite(moves[:, i])
        mean = float(moves[known, i].mean()) if known.any() else 0.0
        if mean == 0.0:
            profiles[symbol] = [0.0] * CELLS
            continue
        capped = np.minimum(moves[known, i] / mean, MOVE_CAP)
        total, seen = np.zeros(CELLS), np.zeros(CELLS)
        for ahead in range(max(1, min(24, -int(-market.interval // HOUR)))):
            cell = _cells(opened[known] + ahead * HOUR)
            total += np.bincount(cell, capped, CELLS)
            seen += np.bincount(cell, minlength=CELLS)
        level = total.sum() / seen.sum()
        shrunk = (total + SHRUNK_BY_BARS * level) / ((seen + SHRUNK_BY_BARS) * level)
        profiles[symbol] = [float(x) for x in np.log(shrunk)]
    pooled = np.mean(list(profiles.values()), axis=0)
    return {"symbols": profiles, "pooled": [float(x) for x in pooled]}


def _profile(market: Market, state: State) -> Mapping[str, pd.DataFrame]:
    """The learned ln size of moves (see ``_fit_profile``), relative to the symbol's mean: in the hour that
    begins at t, averaged over the 4 h and the 24 h that begin at t, and averaged over the 4 h before t (in
    which the volatility was measured that it should be compared with)."""
    known = state["symbols"]
    table = np.array([known.get(s, state["pooled"]) for s in market.symbols], dtype="float64").T
    # The value depends on the hour of the week alone: average there, and look up once.
    now = (24 * market.times.day_of_week.to_numpy() + np.floor(_hour(market.times))).astype("int64")

    def over(hours: range) -> Array:
        each = [table[np.roll(_CELL_OF_WEEK, -h)] for h in hours]
        mean: Array = np.mean(each, axis=0)[now]
        return mean

    return market.frames(
        {
            "hour_profile": over(range(1)),
            "hour_profile_4h": over(range(4)),
            "hour_profile_1d": over(range(24)),
            "hour_profile_past": over(range(-4, 0)),
        }
    )


FEATURES = (
    Feature(("hour_sin", "hour_cos", "weekend"), "calendar", DAY, ("close",), _clock),
    Feature(
        ("hour_profile", "hour_profile_4h", "hour_profile_1d", "hour_profile_past"),
        *("calendar", DAY, ("close",), _profile, _fit_profile),
    ),
)
