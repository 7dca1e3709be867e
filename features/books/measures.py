"""What one snapshot of the book says, and what changed between two.

Arrays over rows; sizes in the unit of the source, prices in quote currency. A snapshot is *sound* where both
sides are there and the best bid is not above the best ask, and *open* where it is below. What a snapshot
that is not sound would say is NaN; so is what needs a distance between the sides where they are locked.

Sources: Cont, Kukanov and Stoikov 2014 (order-flow imbalance); Cont, Cucuringu and Zhang 2023 (by level);
Stoikov 2018 (microprice; here its first step, the mid weighted by the other side's size).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from features.books.snapshots import Array, Books
from features.columns import BOOK_LEVELS

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Kinds:
    """What kind of book each snapshot is: one of the five holds."""

    open: Mask
    locked: Mask
    crossed: Mask
    one_sided: Mask
    empty: Mask

    @property
    def sound(self) -> Mask:
        return self.open | self.locked

    @classmethod
    def of(cls, books: Books) -> Kinds:
        bid, ask = books.bid_px[:, 0], books.ask_px[:, 0]
        no_bid, no_ask = np.isnan(bid), np.isnan(ask)
        return cls(bid < ask, bid == ask, bid > ask, no_bid ^ no_ask, no_bid & no_ask)


@dataclass(frozen=True)
class Measures:
    """What each snapshot says, (row) or (row, group of levels).

    Attributes:
        spread: (ask - bid) / mid, where open.
        notional: price times size over the levels of each group, both sides, quote currency.
        imbalance: (bid - ask) / (bid + ask) of the sizes over the levels of each group.
        size: mean size of a level, over those that are there on both sides.
        slope: ln of (notional over all levels / relative width from the deepest bid to the deepest ask);
            high where much stands close to the mid.
        microprice: (bid ask_sz + ask bid_sz) / (bid_sz + ask_sz) of the best level.
        lean: ln(microprice / mid), where open.
    """

    spread: Array
    notional: Array
    imbalance: Array
    size: Array
    slope: Array
    microprice: Array
    lean: Array

    def rows(self, which: slice | NDArray[np.int64]) -> Measures:
        """These rows."""
        return Measures(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def of(cls, books: Books) -> Measures:
        kinds = Kinds.of(books)
        bid_px, bid_sz, ask_px, ask_sz = books.bid_px, books.bid_sz, books.ask_px, books.ask_sz
        if not kinds.sound.all():
            # NaN from here on, and so is all that is made of it.
            bid_px, bid_sz, ask_px, ask_sz = (
                np.where(kinds.sound[:, np.newaxis], side, np.nan)
                for side in (bid_px, bid_sz, ask_px, ask_sz)
            )
        bid, ask, bid_size, ask_size = bid_px[:, 0], ask_px[:, 0], bid_sz[:, 0], ask_sz[:, 0]
        mid, best = (bid + ask) / 2, bid_size + ask_size
        spread = np.where(kinds.open, (ask - bid) / mid, np.nan)
        groups = [n - 1 for n in levels_of_groups(books.levels)]
        bids, asks = _over_levels(bid_sz), _over_levels(ask_sz)
        notional = _over_levels(bid_px * bid_sz) + _over_levels(ask_px * ask_sz)
        rows = np.arange(len(books))
        deep_bid, deep_ask = deepest(books.bid_px), deepest(books.ask_px)
        width = (ask_px[rows, deep_ask] - bid_px[rows, deep_bid]) / mid
        thickness = np.divide(notional[:, -1], width, out=np.full_like(mid, np.nan), where=width > 0)
        return cls(
            spread,
            notional[:, groups],
            ((bids - asks) / (bids + asks))[:, groups],
            (bids + asks)[:, -1] / (deep_bid + deep_ask + 2),
            np.log(thickness),
            (bid * ask_size + ask * bid_size) / best,
            # The logarithm of the module's ratio, without the cancellation.
            np.log1p(spread / 2 * (bid_size - ask_size) / best),
        )


def levels_of_groups(levels: int) -> list[int]:
    """How many levels each group of columns covers that a book of ``levels`` has."""
    return [n for n in BOOK_LEVELS if n <= levels]


def deepest(price: Array) -> NDArray[np.int64]:
    """The last level that is there, by row; 0 where none is."""
    last: NDArray[np.int64] = np.maximum(np.isfinite(price).sum(axis=1, dtype="int64") - 1, 0)
    return last


def _over_levels(values: Array) -> Array:
    """Sum of this level and all better ones; absent ones count as 0, and a row without its best level is
    NaN."""
    total: Array = np.cumsum(np.nan_to_num(values), axis=1)
    return np.where(np.isnan(values[:, :1]), np.nan, total)


def order_flow(before: Books, after: Books) -> Array:
    """Order-flow imbalance of each level between two snapshots, (row, level), in the unit of the sizes.

    With p and q price and size of a level, n after and o before:

        1{p_bid,n >= p_bid,o} q_bid,n - 1{p_bid,n <= p_bid,o} q_bid,o
        - 1{p_ask,n <= p_ask,o} q_ask,n + 1{p_ask,n >= p_ask,o} q_ask,o

    Positive where interest to buy came or interest to sell went. NaN where the level is absent before or
    after on one of the sides.
    """
    flow: Array = (
        np.where(after.bid_px >= before.bid_px, after.bid_sz, 0.0)
        - np.where(after.bid_px <= before.bid_px, before.bid_sz, 0.0)
        - np.where(after.ask_px <= before.ask_px, after.ask_sz, 0.0)
        + np.where(after.ask_px >= before.ask_px, before.ask_sz, 0.0)
    )
    return np.where(np.isnan(after.bid_px + before.bid_px + after.ask_px + before.ask_px), np.nan, flow)
