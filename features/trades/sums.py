"""Sums over the trades of bars, exact to about 1e-13 and the same to the bit however the trades were cut.

Within a bar trades are summed one after the other in blocks of ``BLOCK``, counted from the bar's first trade,
and then the blocks one after the other. Plain running sums would lose digits (a million times 0.1 is off by
1e-11), numpy's pairwise sums depend on where an array ends. A block or bar that is still open is carried: its
sum so far is the first summand of what follows, which is the same as never having stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.trades.arrays import Array, Whole

BLOCK = 1024


class BarSums:
    """Several sums over the open bar: ``whole``, of its blocks that are full, and ``part``, of the last."""

    def __init__(self, sums: int) -> None:
        self.whole: Array = np.zeros(sums)
        self.part: Array = np.zeros(sums)
        self.trades = 0

    def add(self, summands: Sequence[Array], starts: Whole, rows: int) -> Array:
        """Take trades; returns the totals (sum, bar) of all bars but the last, which is open now.

        Args:
            summands: one array of ``rows`` a sum. Row 0 stands for the open bar as it was; its values are
                overwritten with what that bar carries.
            starts: the rows at which bars start, the first of which is 0, the open bar's.
        """
        firsts = _block_starts(starts, rows, self.trades)
        block = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, rows)))
        sums: Array = np.empty((len(summands), len(firsts)))
        for i, values in enumerate(summands):
            values[0] = self.part[i]
            sums[i] = np.bincount(block, values, minlength=len(firsts))
        bar = np.searchsorted(starts, firsts, side="right") - 1
        totals: Array = np.empty((len(summands), len(starts)))
        into = np.concatenate([[0], bar[:-1]])
        for i in range(len(summands)):
            blocks = np.concatenate([self.whole[i : i + 1], sums[i, :-1]])
            totals[i] = np.bincount(into, blocks, minlength=len(starts))
        self.whole, self.part = totals[:, -1].copy(), sums[:, -1].copy()
        last = int(starts[-1])
        self.trades = rows - last if len(starts) > 1 else self.trades + rows - 1
        return totals[:, :-1]

    def total(self) -> Array:
        """The sums of the open bar so far."""
        return self.whole + self.part

    def clear(self) -> None:
        """No bar is open."""
        self.whole, self.part, self.trades = np.zeros_like(self.whole), np.zeros_like(self.part), 0

    def to_json(self) -> dict[str, Any]:
        return {"whole": self.whole.tolist(), "part": self.part.tolist(), "trades": self.trades}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> BarSums:
        made = cls(len(content["whole"]))
        made.whole, made.part = np.array(content["whole"]), np.array(content["part"])
        made.trades = content["trades"]
        return made


def _block_starts(starts: Whole, rows: int, carried: int) -> NDArray[np.int64]:
    """Rows at which a block starts: those of the bars, and every ``BLOCK`` trades within one. Row 0 is what
    the open bar carries, ``carried`` trades."""
    ends = np.append(starts[1:], rows)
    first_full = 1 + (-carried) % BLOCK
    more = [np.arange(first_full if carried else ends[0], ends[0], BLOCK)]
    long = np.flatnonzero(ends[1:] - starts[1:] > BLOCK) + 1
    more.extend(np.arange(starts[bar] + BLOCK, ends[bar], BLOCK) for bar in long.tolist())
    return np.sort(np.concatenate([starts, *more])).astype("int64")
