"""Context series (``features.sources.context``) joined onto a market's bars, as of when they were known.

- ``funding_rate``: the newest settled rate, brought to 8 h (rate * 8 / hours). Known at its time;
- ``implied_volatility``: close / 100 of the index, a fraction. Known when its bar has closed and not before.
  One series for the whole market: every symbol gets it;
- ``open_interest``: the newest, in its own unit. Known at its time;
- ``liquidations_long``, ``liquidations_short``: size times price of the forced sales and purchases in [open,
  close) of each bar, quote currency.

A value stands until the next one, but no longer than its age limit: two of its own intervals for funding,
``INDEX_AGE``, ``OPEN_INTEREST_AGE``. Beyond it, before the first one, at a missing bar, and for a symbol that
the file does not have, it is NaN. No liquidation in a bar is 0 only while the feed is alive: some symbol of
the file had one within ``LIQUIDATIONS_AGE`` before the bar's open, and before its close.

A perpetual and its spot pair go by the same symbol.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.sources.context import INDEX_INTERVAL, Context

INDEX_AGE = pd.Timedelta(hours=3)
OPEN_INTEREST_AGE = pd.Timedelta(hours=2)
LIQUIDATIONS_AGE = pd.Timedelta(hours=6)


def with_context(market: Market, context: Context) -> Market:
    """The market with the columns of the series that are given, on its own grid; those that are not given are
    absent. What stands at a close was known at that close."""
    columns: dict[str, NDArray[np.float64]] = {}
    if (table := context.funding) is not None:
        known = table.assign(
            value=table["funding_rate"] * 8 / table["funding_interval_hours"],
            age=pd.to_timedelta(2 * table["funding_interval_hours"], unit="h"),
        )
        columns["funding_rate"] = _by_symbol(market, known, "funding_time")
    if (table := context.index) is not None:
        known = pd.DataFrame(
            {"time": table["open_time"] + INDEX_INTERVAL, "value": table["close"] / 100, "age": INDEX_AGE}
        )
        columns["implied_volatility"] = np.repeat(
            _as_of(market.times, known, "time")[:, np.newaxis], len(market.symbols), axis=1
        )
    if (table := context.open_interest) is not None:
        known = table.assign(value=table["open_interest"], age=OPEN_INTEREST_AGE)
        columns["open_interest"] = _by_symbol(market, known, "time")
    if (table := context.liquidations) is not None:
        for side, name in (("sell", "liquidations_long"), ("buy", "liquidations_short")):
            columns[name] = _sums(market, table, side)
    return market.with_columns(market.frames(columns))


def _by_symbol(market: Market, known: pd.DataFrame, time: str) -> NDArray[np.float64]:
    tables = dict(iter(known.groupby("symbol")))
    missing = np.full(len(market.times), np.nan)
    parts = [_as_of(market.times, tables[s], time) if s in tables else missing for s in market.symbols]
    return np.stack(parts, axis=1)


def _as_of(times: pd.DatetimeIndex, known: pd.DataFrame, time: str) -> NDArray[np.float64]:
    """The newest value known at or before each of the times, NaN where it is older than its age limit."""
    since = pd.DatetimeIndex(known[time])
    if len(since) == 0:
        return np.full(len(times), np.nan)
    newest = since.searchsorted(times, side="right") - 1
    at = np.maximum(newest, 0)
    fresh = (newest >= 0) & (times - since[at] <= pd.TimedeltaIndex(known["age"])[at])
    return np.where(fresh, known["value"].to_numpy(dtype="float64")[at], np.nan)


def _sums(market: Market, table: pd.DataFrame, side: str) -> NDArray[np.float64]:
    """Quote value of the liquidations of one side in each bar; NaN where the feed is not alive."""
    every = np.sort(pd.DatetimeIndex(table["time"]).asi8)
    closes = market.times.asi8
    opens = closes - market.interval // pd.Timedelta(1, unit="ns")
    oldest = LIQUIDATIONS_AGE // pd.Timedelta(1, unit="ns")

    def alive(at: NDArray[np.int64]) -> NDArray[np.bool_]:
        newest = np.searchsorted(every, at, side="right") - 1
        found: NDArray[np.bool_] = (newest >= 0) & (at - every[np.maximum(newest, 0)] <= oldest)
        return found

    here = table[table["side"] == side]
    held = set(table["symbol"])
    out = np.full((len(closes), len(market.symbols)), np.nan)
    known = alive(opens) & alive(closes) if len(every) else np.zeros(len(closes), dtype=bool)
    for s, symbol in enumerate(market.symbols):
        if symbol not in held:
            continue
        of_symbol = here[here["symbol"] == symbol]
        bar = np.searchsorted(closes, pd.DatetimeIndex(of_symbol["time"]).asi8, side="right")
        inside = (bar < len(closes)) & (pd.DatetimeIndex(of_symbol["time"]).asi8 >= opens[0])
        value = (of_symbol["size"] * of_symbol["price"]).to_numpy(dtype="float64")
        total = np.bincount(bar[inside], value[inside], minlength=len(closes))
        out[:, s] = np.where(known, total, np.nan)
    return out
