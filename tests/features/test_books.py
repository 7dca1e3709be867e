"""Book columns by hand-computed values, degenerate books, holes, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import BarError
from features.books.bars import BookBars, Closed
from features.books.checks import check_books
from features.books.snapshots import Books

START = pd.Timestamp("2024-05-01", tz="UTC").value
SECOND = 10**9
TEN = pd.Timedelta("10s")
Side = list[tuple[float, float]]


def books(*snapshots: tuple[float, Side, Side]) -> Books:
    """(seconds after the start, bids, asks), the sides as (price, size), best first."""
    levels = max(1, *(len(side) for _, *sides in snapshots for side in sides))

    def part(side: int, which: int) -> np.ndarray:
        rows = [[level[which] for level in s[side]] for s in snapshots]
        return np.array([r + [np.nan] * (levels - len(r)) for r in rows], dtype="float64")

    time = np.array([START + round(s[0] * SECOND) for s in snapshots], dtype="int64")
    return Books(time, part(1, 0), part(1, 1), part(2, 0), part(2, 1))


def until(seconds: float, *snapshots: tuple[float, Side, Side], levels: int = 1) -> Closed:
    """The bars of 10 s that have ended by then."""
    bars = BookBars(TEN, levels=levels)
    taken = bars.add(check_books(books(*snapshots), "the tape"))
    closed = bars.close_until(START + round(seconds * SECOND))
    return {name: np.concatenate([taken[name], closed[name]]) for name in taken}


def test_one_bar_by_hand() -> None:
    row = until(10, (0, [(99, 2)], [(101, 6)]), (4, [(99, 5)], [(101, 6)]))
    assert row["open_time_ns"].tolist() == [START]
    expected = {
        "snapshots": 2,
        "coverage": 1,
        "locked": 0,
        "spread": 0.02,
        "spread_max": 0.02,
        "depth_1": np.log((4 * 804 + 6 * 1101) / 10),
        "imbalance_1": (4 * -0.5 + 6 * -1 / 11) / 10,
        "imbalance_1_last": -1 / 11,
        "ofi_1": 3 / 4.9,  # three bought at the bid; a level holds (4 s of 4 and 6 s of 5.5) / 10 s
        "slope": (4 * np.log(804 / 0.02) + 6 * np.log(1101 / 0.02)) / 10,
        "microprice": (4 * np.log(0.995) + 6 * np.log(1 - 1 / 1100)) / 10,
        "microprice_last": np.log(1 - 1 / 1100),
        "microprice_drift": np.log((100 - 1 / 11) / 99.5),
        "depletions": 0,
    }
    for name, value in expected.items():
        assert row[f"book_{name}"] == pytest.approx([value], rel=1e-12), name
    assert np.isnan(row["book_resilience"]).all()


@pytest.mark.parametrize(
    ("before", "after", "flow"),
    [
        (((100, 3), (102, 4)), ((100, 5), (102, 4)), 2),  # more bid
        (((100, 3), (102, 4)), ((101, 5), (102, 4)), 5),  # a better bid
        (((100, 3), (102, 4)), ((99, 5), (102, 4)), -3),  # the bid is gone
        (((100, 3), (102, 4)), ((100, 3), (102, 1)), 3),  # less offered
        (((100, 3), (102, 4)), ((100, 3), (101, 7)), -7),  # a better offer
        (((100, 3), (102, 4)), ((100, 3), (103, 7)), 4),  # the offer is gone
    ],
)
def test_order_flow_imbalance_by_hand(before: tuple, after: tuple, flow: float) -> None:
    (bid, ask), (bid_after, ask_after) = before, after
    row = until(10, (0, [bid], [ask]), (5, [bid_after], [ask_after]))
    size = (bid[1] + ask[1] + bid_after[1] + ask_after[1]) / 4
    assert row["book_ofi_1"] == pytest.approx([flow / size])


def test_half_of_a_depleted_bid_comes_back() -> None:
    ask = [(102, 4)]
    row = until(10, (0, [(100, 8)], ask), (1, [(100, 2)], ask), (6, [(100, 5)], ask), (7, [(100, 9)], ask))
    assert row["book_depletions"] == [1]
    assert row["book_resilience"] == pytest.approx([(5 - 2) / (8 - 2)])
    # The price is gone; five seconds later a better and an equal one hold three of the eight.
    gone = (1, [(99, 50)], ask)
    row = until(20, (0, [(100, 8)], ask), gone, (6.5, [(101, 1), (100, 2)], ask), levels=2)
    assert row["book_depletions"][0] == 1
    assert row["book_resilience"][0] == pytest.approx(3 / 8)
    # Of one level alone, a better price hides the old one: that is no depletion, and an answer of all.
    row = until(10, (0, [(100, 8)], ask), (1, [(100, 2)], ask), (6, [(101, 1)], ask))
    assert (row["book_depletions"], row["book_resilience"]) == ([1], [1])
    # The answer belongs to the bar in which it was found.
    row = until(20, (0, [(100, 8)], ask), (9, [(100, 2)], ask), (14, [(100, 8)], ask))
    assert np.isnan(row["book_resilience"][0]) and row["book_resilience"][1] == 1


def test_a_locked_book_has_depth_and_imbalance_but_no_spread() -> None:
    row = until(10, (0, [(100, 3)], [(100, 1)]), (5, [(100, 6)], [(100, 1)]))
    assert row["book_locked"] == [1]
    assert row["book_imbalance_1"] == pytest.approx([(5 * 0.5 + 5 * 5 / 7) / 10])
    assert row["book_depth_1"] == pytest.approx([np.log(550)])
    assert row["book_ofi_1"] == pytest.approx([3 / 2.75])
    assert row["book_microprice_drift"] == [0]
    for name in ("spread", "spread_max", "slope", "microprice", "microprice_last"):
        assert np.isnan(row[f"book_{name}"]).all(), name


def test_crossed_one_sided_and_empty_books_are_counted_and_passed_over() -> None:
    bid, ask = [(100, 3)], [(101, 1)]
    row = until(10, (0, bid, ask), (1, [(102, 9)], ask), (2, bid, []), (3, [], []), (4, [(100, 5)], ask))
    assert row["book_snapshots"] == [5]
    for name in ("crossed", "one_sided", "empty"):
        assert row[f"book_{name}"] == pytest.approx([0.2]), name
    assert row["book_coverage"] == pytest.approx([0.7])
    assert row["book_ofi_1"] == pytest.approx([2 / ((2 * 1 + 3 * 6) / 7)])
    assert row["book_spread"] == pytest.approx([1 / 100.5])


def test_a_book_that_is_never_sound_is_nothing_but_counted() -> None:
    row = until(20, (0, [(102, 1)], [(101, 1)]), (3, [(102, 1)], []), (12, [], []))
    assert row["book_snapshots"].tolist() == [2, 1]
    assert row["book_coverage"].tolist() == [0, 0]
    counted = {"snapshots", "coverage", "locked", "crossed", "one_sided", "empty"}
    for name, values in row.items():
        if name.startswith("book_") and name.removeprefix("book_") not in counted:
            assert np.isnan(values).all(), name


def test_one_snapshot_stands_until_the_hole() -> None:
    row = until(100, (2, [(100, 3)], [(101, 1)]))
    assert ((row["open_time_ns"] - START) // SECOND).tolist() == [0, 10, 20, 30]
    assert row["book_coverage"].tolist() == [0.8, 1, 1, 0.2]
    assert row["book_snapshots"].tolist() == [1, 0, 0, 0]
    assert row["book_imbalance_1"][:3] == pytest.approx([0.5] * 3)
    assert np.isnan(row["book_imbalance_1"][3]), "less than half of the bar is known"
    assert np.isnan(row["book_ofi_1"]).all(), "nothing to compare it with"
    assert np.isnan(row["book_locked"][1:]).all(), "no snapshots, no shares of them"


def test_nothing_is_bridged_over_a_hole() -> None:
    ask = [(101, 1)]
    row = until(6480 + 10, (0, [(100, 3)], ask), (6471, [(100, 1)], ask), (6472, [(100, 2)], ask))
    last = {name: values[-1] for name, values in row.items()}
    assert last["open_time_ns"] == START + 6470 * SECOND + 10 * SECOND
    assert ((row["open_time_ns"] - START) // SECOND).tolist() == [0, 10, 20, 6470, 6480]
    flow = row["book_ofi_1"]
    assert np.isnan(flow[:3]).all()
    assert flow[3] == pytest.approx(1 / ((1 * 1 + 8 * 1.5) / 9)), (
        "the change after the hole, not the one over it"
    )
    assert row["book_depletions"][3] == 0


def test_no_snapshots_make_no_bars() -> None:
    bars = BookBars(TEN)
    nothing = books((0, [(1, 1)], [(2, 1)])).rows(slice(0, 0))
    assert len(check_books(nothing, "nothing")) == 0
    for closed in (bars.add(nothing), bars.close_until(START), bars.finish()):
        assert set(closed) == {"open_time_ns", *bars.columns}
        assert all(len(column) == 0 for column in closed.values())


def test_late_snapshots_are_refused_and_change_nothing() -> None:
    bars = BookBars(TEN, levels=1)
    bars.add(books((12, [(100, 3)], [(101, 1)])))
    before = bars.to_json()
    with pytest.raises(ValueError, match=r"snapshot 1 of 2024-05-01 00:00:11.* is earlier than"):
        bars.add(books((13, [(100, 3)], [(101, 1)]), (11, [(100, 3)], [(101, 1)])))
    bars_after = bars.to_json()
    assert bars_after == before
    bars.close_until(START + 20 * SECOND)
    with pytest.raises(ValueError, match="the end of the last closed bar"):
        bars.add(books((19, [(100, 3)], [(101, 1)])))


@pytest.mark.parametrize(("levels", "interval", "hole"), [(0, 1, 1), (11, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_impossible_settings_are_refused(levels: int, interval: int, hole: int) -> None:
    with pytest.raises(ValueError, match=r"levels, not|must be above 0"):
        BookBars(pd.Timedelta(interval, unit="s"), levels, pd.Timedelta(hole, unit="s"))


def test_a_state_of_another_form_is_refused() -> None:
    state = BookBars(TEN).to_json()
    with pytest.raises(ValueError, match="build the bars anew"):
        BookBars.from_json({**state, "form": 99})


def test_levels_of_size_0_are_absent() -> None:
    checked = check_books(books((0, [(100, 3), (99, 0)], [(101, 1), (0, 0)])), "x")
    assert np.isnan([checked.bid_px[0, 1], checked.ask_px[0, 1], checked.ask_sz[0, 1]]).all()


NAN, INF = float("nan"), float("inf")
GOOD = (0.0, [(100.0, 3.0), (99.0, 2.0)], [(101.0, 1.0), (102.0, 4.0)])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((1, [(100, -3)], [(101, 1)]), "row 1: bid_sz_0 = -3.0: the size is negative"),
        ((1, [(100, NAN)], [(101, 1)]), "row 1: bid_sz_0 = nan: a level has a price and no size"),
        ((1, [(100, 1)], [(NAN, 1)]), "row 1: ask_px_0 = nan: a level has a size and no price"),
        ((1, [(100, 1)], [(101, 1), (INF, 1)]), "row 1: ask_px_1 = inf: the price is not finite"),
        ((1, [(100, INF)], [(101, 1)]), "row 1: bid_sz_0 = inf: the size is not finite"),
        ((1, [(0, 1)], [(101, 1)]), "row 1: bid_px_0 = 0.0: the price is not above 0"),
        ((1, [(99, 1), (100, 1)], [(101, 1)]), "bid_px_1 = 100.0: the price is not below that of the level"),
        ((1, [(99, 1)], [(101, 1), (101, 1)]), "ask_px_1 = 101.0: the price is not above that of the level"),
        ((1, [(NAN, NAN), (99, 1)], [(101, 1)]), "bid_px_1 = 99.0: a level is there and the better one"),
        (
            (-1, *GOOD[1:]),
            "row 1: timestamp = 2024-04-30 23:59:59.* earlier than that of the snapshot before",
        ),
        (
            (-1.7e9, *GOOD[1:]),
            "row 1: timestamp = 1970.*: the time is not between 2009 and 2100; check the unit",
        ),
    ],
)
def test_bad_books_are_refused(bad: tuple[float, Side, Side], message: str) -> None:
    with pytest.raises(BarError, match=message) as caught:
        check_books(books(GOOD, bad, (2, *GOOD[1:])), "feed.parquet")
    assert str(caught.value).startswith("feed.parquet, row 1: ")
    assert caught.value.remedy


def test_rows_of_errors_are_those_of_the_source() -> None:
    with pytest.raises(BarError, match="row 77: "):
        check_books(books((0, [(100, -1)], [])), "x", rows=np.array([77]))
    with pytest.raises(BarError, match="earlier than that of the snapshot before"):
        check_books(books(GOOD), "x", after_ns=START + 1)


def test_arrays_of_other_shapes_are_refused() -> None:
    good = books(GOOD)
    with pytest.raises(ValueError, match="ask_sz is float64 of shape"):
        Books(good.time_ns, good.bid_px, good.bid_sz, good.ask_px, good.ask_sz[:, :1])
    with pytest.raises(ValueError, match="give int64 nanoseconds"):
        Books(good.time_ns.astype("float64"), good.bid_px, good.bid_sz, good.ask_px, good.ask_sz)
