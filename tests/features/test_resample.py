"""Coarser bars from finer ones, and the finer grids beneath a market."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import VALUE_COLUMNS, Market
from features.fingerprint import fingerprint
from features.resample import beneath, fine_bars, merged
from features.sources.simulated import simulate

HOUR, HALF = pd.Timedelta(hours=1), pd.Timedelta(minutes=30)
QUARTER = pd.Timedelta(minutes=15)


def test_a_coarse_bar_is_first_highest_lowest_last_and_the_sum() -> None:
    times = pd.date_range("2024-01-01 00:30", periods=4, freq=HALF, tz="UTC", unit="ns")
    values = {
        "open": [10.0, 11.0, 20.0, 21.0],
        "high": [12.0, 13.0, 25.0, 22.0],
        "low": [9.0, 10.5, 19.0, 18.0],
        "close": [11.0, 12.5, 21.0, 20.0],
        "volume": [1.0, 2.0, 4.0, 8.0],
    }
    coarse = merged({c: pd.DataFrame({"A": v}, times) for c, v in values.items()}, HALF, HOUR)
    found = {c: f["A"].tolist() for c, f in coarse.items()}
    assert found == {
        "open": [10.0, 20.0],
        "high": [13.0, 25.0],
        "low": [9.0, 18.0],
        "close": [12.5, 20.0],
        "volume": [3.0, 12.0],
    }
    assert [str(t) for t in coarse["close"].index] == [
        "2024-01-01 01:00:00+00:00",
        "2024-01-01 02:00:00+00:00",
    ]


def test_a_coarse_bar_with_a_hole_beneath_is_missing() -> None:
    times = pd.date_range("2024-01-01 00:30", periods=4, freq=HALF, tz="UTC", unit="ns")
    closes = pd.DataFrame({"A": [1.0, np.nan, 3.0, 4.0], "B": [1.0, 2.0, 3.0, 4.0]}, times)
    coarse = merged({"close": closes, "volume": closes}, HALF, HOUR)
    np.testing.assert_array_equal(coarse["close"].to_numpy(), [[np.nan, 2.0], [4.0, 4.0]])
    np.testing.assert_array_equal(coarse["volume"].to_numpy(), [[np.nan, 3.0], [7.0, 7.0]])


def test_the_bars_of_half_hours_are_those_of_quarters() -> None:
    fine = simulate(symbols=2, days=3, interval=QUARTER, seed=2)
    twice = merged(merged(fine.columns, QUARTER, HALF), HALF, HOUR)
    once = merged(fine.columns, QUARTER, HOUR)
    for column in VALUE_COLUMNS:
        pd.testing.assert_frame_equal(twice[column], once[column], rtol=1e-12)


def market_and_quarters() -> tuple[Market, Market]:
    fine = simulate(symbols=2, days=3, interval=QUARTER, seed=2)
    return Market(HOUR, merged(fine.columns, QUARTER, HOUR)), fine


def test_every_cut_keeps_exactly_the_finer_bars_beneath() -> None:
    coarse, fine = market_and_quarters()
    market = coarse.with_finer(fine)
    assert set(market.finer) == {QUARTER, HALF}
    time = market.times[30]
    for cut in (market, market.until(time), market.since(time), market.last(7), market.last(1000)):
        for interval, finer in cut.finer.items():
            assert len(finer.times) == len(cut.times) * (HOUR // interval)
            assert finer.times[-1] == cut.times[-1]
            assert finer.times[0] == cut.times[0] - HOUR + interval
    one = market.select([market.symbols[1]])
    assert one.finer[QUARTER].symbols == one.symbols
    np.testing.assert_array_equal(market.finer[QUARTER].close, fine.close)


def test_finer_bars_that_are_not_there_are_missing() -> None:
    coarse, fine = market_and_quarters()
    later = fine.since(fine.times[100]).select([fine.symbols[0]])
    finer = coarse.with_finer(later).finer[QUARTER]
    assert np.isnan(finer.close.to_numpy()[:100]).all()
    assert np.isnan(finer.close.to_numpy()[:, 1]).all()
    np.testing.assert_array_equal(finer.close.to_numpy()[100:, 0], fine.close.to_numpy()[100:, 0])


def test_finer_bars_change_the_fingerprint() -> None:
    coarse, fine = market_and_quarters()
    assert fingerprint(coarse.with_finer(fine)) != fingerprint(coarse)


@pytest.mark.parametrize("interval", ["1h", "2h", "25min"])
def test_what_does_not_lie_beneath_is_refused(interval: str) -> None:
    with pytest.raises(ValueError, match="do not divide bars of 1h"):
        fine_bars(HOUR, pd.Timedelta(interval))


def test_finer_bars_of_other_symbols_are_refused(market_of_closes: Callable[..., Market]) -> None:
    coarse, _ = market_and_quarters()
    other = market_of_closes({"OTHER": [1.0, 2.0]}, QUARTER)
    with pytest.raises(ValueError, match=r"of \['OTHER'\] and the market of \['ALPHA'"):
        coarse.with_finer(other)


def test_columns_of_other_times_are_refused() -> None:
    coarse, _ = market_and_quarters()
    with pytest.raises(ValueError, match="column funding has other times"):
        coarse.with_columns({"funding": coarse.close.iloc[1:]})


def test_the_grid_beneath_covers_the_first_bar_whole() -> None:
    coarse, fine = market_and_quarters()
    found = beneath(fine.columns, QUARTER, coarse.times[1:3], HOUR)["close"]
    assert str(found.index[0]) == "2024-01-01 01:15:00+00:00"
    assert len(found) == 8
