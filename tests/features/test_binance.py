"""Kline archives, made here in every form that they are published in."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import BAR_COLUMNS, BarError
from features.sources.binance import COLUMNS, archive_files, read_klines, symbol_of

HOUR = pd.Timedelta(hours=1)
START = pd.Timestamp("2025-01-01", tz="UTC")


def lines(hours: range, unit: str = "ms", headed: bool = False) -> list[str]:
    """Rows as they are published: the price rises by one an hour from 100."""
    scale = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    rows = [",".join(COLUMNS)] if headed else []
    for h in hours:
        opened = int((START + h * HOUR).timestamp()) * scale
        price = 100 + h
        quote = f"{(price + 0.5) * 10:.8f}"
        rows.append(
            f"{opened},{price}.00,{price + 1}.50,{price - 0.5},{price + 1}.00,10.00000000,"
            f"{opened + 3600 * scale - 1},{quote},42,4.00000000,{(price + 0.5) * 4:.8f},0"
        )
    return rows


def csv(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def zipped(path: Path, rows: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(path.with_suffix(".csv").name, "\n".join(rows) + "\n")
    return path


def test_a_row_is_read_into_its_columns(tmp_path: Path) -> None:
    table, interval = read_klines([csv(tmp_path / "BTCUSDT-1h-2025-01.csv", lines(range(3)))])
    assert interval == HOUR
    assert tuple(table.columns) == BAR_COLUMNS
    row = table.iloc[1]
    assert row["open_time"] == pd.Timestamp("2025-01-01 01:00", tz="UTC")
    assert row.iloc[1:].to_list() == [101.0, 102.5, 100.5, 102.0, 10.0, 1015.0, 42.0, 4.0, 406.0]


@pytest.mark.parametrize("headed", [False, True], ids=["bare", "headed"])
@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("write", [csv, zipped])
def test_every_published_form_gives_the_same_bars(tmp_path: Path, write, unit: str, headed: bool) -> None:
    suffix = "zip" if write is zipped else "csv"
    found, _ = read_klines([write(tmp_path / f"A-1h-2025-01.{suffix}", lines(range(24), unit, headed))])
    expected, _ = read_klines([csv(tmp_path / "plain.csv", lines(range(24)))])
    pd.testing.assert_frame_equal(found, expected)


def test_months_merge_in_order_and_may_overlap_where_they_agree(tmp_path: Path) -> None:
    february = zipped(tmp_path / "A-1h-2025-02.zip", lines(range(20, 48), "us"))
    january = csv(tmp_path / "A-1h-2025-01.csv", lines(range(24), "ms", headed=True))
    table, _ = read_klines([february, january])
    np.testing.assert_array_equal(table["open"], 100.0 + np.arange(48))
    assert table["open_time"].is_monotonic_increasing


def test_files_that_contradict_each_other_are_both_named(tmp_path: Path) -> None:
    first = csv(tmp_path / "A-1h-2025-01.csv", lines(range(24)))
    rows = lines(range(20, 30))
    rows[1] = rows[1].replace(",42,", ",43,")
    second = csv(tmp_path / "A-1h-2025-02.csv", rows)
    with pytest.raises(BarError) as caught:
        read_klines([first, second])
    message = str(caught.value)
    assert "A-1h-2025-02.csv" in message and "A-1h-2025-01.csv" in message
    assert "trades = 43.0" in message and "2025-01-01 21:00:00" in message and "42.0" in message


def changed(row: int, column: str, value: str, hours: int = 5) -> list[str]:
    rows = [r.split(",") for r in lines(range(hours))]
    rows[row][COLUMNS.index(column)] = value
    return [",".join(r) for r in rows]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (changed(2, "high", "abc"), r"row 2: high = 'abc': not a number"),
        (changed(2, "volume", ""), r"row 2: volume = '': not a number"),
        (changed(3, "low", "0"), r"row 3: low = 0\.0: low is not above 0"),
        (changed(3, "taker_buy_volume", "11"), "taker_buy_volume is above volume"),
        (changed(2, "open_time", "1735693200000000"), "not a time in ms, as the first row is"),
        (lines(range(3), "s"), "row 0: open_time = .*: not a time in ms or us"),
        (lines(range(3), "ns"), "row 0: open_time = .*: not a time in ms or us"),
        (changed(1, "quote_volume", "99999"), r"quote_volume / volume lies outside \[low, high\]"),
        ([r.rsplit(",", 1)[0] for r in lines(range(3))], "11 columns, not 12"),
        (["time,o,h,l,c,v,e,q,n,b,p,i", *lines(range(2))], r"the header is \['time'"),
        ([",".join(COLUMNS)], "has no bars"),
        ([], "not CSV of 12 columns"),
        ([*lines(range(2)), "1,2,3,4,5,6,7,8,9,10,11,12,13,14"], "not CSV of 12 columns"),
        (lines(range(1)), "one bar does not tell the bar interval"),
    ],
)
def test_what_is_no_kline_archive_is_refused(tmp_path: Path, rows: list[str], expected: str) -> None:
    with pytest.raises(BarError, match=expected) as caught:
        read_klines([csv(tmp_path / "A-1h.csv", rows)])
    assert "A-1h.csv" in str(caught.value)


def test_the_interval_is_checked_when_given(tmp_path: Path) -> None:
    path = csv(tmp_path / "A-1h.csv", lines(range(5)))
    with pytest.raises(BarError, match="the smallest step between bars is 1h, not 15m"):
        read_klines([path], pd.Timedelta(minutes=15))
    single = csv(tmp_path / "one.csv", lines(range(1)))
    assert len(read_klines([single], HOUR)[0]) == 1


def test_archives_that_cannot_be_opened(tmp_path: Path) -> None:
    broken = tmp_path / "A-1h.zip"
    broken.write_bytes(zipped(tmp_path / "B-1h.zip", lines(range(200))).read_bytes()[:300])
    with pytest.raises(BarError, match="not a whole zip archive"):
        read_klines([broken])
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "1")
        archive.writestr("b.csv", "1")
    with pytest.raises(BarError, match="holds 2 CSV files, not one"):
        read_klines([tmp_path / "two.zip"])
    with pytest.raises(BarError, match="does not exist"):
        read_klines([tmp_path / "none.csv"])
    with pytest.raises(ValueError, match="at least one"):
        read_klines([])


def test_names_tell_symbols_and_folders_are_opened(tmp_path: Path) -> None:
    one = csv(tmp_path / "1000PEPEUSDT-15m-2025-01-03.csv", lines(range(2)))
    assert symbol_of(one) == "1000PEPEUSDT"
    assert symbol_of(Path("BTCUSD_PERP-1h-2024-01.zip")) == "BTCUSD_PERP"
    with pytest.raises(ValueError, match="give the symbol"):
        symbol_of(Path("klines.csv"))
    assert archive_files([tmp_path, one]) == [one, one]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no \.csv and no \.zip"):
        archive_files([tmp_path / "empty"])
