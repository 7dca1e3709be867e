"""Bars that were before the server: a folder's bars into the store, without decisions on them; with them the
columns that trades and books gave them, where the folder has such."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from features.bars import Market
from features.columns import BOOK_COLUMNS, TRADE_COLUMNS
from serving.store.bars import SymbolBars, add_bars, as_arrays
from serving.store.decisions import list_contracts
from serving.store.details import Details, save_details


def load_history(
    engine: Engine, source: str, market: Market, until: pd.Timestamp | None, *, contracts: bool = True
) -> tuple[int, int]:
    """Store the bars that closed by ``until`` (None: all), in one transaction; returns how many were new and
    how many were stored already. Their contracts are listed in the market's order, the leader first; finer
    bars are of no ``contracts`` of their own.

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
        if contracts:
            list_contracts(connection, list(bars))
        added = add_bars(connection, source, interval_s, bars)
        save_details(connection, source, interval_s, _details(known, list(bars)))
    return sum(len(b.closes_s) for b in added.new.values()), added.repeats


def _details(market: Market, symbols: list[str]) -> Iterator[Details]:
    """The columns of each symbol at the closes where any is known."""
    for kind, columns in (("trades", TRADE_COLUMNS), ("book", BOOK_COLUMNS)):
        names = [c.name for c in columns if c.name in market]
        for symbol in symbols if names else ():
            values = {name: market[name][symbol].to_numpy() for name in names}
            there = np.isfinite(np.stack(list(values.values()))).any(axis=0)
            closes_s = market.times.as_unit("s").asi8[there]
            yield Details(symbol, kind, closes_s, {n: v[there] for n, v in values.items()})
