"""The command line: what it writes, prints and answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from features.bars import Market
from features.cli import main
from features.commands.describe import draw, summary
from features.sources.parquet import read_folder, write_bars, write_folder
from features.sources.simulated import simulate

ROOT = Path(__file__).resolve().parent.parent.parent


def test_simulate_then_describe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars, picture = tmp_path / "bars", tmp_path / "bars.png"
    assert (
        main(["simulate", str(bars), "--symbols", "2", "--days", "12", "--interval", "1h", "--seed", "5"])
        == 0
    )
    assert "288 bars of 1h for 2 symbols, 2024-01-01 00:00 to 2024-01-13 00:00 UTC" in capsys.readouterr().out
    assert read_folder(bars).symbols == ("ALPHA", "BETA")

    assert main(["describe", str(bars), "--out", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "2 symbols, 1h bars" in printed
    assert "ALPHA" in printed and "2024-01-12 23:00" in printed and "yes" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars", "bars.png"]


def test_describe_tells_which_columns_there_are_beyond_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market = simulate(symbols=1, days=3, seed=5)
    more = dict.fromkeys(("vpin", "large_trade_share", "book_spread"), market.close * 0 + 0.5)
    write_folder(market.with_columns(more), tmp_path)
    assert main(["describe", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "taker_buy_quote_volume, 2 of the group trades, 1 of the group book" in printed


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "features", "describe", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "holds no bar files" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "OUT", "--symbols", "0"], "give at least 1 of each"),
        (["simulate", "OUT", "--interval", "soon"], "duration 'soon' is not understood"),
        (["describe", "OUT"], "holds no bar files"),
        (["import", "binance", "none.csv", "--out", "OUT"], "does not tell the symbol"),
        (["import", "binance", "A-1h-2024-01.csv", "--out", "OUT"], "does not exist"),
    ],
)
def test_bad_data_and_arguments_end_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "out"
    assert main([a.replace("OUT", str(out)) for a in arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not out.exists()


def test_usage_errors_end_with_2_and_help_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate"]) == 2
    assert main(["explode"]) == 2
    assert main(["--help"]) == 0
    assert "describe" in capsys.readouterr().out


def kline(hour: int, trades: int = 3) -> str:
    opened = int((pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(hours=hour)).timestamp() * 1000)
    return f"{opened},10,11,9,10,2,{opened + 3599999},20,{trades},1,10,0"


def archive(path: Path, hours: range, trades: int = 3) -> str:
    path.write_text("\n".join(kline(h, trades) for h in hours) + "\n", encoding="utf-8")
    return str(path)


def test_import_sorts_archives_into_files_and_adds_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bars"
    first = [archive(tmp_path / f"{s}-1h-2024-01-01.csv", range(24)) for s in ("BTCUSDT", "ETHUSDT")]
    assert main(["import", "binance", *first, "--out", str(out)]) == 0
    assert (
        "BTCUSDT.parquet: 24 bars of 1h, 2024-01-01 00:00 to 2024-01-01 23:00 UTC" in capsys.readouterr().out
    )
    second = archive(tmp_path / "BTCUSDT-1h-2024-01-02.csv", range(23, 48))
    assert main(["import", "binance", second, "--out", str(out), "--interval", "1h"]) == 0
    market = read_folder(out)
    assert market.close.notna().sum().to_dict() == {"BTCUSDT": 48, "ETHUSDT": 24}

    before = {p.name: p.read_bytes() for p in out.iterdir()}
    wrong = archive(tmp_path / "ETHUSDT-1h-2024-01-03.csv", range(20, 30), trades=4)
    fresh = archive(tmp_path / "SOLUSDT-1h-2024-01-03.csv", range(24))
    assert main(["import", "binance", fresh, wrong, "--out", str(out)]) == 2
    assert "trades = 4.0" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before, "one bad archive changes nothing"


def test_import_under_a_given_symbol(tmp_path: Path) -> None:
    path = archive(tmp_path / "klines.csv", range(3))
    assert main(["import", "binance", path, "--symbol", "XYZ", "--out", str(tmp_path / "bars")]) == 0
    assert [p.name for p in (tmp_path / "bars").iterdir()] == ["XYZ.parquet"]


def test_summary_counts_what_is_there(market_of_closes: Callable[..., Market]) -> None:
    market = market_of_closes({"A": [100.0, 110.0, 99.0, 99.0, 99.0]})
    closes = market.close.copy()
    holed = Market(
        market.interval,
        {
            c: f.where(pd.Series([True, True, True, False, True], index=closes.index))
            for c, f in market.columns.items()
        },
    )
    row = summary(holed).loc["A"]
    assert (row["bars"], row["missing"], row["longest_hole"]) == (4, 1, pd.Timedelta(hours=1))
    assert row["first"] == pd.Timestamp("2024-01-01", tz="UTC")
    assert row["last"] == pd.Timestamp("2024-01-01 04:00", tz="UTC")
    assert row["best"] == pytest.approx(0.0953102)
    assert row["worst"] == pytest.approx(-0.1053605)
    assert row["turnover"] == pytest.approx((100 + 110 + 99 + 99) / 4 * 24)
    assert not row["flow"]


def test_a_picture_of_bars_without_flow_and_of_one_bar(
    tmp_path: Path, market_without_flow: Market, market_of_closes: Callable[..., Market]
) -> None:
    assert draw(market_without_flow, "no flow", tmp_path / "a.svg").stat().st_size > 1000
    assert draw(market_of_closes({"A": [5.0]}), "one bar", tmp_path / "b.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"ends with one of \['\.png'"):
        draw(market_without_flow, "no flow", tmp_path / "a.exe")


def test_describe_counts_holes_of_one_bar_files(
    tmp_path: Path, bars_of_closes: Callable[..., pd.DataFrame], capsys: pytest.CaptureFixture[str]
) -> None:
    write_bars(bars_of_closes([1.0]), tmp_path / "A.parquet")
    assert main(["describe", str(tmp_path), "--interval", "1h"]) == 0
    assert "1 symbols, 1h bars" in capsys.readouterr().out
