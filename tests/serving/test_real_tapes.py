"""Recorded trades and books through the server's requests: the bars are those of the file at once, though
they come out of order, twice, and through restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine

from features.bars import VALUE_COLUMNS
from features.books.bars import BookBars
from features.books.snapshots import Books
from features.columns import BOOK_COLUMNS, TRADE_COLUMNS
from features.sources.books import read_books
from features.sources.trades import checked_trades
from features.sources.trades_pieces import TradeChoice
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from features.trades.checks import CheckSettings, TradeChecks
from serving.clock import BarsClock
from serving.desk import TapeDesk
from serving.kinds import LEVELS
from serving.settings import ServingSettings
from serving.store.bars import read_bars
from serving.store.details import read_details
from serving.tape_ingest import TapeIngest
from serving.tape_requests import BookRequest, TradesRequest

pytestmark = pytest.mark.realdata

SETTINGS = ServingSettings(finer_interval_s=60)
BATCHES = 60


def arriving(time_ns: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """The rows in batches, up to 1.9 s out of order."""
    late = np.random.default_rng(1).uniform(0, 1.9e9, len(time_ns))
    return np.array_split(np.argsort(time_ns + late, kind="stable"), BATCHES)


def feed(engine: Engine, batches: list[Any], take: Callable[[TapeIngest, Any], dict[str, Any]]) -> None:
    """Every batch twice, a restart after every tenth, and the end vouched for."""
    for at, batch in enumerate(batches):
        if at % 10 == 0:
            desk = TapeDesk(engine, SETTINGS)
            desk.load()
            ingest = TapeIngest(desk, SETTINGS, BarsClock(), lambda: None)
        assert take(ingest, batch)["late"] == 0
        assert take(ingest, batch)["accepted"] == 0
        desk.settle(None, passed=False)


def test_the_trades_of_a_file_make_the_bars_of_the_file(real_data: Path, sqlite: Engine) -> None:
    """Of its ids 14 % are missing."""
    path = real_data / "trades" / "binance-spot-LTCUSDT-36h.parquet"
    checks = TradeChecks(CheckSettings(repeats="leave_out"))
    trades = Trades.joined([t for _, t in checked_trades([path], TradeChoice(symbol="LTCUSDT"), checks)])
    assert trades.id is not None

    def request(rows: NDArray[np.intp]) -> TradesRequest:
        assert trades.id is not None
        block = {
            "symbol": "LTCUSDT",
            "id": trades.id[rows].tolist(),
            "time_us": (trades.time_ns[rows] // 1000).tolist(),
            "price": trades.price[rows].tolist(),
            "size": trades.size[rows].tolist(),
            "side": np.where(trades.buy[rows], "buy", "sell").tolist(),
        }
        return TradesRequest.model_validate_json(json.dumps({"trades": [block]}))

    feed(sqlite, [request(rows) for rows in arriving(trades.time_ns)], TapeIngest.take_trades)
    names = [c.name for c in TRADE_COLUMNS]
    for interval_s in (60, 3600):
        closed = TradeBars(pd.Timedelta(seconds=interval_s)).add(trades)
        # But the first, of which the beginning is not known, and those that are not settled at the end.
        wanted = {n: a[1:] for n, a in closed.items()}
        with sqlite.begin() as connection:
            found = read_bars(connection, "feed", interval_s, "LTCUSDT", 0)
            _, details = read_details(connection, "feed", interval_s, "LTCUSDT", 0, names)
        here = len(found.closes_s)
        assert here >= len(wanted["close"]) - 1
        opened_s = wanted["open_time_ns"][:here] // 10**9
        assert found.closes_s.tolist() == (opened_s + interval_s).tolist()
        np.testing.assert_array_equal(
            found.values, np.stack([wanted[c][:here] for c in VALUE_COLUMNS], axis=1)
        )
        np.testing.assert_array_equal(details, np.stack([wanted[c][:here] for c in names], axis=1))


def test_the_snapshots_of_a_file_make_the_columns_of_the_file(real_data: Path, sqlite: Engine) -> None:
    path = real_data / "book" / "standx-BTCUSD-1s.parquet"
    books = Books.joined(list(read_books(path))).with_levels(LEVELS).rows(slice(0, 40_000))

    def request(rows: NDArray[np.intp]) -> BookRequest:
        def levels(array: NDArray[np.float64]) -> list[list[float]]:
            return [[x for x in row if x == x] for row in array[rows].tolist()]

        block = {
            "symbol": "BTCUSD",
            "time_us": (books.time_ns[rows] // 1000).tolist(),
            "bid_price": levels(books.bid_px),
            "bid_size": levels(books.bid_sz),
            "ask_price": levels(books.ask_px),
            "ask_size": levels(books.ask_sz),
        }
        return BookRequest.model_validate_json(json.dumps({"book": [block]}))

    feed(sqlite, [request(rows) for rows in arriving(books.time_ns)], TapeIngest.take_book)
    names = [c.name for c in BOOK_COLUMNS]
    closed = BookBars(pd.Timedelta(seconds=60), levels=LEVELS).add(books)
    with sqlite.begin() as connection:
        closes_s, details = read_details(connection, "feed", 60, "BTCUSD", 0, names)
    # The first is whole where a snapshot opens it; the last waits for what is after it.
    first = int(np.searchsorted(closed["open_time_ns"] // 10**9 + 60, closes_s[0]))
    wanted = {n: a[first : first + len(closes_s)] for n, a in closed.items()}
    assert first <= 1
    assert len(closes_s) >= len(closed["open_time_ns"]) - 2
    assert closes_s.tolist() == (wanted["open_time_ns"] // 10**9 + 60).tolist()
    np.testing.assert_array_equal(details, np.stack([wanted[c] for c in names], axis=1))
