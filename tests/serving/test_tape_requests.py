"""Which trades and snapshots are refused, with block, row, field, value and remedy, and how the others come
out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, func, select

from serving.clock import WallClock
from serving.desk import TapeDesk
from serving.errors import ContradictingRowError, InvalidInputError, RefusedError, UnknownSymbolError
from serving.kinds import LEVELS
from serving.settings import ServingSettings
from serving.store.tables import TapeBatch
from serving.tape_ingest import TapeIngest
from serving.tape_requests import BookRequest, TradesRequest, checked_book, checked_trades

NOW_US = 1_700_000_000_000_000


def trades(symbol: str = "AAA", **changes: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "id": [5, 6, 7],
        "time_us": [NOW_US, NOW_US + 1, NOW_US + 1],
        "price": [10.0, 10.5, 10],
        "size": [1.0, 2.0, 3.0],
        "side": ["buy", "sell", "buy"],
    } | changes


def book(symbol: str = "AAA", **changes: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "time_us": [NOW_US, NOW_US + 5],
        "bid_price": [[10.0, 9.0], [10.0]],
        "bid_size": [[1.0, 2.0], [3.0]],
        "ask_price": [[11.0], []],
        "ask_size": [[4.0], []],
    } | changes


def check_trades(*blocks: dict[str, Any]) -> Any:
    return checked_trades(TradesRequest.model_validate_json(json.dumps({"trades": blocks})))


def check_book(*blocks: dict[str, Any]) -> Any:
    return checked_book(BookRequest.model_validate_json(json.dumps({"book": blocks})))


def test_trades_come_out_as_arrays_by_symbol() -> None:
    found = check_trades(trades(), trades("BBB", id=[], time_us=[], price=[], size=[], side=[]))
    assert list(found) == ["AAA"], "an empty block brings nothing"
    assert {n: (a.dtype.str, a.tolist()) for n, a in found["AAA"].items()} == {
        "id": ("<i8", [5, 6, 7]),
        "time_us": ("<i8", [NOW_US, NOW_US + 1, NOW_US + 1]),
        "price": ("<f8", [10.0, 10.5, 10.0]),
        "size": ("<f8", [1.0, 2.0, 3.0]),
        "buy": ("|b1", [True, False, True]),
    }


def test_snapshots_come_out_with_absent_levels_unknown_and_the_best_levels_only() -> None:
    wide = list(np.arange(20.0, 5.0, -1))
    found = check_book(book(), book("BBB", bid_price=[wide, wide], bid_size=[[1.0] * 15, [*[1.0] * 14, 0.0]]))
    own = found["AAA"]
    assert own["time_us"].tolist() == [NOW_US, NOW_US + 5]
    assert own["bid_px"].shape == (2, LEVELS)
    np.testing.assert_array_equal(own["bid_px"][:, :3], [[10, 9, np.nan], [10, np.nan, np.nan]])
    np.testing.assert_array_equal(own["bid_sz"][:, :2], [[1, 2], [3, np.nan]])
    np.testing.assert_array_equal(own["ask_px"][:, 0], [11, np.nan])
    assert found["BBB"]["bid_px"][0].tolist() == wide[:LEVELS]


@pytest.mark.parametrize(
    "changes",
    [
        {"bid_price": [[12.0, 9.0], [10.0]]},
        {"bid_price": [[11.0, 9.0], [10.0]]},
        {"bid_price": [[], []], "bid_size": [[], []]},
        {"bid_price": [[], []], "bid_size": [[], []], "ask_price": [[], []], "ask_size": [[], []]},
    ],
    ids=["crossed", "locked", "one-sided", "empty"],
)
def test_strange_books_are_no_error(changes: dict[str, Any]) -> None:
    assert check_book(book(**changes))["AAA"]["time_us"].tolist() == [NOW_US, NOW_US + 5]


def test_snapshots_of_one_time_are_told_apart_by_their_ids() -> None:
    found = check_book(book(time_us=[NOW_US] * 2, id=[8, 7]))["AAA"]
    assert found["id"].tolist() == [8, 7]
    assert found["bid_sz"][:, 0].tolist() == [1.0, 3.0]
    assert check_book(book())["AAA"]["id"].tolist() == [NOW_US, NOW_US + 5]


def test_snapshots_that_come_out_of_order_keep_their_rows() -> None:
    found = check_book(book(time_us=[NOW_US + 5, NOW_US]))["AAA"]
    assert found["time_us"].tolist() == [NOW_US + 5, NOW_US]
    assert found["bid_sz"][:, 0].tolist() == [1.0, 3.0]


SECOND = NOW_US // 10**6


@pytest.mark.parametrize(
    ("check", "blocks", "field", "value", "row", "words"),
    [
        (check_trades, [trades(), trades()], "trades.1.symbol", "AAA", None, "two blocks"),
        (check_trades, [trades(price=[1.0])], "trades.0.price", 1, None, "price has 1 values and id has 3"),
        (check_trades, [trades(side=[])], "trades.0.side", 0, None, "side has 0 values"),
        (check_trades, [trades("B"), trades(id=[5, 6, 5])], "trades.1.id.2", 5, 2, "twice in one request"),
        (
            check_trades,
            [trades(size=[1.0, -2.0, 1.0])],
            "trades.0.size.1",
            -2.0,
            1,
            "size is not a number above 0",
        ),
        (
            check_trades,
            [trades(size=[1.0, 2.0, 0])],
            "trades.0.size.2",
            0.0,
            2,
            "size is not a number above 0",
        ),
        (
            check_trades,
            [trades(size=[1.0, 1e12, 1.0])],
            "trades.0.size.1",
            1e12,
            1,
            "price times size is above 1e+12",
        ),
        (
            check_trades,
            [trades(time_us=[NOW_US, SECOND, 0])],
            "trades.0.time_us.1",
            SECOND,
            1,
            "like seconds",
        ),
        (
            check_trades,
            [trades(time_us=[SECOND * 1000] * 3)],
            "trades.0.time_us.0",
            SECOND * 1000,
            0,
            "looks like milliseconds",
        ),
        (
            check_trades,
            [trades(time_us=[NOW_US, NOW_US, NOW_US * 1000])],
            "trades.0.time_us.2",
            f"a whole number of {(NOW_US * 1000).bit_length()} bits",
            2,
            "looks like nanoseconds",
        ),
        (check_trades, [trades(time_us=[5, 5, 5])], "trades.0.time_us.0", 5, 0, "between 2009 and 2100"),
        (check_book, [book(), book()], "book.1.symbol", "AAA", None, "two blocks"),
        (check_book, [book(bid_size=[[1.0]])], "book.0.bid_size", 1, None, "bid_size has 1 values"),
        (check_book, [book(ask_size=[[4.0, 5.0], []])], "book.0.ask_size.0", 2, 0, "number of levels"),
        (check_book, [book(time_us=[NOW_US] * 2)], "book.0.time_us.1", NOW_US, 1, "twice in one request"),
        (check_book, [book(id=[4, 4])], "book.0.id.1", 4, 1, "id is there twice"),
        (check_book, [book(id=[4])], "book.0.id", 1, None, "id has 1 values and time_us has 2"),
        (check_book, [book(time_us=[NOW_US, SECOND])], "book.0.time_us.1", SECOND, 1, "looks like seconds"),
        (check_book, [book(ask_size=[[-4.0], []])], "book.0.ask_size.0.0", -4.0, 0, "size is negative"),
        (check_book, [book(bid_price=[[10.0, 9.0], [-1.0]])], "book.0.bid_price.1.0", -1.0, 1, "not above 0"),
        (
            check_book,
            [book(bid_price=[[9.0, 10.0], [1.0]], time_us=[NOW_US + 5, NOW_US])],
            "book.0.bid_price.0.1",
            10.0,
            0,
            "not below that of the level before",
        ),
        (
            check_book,
            [book(ask_price=[[1.0] * 1001, []], ask_size=[[1.0] * 1001, []])],
            "book.0.ask_price.0",
            1001,
            0,
            "more than 1000 levels",
        ),
    ],
)
def test_what_breaks_a_rule_is_named(
    check: Callable[..., Any],
    blocks: list[dict[str, Any]],
    field: str,
    value: object,
    row: int | None,
    words: str,
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check(*blocks)
    error = caught.value.body["error"]
    assert (error["field"], error["value"], error.get("row")) == (field, value, row)
    assert words in error["message"]
    assert error["remedy"]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"side": ["buy", "bid", "buy"]}, ("side", 1)),
        ({"price": [1.0, float("nan"), 1.0]}, ("price", 1)),
        ({"size": [1.0, 1.0, "1"]}, ("size", 2)),
        ({"id": [1, 2, 3.5]}, ("id", 2)),
        ({"id": [1, -2, 3]}, ("id", 1)),
        ({"id": [2**63, 2, 3]}, ("id", 0)),
        ({"time_us": ["2025-01-01T00:00:00Z"] * 3}, ("time_us", 0)),
        ({"symbol": "A A"}, ("symbol",)),
        ({"source": "other"}, ("source",)),
        ({"price": None}, ("price",)),
    ],
)
def test_other_types_are_refused_at_the_first(changes: dict[str, Any], place: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        check_trades(trades(), trades() | changes)
    (error,) = caught.value.errors()
    assert error["loc"] == ("trades", 1, *place)


def test_a_level_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        check_book(book(bid_size=[[1.0, float("inf")], [1.0]]))
    assert caught.value.errors()[0]["loc"] == ("book", 0, "bid_size", 0, 1)


@pytest.fixture
def ingest(sqlite: Engine, set_clock: Callable[..., Any]) -> Callable[..., TapeIngest]:
    def make(alone: bool = True, **settings: Any) -> TapeIngest:
        chosen = ServingSettings(finer_interval_s=60, **settings)
        clock = set_clock(NOW_US / 1e6 + 1.5)
        clock.runs_alone = alone
        return TapeIngest(TapeDesk(sqlite, chosen), chosen, clock, lambda: None)

    return make


def take(ingest: TapeIngest, *blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return ingest.take_trades(TradesRequest.model_validate_json(json.dumps({"trades": blocks, **more})))


def refused(kind: type[RefusedError], ingest: TapeIngest, *blocks: dict[str, Any], **more: Any) -> Any:
    with pytest.raises(kind) as caught:
        take(ingest, *blocks, **more)
    with ingest.desk._engine.begin() as connection:  # type: ignore[union-attr]
        there = connection.scalar(select(func.count()).select_from(TapeBatch))
    return caught.value.body["error"], there


def test_the_future_is_refused_up_to_a_second(ingest: Callable[..., TapeIngest]) -> None:
    made = ingest()
    ahead = trades(time_us=[NOW_US, NOW_US + 2_600_000, NOW_US])
    error, there = refused(InvalidInputError, made, trades("BBB"), ahead)
    assert (error["field"], error["row"], there) == ("trades.1.time_us.1", 1, 0)
    assert "1.1 s from now" in error["message"]
    error, _ = refused(InvalidInputError, made, complete_until_us=NOW_US + 3_000_000)
    assert error["field"] == "complete_until_us"
    assert take(made, trades(time_us=[NOW_US + 2_400_000] * 3))["accepted"] == 3
    # Where the bars are the clock, a simulated market may run ahead.
    far = trades("CCC", time_us=[int(WallClock().now_s(None) * 1e6) + 300 * 86400 * 10**6] * 3)
    assert take(ingest(alone=False), far)["accepted"] == 3
    farther = trades("CCC", time_us=[int(WallClock().now_s(None) * 1e6) + 400 * 86400 * 10**6] * 3)
    refused(InvalidInputError, ingest(alone=False), farther)


def test_a_contradiction_names_block_row_and_both_values(ingest: Callable[..., TapeIngest]) -> None:
    made = ingest()
    take(made, trades())
    changed = trades(side=["buy", "sell", "sell"])
    error, there = refused(ContradictingRowError, made, trades("BBB"), changed)
    assert (error["code"], error["field"], error["row"], there) == (
        "contradicting_row",
        "trades.1.side.2",
        2,
        1,
    )
    assert error["value"] == "sell"
    assert "taken before with side = buy" in error["message"]


def test_symbols_that_are_not_listed_are_refused(ingest: Callable[..., TapeIngest]) -> None:
    made = ingest(symbols=("AAA",))
    error, there = refused(UnknownSymbolError, made, trades(), trades("BBB"))
    assert (error["field"], error["value"], there) == ("trades.1.symbol", "BBB", 0)
    assert take(made, trades()) == {"accepted": 3, "repeats": 0, "late": 0}


def test_a_book_is_taken_as_trades_are(ingest: Callable[..., TapeIngest]) -> None:
    made = ingest()
    request = BookRequest.model_validate_json(json.dumps({"book": [book()]}))
    assert made.take_book(request) == {"accepted": 2, "repeats": 0, "late": 0}
    assert made.take_book(request) == {"accepted": 0, "repeats": 2, "late": 0}
    other = BookRequest.model_validate_json(json.dumps({"book": [book(bid_size=[[1.0, 2.5], [3.0]])]}))
    with pytest.raises(ContradictingRowError) as caught:
        made.take_book(other)
    error = caught.value.body["error"]
    assert (error["field"], error["row"]) == ("book.0.bid_size.0", 0)
    assert made.status()["book"]["repeats"] == 2
