"""Each rule of a bar, and the frames of a market."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import BarError, Market, check_bars

HOUR = pd.Timedelta(hours=1)


def good_bars() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "open_time": pd.date_range("2024-01-01", periods=4, freq=HOUR, tz="UTC", unit="ns"),
            "open": [100.0, 101.0, 102.0, 103.0],
            "high": [102.0, 103.0, 104.0, 105.0],
            "low": [99.0, 100.0, 101.0, 102.0],
            "close": [101.0, 102.0, 103.0, 104.0],
            "volume": [10.0, 20.0, 30.0, 40.0],
            "quote_volume": [1005.0, 2030.0, 3075.0, 4140.0],
            "trades": [5.0, 6.0, 7.0, 8.0],
            "taker_buy_volume": [4.0, 10.0, 15.0, 30.0],
            "taker_buy_quote_volume": [402.0, 1015.0, 1540.0, 3105.0],
        }
    )


def test_good_bars_pass_unchanged_and_in_canonical_order() -> None:
    bars = good_bars()
    checked = check_bars(bars[bars.columns[::-1]], HOUR, "BTC.parquet")
    pd.testing.assert_frame_equal(checked, bars)


def test_another_utc_offset_and_integers_are_converted() -> None:
    bars = good_bars()
    bars["open_time"] = bars["open_time"].dt.tz_convert("Asia/Tokyo").dt.as_unit("s")
    bars["trades"] = bars["trades"].astype("int64")
    pd.testing.assert_frame_equal(check_bars(bars, HOUR, "BTC.parquet"), good_bars())


BROKEN: list[tuple[str, str, object, str]] = [
    ("open_time", "open_time", pd.NaT, "open time is missing"),
    ("open_time", "open_time", pd.Timestamp("2024-01-01 02:30", tz="UTC"), "not on the 1h grid"),
    ("open_time", "open_time", pd.Timestamp("2023-12-31", tz="UTC"), "earlier than the row before"),
    ("open_time", "open_time", pd.Timestamp("2024-01-01 01:00", tz="UTC"), "occurs twice"),
    ("close", "close", float("nan"), "close is not finite"),
    ("volume", "volume", float("inf"), "volume is not finite"),
    ("taker_buy_volume", "taker_buy_volume", float("nan"), "taker_buy_volume is not finite"),
    ("low", "low", 0.0, "low is not above 0"),
    ("open", "open", -1.0, "open is not above 0"),
    ("high", "high", 102.5, "high is below open, low or close"),
    ("low", "low", 102.5, "low is above open or close"),
    ("volume", "volume", -30.0, "volume is negative"),
    ("trades", "trades", -1.0, "trades is negative"),
    ("quote_volume", "quote_volume", 0.0, "only one of quote_volume and volume is 0"),
    ("trades", "trades", 0.0, "only one of trades and volume is 0"),
    ("quote_volume", "quote_volume", 30 * 105.0, r"quote_volume / volume lies outside \[low, high\]"),
    ("taker_buy_volume", "taker_buy_volume", 30.1, "taker_buy_volume is above volume"),
    ("taker_buy_quote_volume", "taker_buy_quote_volume", 3076.0, "taker_buy_quote_volume is above quote"),
]


@pytest.mark.parametrize(("column", "shown", "value", "rule"), BROKEN, ids=[f"{b[1]}={b[2]}" for b in BROKEN])
def test_a_broken_rule_names_file_row_value_and_remedy(
    column: str, shown: str, value: object, rule: str
) -> None:
    bars = good_bars()
    bars.loc[2, column] = value
    with pytest.raises(BarError, match=rule) as caught:
        check_bars(bars, HOUR, "BTC.parquet")
    error = caught.value
    assert (error.where, error.row, error.column, error.count) == ("BTC.parquet", 2, shown, 1)
    assert str(error).startswith("BTC.parquet, row 2: ")
    assert str(error.value) in str(error)
    assert error.remedy and error.remedy in str(error)


def test_trades_without_volume_are_impossible() -> None:
    bars = good_bars().drop(columns=["quote_volume", "taker_buy_quote_volume"])
    bars.loc[1, ["volume", "taker_buy_volume"]] = 0.0
    with pytest.raises(BarError, match=r"row 1: trades = 6\.0: only one of trades and volume is 0"):
        check_bars(bars, HOUR, "BTC.parquet")


def test_a_price_cannot_move_without_volume() -> None:
    bars = good_bars()[["open_time", "open", "high", "low", "close", "volume"]]
    bars.loc[1, "volume"] = 0.0
    with pytest.raises(BarError, match="volume is 0 although high is above low"):
        check_bars(bars, HOUR, "BTC.parquet")


def test_a_quiet_bar_is_a_bar() -> None:
    bars = good_bars()
    bars.loc[1, ["open", "high", "low", "close"]] = 101.0
    bars.loc[1, bars.columns[5:].to_list()] = 0.0
    assert len(check_bars(bars, HOUR, "BTC.parquet")) == 4


def test_the_number_of_broken_rows_is_told() -> None:
    bars = good_bars()
    bars["close"] = [101.0, float("nan"), float("nan"), 104.0]
    with pytest.raises(BarError, match=r"row 1: .*\(2 rows break this rule\)"):
        check_bars(bars, HOUR, "BTC.parquet")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda b: b.drop(columns="low"), r"columns \['low'\] are missing"),
        (lambda b: b.assign(vwap=1.0), r"columns \['vwap'\] are unknown"),
        (lambda b: b.iloc[:0], "no rows"),
        (lambda b: b.assign(open_time=b["open_time"].dt.tz_localize(None)), "no time zone"),
        (lambda b: b.assign(open_time=[1, 2, 3, 4]), "no time zone"),
        (lambda b: b.assign(volume=["10", "20", "x", "40"]), "column volume is not numeric"),
    ],
)
def test_a_table_that_is_no_bar_table_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], rule: str
) -> None:
    with pytest.raises(BarError, match=rule):
        check_bars(change(good_bars()), HOUR, "BTC.parquet")


def test_absent_optional_columns_are_not_asked_for() -> None:
    bars = good_bars().drop(columns=["quote_volume", "trades", "taker_buy_volume"])
    assert "quote_volume" not in check_bars(bars, HOUR, "BTC.parquet")


def two_symbols() -> Market:
    late = good_bars().iloc[[1, 3]].reset_index(drop=True)
    return Market.from_bars({"A": good_bars(), "B": late.drop(columns="trades")}, HOUR)


def test_a_market_is_indexed_by_close_time_and_leaves_holes_missing() -> None:
    market = two_symbols()
    assert list(market.times) == list(pd.date_range("2024-01-01 01:00", periods=4, freq=HOUR, tz="UTC"))
    assert market.symbols == ("A", "B")
    np.testing.assert_array_equal(market.close["B"].to_numpy(), [np.nan, 102.0, np.nan, 104.0])
    assert all(np.isnan(market[c].iloc[2, 1]) for c in market.columns)


def test_a_column_that_one_symbol_lacks_is_left_out() -> None:
    market = two_symbols()
    assert "trades" not in market
    assert "taker_buy_volume" in market


def test_cuts_of_a_market() -> None:
    market = two_symbols()
    second = pd.Timestamp("2024-01-01 02:00", tz="UTC")
    assert list(market.until(second).times) == list(market.times[:2])
    assert list(market.since(second).times) == list(market.times[1:])
    assert list(market.last(1).times) == list(market.times[-1:])
    assert market.select(["B"]).symbols == ("B",)
    with pytest.raises(ValueError, match=r"\['C'\] are not in the market"):
        market.select(["C"])


def test_bars_gives_back_what_from_bars_took() -> None:
    pd.testing.assert_frame_equal(Market.from_bars({"A": good_bars()}, HOUR).bars("A"), good_bars())
    assert len(two_symbols().bars("B")) == 2


def test_frames_are_empty_where_the_bar_is_missing() -> None:
    market = two_symbols()
    frame = market.frames({"one": np.ones((4, 2))})["one"]
    np.testing.assert_array_equal(frame.to_numpy(), [[1, np.nan], [1, 1], [1, np.nan], [1, 1]])


def test_log_returns_are_missing_across_a_hole() -> None:
    returns = two_symbols().log_returns()
    np.testing.assert_allclose(returns["A"].iloc[1:], np.log([102 / 101, 103 / 102, 104 / 103]))
    assert returns["B"].isna().all()


def test_no_symbols_are_no_market() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Market.from_bars({}, HOUR)
