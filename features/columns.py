"""Which columns a bar table may have beyond the bar contract: what single trades, order books and other
series say of a bar.

Unlike bar columns they may be NaN, where they cannot be computed (one trade has no time between trades, an
index had a hole). A column that a source lacks is absent. Each says how a coarser bar gets it from finer
ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: From the known values of the finer bars; ``last`` is the newest known one.
Merge = Literal["sum", "mean", "last", "max", "min"]


@dataclass(frozen=True)
class Column:
    """One column: its values lie within [low, high] (None: no bound) or are NaN; ``words`` say what it is,
    with its unit."""

    name: str
    group: Literal["trades", "book", "context"]
    low: float | None
    high: float | None
    merge: Merge
    words: str


#: From single trades, see ``features.trades``.
TRADE_COLUMNS: tuple[Column, ...] = ()

#: From snapshots of the order book, see ``features.books``.
BOOK_COLUMNS: tuple[Column, ...] = ()

#: Series from elsewhere, joined as of the time at which they were known, see ``features.sources.context``.
CONTEXT_COLUMNS: tuple[Column, ...] = ()

EXTRA_COLUMNS = {c.name: c for c in (*TRADE_COLUMNS, *BOOK_COLUMNS, *CONTEXT_COLUMNS)}
