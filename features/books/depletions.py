"""Depletions of the best price, and how much comes back: the resilience of a book.

With q the size at the best price of a side in one book, and d what stands at that price or better in the
next: the price is *depleted* where no better one has come and d <= q / 2. With b what stands there in the
first book ``RECOVERY`` or more later, the share that is back is (b - d) / (q - d) within [0, 1]. It is 1
where all levels that the source shows are better than that price, which may stand out of sight behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.books.measures import deepest
from features.books.snapshots import Array, Books, Whole

#: A change that leaves this share or less of the best size is a depletion.
DEPLETED = 0.5
#: When a depletion is looked at again.
RECOVERY = pd.Timedelta(seconds=5)

#: Sign by which a better price of the side is a larger number.
SIGNS = {"bid": 1, "ask": -1}


@dataclass(frozen=True)
class Depletions:
    """Depletions of one side: when they were seen, the best price before, its size, and what was left of
    it."""

    time_ns: Whole
    price: Array
    size: Array
    left: Array

    @classmethod
    def none(cls) -> Depletions:
        return cls(np.empty(0, dtype="int64"), np.empty(0), np.empty(0), np.empty(0))

    @classmethod
    def between(cls, side: str, before: Books, after: Books) -> tuple[Depletions, NDArray[np.bool_]]:
        """Those between each book and the next, and on which rows they are."""
        price, size = getattr(before, f"{side}_px")[:, 0], getattr(before, f"{side}_sz")[:, 0]
        left = _standing(side, after, price)
        sign = SIGNS[side]
        gone = (left <= DEPLETED * size) & (sign * getattr(after, f"{side}_px")[:, 0] <= sign * price)
        return cls(after.time_ns[gone], price[gone], size[gone], left[gone]), gone

    def and_then(self, later: Depletions) -> Depletions:
        return Depletions(
            *(np.concatenate([getattr(self, f.name), getattr(later, f.name)]) for f in fields(self))
        )

    def rows(self, which: NDArray[np.bool_]) -> Depletions:
        return Depletions(*(getattr(self, f.name)[which] for f in fields(self)))

    def answered(self, side: str, books: Books, hole_ns: int) -> tuple[Whole, Array, Depletions]:
        """By the first of these books that comes ``RECOVERY`` or more after each depletion, where one does:
        its time and the share that is back; and the depletions that still wait. One for which that book comes
        more than ``hole_ns`` late has no answer."""
        due = self.time_ns + RECOVERY.value
        at = np.searchsorted(books.time_ns, due, side="left")
        waits = at == len(books)
        answered = ~waits
        answered[answered] = books.time_ns[at[answered]] - due[answered] <= hole_ns
        asked, then = self.rows(answered), books.rows(at[answered])
        back = (_standing(side, then, asked.price) - asked.left) / (asked.size - asked.left)
        sign, price = SIGNS[side], getattr(then, f"{side}_px")
        out_of_sight = sign * price[np.arange(len(price)), deepest(price)] > sign * asked.price
        return then.time_ns, np.where(out_of_sight, 1.0, back.clip(0, 1)), self.rows(waits)

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name).tolist() for f in fields(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Depletions:
        return cls(
            np.array(content["time_ns"], dtype="int64"),
            *(np.array(content[name], dtype="float64") for name in ("price", "size", "left")),
        )


def _standing(side: str, books: Books, price: Array) -> Array:
    """Size that stands on the side at ``price`` (row) or better."""
    sign = SIGNS[side]
    good = sign * getattr(books, f"{side}_px") >= sign * price[:, np.newaxis]
    # cumsum adds from the best level on whatever the number of rows is, which sum does not promise.
    total: Array = np.cumsum(np.where(good, getattr(books, f"{side}_sz"), 0.0), axis=1)[:, -1]
    return total
