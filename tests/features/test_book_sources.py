"""Snapshots from parquet files: what is read, what is refused, what the command writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.bars import BarError, Market
from features.books.bars import BookBars, book_table
from features.cli import main
from features.commands.book import make_book_columns
from features.sources.books import read_book_columns, read_books, tapes_in
from features.sources.join import with_tables
from features.sources.parquet import read_folder, write_folder

MINUTE = pd.Timedelta("1min")
START = pd.Timestamp("2024-01-01", tz="UTC")


def snapshots(rows: int = 300, seed: int = 1, levels: int = 2) -> pd.DataFrame:
    """Two levels a second; the third row is locked, the fourth has no asks."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"timestamp": pd.date_range(START, periods=rows, freq="1s", unit="us")})
    mid = 1000 + np.cumsum(rng.integers(-1, 2, rows))
    for i in range(levels):
        table[f"bid_px_{i}"], table[f"bid_sz_{i}"] = mid - 1.0 - i, rng.uniform(1, 5, rows)
        table[f"ask_px_{i}"], table[f"ask_sz_{i}"] = mid + 1.0 + i, rng.uniform(1, 5, rows)
    table.loc[2, "ask_px_0"] = table.loc[2, "bid_px_0"]
    table.loc[3, [f"ask_{part}_{i}" for part in ("px", "sz") for i in range(levels)]] = np.nan
    return table


def written(path: Path, table: pd.DataFrame) -> Path:
    table.to_parquet(path, index=False)
    return path


def test_a_file_gives_the_columns_of_its_snapshots(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", snapshots())
    table, counts = read_book_columns([path], MINUTE)
    assert (counts.snapshots, counts.locked, counts.one_sided, counts.holes) == (300, 1, 1, 0)
    assert table["book_snapshots"].tolist() == [60] * 5
    assert table["open_time"].tolist() == [START + k * MINUTE for k in range(5)]
    assert "book_ofi_2" in table and "book_ofi_3" not in table and "book_depth_5" not in table


def test_batches_and_files_are_cut_as_one_likes(tmp_path: Path) -> None:
    whole = snapshots()
    path = written(tmp_path / "whole.parquet", whole)
    parts = [written(tmp_path / f"{i}.parquet", whole.iloc[i * 100 : (i + 1) * 100]) for i in range(3)]
    expected, counts = read_book_columns([path], MINUTE)
    found, same = read_book_columns(parts, MINUTE)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert same == counts
    bars, rows = BookBars(MINUTE, 2), []
    for books in read_books(path, rows=7):
        assert len(books) <= 7
        rows.append(book_table(bars.add(books)))
    rows.append(book_table(bars.finish()))
    again = pd.concat([r for r in rows if len(r)], ignore_index=True)
    pd.testing.assert_frame_equal(again, expected, check_exact=True)
    with pytest.raises(BarError, match=r"1.parquet, row 0: timestamp = .* earlier than that of the snapshot"):
        read_book_columns(parts[::-1], MINUTE)


def test_rare_changes_stand_as_long_as_told(tmp_path: Path) -> None:
    rare = snapshots(3, levels=1).iloc[[0, 1]].assign(timestamp=[START, START + pd.Timedelta("90s")])
    path = written(tmp_path / "a.parquet", rare)
    table, counts = read_book_columns([path], MINUTE)
    assert table["book_coverage"].tolist() == [0.5, 0.0] and counts.holes == 1
    table, counts = read_book_columns([path], MINUTE, hole=pd.Timedelta("2min"))
    assert table["book_coverage"].tolist() == [1.0, 0.5] and counts.holes == 0


def test_a_tape_may_be_named_by_categories(tmp_path: Path) -> None:
    table = snapshots(60)
    path = written(tmp_path / "a.parquet", table.assign(symbol=pd.Categorical(["A"] * 30 + ["B"] * 30)))
    assert tapes_in(path) == [{"symbol": "A"}, {"symbol": "B"}]
    assert read_book_columns([path], MINUTE, {"symbol": "B"})[1].snapshots == 30


def test_several_tapes_in_one_file(tmp_path: Path) -> None:
    a, b, c = (snapshots(120, seed) for seed in (1, 2, 3))
    mixed = pd.concat([a.assign(symbol="A", market="spot"), b.assign(symbol="A", market="perp")])
    mixed = pd.concat([mixed, c.assign(symbol="C", market="spot")]).sort_values("timestamp", kind="stable")
    path = written(tmp_path / "mixed.parquet", mixed)
    assert len(tapes_in(path)) == 3
    found, _ = read_book_columns([path], MINUTE, {"symbol": "A", "market": "perp"})
    alone, _ = read_book_columns([written(tmp_path / "b.parquet", b)], MINUTE)
    pd.testing.assert_frame_equal(found, alone, check_exact=True)
    with pytest.raises(BarError, match=r"the file holds 2 tapes that are \{'symbol': 'A'\}"):
        read_book_columns([path], MINUTE, {"symbol": "A"})
    with pytest.raises(BarError, match=r"the file holds 0 tapes that are \{'symbol': 'X'\}"):
        read_book_columns([path], MINUTE, {"symbol": "X"})
    mixed.iloc[5, mixed.columns.get_loc("bid_sz_1")] = -1.0
    with pytest.raises(BarError, match=r"mixed.parquet, row 5: bid_sz_1 = -1.0: the size is negative"):
        read_book_columns([written(path, mixed)], MINUTE, dict(mixed.iloc[5][["symbol", "market"]]))


def changed(**columns: object) -> pd.DataFrame:
    return snapshots(30).assign(**columns)


TIMES = snapshots(30)["timestamp"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed(timestamp=TIMES.dt.tz_localize(None)), "the time zone of column timestamp is None, not UTC"),
        (changed(timestamp=TIMES.dt.tz_convert("Asia/Tokyo")), "timestamp is Asia/Tokyo, not UTC; give UTC"),
        (changed(timestamp=TIMES.astype("int64")), "timestamp is int64, which does not tell its unit"),
        (
            # Milliseconds taken for microseconds, and the other way round.
            changed(timestamp=pd.to_datetime(TIMES.astype("int64") // 1000, unit="us", utc=True)),
            "row 0: timestamp = 1704067200000 us since 1970: the time is not between 2009 and 2100",
        ),
        (
            changed(
                timestamp=pd.Series(TIMES.astype("int64").to_numpy() * 1000).astype("datetime64[us, UTC]")
            ),
            "row 0: timestamp = 1704067200000000000 us since 1970: the time is not between",
        ),
        (changed(timestamp=TIMES.where(TIMES.index != 4)), "row 4: timestamp = None: the time is missing"),
        (changed(bid_px_1="dear"), "column bid_px_1 is .*string, not numeric"),
        (snapshots(30).drop(columns="ask_sz_1"), r"columns ask_sz_i have i = \[0\], not 0 to 1"),
        (snapshots(30).rename(columns={"bid_px_1": "bid_px_2"}), r"columns bid_px_i have i = \[0, 2\], not"),
        (snapshots(30)[["timestamp"]], r"columns bid_px_i have i = \[\], not 0 to 0"),
        (snapshots(30).drop(columns="timestamp"), "column timestamp is missing"),
        (snapshots(30).iloc[:0], "the files hold no snapshots"),
        (changed(symbol=["A"] * 29 + [None]), "symbol is missing in some rows"),
        (changed(ask_px_0=np.inf), "row 0: ask_px_0 = inf: the price is not finite"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, table: pd.DataFrame, message: str) -> None:
    path = written(tmp_path / "feed.parquet", table)
    with pytest.raises(BarError, match=message) as caught:
        read_book_columns([path], MINUTE)
    assert str(caught.value).startswith(str(path)) and caught.value.remedy


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feed.parquet"
    path.write_bytes(b"no parquet")
    for broken in (path, tmp_path / "absent.parquet"):
        with pytest.raises(BarError, match="cannot be read as parquet"):
            tapes_in(broken)
    with pytest.raises(ValueError, match="give at least one"):
        read_book_columns([], MINUTE)


def test_columns_join_a_market_on_its_grid(market_of_closes: Callable[..., Market]) -> None:
    market = market_of_closes({"A": [1.0, 2.0, 3.0], "B": [1.0, 2.0, 3.0]}, MINUTE)
    table = pd.DataFrame({"open_time": [START + MINUTE, START + 9 * MINUTE], "book_spread": [0.5, 0.7]})
    joined = with_tables(market, {"B": table, "elsewhere": table})
    assert joined["book_spread"].isna().to_numpy().tolist() == [[True, True], [True, False], [True, True]]
    assert joined["book_spread"].loc[START + 2 * MINUTE, "B"] == 0.5
    assert joined.close.equals(market.close)

    def refused(bad: pd.DataFrame, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            with_tables(market, {"B": bad})

    refused(table.assign(open_time=table["open_time"].dt.tz_localize(None)), "B: open_time has no time zone")
    refused(table.assign(open_time=START), "B, row 1: open_time = .* occurs twice")
    refused(table.assign(open_time=table["open_time"] + pd.Timedelta("1s")), "row 0: .* not on the 1m grid")
    refused(table.assign(made_up=1.0), r"columns \['made_up'\] are not of features.columns")
    with pytest.raises(ValueError, match="give tables of its symbols"):
        with_tables(market, {"X": table})


def test_the_command_writes_columns_alone_or_beside_bars(
    tmp_path: Path, market_of_closes: Callable[..., Market], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(written(tmp_path / "feed.parquet", snapshots()))
    alone, bars, both = (tmp_path / name for name in ("alone", "bars", "both"))
    command = ["book", "--in", path, "--interval", "1m", "--symbol", "A"]
    assert main([*command, "--out", str(alone)]) == 0
    told = capsys.readouterr().out
    assert "A.parquet: 5 bars of 1m, 2024-01-01 00:00:00 to 2024-01-01 00:04:00 UTC, from 300 sn" in told
    assert "(1 locked, 0 crossed, 1 one-sided, 0 empty); 0 holes" in told
    table = pd.read_parquet(alone / "A.parquet")
    pd.testing.assert_frame_equal(table, read_book_columns([Path(path)], MINUTE)[0])

    write_folder(market_of_closes({"A": [1.0] * 6, "B": [1.0] * 6}, MINUTE), bars)
    assert main([*command, "--bars", str(bars), "--out", str(both)]) == 0
    joined = read_folder(both, symbols=["A", "B"])
    assert joined["book_snapshots"]["A"].tolist()[:5] == [60.0] * 5
    assert joined["book_snapshots"]["B"].isna().all()

    capsys.readouterr()
    for folder, beside in ((alone, []), (both, ["--bars", str(bars)])):
        held = (folder / "A.parquet").read_bytes()
        assert main([*command, *beside, "--out", str(folder)]) == 2
        assert "there already; give --replace" in capsys.readouterr().err
        assert main([*command, *beside, "--out", str(folder), "--replace"]) == 0
        assert (folder / "A.parquet").read_bytes() == held
    capsys.readouterr()
    assert main(["book", "--in", path, "--interval", "1m", "--out", str(tmp_path / "no")]) == 2
    assert "feed.parquet does not say its symbol (no such column); give --symbol" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_all_symbols_are_written_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = snapshots(120, 1).assign(symbol="A"), snapshots(120, 2).assign(symbol="B")
    path, out = tmp_path / "feed.parquet", tmp_path / "out"
    command = ["book", "--in", str(path), "--interval", "1m", "--out", str(out)]
    written(path, pd.concat([good, bad.assign(bid_sz_0=bad["bid_sz_0"].where(bad.index != 100, -1.0))]))
    assert main(command) == 2
    assert "row 220: bid_sz_0 = -1.0: the size is negative" in capsys.readouterr().err
    assert not out.exists()
    written(path, pd.concat([good, bad]))
    assert main(command) == 0
    assert sorted(p.name for p in out.iterdir()) == ["A.parquet", "B.parquet"]
    table = read_book_columns([path], MINUTE, {"symbol": "B"})[0]
    pd.testing.assert_frame_equal(pd.read_parquet(out / "B.parquet"), table)


def test_row_groups_add_up(tmp_path: Path) -> None:
    path, out = written(tmp_path / "feed.parquet", snapshots(70_000, levels=1)), tmp_path / "out"
    second = pd.Timedelta("1s")
    make_book_columns([path], second, out, symbol="A")
    assert pq.ParquetFile(out / "A.parquet").num_row_groups == 2
    pd.testing.assert_frame_equal(pd.read_parquet(out / "A.parquet"), read_book_columns([path], second)[0])
