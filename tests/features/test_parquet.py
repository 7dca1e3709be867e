"""Folders of bar files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import BarError, Market
from features.sources import parquet
from features.sources.parquet import add_bars, read_folder, write_bars, write_folder

MakeBars = Callable[..., pd.DataFrame]
HOUR = pd.Timedelta(hours=1)


def test_what_is_written_is_read(tmp_path: Path, market: Market) -> None:
    paths = write_folder(market, tmp_path / "bars")
    assert [p.name for p in paths] == ["ALPHA.parquet", "BETA.parquet", "GAMMA.parquet"]
    again = read_folder(tmp_path / "bars")
    assert again.interval == market.interval
    assert again.symbols == market.symbols
    for column in market.columns:
        pd.testing.assert_frame_equal(again[column], market[column])
    assert len(list((tmp_path / "bars").iterdir())) == 3, "no temporary file stays behind"


def test_symbols_come_by_turnover_of_the_first_common_month(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    hours = 24 * 60
    early = [10.0] * (24 * 31) + [1.0] * (hours - 24 * 31)
    late = [2.0] * (24 * 31) + [1e6] * (hours - 24 * 31)
    write_bars(bars_of_closes([50.0] * hours).assign(volume=late), tmp_path / "AAA.parquet")
    write_bars(bars_of_closes([50.0] * hours).assign(volume=early), tmp_path / "BBB.parquet")
    assert read_folder(tmp_path).symbols == ("BBB", "AAA")
    assert read_folder(tmp_path, symbols=["AAA", "BBB"]).symbols == ("AAA", "BBB")
    assert read_folder(tmp_path, symbols=["AAA"]).symbols == ("AAA",)


def test_the_common_month_begins_when_the_last_symbol_lists(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    # OLD traded a lot, but before NEW was there; then NEW is the larger.
    old = bars_of_closes([10.0] * 480).assign(volume=[1e6] * 240 + [1.0] * 240)
    new = bars_of_closes([10.0] * 240, start="2024-01-11").assign(volume=2.0)
    write_bars(old, tmp_path / "OLD.parquet")
    write_bars(new, tmp_path / "NEW.parquet")
    assert read_folder(tmp_path).symbols == ("NEW", "OLD")


def test_the_interval_is_the_smallest_step(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    bars = bars_of_closes([1.0, 2.0, 3.0, 4.0], pd.Timedelta(minutes=15)).iloc[[0, 2, 3]]
    write_bars(bars, tmp_path / "A.parquet")
    market = read_folder(tmp_path)
    assert market.interval == pd.Timedelta(minutes=15)
    np.testing.assert_array_equal(market.close["A"], [1.0, np.nan, 3.0, 4.0])


def test_an_interval_that_contradicts_the_file_is_refused(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    write_bars(bars_of_closes([1.0, 2.0, 3.0]), tmp_path / "A.parquet")
    with pytest.raises(BarError, match=r"A\.parquet: the smallest step between bars is 1h, not 15m"):
        read_folder(tmp_path, pd.Timedelta(minutes=15))
    with pytest.raises(BarError, match=r"A\.parquet: the smallest step between bars is 1h, not 2h"):
        read_folder(tmp_path, pd.Timedelta(hours=2))
    write_bars(bars_of_closes([1.0, 2.0, 3.0], pd.Timedelta(minutes=15)), tmp_path / "B.parquet")
    with pytest.raises(BarError, match=r"A\.parquet: the smallest step between bars is 1h, not 15m"):
        read_folder(tmp_path)


def test_one_bar_needs_the_interval(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    write_bars(bars_of_closes([1.0]), tmp_path / "A.parquet")
    with pytest.raises(BarError, match="one bar does not tell the bar interval; give the interval"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path, HOUR).times) == 1


def test_a_bad_file_is_named(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    with pytest.raises(ValueError, match=r"holds no bar files \(SYMBOL\.parquet\)"):
        read_folder(tmp_path)
    (tmp_path / "A.parquet").write_bytes(b"not parquet")
    with pytest.raises(BarError, match=r"A\.parquet: the file cannot be read as parquet"):
        read_folder(tmp_path)
    bars_of_closes([1.0, 2.0]).drop(columns="open_time").to_parquet(tmp_path / "A.parquet")
    with pytest.raises(BarError, match=r"A\.parquet: column open_time is missing"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match=r"no files for \['B'\]; it has \['A'\]"):
        read_folder(tmp_path, symbols=["B"])


def test_a_broken_row_is_named(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    bars = bars_of_closes([1.0, 2.0, 3.0])
    bars.loc[1, "low"] = 9.0
    bars.to_parquet(tmp_path / "A.parquet")
    with pytest.raises(BarError, match=r"A\.parquet, row 1"):
        read_folder(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, bars_of_closes: MakeBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bars(bars_of_closes([1.0, 2.0]), tmp_path / "A.parquet")
    before = path.read_bytes()

    def half(_: pd.DataFrame, out: Path, **__: object) -> None:
        out.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(parquet.pd.DataFrame, "to_parquet", half)
    with pytest.raises(OSError, match="no space left"):
        write_bars(bars_of_closes([5.0, 6.0]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_bars_are_added_to_what_a_file_holds(tmp_path: Path, bars_of_closes: MakeBars) -> None:
    path = tmp_path / "A.parquet"
    bars = bars_of_closes([1.0, 2.0, 3.0, 4.0])
    pd.testing.assert_frame_equal(add_bars(bars, HOUR, path), bars)
    write_bars(bars.iloc[2:], path)
    pd.testing.assert_frame_equal(add_bars(bars.iloc[:3], HOUR, path), bars)
    other = bars.iloc[:3].assign(volume=7.0)
    with pytest.raises(BarError, match=r"volume = 7\.0: in the bar of 2024-01-01 02:00:00 UTC it is 1\.0 in"):
        add_bars(other, HOUR, path)
    with pytest.raises(BarError, match="it holds bars of 1h, and these are of 15m"):
        add_bars(bars_of_closes([1.0, 2.0], pd.Timedelta(minutes=15)), pd.Timedelta(minutes=15), path)


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["15m", "30m", "1h", "2h", "1m"])
def test_real_bars_are_read(real_data: Path, folder: str) -> None:
    market = read_folder(real_data / "bars" / "binance-spot" / folder)
    assert market.interval == pd.Timedelta(folder.replace("m", "min"))
    assert market.symbols[0] == "BTCUSDT"
    assert "taker_buy_volume" in market
