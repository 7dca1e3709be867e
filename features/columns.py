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
TRADE_COLUMNS: tuple[Column, ...] = (
    Column("large_trade_share", "trades", 0, 1, "mean", "share of the volume in trades that were large"),
    Column("size_dispersion", "trades", 0, None, "mean", "standard deviation over mean of trade sizes"),
    Column("trade_gap_s", "trades", 0, None, "mean", "mean time between trades, seconds"),
    Column("trade_gap_dispersion", "trades", 0, None, "mean", "standard deviation over mean of that time"),
    Column("run_mean", "trades", 1, None, "mean", "trades in a row on one side, mean"),
    Column("run_longest", "trades", 1, None, "max", "trades in a row on one side, most"),
    Column("vpin", "trades", 0, 1, "last", "imbalance of the newest full volume buckets, fraction of volume"),
    Column("kyle_lambda", "trades", None, None, "mean", "price change a unit of base bought, fraction of price"),
    Column("roll_spread", "trades", 0, None, "mean", "Roll's effective spread, fraction of price"),
    Column("flow_autocorrelation", "trades", -1, 1, "mean", "lag-1 autocorrelation of signed trade sizes"),
    Column("buy_sell_gap", "trades", -1, None, "mean", "mean taker-buy over mean taker-sell price, less 1"),
)

#: From snapshots of the order book, see ``features.books``.
BOOK_COLUMNS: tuple[Column, ...] = ()

#: Series from elsewhere, joined as of the time at which they were known, see ``features.sources.context``.
CONTEXT_COLUMNS: tuple[Column, ...] = ()

EXTRA_COLUMNS = {c.name: c for c in (*TRADE_COLUMNS, *BOOK_COLUMNS, *CONTEXT_COLUMNS)}
