"""The newest bars of every contract in memory, handed out as ``Market``.

A regular grid of closes without holes; a bar that is missing is NaN in every column of the bar contract.
Columns beyond it (``features.columns``) are written by themselves, and may be known where the bar is not.
Nothing is read again from the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import VALUE_COLUMNS, Market
from serving.grid import Grid

_CLOSE = VALUE_COLUMNS.index("close")
_BAR = len(VALUE_COLUMNS)


class MarketWindow(Grid):
    """The last ``bars`` closes of ``symbols`` (the leader first). Times are whole seconds since 1970 UTC.

    ``extra`` names columns beyond the bar contract that may be kept beside it; ``columns`` are those that
    are: one of ``extra`` from when it is first written.
    """

    def __init__(self, interval_s: int, bars: int, extra: Sequence[str] = ()) -> None:
        super().__init__(interval_s, bars, VALUE_COLUMNS)
        self._extra = tuple(extra)

    def put(self, symbol: str, close_s: int, values: NDArray[np.float64]) -> bool:
        """Write one bar (values by ``VALUE_COLUMNS``); False where it stands already or is older than the
        window."""
        if close_s % self.interval_s:
            raise ValueError(f"close {close_s} s is not on the grid of {self.interval_s} s bars")
        row = self._row_for(close_s)
        if row < 0:
            return False
        place = self._values[:_BAR, row, self.symbols.index(symbol)]
        if np.isfinite(place[_CLOSE]):
            return False
        place[:] = values
        return True

    def fill(self, symbol: str, closes_s: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Write many bars of one contract; those older than the window are left out."""
        if not len(closes_s):
            return
        rows, inside = self._rows_for(closes_s)
        self._values[:_BAR, rows, self.symbols.index(symbol)] = values[inside].T

    def fill_extra(
        self, symbol: str, closes_s: NDArray[np.int64], columns: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Write columns beyond the bar contract at closes (ascending) of one contract; a column that the
        window does not keep is left out, and so is a close that is older than it."""
        if not len(closes_s):
            return
        fresh = [n for n in columns if n in self._extra and n not in self.columns]
        room = np.full((len(fresh), *self._values.shape[1:]), np.nan)
        self._values = np.concatenate([self._values, room]) if fresh else self._values
        self.columns = (*self.columns, *fresh)
        rows, inside = self._rows_for(closes_s)
        for name, values in columns.items():
            if name in self.columns:
                self._values[self.columns.index(name), rows, self.symbols.index(symbol)] = values[inside]

    def closes(self, symbol: str, until_s: int) -> NDArray[np.float64]:
        """The last ``bars`` close prices on the grid up to ``until_s``, NaN where a bar is missing (a
        view)."""
        end = self._end(until_s)
        # Never more than ``bars``: how much room was spare must not change an answer.
        found: NDArray[np.float64] = self._values[
            _CLOSE, max(0, end - self.bars) : end, self.symbols.index(symbol)
        ]
        return found

    def newest_close(self, symbol: str, until_s: int) -> tuple[int, float] | None:
        """Time and price of the contract's newest close up to ``until_s``; None where it has none."""
        closes = self.closes(symbol, until_s)
        known = np.flatnonzero(np.isfinite(closes))
        if not len(known):
            return None
        behind = len(closes) - 1 - int(known[-1])
        time_s = self._first_s + (self._end(until_s) - 1 - behind) * self.interval_s
        return time_s, float(closes[known[-1]])

    def market(self, until_s: int, bars: int) -> Market:
        """The last ``bars`` closes up to ``until_s``, with the columns that any contract has."""
        end = self._end(until_s)
        begin = max(0, end - bars)
        found = self.frames(self._first_s + begin * self.interval_s, end - begin, self.columns, self.symbols)
        columns = {name: frame for name, frame in found.items() if np.isfinite(frame.to_numpy()).any()}
        return Market(pd.Timedelta(seconds=self.interval_s), columns)

    def frames(
        self, first_s: int, rows: int, names: Iterable[str], symbols: Sequence[str]
    ) -> dict[str, pd.DataFrame]:
        """Columns at ``rows`` closes from ``first_s`` on, of these symbols; NaN where the window has
        nothing."""
        begin = (first_s - self._first_s) // self.interval_s
        low, high = min(max(0, -begin), rows), max(0, min(rows, self._rows - begin))
        times = pd.date_range(
            pd.Timestamp(first_s, unit="s", tz="UTC"),
            periods=rows,
            freq=pd.Timedelta(seconds=self.interval_s),
            name="time",
            unit="ns",
        )
        own = [(i, self.symbols.index(s)) for i, s in enumerate(symbols) if s in self.symbols]
        found = {}
        for name in names:
            column = self._values[self.columns.index(name)]
            if (low, high) == (0, rows) and tuple(symbols) == self.symbols:
                values = column[begin : begin + rows]
            else:
                values = np.full((rows, len(symbols)), np.nan)
                for there, here in own if high > low else []:
                    values[low:high, there] = column[begin + low : begin + high, here]
            found[name] = pd.DataFrame(values, index=times, columns=list(symbols))
        return found
