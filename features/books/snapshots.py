"""``Books``: snapshots of the order book of one symbol as arrays, oldest first, best level first.

Times in nanoseconds since 1970 UTC, prices in quote currency, sizes in base currency (or contracts: nothing
here mixes sizes of two symbols). A level that is not there is NaN in price and size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

#: The four arrays of levels, in the order in which they are written.
SIDES = ("bid_px", "bid_sz", "ask_px", "ask_sz")


@dataclass(frozen=True)
class Books:
    """Snapshots of one symbol. Nothing is checked here but shapes and types.

    Attributes:
        time_ns: int64 (row), nanoseconds since 1970 UTC.
        bid_px, bid_sz, ask_px, ask_sz: float64 (row, level); NaN in price and size where there is no level.

    Raises ``ValueError`` where shapes or types differ from these.
    """

    time_ns: Whole
    bid_px: Array
    bid_sz: Array
    ask_px: Array
    ask_sz: Array

    def __post_init__(self) -> None:
        shape = self.bid_px.shape
        if self.time_ns.dtype != np.int64 or len(shape) != 2 or shape[1] < 1:
            raise ValueError(
                f"books: time_ns is {self.time_ns.dtype} and bid_px of shape {shape}; give int64 nanoseconds "
                f"and (row, level) with one level at least"
            )
        for name in SIDES:
            array = getattr(self, name)
            if array.dtype != np.float64 or array.shape != (len(self.time_ns), shape[1]):
                raise ValueError(
                    f"books: {name} is {array.dtype} of shape {array.shape}, and must be float64 of shape "
                    f"{(len(self.time_ns), shape[1])}; give one row a snapshot and NaN for absent levels"
                )

    def __len__(self) -> int:
        return len(self.time_ns)

    @property
    def levels(self) -> int:
        return int(self.bid_px.shape[1])

    def rows(self, which: slice | NDArray[np.bool_] | Whole) -> Books:
        """These rows: a slice, a mask or row numbers."""
        return Books(self.time_ns[which], *(getattr(self, name)[which] for name in SIDES))

    def with_levels(self, levels: int) -> Books:
        """The best ``levels`` of each side; where there were fewer, the rest is absent."""
        if levels == self.levels:
            return self

        def fitted(array: Array) -> Array:
            out = np.full((len(array), levels), np.nan)
            held = min(levels, self.levels)
            out[:, :held] = array[:, :held]
            return out

        return Books(self.time_ns, *(fitted(getattr(self, name)) for name in SIDES))

    @classmethod
    def joined(cls, parts: Sequence[Books]) -> Books:
        """One after the other; all with the same number of levels."""
        if not parts:
            raise ValueError("no books given; give at least one part")
        return cls(
            np.concatenate([p.time_ns for p in parts]),
            *(np.concatenate([getattr(p, name) for p in parts]) for name in SIDES),
        )

    def to_json(self) -> dict[str, Any]:
        """The arrays as lists; an absent level is null."""
        levels = {
            name: [[None if np.isnan(v) else float(v) for v in row] for row in getattr(self, name)]
            for name in SIDES
        }
        return {"time_ns": self.time_ns.tolist(), **levels}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Books:
        """What ``to_json`` gave."""
        return cls(
            np.array(content["time_ns"], dtype="int64"),
            *(np.array(content[name], dtype="float64") for name in SIDES),
        )
