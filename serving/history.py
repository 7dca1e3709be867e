"""Bars that were before the server: a folder's bars into the store, without decisions on them."""

from __future__ import annotations

import pandas as pd
from sqlalchemy import Engine

from features.bars import Market
from serving.store.bars import SymbolBars, add_bars, as_arrays
from serving.store.decisions import list_contracts


def load_history(engine: Engine, source: str, market: Market, until: pd.Timestamp | None) -> tuple[int, int]:
    """Store the bars that closed by ``until`` (None: all), in one transaction; returns how many were new and
    how many were stored already. Contracts are listed in the market's order, the leader first.

    Raises ``serving.store.bars.ContradictionError`` where a bar differs from the stored one.
    """
    interval_s = int(market.interval.total_seconds())
    known = market if until is None else market.until(until)
    bars: dict[str, SymbolBars] = {}
    for symbol in known.symbols:
        table = known.bars(symbol)
        if len(table):
            bars[symbol] = as_arrays(table, interval_s)
    if not bars:
        raise ValueError(f"no bar closed by {until}; give a later --until")
    with engine.begin() as connection:
        list_contracts(connection, list(bars))
        added = add_bars(connection, source, interval_s, bars)
    return sum(len(b.closes_s) for b in added.new.values()), added.repeats
