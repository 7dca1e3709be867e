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
    Column("large_trade_imbalance", "trades", -1, 1, "mean", "large buys less large sales, share of volume"),
    Column("size_dispersion", "trades", 0, None, "mean", "standard deviation over mean of trade sizes"),
    Column("trade_gap_s", "trades", 0, None, "mean", "mean time between trades, seconds"),
    Column("trade_gap_dispersion", "trades", 0, None, "mean", "standard deviation over mean of that time"),
    Column("run_mean", "trades", 1, None, "mean", "trades in a row on one side, mean"),
    Column("run_longest", "trades", 1, None, "max", "trades in a row on one side, most"),
    Column("vpin", "trades", 0, 1, "last", "imbalance of the newest full volume buckets, fraction of volume"),
    Column("kyle_lambda", "trades", None, None, "mean", "price change a unit bought, fraction of price"),
    Column("roll_spread", "trades", 0, None, "mean", "Roll's effective spread, fraction of price"),
    Column("flow_autocorrelation", "trades", -1, 1, "mean", "lag-1 autocorrelation of signed trade sizes"),
    Column("buy_sell_gap", "trades", -1, None, "mean", "mean taker-buy over mean taker-sell price, less 1"),
)

#: How many of the best levels of both sides a group of columns covers. Of order flow there is one column a
#: level, up to the last.
BOOK_LEVELS = (1, 5, 10)


def _book_columns() -> tuple[Column, ...]:
    def column(name: str, low: float | None, high: float | None, merge: Merge, words: str) -> Column:
        return Column(f"book_{name}", "book", low, high, merge, words)

    groups = []
    for n in BOOK_LEVELS:
        groups += [
            column(f"depth_{n}", None, None, "mean", f"ln of price times size over {n} levels of both sides"),
            column(
                f"imbalance_{n}", -1, 1, "mean", f"(bid - ask) / (bid + ask) of size over {n} levels, mean"
            ),
            column(f"imbalance_{n}_last", -1, 1, "last", f"the same over {n} levels at the close"),
        ]
    flows = [
        column(f"ofi_{m}", None, None, "sum", f"order-flow imbalance of level {m}, in mean sizes of a level")
        for m in range(1, BOOK_LEVELS[-1] + 1)
    ]
    return (
        column("snapshots", 0, None, "sum", "number of snapshots"),
        column("coverage", 0, 1, "mean", "share of the bar in which a sound book is known"),
        column("locked", 0, 1, "mean", "share of snapshots whose best prices are equal"),
        column("crossed", 0, 1, "mean", "share of snapshots whose best bid is above the best ask"),
        column("one_sided", 0, 1, "mean", "share of snapshots without one of the sides"),
        column("empty", 0, 1, "mean", "share of snapshots without both sides"),
        column("spread", 0, 2, "mean", "(ask - bid) / mid, mean where not locked"),
        column("spread_max", 0, 2, "max", "(ask - bid) / mid, largest"),
        *groups,
        *flows,
        column("slope", None, None, "mean", "ln of price times size a unit of relative distance from mid"),
        column("microprice", -1, 1, "mean", "ln(microprice / mid), mean where not locked"),
        column("microprice_last", -1, 1, "last", "the same at the close"),
        column("microprice_drift", None, None, "sum", "log return of the microprice"),
        column("depletions", 0, None, "sum", "how often half of a best size was gone at once, both sides"),
        column("resilience", 0, 1, "mean", "share of what was depleted that is back 5 s later"),
    )


#: From snapshots of the order book, see ``features.books``.
BOOK_COLUMNS: tuple[Column, ...] = _book_columns()

#: Series from elsewhere, joined as of the time at which they were known, see ``features.sources.context``.
CONTEXT_COLUMNS: tuple[Column, ...] = (
    Column("funding_rate", "context", -1, 1, "last", "newest settled funding rate, brought to 8 h, fraction"),
    Column("implied_volatility", "context", 0, 10, "last", "volatility index, annualised, fraction"),
    Column("open_interest", "context", 0, None, "last", "open interest, in the unit of its source"),
    Column(
        "liquidations_long", "context", 0, None, "sum", "longs closed by force in the bar, quote currency"
    ),
    Column(
        "liquidations_short", "context", 0, None, "sum", "shorts closed by force in the bar, quote currency"
    ),
)

EXTRA_COLUMNS = {c.name: c for c in (*TRADE_COLUMNS, *BOOK_COLUMNS, *CONTEXT_COLUMNS)}
