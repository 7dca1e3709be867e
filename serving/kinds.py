"""The two kinds of tape: trades and snapshots of the book, as ``features`` makes bars of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.books.bars import BookBars
from features.books.snapshots import SIDES, Books
from features.columns import BOOK_LEVELS
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from features.trades.checks import CheckSettings
from serving.store.tapes import Rows
from serving.tape import NS_A_US, Closed, Kind

#: Levels of a side that are kept of a snapshot: those that columns are made of.
LEVELS = BOOK_LEVELS[-1]
#: A disagreement over fewer price changes says nothing.
LEAST_CHANGES = 100
_CHECKS = CheckSettings()


def trades_kind(*intervals_s: int) -> Kind:
    """Rows are ``id, time_us, price, size, buy``; a builder is not given ids that are labels."""
    return Kind(
        "trades",
        "id",
        True,
        intervals_s,
        lambda interval_s: TradeBars(pd.Timedelta(seconds=interval_s)),
        TradeBars.from_json,
        _feed_trades,
        _sides,
    )


def book_kind(*intervals_s: int) -> Kind:
    """Rows are ``id, time_us`` and, (row, level), ``bid_px, bid_sz, ask_px, ask_sz``; ids are the times where
    the venue gives none."""
    return Kind(
        "book",
        "id",
        False,
        intervals_s,
        lambda interval_s: BookBars(pd.Timedelta(seconds=interval_s), levels=LEVELS),
        BookBars.from_json,
        _feed_book,
    )


def doubtful_sides(tallied: Mapping[str, int]) -> float | None:
    """The share of price changes that went against the side of their trade, where it is so large that the
    sides are wrong (see ``features.trades.checks``); None where it is not, or little is known."""
    changes = tallied.get("changes", 0)
    share = tallied.get("against", 0) / max(1, changes)
    return share if changes >= LEAST_CHANGES and share > _CHECKS.most_disagreement else None


def _sides(rows: Rows) -> dict[str, int]:
    """The tick rule: a trade above the one before it was bought, one below was sold."""
    change, bought = np.diff(rows["price"]), rows["buy"][1:]
    moved = change != 0
    return {"changes": int(moved.sum()), "against": int((moved & ((change > 0) != bought)).sum())}


def _feed_trades(builder: TradeBars, rows: Rows) -> Closed:
    return builder.add(
        Trades(rows["time_us"] * NS_A_US, rows["price"], rows["size"], rows["buy"], id=rows.get("id"))
    )


def _feed_book(builder: BookBars, rows: Rows) -> Closed:
    return builder.add(Books(rows["time_us"] * NS_A_US, *(rows[name] for name in SIDES)))
