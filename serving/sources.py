"""What other sources say of the contracts that are decided on, and the closes on which all of them agree.

A source is one venue's feed. Where sources lie more than a ratio from their median (rule 7), the agreed close
is that median; elsewhere it is the close of the source that is decided on. The rules rung, the last return
and the extremes of rule 12 rest on agreed closes, so that one venue's own wrong print is no crash: with three
sources two outvote it. Two have no majority: their median is their mean, and half of the error is in it.

A bar that the decided source lacks stays missing, whatever the others say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.grid import Grid

Array = NDArray[np.float64]


class SourceCloses(Grid):
    """Closes of other sources: the last ``bars`` of each symbol, a column a source."""

    def __init__(self, interval_s: int, bars: int, sources: Sequence[str]) -> None:
        super().__init__(interval_s, bars, sources)
        self._newest_s: dict[str, int] = {}

    def write(self, source: str, symbol: str, closes_s: NDArray[np.int64], closes: Array) -> None:
        """Write closes (ascending times); what is older than the grid is left out."""
        if not len(closes_s):
            return
        self.add_symbols([symbol])
        rows, inside = self._rows_for(closes_s)
        self._values[self.columns.index(source), rows, self.symbols.index(symbol)] = closes[inside]
        self._newest_s[source] = max(self._newest_s.get(source, 0), int(closes_s[-1]))

    def beside(self, symbol: str, until_s: int, rows: int) -> Array:
        """(source, row): the closes at the last ``rows`` closes of the grid up to ``until_s``; NaN where
        nothing is known."""
        found = np.full((len(self.columns), rows), np.nan)
        if self._rows and symbol in self.symbols:
            last = (until_s - self._first_s) // self.interval_s
            low, high = max(0, last + 1 - rows), min(last + 1, self._rows)
            if high > low:
                own = self._values[:, low:high, self.symbols.index(symbol)]
                found[:, low - (last + 1 - rows) : high - (last + 1 - rows)] = own
        return found

    def at(self, symbol: str, close_s: int) -> tuple[float, ...]:
        """What the sources that know this close say, in their order."""
        return tuple(c for c in self.beside(symbol, close_s, 1)[:, 0].tolist() if c == c)

    def lacks(self, symbol: str, close_s: int) -> bool:
        """Whether a source that told the close before has not told this one yet."""
        before, now = self.beside(symbol, close_s, 2).T
        return bool((np.isfinite(before) & np.isnan(now)).any())

    def newest_by_source(self) -> dict[str, int | None]:
        """The newest close of each source, None before the first."""
        return {source: self._newest_s.get(source) for source in self.columns}


def agreed_closes(own: Array, others: Array, ratio: float) -> Array:
    """The closes on which the sources agree, (T,): the median where a source lies more than ``ratio`` from
    it, and what is decided on elsewhere.

    Args:
        own: (T,) closes of the source that is decided on, NaN where a bar is missing; missing stays missing.
        others: (source, T) those of the others at the same closes, NaN where unknown.
        ratio: a fraction of the median, ``feeds_degraded_ratio``.
    """
    ranked = np.sort(np.vstack([own[np.newaxis], others]), axis=0)  # NaN last
    known = np.isfinite(ranked).sum(axis=0)
    row = np.arange(len(own))
    low = ranked[np.maximum(known - 1, 0) // 2, row]
    high = ranked[np.minimum(known // 2, len(ranked) - 1), row]
    median, largest = (low + high) / 2.0, ranked[np.maximum(known - 1, 0), row]
    with np.errstate(invalid="ignore"):  # nothing is known where a close is NaN
        apart = np.maximum(largest / median - 1.0, 1.0 - ranked[0] / median)
        found: Array = np.where(np.isfinite(own) & (apart > ratio), median, own)
    return found
