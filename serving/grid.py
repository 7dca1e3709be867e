"""A regular grid of closes in memory: arrays that grow at their end, and forget what is older than they keep.

Values are (column, row, symbol), a row a close, NaN where nothing was written. Appending a close writes one
row. Times are whole seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: The arrays are moved back to their beginning after this many appended rows.
_SPARE_ROWS = 1024


class Grid:
    """The last ``bars`` closes of ``symbols``, in the order in which they were added."""

    def __init__(self, interval_s: int, bars: int, columns: Sequence[str]) -> None:
        self.interval_s, self.bars = interval_s, bars
        self.columns: tuple[str, ...] = tuple(columns)
        self.symbols: tuple[str, ...] = ()
        self._first_s = 0
        self._rows = 0
        #: (column, row, symbol): one column's rows lie together, so that a frame of it is a view.
        self._values = np.empty((len(self.columns), 0, 0))

    @property
    def newest_s(self) -> int | None:
        """The newest close of any symbol, None before the first."""
        return self._first_s + (self._rows - 1) * self.interval_s if self._rows else None

    def add_symbols(self, symbols: list[str]) -> None:
        """Put symbols behind those that are there."""
        fresh = [s for s in symbols if s not in self.symbols]
        if fresh:
            shape = (len(self.columns), self._values.shape[1], len(fresh))
            self._values = np.concatenate([self._values, np.full(shape, np.nan)], axis=2)
            self.symbols = (*self.symbols, *fresh)

    def _rows_for(self, closes_s: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The rows of closes (ascending, at least one), made where they lie ahead, and which of the closes
        are not older than the grid."""
        self._row_for(int(closes_s[-1]))
        newest_s = self._first_s + (self._rows - 1) * self.interval_s
        inside = closes_s > newest_s - self.bars * self.interval_s
        if inside.any():
            self._row_for(int(closes_s[inside][0]))
        return (closes_s[inside] - self._first_s) // self.interval_s, inside

    def _end(self, until_s: int) -> int:
        return min(max(0, (until_s - self._first_s) // self.interval_s + 1), self._rows)

    def _row_for(self, close_s: int) -> int:
        """The row of a close, made where it lies ahead; negative where it lies before the grid."""
        if not self._rows:
            self._first_s = close_s
        row = (close_s - self._first_s) // self.interval_s
        if row < 0 and self._rows - row <= self.bars:
            self._grow_back(-row)
            return 0
        if row < self._rows:
            return int(row)
        if row + 1 > self._values.shape[1]:
            dropped = self._make_room(int(row) + 1)
            row -= dropped
        self._rows = int(row) + 1
        return int(row)

    def _make_room(self, rows: int) -> int:
        """Forget what is older than the grid that ends after ``rows`` rows; returns how many rows were
        dropped."""
        dropped = max(0, rows - self.bars)
        kept = self._values[:, dropped : self._rows]
        room = np.full((len(self.columns), min(rows, self.bars) + _SPARE_ROWS, len(self.symbols)), np.nan)
        room[:, : kept.shape[1]] = kept
        self._values = room
        self._first_s += dropped * self.interval_s
        self._rows = max(0, self._rows - dropped)
        return dropped

    def _grow_back(self, rows: int) -> None:
        empty = np.full((len(self.columns), rows, len(self.symbols)), np.nan)
        self._values = np.concatenate([empty, self._values], axis=1)
        self._first_s -= rows * self.interval_s
        self._rows += rows
