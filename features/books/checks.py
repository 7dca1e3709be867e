"""What snapshots must hold, or be refused: times that are possible and in order; levels that are whole,
finite, not negative, the best first.

That a side is empty, or that the sides touch or cross, is no error: books do that, and ``BookBars`` handles
and counts it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import BarError
from features.books.snapshots import Array, Books, Whole

#: A time outside is in another unit than it says (milliseconds read as microseconds, say).
FIRST_NS = pd.Timestamp("2009-01-01", tz="UTC").value
LAST_NS = pd.Timestamp("2100-01-01", tz="UTC").value

_REPAIR = "repair the snapshot from its source, or leave it out"
_BEST_FIRST = "give the best level first, each price once"


def check_books(books: Books, where: str, *, rows: Whole | None = None, after_ns: int | None = None) -> Books:
    """Return the snapshots with levels of size 0 made absent, or raise ``BarError``.

    Args:
        books: snapshots in the order in which they came.
        where: what to call them in errors, the file name say.
        rows: the number of each snapshot in its source, for errors; None counts from 0.
        after_ns: the time of the snapshot before these, where there was one.
    """
    if len(books) == 0:
        return books
    rows = np.arange(len(books)) if rows is None else rows
    _check_times(books.time_ns, where, rows, after_ns)
    bids = _checked_side("bid", books.bid_px, books.bid_sz, where, rows)
    asks = _checked_side("ask", books.ask_px, books.ask_sz, where, rows)
    return Books(books.time_ns, *bids, *asks)


def _check_times(time: Whole, where: str, rows: Whole, after_ns: int | None) -> None:
    before = np.concatenate([time[:1] if after_ns is None else np.array([after_ns]), time[:-1]])
    for broken, words, remedy in (
        (
            (time < FIRST_NS) | (time >= LAST_NS),
            "the time is not between 2009 and 2100",
            "check the unit of the times: seconds, milliseconds, microseconds or nanoseconds",
        ),
        (
            time < before,
            "the time is earlier than that of the snapshot before",
            "sort the snapshots by time, one symbol after the other",
        ),
    ):
        if broken.any():
            first, count = int(broken.argmax()), int(broken.sum())
            at = pd.Timestamp(int(time[first]), tz="UTC")
            raise BarError(
                where, words, remedy, row=int(rows[first]), column="timestamp", value=at, count=count
            )


def _checked_side(side: str, price: Array, size: Array, where: str, rows: Whole) -> tuple[Array, Array]:
    """Price and size (row, level) of one side, NaN in both where a level is absent."""
    no_price, no_size = np.isnan(price), np.isnan(size)
    there = size > 0
    better = price if side == "bid" else -price
    gap, disorder = np.zeros_like(there), np.zeros_like(there)
    gap[:, 1:] = there[:, 1:] & ~there[:, :-1]
    disorder[:, 1:] = there[:, 1:] & there[:, :-1] & (better[:, 1:] >= better[:, :-1])
    way = "below" if side == "bid" else "above"

    def refuse(broken: NDArray[np.bool_], part: str, values: Array, words: str, remedy: str) -> None:
        if not broken.any():
            return
        row, level = (int(i[0]) for i in np.nonzero(broken))
        count = int(broken.any(axis=1).sum())
        raise BarError(
            where,
            words,
            remedy,
            row=int(rows[row]),
            column=f"{side}_{part}_{level}",
            value=float(values[row, level]),
            count=count,
        )

    refuse(np.isinf(price), "px", price, "the price is not finite", _REPAIR)
    refuse(np.isinf(size), "sz", size, "the size is not finite", _REPAIR)
    refuse(size < 0, "sz", size, "the size is negative", "give the sizes that stand, not their changes")
    refuse(no_price & there, "px", price, "a level has a size and no price", _REPAIR)
    refuse(no_size & ~no_price, "sz", size, "a level has a price and no size", _REPAIR)
    refuse(there & (price <= 0), "px", price, "the price is not above 0", _REPAIR)
    refuse(gap, "px", price, "a level is there and the better one before it is not", _BEST_FIRST)
    refuse(disorder, "px", price, f"the price is not {way} that of the level before", _BEST_FIRST)
    return np.where(there, price, np.nan), np.where(there, size, np.nan)
