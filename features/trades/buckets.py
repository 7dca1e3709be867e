"""Volume-synchronised probability of informed trading (VPIN) on volume buckets.

Trades fill buckets of a usual volume V one after the other; a trade that overflows its bucket is split. With
B and S the volume that takers bought and sold in a bucket,

    VPIN = mean of |B - S| / V over the newest N full buckets,

a fraction of the volume in [0, 1]; NaN (warm-up) until N buckets have been filled without a hole. V changes
at the ends of spans only (see ``features.trades.usual``); a bucket that is half full then stays half full.

Source: Easley, Lopez de Prado and O'Hara 2012, with the recorded sides of the trades in place of bulk
classification.
"""

from __future__ import annotations

from math import fsum, nan
from typing import Any

import numpy as np

from features.trades.arrays import Array, Whole

#: A bucket is full when it is full but for this share, so that rounding does not leave it open.
_FULL = 1e-9


class VolumeBuckets:
    """``volume`` and ``signed``, the totals since the span began, go on from call to call; everything else
    is in buckets."""

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self.vpin = nan
        self._size: float | None = None
        self._imbalances: list[float] = []
        # Of the span under way: fill of the open bucket when it began, totals of volume (base), number of
        # full buckets and signed volume at the newest edge, both in buckets.
        self._before = self._volume = self._signed = 0.0
        self._full, self._edge = 0, 0.0

    @property
    def volume(self) -> float:
        """Volume of the span under way."""
        return self._volume

    def begin_span(self, size: float | None, after_hole: bool = False) -> None:
        """A new span, in which a bucket holds ``size`` (None: still unknown, nothing is filled). After a hole
        the buckets before it are no longer the newest ones and are forgotten."""
        if after_hole:
            self._imbalances, self.vpin = [], nan
        if after_hole or self._size is None:
            self._before = self._edge = 0.0
        else:
            # What is in the open bucket stays in it, as a share of the bucket.
            self._before = max(0.0, self._before + self._volume / self._size - self._full)
            self._edge -= self._signed / self._size
        self._size, self._volume, self._signed, self._full = size, 0.0, 0.0, 0

    def fill(self, sizes: Array, signed: Array) -> tuple[Whole, Array]:
        """Take trades, sizes and signed sizes (positive: bought), at least one.

        Returns the rows that filled a bucket, in order, and VPIN after each.
        """
        totals = np.cumsum(np.concatenate([[self._volume], sizes]))
        signs = np.cumsum(np.concatenate([[self._signed], signed]))
        self._volume, self._signed = float(totals[-1]), float(signs[-1])
        if self._size is None:
            return np.zeros(0, dtype="int64"), np.zeros(0)
        filled = self._before + totals / self._size
        full = np.floor(filled + _FULL)
        full[0] = self._full
        crossing = np.flatnonzero(full[1:] > full[:-1])
        rows: list[int] = []
        values: list[float] = []
        for row in crossing.tolist():
            self._close(float(filled[row]), int(full[row + 1]), float(signs[row]), signed[row] > 0)
            rows.append(row)
            values.append(self.vpin)
        return np.array(rows, dtype="int64"), np.array(values)

    def _close(self, filled: float, full: int, signed: float, bought: bool) -> None:
        """One trade fills the open bucket and maybe more; ``filled`` and ``signed`` are from before it."""
        assert self._size is not None
        direction = 1.0 if bought else -1.0
        edge = signed / self._size + direction * (self._full + 1 - filled)
        self._imbalances.append(min(1.0, abs(edge - self._edge)))
        # The further ones hold this trade alone.
        further = full - self._full - 1
        self._imbalances.extend([1.0] * min(further, self._buckets))
        self._edge, self._full = edge + direction * further, full
        del self._imbalances[: -self._buckets]
        if len(self._imbalances) == self._buckets:
            self.vpin = fsum(self._imbalances) / self._buckets

    def to_json(self) -> dict[str, Any]:
        return {
            "vpin": None if self.vpin != self.vpin else self.vpin,
            "size": self._size,
            "imbalances": list(self._imbalances),
            "before": self._before,
            "volume": self._volume,
            "signed": self._signed,
            "full": self._full,
            "edge": self._edge,
        }

    @classmethod
    def from_json(cls, buckets: int, content: dict[str, Any]) -> VolumeBuckets:
        made = cls(buckets)
        made.vpin = nan if content["vpin"] is None else content["vpin"]
        made._size, made._imbalances = content["size"], list(content["imbalances"])
        made._before, made._volume = content["before"], content["volume"]
        made._signed, made._full, made._edge = content["signed"], content["full"], content["edge"]
        return made
