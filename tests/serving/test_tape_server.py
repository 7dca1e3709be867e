"""A real server that takes trades and books over HTTP: what it refuses, what a kill leaves, and decisions on
what came."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from features.bars import VALUE_COLUMNS, Market
from features.columns import TRADE_COLUMNS
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from serving.store.bars import read_bars
from serving.store.details import read_details
from serving.store.engine import store_engine

FINER = {"FOREMARGIN_SERVING__FINER_INTERVAL_S": "60"}
LEFT = 25
HOUR = pd.Timedelta(hours=1)
JSON = {"Content-Type": "application/json"}


def tape(market: Market, symbol: str, hours: int, seed: int = 1) -> dict[str, Any]:
    """Trades of the hours after the history, one every 5 s or so; the first opens them."""
    r = np.random.default_rng(seed)
    start_us = market.times[-LEFT].value // 1000
    count = hours * 720
    times = start_us + np.sort(r.integers(0, hours * 3600 * 10**6, count))
    times[0] = start_us
    last = float(market.close[symbol].to_numpy()[-LEFT])
    return {
        "symbol": symbol,
        "id": 1000 + np.arange(count),
        "time_us": times,
        "price": np.round(last * np.exp(r.normal(0, 1e-4, count).cumsum()), 4),
        "size": np.round(r.exponential(1.0, count), 3) + 0.001,
        "side": np.where(r.random(count) < 0.5, "buy", "sell"),
    }


def block(trades: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {n: v if n == "symbol" else v[rows].tolist() for n, v in trades.items()}


def post(url: str, *blocks: dict[str, Any], **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/trades", json={"trades": blocks, **more}, timeout=30)


def status(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/live/status", timeout=30).json()
    return found


def alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tapes") / "tapes.db"


@pytest.fixture(scope="module")
def taking(make_server: Callable[..., Any], folder: Path, market: Market, database: Path) -> Any:
    """A server with history up to a day before the market's end that takes trades."""
    made = make_server(
        *("--history", str(folder), "--until", market.times[-LEFT].isoformat()),
        *("--database", f"sqlite:///{database}"),
        **FINER,
    )
    made.start()
    return made


def test_trades_survive_kills_and_become_the_bars_of_all_at_once(
    taking: Any, market: Market, database: Path, eventually: Callable[..., None]
) -> None:
    symbol = market.symbols[0]
    trades = tape(market, symbol, hours=2)
    r = np.random.default_rng(3)
    # A row arrives up to 2 s after a newer one.
    order = np.argsort(trades["time_us"] + r.uniform(0, 2e6, len(trades["id"])), kind="stable")
    batches = np.array_split(order, 24)
    for at, rows in enumerate(batches):
        answer = post(taking.url, block(trades, rows))
        assert answer.json() == {"accepted": len(rows), "repeats": 0, "late": 0}
        if at in (8, 16):
            taking.end(signal.SIGKILL)
            eventually(lambda: not alive(taking.url))
            taking.start()
            # What was acknowledged is there: it is a repeat, or in bars already.
            again = post(taking.url, block(trades, rows)).json()
            assert again["accepted"] == 0
            assert again["repeats"] + again["late"] == len(rows)
    end = market.times[-LEFT] + 2 * HOUR
    assert post(taking.url, complete_until_us=end.value // 1000).status_code == 200
    eventually(lambda: status(taking.url)["newest_bar_close"] == f"{end:%Y-%m-%dT%H:%M:%SZ}")
    eventually(lambda: status(taking.url)["pending_closes"] == 0)

    whole = Trades(
        trades["time_us"] * 1000,
        trades["price"],
        trades["size"],
        trades["side"] == "buy",
        id=trades["id"],
    )
    engine = store_engine(f"sqlite:///{database}")
    names = [c.name for c in TRADE_COLUMNS]
    first_close_s = int(market.times[-LEFT].timestamp()) + 1
    with engine.begin() as connection:
        for interval_s in (60, 3600):
            bars = TradeBars(pd.Timedelta(seconds=interval_s))
            parts = [bars.add(whole), bars.close_until(end.value)]
            wanted = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
            found = read_bars(connection, "feed", interval_s, symbol, first_close_s)
            assert len(found.closes_s) == 7200 // interval_s
            np.testing.assert_array_equal(found.values, np.stack([wanted[c] for c in VALUE_COLUMNS], axis=1))
            _, details = read_details(connection, "feed", interval_s, symbol, first_close_s, names)
            np.testing.assert_array_equal(details, np.stack([wanted[c] for c in names], axis=1))
    engine.dispose()
    # The hours were decided on the bars that were made, and only once.
    plain = create_engine(f"sqlite:///{database}")
    with plain.connect() as connection:
        times = connection.execute(
            text("SELECT decision_time FROM decisions WHERE symbol = :s AND trigger = 'bar' ORDER BY seq"),
            {"s": symbol},
        ).scalars()
        assert list(times) == [int((end - HOUR).timestamp()), int(end.timestamp())]
    plain.dispose()
    answer = httpx.get(f"{taking.url}/live/multipliers/{symbol}").json()["multipliers"][0]
    assert answer["decision_time"] == f"{end:%Y-%m-%dT%H:%M:%SZ}"
    assert answer["rung"] == "rules"


def test_the_page_of_the_api_lists_trades_and_books(taking: Any) -> None:
    assert {"/v1/trades", "/v1/book"} <= set(httpx.get(f"{taking.url}/docs.json").json()["paths"])


def some(**changes: Any) -> dict[str, Any]:
    return {
        "symbol": "ALPHA",
        "id": [1, 2],
        "time_us": [1_700_000_000_000_000, 1_700_000_000_000_001],
        "price": [10.0, 11.0],
        "size": [1.0, 2.0],
        "side": ["buy", "sell"],
    } | changes


def snapshot(**changes: Any) -> dict[str, Any]:
    return {
        "symbol": "ALPHA",
        "time_us": [1_700_000_000_000_000],
        "bid_price": [[10.0]],
        "bid_size": [[1.0]],
        "ask_price": [[11.0]],
        "ask_size": [[1.0]],
    } | changes


TRADES, BOOK = "/v1/trades", "/v1/book"
NAN = float("nan")
BAD: list[tuple[str, str, Any, int, str, int | None]] = [
    ("nan", TRADES, some(price=[1.0, NAN]), 400, "trades.0.price.1", 1),
    ("unknown side", TRADES, some(side=["buy", "bid"]), 400, "trades.0.side.1", 1),
    ("text for an id", TRADES, some(id=["1", 2]), 400, "trades.0.id.0", 0),
    ("no symbol", TRADES, {**some(), "symbol": ""}, 400, "trades.0.symbol", None),
    ("unknown field", TRADES, some(source="x"), 400, "trades.0.source", None),
    ("no id", TRADES, {k: v for k, v in some().items() if k != "id"}, 400, "trades.0.id", None),
    ("an id twice", TRADES, some(id=[1, 1]), 422, "trades.0.id.1", 1),
    ("unequal lengths", TRADES, some(size=[1.0]), 422, "trades.0.size", None),
    ("no size", TRADES, some(size=[1.0, 0.0]), 422, "trades.0.size.1", 1),
    ("milliseconds", TRADES, some(time_us=[1_700_000_000_000] * 2), 422, "trades.0.time_us.0", 0),
    ("far future", TRADES, some(time_us=[4_000_000_000_000_000] * 2), 422, "trades.0.time_us.0", 0),
    ("book: nan", BOOK, snapshot(bid_price=[[NAN]]), 400, "book.0.bid_price.0.0", 0),
    ("book: flat", BOOK, snapshot(bid_price=[10.0]), 400, "book.0.bid_price.0", 0),
    ("book: negative size", BOOK, snapshot(ask_size=[[-1.0]]), 422, "book.0.ask_size.0.0", 0),
    ("book: a size too many", BOOK, snapshot(ask_size=[[1.0, 2.0]]), 422, "book.0.ask_size.0", 0),
]


@pytest.mark.parametrize(
    ("path", "content", "code", "field", "row"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_bad_rows_are_refused_in_one_shape_and_nothing_is_taken(
    taking: Any, path: str, content: Any, code: int, field: str, row: int | None
) -> None:
    name = path.rpartition("/")[2]
    before = status(taking.url)["tapes"]
    good = {**(some() if path == TRADES else snapshot()), "symbol": "BETA"}
    for blocks in ([content], [content, good]):
        answer = httpx.post(taking.url + path, content=json.dumps({name: blocks}), headers=JSON)
        assert answer.status_code == code, answer.text
        error = answer.json()["error"]
        assert {"code", "message", "field", "value", "remedy"} <= set(error)
        assert error["field"] == field
        assert error.get("row") == row
        assert error["remedy"]
    assert status(taking.url)["tapes"] == before


@pytest.mark.parametrize("path", [TRADES, BOOK])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"trades": 5, "book": 5}', 400),
        (b'{"trades": [[1]], "book": [[1]]}', 400),
        (b'{"x": "' + b"a" * 5_000_000 + b'"}', 413),
    ],
)
def test_bad_bodies_are_refused_in_the_shape(taking: Any, path: str, body: bytes, code: int) -> None:
    try:
        answer = httpx.post(taking.url + path, content=body, headers=JSON)
    except httpx.WriteError:
        assert code == 413
        return
    assert answer.status_code == code
    assert {"code", "message", "field", "value", "remedy"} <= set(answer.json()["error"])


def test_a_body_of_wrong_values_is_refused_at_the_first(taking: Any) -> None:
    """Not with a word for each of them."""
    wrong = some(**{name: ["x"] * 200_000 for name in ("id", "time_us")})
    answer = httpx.post(taking.url + TRADES, json={"trades": [wrong]}, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "trades.0.id.0"
    assert len(answer.content) < 1000


def test_a_contradiction_and_a_book_over_http(taking: Any) -> None:
    assert post(taking.url, some(symbol="NEW")).json()["accepted"] == 2
    answer = post(taking.url, some(symbol="NEW", price=[10.0, 12.0]))
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert (error["code"], error["field"], error["value"]) == ("contradicting_row", "trades.0.price.1", 12.0)
    answer = httpx.post(taking.url + BOOK, json={"book": [snapshot(symbol="NEW")]})
    assert answer.json() == {"accepted": 1, "repeats": 0, "late": 0}
    # A symbol of which only trades came is no contract before its first bar.
    assert httpx.get(f"{taking.url}/live/multipliers/NEW").status_code == 404


def test_a_server_without_a_finer_interval_says_what_to_set(server: Any) -> None:
    answer = post(server.url, some())
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "not_configured"
    assert "finer_interval_s" in answer.json()["error"]["remedy"]
    assert status(server.url)["tapes"] == {}
