"""The desk on both databases: what is acknowledged is durable, bars and details are stored once, a restart
goes on where the server was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from features.bars import VALUE_COLUMNS
from features.columns import BOOK_COLUMNS, TRADE_COLUMNS
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from serving.desk import SymbolContradictionError, TapeDesk
from serving.kinds import LEVELS
from serving.settings import ServingSettings
from serving.store.bars import ContradictionError, SymbolBars, add_bars, read_bars
from serving.store.decisions import read_contracts
from serving.store.details import Details, forget_details, read_details, save_details
from serving.store.tables import TapeBatch
from serving.store.tapes import packed, unpacked

S = 1_000_000
HOUR = 3600
START = 1_700_002_800 * S
NAMES = [c.name for c in TRADE_COLUMNS]


def desk_on(engine: Engine, **settings: Any) -> TapeDesk:
    made = TapeDesk(engine, ServingSettings(finer_interval_s=60, **settings))
    made.load()
    return made


def trades(first: int, count: int, step_s: float = 5.0) -> dict[str, NDArray[Any]]:
    """Numbers ``first`` and on of a tape that has one every ``step_s``, the same however it is cut."""
    id = np.arange(first, first + count)
    return {
        "id": id,
        "time_us": START + (id * step_s * S).astype("int64"),
        "price": 100 + np.round(np.sin(id), 2),
        "size": 1.0 + id % 3,
        "buy": id % 2 == 0,
    }


def books(first: int, count: int) -> dict[str, NDArray[Any]]:
    at = np.arange(first, first + count)
    level = np.arange(LEVELS)
    return {
        "id": START + at * 5 * S,
        "time_us": START + at * 5 * S,
        "bid_px": 99.0 - level + np.zeros((count, 1)),
        "bid_sz": 1.0 + (at[:, np.newaxis] + level) % 7,
        "ask_px": 101.0 + level + np.zeros((count, 1)),
        "ask_sz": 1.0 + (at[:, np.newaxis] * 3 + level) % 5,
    }


def stored(engine: Engine, symbol: str, interval_s: int = 60) -> tuple[SymbolBars, Any]:
    with engine.begin() as connection:
        bars = read_bars(connection, "feed", interval_s, symbol, 0)
        return bars, read_details(connection, "feed", interval_s, symbol, 0, NAMES)


def whole(rows: Mapping[str, NDArray[Any]], interval_s: int = 60) -> Mapping[str, NDArray[Any]]:
    """The bars that these trades close."""
    bars = TradeBars(pd.Timedelta(seconds=interval_s))
    return bars.add(Trades(rows["time_us"] * 1000, rows["price"], rows["size"], rows["buy"], id=rows["id"]))


def test_arrays_come_back_from_the_store_as_they_were() -> None:
    rows = {**trades(0, 5), **books(0, 5)}
    found = unpacked(packed(rows))
    assert list(found) == list(rows)
    for name, values in rows.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].flags.writeable
    with pytest.raises(ValueError, match="types"):
        packed({"x": np.array(["a"])})
    with pytest.raises(ValueError, match="damaged"):
        unpacked(b"no batch")


def test_trades_become_stored_bars_with_their_columns_to_the_bit(engine: Engine) -> None:
    desk = desk_on(engine)
    assert desk.take("trades", {"A": trades(0, 100), "B": trades(0, 3)}) == (
        {"accepted": 103, "repeats": 0, "late": 0},
        True,
    )
    made = {(m.symbol, m.interval_s) for m in desk.settle(None, passed=False)}
    assert made == {("A", 60)}
    bars, (closes_s, details) = stored(engine, "A")
    wanted = whole(trades(0, 100))
    assert bars.closes_s.tolist() == (wanted["open_time_ns"] // 10**9 + 60).tolist()
    assert closes_s.tolist() == bars.closes_s.tolist()
    np.testing.assert_array_equal(bars.values, np.stack([wanted[c] for c in VALUE_COLUMNS], axis=1))
    np.testing.assert_array_equal(details, np.stack([wanted[c] for c in NAMES], axis=1))
    assert len(bars.closes_s) == 8
    assert not len(stored(engine, "B")[0].closes_s)


def test_a_restart_between_any_two_batches_changes_nothing(engine: Engine) -> None:
    for first in range(0, 1000, 25):
        desk = desk_on(engine)
        desk.take("trades", {"A": trades(first, 25)})
        # What was acknowledged before a kill is a repeat after it.
        assert desk_on(engine).take("trades", {"A": trades(first, 25)})[0]["repeats"] == 25
        desk.settle(None, passed=False)
        desk.take("book", {"A": books(first, 25)})
    desk_on(engine).settle(None, passed=False)
    for interval_s in (60, HOUR):
        bars, (_, details) = stored(engine, "A", interval_s)
        wanted = whole(trades(0, 1000), interval_s)
        whole_bars = len(bars.closes_s)
        assert whole_bars == 1000 * 5 // interval_s
        np.testing.assert_array_equal(bars.values.T[3], wanted["close"])
        np.testing.assert_array_equal(details, np.stack([wanted[c] for c in NAMES], axis=1))
    with engine.begin() as connection:
        # Nothing older than the step that was settled last is kept.
        assert len(connection.execute(select(TapeBatch.id)).all()) <= 8
        assert [c.symbol for c in read_contracts(connection)] == ["A"]
        names = [c.name for c in BOOK_COLUMNS]
        closes_s, columns = read_details(connection, "feed", 60, "A", 0, names)
        assert len(closes_s) >= 1000 * 5 // 60 - 1
        assert np.isfinite(columns[-1, names.index("book_spread")])


def test_a_contradiction_takes_nothing_of_its_request(engine: Engine) -> None:
    desk = desk_on(engine)
    desk.take("trades", {"A": trades(0, 5)})
    changed = trades(3, 5)
    changed["size"][1] = 7.0
    with pytest.raises(SymbolContradictionError) as caught:
        desk.take("trades", {"B": trades(0, 5), "A": changed})
    assert (caught.value.symbol, caught.value.error.row, caught.value.error.column) == ("A", 1, "size")
    assert desk.take("trades", {"B": trades(0, 5)})[0]["accepted"] == 5
    assert desk.take("trades", {"A": trades(5, 3)})[0]["accepted"] == 3


def test_what_fails_to_be_stored_is_settled_later(sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_on(sqlite)
    desk.take("trades", {"A": trades(0, 100)})

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr("serving.desk.save_details", broken)
        with pytest.raises(OSError, match="no space"):
            desk.settle(None, passed=False)
    assert not len(stored(sqlite, "A")[0].closes_s)
    desk.settle(None, passed=False)
    np.testing.assert_array_equal(stored(sqlite, "A")[0].values.T[3], whole(trades(0, 100))["close"])


def test_a_posted_bar_stands_and_one_that_comes_after_a_made_one_is_late(engine: Engine) -> None:
    posted = SymbolBars(np.array([START // S + 120]), np.full((1, 9), 5.0))
    with engine.begin() as connection:
        assert add_bars(connection, "feed", 60, {"A": posted}).late == 0
    desk = desk_on(engine)
    desk.take("trades", {"A": trades(0, 40)})
    (made,) = desk.settle(None, passed=False)
    assert made.bars is not None
    assert made.closes_s.tolist() == [START // S + s for s in (60, 120, 180)]
    assert made.bars.closes_s.tolist() == [START // S + s for s in (60, 180)]
    bars, (closes_s, _) = stored(engine, "A")
    assert bars.values[1].tolist() == [5.0] * 9
    assert len(closes_s) == 3, "the columns beside it are stored"
    with engine.begin() as connection:
        late = add_bars(connection, "feed", 60, {"A": SymbolBars(np.array([START // S + 60]), posted.values)})
        same = SymbolBars(bars.closes_s[2:], bars.values[2:])
        repeat = add_bars(connection, "feed", 60, {"A": same})
    assert (late.late, late.repeats, dict(late.new)) == (1, 0, {})
    assert (repeat.late, repeat.repeats) == (0, 1)
    changed = SymbolBars(posted.closes_s, posted.values + 1)
    with pytest.raises(ContradictionError), engine.begin() as connection:
        add_bars(connection, "feed", 60, {"A": changed})


@pytest.mark.parametrize(
    ("now_s", "passed", "complete_s", "bars"),
    [
        # The newest trade is at 130 s, so that 120 s are settled by it.
        (None, False, None, 2),
        # By the clock, 2 s after the close and with a trade from after it.
        (131.9, False, None, 2),
        (200.0, False, None, 2),
        # The feed says that there was no more.
        (None, False, 179, 2),
        (None, False, 180, 3),
        (None, False, 300, 5),
        # The event clock: a bar has closed.
        (240.0, True, None, 4),
        # What is filled in long after goes at its own pace.
        (2 * HOUR, True, None, 2),
    ],
)
def test_up_to_when_a_tape_is_settled(
    sqlite: Engine, now_s: float | None, passed: bool, complete_s: int | None, bars: int
) -> None:
    desk = desk_on(sqlite)
    complete_us = None if complete_s is None else START + complete_s * S
    desk.take("trades", {"A": trades(0, 27)}, complete_us)
    desk.settle(None if now_s is None else START // S + now_s, passed=passed)
    assert len(stored(sqlite, "A")[0].closes_s) == bars


def test_the_clock_settles_what_has_a_trade_from_after_it_and_no_silence(sqlite: Engine) -> None:
    desk = desk_on(sqlite)
    # At 121 s: not yet the tolerance after the close at 120 s.
    desk.take("trades", {"A": trades(0, 122, step_s=1.0), "B": trades(0, 100, step_s=1.0)})
    close_s = START // S + 120
    for now_s, count in ((121.9, 1), (122.0, 2)):
        desk.settle(START // S + now_s, passed=False)
        assert len(stored(sqlite, "A")[0].closes_s) == count
    assert len(stored(sqlite, "B")[0].closes_s) == 1, "nothing says that its feed is alive"
    assert desk.behind(close_s)
    assert not desk.behind(close_s - 60)
    # An hour on nobody waits for B any more.
    assert not desk.behind(close_s + 2 * HOUR)
    found = desk.status()["trades"]
    assert (found["symbols"], found["accepted"], found["unsettled"]) == (2, 222, 42)
    assert found["newest"] == "2023-11-14T23:02:01Z"
    assert desk.take("trades", {"A": trades(500, 1, step_s=0.1)})[0] == {
        "accepted": 0,
        "repeats": 0,
        "late": 1,
    }
    assert desk.status()["trades"]["late"] == 1


def test_sides_that_go_against_the_price_are_told_once(
    sqlite: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    rows = trades(0, 400)
    rising = np.diff(rows["price"], prepend=0.0) > 0
    desk = desk_on(sqlite)
    desk.take("trades", {"GOOD": {**rows, "buy": rising}, "BAD": {**rows, "buy": ~rising}})
    desk.settle(None, passed=False)
    desk.take("trades", {"BAD": trades(400, 100)})
    desk.settle(None, passed=False)
    (told,) = [r.getMessage() for r in caplog.records]
    assert "the sides of BAD go against 100 % of its price changes" in told
    assert set(desk.status()["trades"]["doubtful_sides"]) == {"BAD"}
    assert set(desk_on(sqlite).status()["trades"]["doubtful_sides"]) == {"BAD"}


def test_a_vouch_for_trades_is_none_for_books(sqlite: Engine) -> None:
    desk = desk_on(sqlite)
    desk.take("trades", {"A": trades(0, 14)})
    desk.take("book", {"A": books(0, 14)})
    assert desk.take("book", {}, START + 120 * S) == ({"accepted": 0, "repeats": 0, "late": 0}, True)
    desk.settle(None, passed=False)
    assert len(stored(sqlite, "A")[0].closes_s) == 1
    with sqlite.begin() as connection:
        closes_s, _ = read_details(connection, "feed", 60, "A", 0, ["book_spread"])
    assert len(closes_s) == 2


def test_details_are_replaced_and_unknown_ones_left_out(engine: Engine) -> None:
    closes_s = np.array([60, 120])

    def save(connection: Any, kind: str, at: NDArray[np.int64], **columns: list[float]) -> None:
        arrays = {name: np.array(values) for name, values in columns.items()}
        save_details(connection, "feed", 60, [Details("A", kind, at, arrays)])

    with engine.begin() as connection:
        save(connection, "book", closes_s, x=[1.0, 2.0])
        save(connection, "book", closes_s, x=[3.0, np.nan])
        save(connection, "trades", closes_s[1:], y=[4.0])
        save(connection, "trades", closes_s[:0], y=[])
        found = read_details(connection, "feed", 60, "A", 60, ["y", "x"])
        newer = read_details(connection, "feed", 60, "A", 120, ["x"])
        forget_details(connection, "feed", 60, 120)
        left = read_details(connection, "feed", 60, "A", 0, ["x"])
    assert found[0].tolist() == [60, 120]
    np.testing.assert_array_equal(found[1], [[np.nan, 3.0], [4.0, np.nan]])
    assert newer[0].tolist() == left[0].tolist() == [120]
