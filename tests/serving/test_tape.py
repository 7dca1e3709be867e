"""A tape against the bars of all its rows at once, however they came: shuffled, repeated, late, in any
batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from features.books.bars import BookBars
from features.books.snapshots import SIDES, Books
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from serving.kinds import LEVELS, book_kind, trades_kind
from serving.store.tapes import packed, unpacked
from serving.tape import Closed, Kind, RowContradictionError, Tape

S = 1_000_000
#: A whole hour.
START = 1_700_002_800 * S
FINE, COARSE = 10, 60
TOLERANCE = 2 * S

Rows = Mapping[str, NDArray[Any]]


def some_trades(count: int, seed: int = 1, gap_s: float = 0.5) -> dict[str, NDArray[Any]]:
    r = np.random.default_rng(seed)
    # Whole milliseconds, so that several trades share a time.
    times = START + (r.exponential(gap_s * 1000, count).cumsum() // 1 * 1000).astype("int64")
    return {
        "id": np.arange(100, 100 + count),
        "time_us": times,
        "price": np.round(100 * np.exp(r.normal(0, 1e-4, count).cumsum()), 2),
        "size": np.round(r.exponential(1, count), 3) + 0.001,
        "buy": r.random(count) < 0.5,
    }


def some_books(count: int, seed: int = 2) -> dict[str, NDArray[Any]]:
    r = np.random.default_rng(seed)
    mid = 100 + np.round(r.normal(0, 0.1, count).cumsum(), 1)
    steps = np.arange(1, LEVELS + 1) * 0.1
    times = START + np.arange(count) * 700_000
    return {
        "id": times,
        "time_us": times,
        "bid_px": np.round(mid[:, np.newaxis] - steps, 1),
        "bid_sz": r.exponential(5, (count, LEVELS)) + 0.1,
        "ask_px": np.round(mid[:, np.newaxis] + steps, 1),
        "ask_sz": r.exponential(5, (count, LEVELS)) + 0.1,
    }


def cut(rows: Rows, which: Any) -> dict[str, NDArray[Any]]:
    return {name: a[which] for name, a in rows.items()}


def as_stored(tape: Tape) -> Tape:
    """As a restarted server finds it."""
    rows = [unpacked(packed(c.rows)) for c in (*tape.recent, *tape.waiting)]
    state = None if tape.settled_us is None else json.loads(json.dumps(tape.to_json(), allow_nan=False))
    return Tape.resumed(tape.kind, state, rows)


def fed(kind: Kind, batches: Sequence[Rows], end_us: int, restarts: bool = False) -> dict[int, Closed]:
    """The bars that closed while the batches came, each settled as far as its tape's newest row lets."""
    tape = Tape(kind)
    parts: dict[int, list[Closed]] = {i: [] for i in kind.intervals_s}

    def settle(until_us: int) -> None:
        nonlocal tape
        tape, closed = tape.settled(until_us // (FINE * S) * (FINE * S))
        for interval_s, bars in closed.items():
            parts[interval_s].append(bars)

    for rows in batches:
        judged = tape.judge(rows)
        assert judged.late == 0
        tape = tape.taking(cut(rows, judged.fresh))
        assert tape.newest_us is not None
        settle(tape.newest_us - TOLERANCE)
        if restarts:
            tape = as_stored(tape)
    settle(end_us)
    return {i: {n: np.concatenate([p[n] for p in found]) for n in found[0]} for i, found in parts.items()}


def whole_bars(rows: Rows, interval_s: int, end_us: int) -> Closed:
    """The bars of all trades at once, but the first, of which the beginning is not known."""
    bars = TradeBars(pd.Timedelta(seconds=interval_s))
    trades = Trades(rows["time_us"] * 1000, rows["price"], rows["size"], rows["buy"], id=rows["id"])
    first, last = bars.add(trades), bars.close_until(end_us * 1000)
    return {n: np.concatenate([first[n], last[n]])[1:] for n in first}


def whole_book(rows: Rows, interval_s: int, end_us: int) -> Closed:
    bars = BookBars(pd.Timedelta(seconds=interval_s), levels=LEVELS)
    first = bars.add(Books(rows["time_us"] * 1000, *(rows[name] for name in SIDES)))
    last = bars.close_until(end_us * 1000)
    # The first snapshot is at the very open of its bar.
    return {n: np.concatenate([first[n], last[n]]) for n in first}


def assert_same(found: Closed, wanted: Closed) -> None:
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def shuffled(rows: Rows, seed: int) -> dict[str, NDArray[Any]]:
    """In an order in which a row comes at most the tolerance after a newer one."""
    arrival = rows["time_us"] + np.random.default_rng(seed).uniform(0, TOLERANCE, len(rows["time_us"]))
    return cut(rows, np.argsort(arrival))


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 300, 10_000])
def test_shuffled_and_repeated_trades_make_the_bars_of_all_at_once(batch: int, restarts: bool) -> None:
    rows = some_trades(600)
    end_us = int(rows["time_us"][-1]) + 60 * S
    came = shuffled(rows, seed=batch)
    batches = [cut(came, slice(i, i + batch)) for i in range(0, 600, batch)]
    # Every second batch comes twice.
    batches = [again for i, b in enumerate(batches) for again in [b] * (1 + i % 2)]
    if restarts and batch == 1:
        batches = batches[:200]
        rows = cut(rows, np.isin(rows["id"], np.concatenate([b["id"] for b in batches])))
    found = fed(trades_kind(FINE, COARSE), batches, end_us, restarts)
    for interval_s in (FINE, COARSE):
        assert_same(found[interval_s], whole_bars(rows, interval_s, end_us))
        assert len(found[interval_s]["close"]) > 2


@pytest.mark.parametrize("batch", [1, 9, 400])
def test_snapshots_make_the_columns_of_all_at_once(batch: int) -> None:
    rows = some_books(400)
    end_us = int(rows["time_us"][-1]) + 60 * S
    came = shuffled(rows, seed=batch)
    batches = [cut(came, slice(i, i + batch)) for i in range(0, 400, batch)]
    found = fed(book_kind(FINE, COARSE), batches, end_us, restarts=batch == 9)
    for interval_s in (FINE, COARSE):
        assert_same(found[interval_s], whole_book(rows, interval_s, end_us))


def three_trades(**changes: Any) -> dict[str, NDArray[Any]]:
    """At 1 s, 11 s and 25 s; the first bar is left out."""
    return {
        "id": np.array([1, 2, 3]),
        "time_us": START + np.array([1, 11, 25]) * S,
        "price": np.array([10.0, 11.0, 12.0]),
        "size": np.array([1.0, 2.0, 3.0]),
        "buy": np.array([True, True, False]),
    } | changes


def settled_tape(until_s: int, rows: Rows | None = None) -> tuple[Tape, dict[int, Closed]]:
    return Tape(trades_kind(FINE)).taking(rows or three_trades()).settled(START + until_s * S)


def test_a_trade_at_the_boundary_belongs_to_the_bar_that_opens_there() -> None:
    rows = three_trades(time_us=START + np.array([0, 10, 20]) * S)
    _, closed = settled_tape(20, rows)
    # The first trade is at the open of its bar, which is whole.
    assert closed[FINE]["open_time_ns"].tolist() == [START * 1000, (START + 10 * S) * 1000]
    assert closed[FINE]["close"].tolist() == [10.0, 11.0]
    assert closed[FINE]["taker_buy_volume"].tolist() == [1.0, 2.0]


def test_the_bar_of_the_first_row_is_left_out() -> None:
    _, closed = settled_tape(20)
    assert closed[FINE]["open_time_ns"].tolist() == [(START + 10 * S) * 1000]


def test_what_is_settled_is_late_and_a_repeat_is_told_from_it() -> None:
    tape, _ = settled_tape(20)
    tape, _ = tape.settled(START + 10 * S)  # not backwards
    again = three_trades()
    judged = tape.judge(again)
    assert (judged.fresh.tolist(), judged.repeats, judged.late) == ([False] * 3, 3, 0)
    judged = tape.judge(three_trades(id=np.array([7, 8, 9])))
    assert (judged.fresh.tolist(), judged.repeats, judged.late) == ([False, False, True], 0, 2)
    # Two steps on, what was settled first is not remembered any more: it is left out all the same.
    tape, _ = tape.settled(START + 30 * S)
    judged = tape.judge(again)
    assert not judged.fresh.any()
    assert (judged.repeats, judged.late) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "row", "column"),
    [
        ({"price": np.array([10.0, 11.5, 12.0])}, 1, "price"),
        ({"time_us": START + np.array([1, 11, 26]) * S}, 2, "time_us"),
        ({"buy": np.array([False, True, False])}, 0, "buy"),
    ],
)
def test_another_row_of_the_same_key_is_refused(changes: dict[str, Any], row: int, column: str) -> None:
    tape, _ = settled_tape(20)
    for there in (tape, as_stored(tape)):
        with pytest.raises(RowContradictionError) as caught:
            there.judge(three_trades(**changes))
        assert (caught.value.row, caught.value.column) == (row, column)
        assert caught.value.sent == changes[column][row]


def test_an_absent_level_is_the_same_as_an_absent_level() -> None:
    rows = some_books(3)
    rows["bid_px"][1, 3:] = rows["bid_sz"][1, 3:] = np.nan
    tape = Tape(book_kind(FINE)).taking(rows)
    assert tape.judge(rows).repeats == 3
    other = {**rows, "bid_sz": rows["bid_sz"].copy()}
    other["bid_sz"][1, 2] = np.nan
    with pytest.raises(RowContradictionError, match="row 1 was taken with bid_sz"):
        tape.judge(other)


def test_silence_has_flat_bars_but_not_where_ids_show_that_trades_are_missing() -> None:
    rows = three_trades(time_us=START + np.array([1, 11, 55]) * S)
    _, closed = settled_tape(50, rows)
    assert closed[FINE]["close"].tolist() == [11.0] * 4
    assert closed[FINE]["volume"].tolist() == [2.0, 0.0, 0.0, 0.0]
    holed = {**rows, "id": np.array([1, 2, 9])}
    tape, closed = settled_tape(50, holed)
    assert closed[FINE]["open_time_ns"].tolist() == [(START + 10 * S) * 1000]
    assert tape.missing_ids == 0, "what is missing is told when the row after it is settled"
    tape, closed = tape.settled(START + 60 * S)
    assert closed[FINE]["open_time_ns"].tolist() == [(START + 50 * S) * 1000]
    assert tape.missing_ids == 6
    assert_same(
        {n: np.concatenate([settled_tape(50, holed)[1][FINE][n], a]) for n, a in closed[FINE].items()},
        whole_bars(holed, FINE, START + 60 * S),
    )


def test_ids_that_are_labels_say_nothing_of_what_is_missing() -> None:
    rows = three_trades(id=np.array([70, 5, 900]), time_us=START + np.array([1, 11, 55]) * S)
    tape, closed = settled_tape(60, rows)
    assert not tape.counting
    assert closed[FINE]["close"].tolist() == [11.0, 11.0, 11.0, 11.0, 12.0]


def test_nothing_is_settled_before_there_is_something() -> None:
    tape = Tape(trades_kind(FINE))
    assert tape.settled(START) == (tape, {})
    assert tape.keep_us is None
    assert as_stored(tape) == tape
    waiting = tape.taking(three_trades())
    assert waiting.settled(START) == (waiting, {})
    assert waiting.unsettled == 3


def test_rows_are_kept_until_repeats_of_them_need_not_be_told() -> None:
    tape, _ = settled_tape(20)
    assert tape.keep_us == START + 1 * S
    tape, _ = tape.settled(START + 30 * S)
    assert tape.keep_us == START + 25 * S
    tape, _ = tape.settled(START + 40 * S)
    assert tape.keep_us == START + 40 * S
