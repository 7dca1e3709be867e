"""The window against the bar tables it was filled from."""

import numpy as np
import pandas as pd
import pytest

from features.bars import VALUE_COLUMNS, Market
from serving.store.bars import as_arrays
from serving.window import MarketWindow

HOUR = 3600


def filled(market: Market, bars: int, upto: int) -> MarketWindow:
    window = MarketWindow(HOUR, bars)
    window.add_symbols(list(market.symbols))
    for s in market.symbols:
        arrays = as_arrays(market.bars(s).iloc[:upto], HOUR)
        window.fill(s, arrays.closes_s, arrays.values)
    return window


def seconds(time: pd.Timestamp) -> int:
    return int(time.timestamp())


def test_appending_gives_what_the_market_has(market: Market) -> None:
    bars, upto = 100, 150
    window = filled(market, bars, upto)
    tables = {s: as_arrays(market.bars(s), HOUR) for s in market.symbols}
    # Past the spare room, so that rows are moved.
    for row in range(upto, 1200):
        for s, arrays in tables.items():
            assert window.put(s, int(arrays.closes_s[row]), arrays.values[row])
    now = market.times[1199]
    assert window.newest_s == seconds(now)
    found = window.market(seconds(now), bars)
    wanted = market.until(now).last(bars)
    assert found.times.equals(wanted.times)
    for column in VALUE_COLUMNS:
        pd.testing.assert_frame_equal(found[column], wanted[column], check_freq=False)
    for s in market.symbols:
        np.testing.assert_array_equal(window.closes(s, seconds(now)), wanted.close[s])
    earlier = window.market(seconds(market.times[1150]), 10)
    assert earlier.times.equals(market.times[1141:1151])


@pytest.mark.parametrize("upto", [99, 100, 101, 150])
def test_a_history_longer_than_the_window_keeps_its_newest_part(market: Market, upto: int) -> None:
    bars = 100
    window = filled(market, bars, upto)
    now = market.times[upto - 1]
    wanted = market.until(now).last(bars)
    for symbol in market.symbols:
        np.testing.assert_array_equal(window.closes(symbol, seconds(now)), wanted.close[symbol].to_numpy())
    assert window.market(seconds(now), bars).times.equals(wanted.times)


def test_a_bar_is_written_once(market: Market) -> None:
    window = filled(market, 100, 50)
    symbol = market.symbols[0]
    there = window.closes(symbol, seconds(market.times[49]))[-1]
    assert not window.put(symbol, seconds(market.times[49]), np.full(9, 7.0))
    assert window.closes(symbol, seconds(market.times[49]))[-1] == there


def test_holes_are_nan_and_late_bars_fill_them(market: Market) -> None:
    window = filled(market, 100, 10)
    first, second = market.symbols
    ahead_s = seconds(market.times[12])
    window.put(first, ahead_s, np.ones(9))
    assert np.isnan(window.closes(first, ahead_s)[-3:-1]).all()
    assert window.newest_close(first, ahead_s) == (ahead_s, 1.0)
    assert window.newest_close(second, ahead_s) == (
        seconds(market.times[9]),
        float(market.close[second].iloc[9]),
    )
    assert window.put(second, ahead_s - HOUR, np.full(9, 2.0))
    assert window.newest_close(second, ahead_s) == (ahead_s - HOUR, 2.0)


def test_a_bar_before_the_window_began_makes_room_for_it() -> None:
    window = MarketWindow(HOUR, 10)
    window.add_symbols(["A"])
    window.put("A", 100 * HOUR, np.ones(9))
    assert window.put("A", 95 * HOUR, np.full(9, 2.0))
    assert window.closes("A", 100 * HOUR).tolist()[0] == 2.0
    assert len(window.closes("A", 100 * HOUR)) == 6
    assert not window.put("A", 80 * HOUR, np.ones(9)), "older than the window"


def test_a_leap_beyond_the_window_forgets_what_was(market: Market) -> None:
    window = filled(market, 100, 50)
    symbol = market.symbols[0]
    far_s = seconds(market.times[49]) + 5000 * HOUR
    window.put(symbol, far_s, np.ones(9))
    assert np.isfinite(window.closes(symbol, far_s)).sum() == 1
    assert window.newest_close(market.symbols[1], far_s) is None


def test_a_close_off_the_grid_is_refused() -> None:
    window = MarketWindow(HOUR, 10)
    window.add_symbols(["A"])
    with pytest.raises(ValueError, match="grid"):
        window.put("A", HOUR + 1, np.ones(9))


def test_a_contract_that_joins_later_has_no_past(market: Market) -> None:
    window = filled(market, 100, 50)
    window.add_symbols(["NEW", market.symbols[0]])
    assert window.symbols == (*market.symbols, "NEW")
    assert window.newest_close("NEW", seconds(market.times[49])) is None


def test_columns_beyond_the_bar_are_kept_beside_it() -> None:
    window = MarketWindow(HOUR, 4, extra=("vpin", "book_spread"))
    window.add_symbols(["A", "B"])
    at = np.array([10, 12]) * HOUR
    window.fill_extra("B", at, {"vpin": np.array([0.1, 0.2]), "other": np.zeros(2)})
    window.put("B", 12 * HOUR, np.ones(9))
    # Older than the window, and a row before its first.
    window.fill_extra("A", np.array([7, 9]) * HOUR, {"book_spread": np.array([7.0, 9.0])})
    found = window.frames(9 * HOUR, 4, ("close", "vpin", "book_spread"), window.symbols)
    np.testing.assert_array_equal(found["vpin"]["B"], [np.nan, 0.1, np.nan, 0.2])
    np.testing.assert_array_equal(found["book_spread"]["A"], [9, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(found["close"]["B"], [np.nan] * 3 + [1.0])
    assert window.newest_close("B", 12 * HOUR) == (12 * HOUR, 1.0)
    assert set(window.market(12 * HOUR, 4).columns) == {*VALUE_COLUMNS, "vpin", "book_spread"}
    window.fill_extra("B", np.array([20]) * HOUR, {"vpin": np.array([0.5])})
    assert window.newest_s == 20 * HOUR
    window.fill_extra("B", np.array([], dtype="int64"), {"vpin": np.array([])})


@pytest.mark.parametrize(
    ("first", "rows", "wanted"),
    [
        (3, 2, [3, 4]),
        (1, 4, [np.nan, 2, 3, 4]),
        (4, 4, [4, 5, np.nan, np.nan]),
        (0, 2, [np.nan, np.nan]),
        (7, 2, [np.nan, np.nan]),
    ],
)
def test_frames_reach_beyond_the_window_with_nan(first: int, rows: int, wanted: list[float]) -> None:
    window = MarketWindow(HOUR, 10)
    window.add_symbols(["A", "B"])
    for close in (2, 3, 4, 5):
        window.put("A", close * HOUR, np.full(9, float(close)))
    found = window.frames(first * HOUR, rows, ("close",), ("C", "A"))["close"]
    assert list(found.columns) == ["C", "A"]
    assert found.index[0].timestamp() == first * HOUR
    np.testing.assert_array_equal(found["A"], wanted)
    assert np.isnan(found["C"]).all()


def test_an_empty_window_has_no_frames_but_nan() -> None:
    window = MarketWindow(HOUR, 10)
    window.add_symbols(["A"])
    assert np.isnan(window.frames(3 * HOUR, 2, ("close",), ("A",))["close"]).all().all()
