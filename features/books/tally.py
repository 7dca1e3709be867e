"""Sums, largest and newest values by bar, which go on where the call before left off.

A sum adds one value after the other, in the order in which they are given, from 0: however they are cut into
calls, the bits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.books.snapshots import Array, Whole


@dataclass(frozen=True)
class Part:
    """What is to be added: for each entry its bar (number of intervals since 1970) and its values by name.
    NaN adds nothing."""

    bars: Whole
    sums: Mapping[str, Array] = field(default_factory=dict)
    largest: Mapping[str, Array] = field(default_factory=dict)
    newest: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Tallied:
    """The bars (number since 1970, ascending) and what they hold; largest and newest are NaN where there was
    nothing."""

    bars: Whole
    sums: dict[str, Array]
    largest: dict[str, Array]
    newest: dict[str, Array]

    def rows(self, which: NDArray[np.bool_]) -> Tallied:
        def cut(values: dict[str, Array]) -> dict[str, Array]:
            return {name: array[which] for name, array in values.items()}

        return Tallied(self.bars[which], cut(self.sums), cut(self.largest), cut(self.newest))


class Tally:
    """The bars that are still held, see the module."""

    def __init__(self, sums: Sequence[str], largest: Sequence[str], newest: Sequence[str]) -> None:
        def none() -> Array:
            return np.empty(0)

        self.held = Tallied(
            np.empty(0, dtype="int64"),
            {name: none() for name in sums},
            {name: none() for name in largest},
            {name: none() for name in newest},
        )

    def add(self, parts: Sequence[Part]) -> None:
        """Add the parts one after the other."""
        bars = np.unique(np.concatenate([self.held.bars, *(p.bars for p in parts)]))
        were = np.searchsorted(bars, self.held.bars)

        def longer(values: Mapping[str, Array], start: float) -> dict[str, Array]:
            out = {}
            for name, array in values.items():
                out[name] = np.full(len(bars), start)
                out[name][were] = array
            return out

        sums = longer(self.held.sums, 0.0)
        largest, newest = longer(self.held.largest, np.nan), longer(self.held.newest, np.nan)
        every = np.arange(len(bars))
        for part in parts:
            at = np.searchsorted(bars, part.bars)
            places = np.concatenate([every, at])
            for name, values in part.sums.items():
                # bincount goes through the values in their order; what is held comes first.
                weights = np.concatenate([sums[name], np.where(np.isnan(values), 0.0, values)])
                sums[name] = np.bincount(places, weights, minlength=len(bars)).astype("float64", copy=False)
            for name, values in part.largest.items():
                np.fmax.at(largest[name], at, values)
            for name, values in part.newest.items():
                known = ~np.isnan(values)
                newest[name][at[known]] = values[known]  # of several for one bar, the last one stays
        self.held = Tallied(bars, sums, largest, newest)

    def before(self, bar: int) -> Tallied:
        """Take out the bars before this one."""
        done = self.held.bars < bar
        closed, self.held = self.held.rows(done), self.held.rows(~done)
        return closed

    def to_json(self) -> dict[str, Any]:
        def plain(values: dict[str, Array]) -> dict[str, list[float | None]]:
            return {name: [None if np.isnan(v) else float(v) for v in a] for name, a in values.items()}

        held = self.held
        return {
            "bars": held.bars.tolist(),
            "sums": plain(held.sums),
            "largest": plain(held.largest),
            "newest": plain(held.newest),
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Hold what ``to_json`` gave. Raises ``ValueError`` where it has other names."""

        def arrays(name: str) -> dict[str, Array]:
            found = content[name]
            if set(found) != set(getattr(self.held, name)):
                raise ValueError(f"the state has {name} {sorted(found)}; it was written by another version")
            return {key: np.array(found[key], dtype="float64") for key in getattr(self.held, name)}

        bars = np.array(content["bars"], dtype="int64")
        self.held = Tallied(bars, arrays("sums"), arrays("largest"), arrays("newest"))
