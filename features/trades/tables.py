"""Tables of closed bars: arrays of one length by column name, and the flat bars of silence between them.

``open_time_ns`` is int64, nanoseconds since 1970 UTC; every other column is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import VALUE_COLUMNS
from features.columns import TRADE_COLUMNS
from features.trades.arrays import Array, Whole

Table = dict[str, NDArray[Any]]
NAMES = (*VALUE_COLUMNS, *(c.name for c in TRADE_COLUMNS))

_PRICES = ("open", "high", "low", "close")
_NOTHING = ("volume", "quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")

#: What the sides of trades tell; without sides these are absent.
SIDED = (
    *("taker_buy_volume", "taker_buy_quote_volume", "run_mean", "run_longest", "vpin", "kyle_lambda"),
    *("large_trade_imbalance", "flow_autocorrelation", "buy_sell_gap"),
)


def empty_table() -> Table:
    return {"open_time_ns": np.zeros(0, dtype="int64"), **{name: np.zeros(0) for name in NAMES}}


def joined(tables: Sequence[Table]) -> Table:
    """One after the other; an empty table where there are none."""
    full = [t for t in tables if len(t["open_time_ns"])]
    if not full:
        return empty_table()
    return full[0] if len(full) == 1 else {c: np.concatenate([t[c] for t in full]) for c in full[0]}


def flat_bars(opens_ns: Whole, price: Array, vpin: Array) -> Table:
    """Bars in which nothing was traded: the price stays, VPIN is what it was, what needs trades is NaN."""
    table: Table = {"open_time_ns": opens_ns, **dict.fromkeys(_PRICES, price)}
    for name in NAMES[len(_PRICES) :]:
        table[name] = np.zeros(len(price)) if name in _NOTHING else np.full(len(price), np.nan)
    table["vpin"] = vpin
    return table


def with_silence(table: Table, silent: Whole, interval_ns: int) -> Table:
    """The table with ``silent[i]`` flat bars after its row ``i``."""
    if not silent.any():
        return table
    row = np.repeat(np.arange(len(silent)), silent)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(silent) - silent, silent) + 1
    flat = flat_bars(table["open_time_ns"][row] + nth * interval_ns, table["close"][row], table["vpin"][row])
    every = joined([table, flat])
    order = np.argsort(every["open_time_ns"], kind="stable")
    return {name: column[order] for name, column in every.items()}


def bar_table(table: Table) -> pd.DataFrame:
    """A bar table (see ``features.bars``) with ``open_time``; whole numbers are float64, as in all of
    them."""
    times = pd.DatetimeIndex(table["open_time_ns"].astype("datetime64[ns]"), tz="UTC")
    return pd.DataFrame({"open_time": times, **{name: table[name] for name in NAMES}})
