"""``backtest --out-margin``, ``margin`` and ``policy`` as typed: what they write, and what they refuse."""

from __future__ import annotations

import inspect
from pathlib import Path

import pandas as pd
import pytest

from models.margin.limits import Limits
from training.cli import main
from training.commands.policy import policy_command
from training.margin.requirements import MARGIN_COLUMNS
from training.margin.table import read_margins

Captured = pytest.CaptureFixture[str]

START, END = "2024-04-20", "2024-04-23"
SERIES = [
    "ewma through engine",
    "ewma through plain limiter",
    "ewma with 25 % buffer",
    "ewma requirement",
    "static",
]


@pytest.fixture(scope="module")
def backtested(bars_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ``backtest --out-margin`` wrote; only one horizon and level were asked for."""
    folder = tmp_path_factory.mktemp("backtested")
    arguments = ["backtest", "--bars", str(bars_folder), "--start", START, "--end", END, "--models", "ewma"]
    arguments += ["--horizons", "2h", "--levels", "0.95", "--out", str(folder / "forecasts.parquet")]
    arguments += ["--out-margin", str(folder / "margins.parquet"), "--resamples", "10"]
    assert main([*arguments, "--margin-report", str(folder / "report")]) == 0
    return folder


def error_of(capsys: Captured) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def stored(folder: Path, bars: Path, *more: str) -> list[str]:
    """``margin`` on what the backtest left."""
    forecasts = str(folder / "forecasts.parquet")
    return ["margin", "--bars", str(bars), "--forecasts", forecasts, "--resamples", "0", *more]


def test_a_backtest_writes_what_the_margin_needs_and_the_margin(backtested: Path) -> None:
    forecasts = pd.read_parquet(backtested / "forecasts.parquet")
    assert set(forecasts["horizon"]) == {"1h", "2h", "4h"}
    assert set(forecasts["level"]) == {0.95, 0.99, 0.999}
    margins = read_margins(backtested / "margins.parquet")
    assert list(margins.columns) == MARGIN_COLUMNS
    assert list(margins["series"].unique()) == SERIES
    assert len(margins) == len(SERIES) * 73 * 2 * 2 * 2
    assert (margins["time"].min(), margins["time"].max()) == tuple(
        pd.Timestamp(t, tz="UTC") for t in (START, END)
    )
    assert (backtested / "report" / "margin.html").is_file()


def test_stored_forecasts_give_the_same_margin(
    backtested: Path, bars_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    again = tmp_path / "again.parquet"
    assert main([*stored(backtested, bars_folder), "--out-margin", str(again), "--jobs", "2"]) == 0
    pd.testing.assert_frame_equal(read_margins(again), read_margins(backtested / "margins.parquet"))
    printed = capsys.readouterr().out
    assert f"{len(SERIES) * 73 * 8:,} rows of ewma through engine" in printed
    assert "0 decisions below the rules rung" in printed


def test_limits_come_from_the_settings(
    backtested: Path, bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMARGIN_MARGIN__LIMITS__FLOOR_OF_BASE", "1")
    out = tmp_path / "floor.parquet"
    assert main([*stored(backtested, bars_folder), "--out-margin", str(out)]) == 0
    table = read_margins(out)
    assert table.loc[table["series"] == SERIES[0], "multiplier"].min() >= 1
    usual = read_margins(backtested / "margins.parquet")
    assert usual.loc[usual["series"] == SERIES[0], "multiplier"].min() < 1


def test_what_cannot_be_served_is_refused(
    backtested: Path, bars_folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    margin = [*stored(backtested, bars_folder), "--out-margin", str(out)]
    assert main([*margin, "--champion", "garch"]) == 2
    assert "no forecasts of ['garch'], only of ['ewma']" in error_of(capsys)
    assert main([*margin[:4], str(tmp_path / "none.parquet"), *margin[5:]]) == 2
    assert "cannot be read as a forecast table" in error_of(capsys)
    monkeypatch.setenv("FOREMARGIN_MARGIN__MAINTENANCE__HORIZON_S", "5400")
    assert main(margin) == 2
    assert "set FOREMARGIN_MARGIN__MAINTENANCE__HORIZON_S to a multiple" in error_of(capsys)
    monkeypatch.setenv("FOREMARGIN_MARGIN__MAINTENANCE__HORIZON_S", "10800")
    assert main(margin) == 2
    assert "over 3h at level 0.99, only over ['1h', '2h', '4h']" in error_of(capsys)
    assert not out.exists()


def test_options_that_do_nothing_are_refused(bars_folder: Path, tmp_path: Path, capsys: Captured) -> None:
    backtest = ["backtest", "--bars", str(bars_folder), "--start", START, "--end", END, "--models", "ewma"]
    backtest += ["--out", str(tmp_path / "forecasts.parquet")]
    assert main([*backtest, "--champion", "ewma"]) == 2
    assert "give --out-margin too" in error_of(capsys)
    assert main([*backtest, "--champion", "garch", "--out-margin", str(tmp_path / "margins.parquet")]) == 2
    assert "--champion garch is none of the models ['ewma']" in error_of(capsys)
    assert list(tmp_path.glob("*.parquet")) == []


def test_policy_prints_and_keeps_the_frontier(
    backtested: Path, bars_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "policy"
    policy = ["policy", *stored(backtested, bars_folder)[1:-2], "--out", str(out)]
    # The grid is around the shipped policy, whatever that is.
    own = Limits()
    policy += ["--scales", "1,1.5", "--floors", f"{own.floor_of_base}", "--releases", f"{own.release_ratio}"]
    policy += ["--downs", f"{own.down_limit_1h}"]
    ups = f"{own.up_limit_1h}:{own.up_limit_24h}"
    assert main([*policy, "--ups", ups]) == 0
    printed = capsys.readouterr().out
    assert "2 policies of ewma through the engine, 2024-04-20 to 2024-04-23: scale 1, 1.5." in printed
    assert "maintenance: the shipped policy" in printed
    assert {file.name for file in out.iterdir()} == {
        *("frontier.png", "inputs.json", "policies.parquet", "policy.html")
    }
    # More values are added to what there is.
    before = pd.read_parquet(out / "policies.parquet")
    assert main([*policy, "--ups", f"{ups},{own.up_limit_1h / 2}:{own.up_limit_24h}", "--by", "changes"]) == 0
    after = pd.read_parquet(out / "policies.parquet")
    assert (len(before), len(after)) == (4, 8)
    pd.testing.assert_frame_equal(after.iloc[:4], before)


def test_the_grid_that_nobody_asks_for_is_around_the_shipped_policy() -> None:
    own, options = Limits(), inspect.signature(policy_command).parameters
    for option, value in (
        ("scales", "1"),
        ("floors", f"{own.floor_of_base:g}"),
        ("releases", f"{own.release_ratio:g}"),
        ("downs", f"{own.down_limit_1h:g}"),
        ("ups", f"{own.up_limit_1h:g}:{own.up_limit_24h:g}"),
    ):
        assert value in options[option].default.split(","), option


def test_impossible_grids_are_refused_before_anything_is_read(
    backtested: Path, bars_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    policy = ["policy", *stored(backtested, bars_folder)[1:-2], "--out", str(tmp_path / "policy")]
    assert main([*policy, "--scales", "1,x"]) == 2
    assert "--scales is '1,x'; give numbers" in error_of(capsys)
    assert main([*policy, "--ups", "0.25"]) == 2
    assert "give pairs, 0.25:0.6,0.5:1 say" in error_of(capsys)
    assert main([*policy, "--floors", "2"]) == 2
    assert "floor_of_base" in error_of(capsys)
    assert main([*policy, "--by", "mean"]) == 2
    assert "choose one of" in error_of(capsys)
    assert not (tmp_path / "policy").exists()
