"""The command line: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from features.sources.parquet import write_folder
from features.sources.simulated import simulate
from models.artifact import read_info
from models.registry import Registry
from training.cli import main
from training.evaluation import FORECAST_COLUMNS
from training.lock import locked

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def small_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMARGIN_TRAINING__MINIMUM_TRAIN_DAYS", "60")
    monkeypatch.setenv("FOREMARGIN_TRAINING__EVALUATION_DAYS", "20")


def error_of(capsys: Captured) -> str:
    """The one line on stderr; progress bars write there too, and end before it."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_backtest_writes_the_table_and_prints_the_scores(
    bars_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "forecasts.parquet"
    arguments = ["backtest", "--bars", str(bars_folder), "--interval", "1h", "--horizons", "1h,4h"]
    arguments += ["--levels", "0.975,0.99", "--start", "2024-04-10", "--end", "2024-04-20"]
    assert main([*arguments, "--models", "ewma", "--out", str(out)]) == 0
    table = pd.read_parquet(out)
    assert table.columns.tolist() == [*FORECAST_COLUMNS, "confidence", "drift"]
    assert (table["time"].min(), table["time"].max()) == tuple(
        pd.Timestamp(t, tz="UTC") for t in ("2024-04-10", "2024-04-20")
    )
    assert len(table) == 241 * 2 * 2 * 2 * 2
    printed = capsys.readouterr().out
    assert "Walk-forward backtest" in printed
    assert f"{len(table):,} forecasts" in printed


def test_train_promote_and_roll_back(bars_folder: Path, mlflow_store: str, capsys: Captured) -> None:
    train = ["train", "--bars", str(bars_folder), "--model", "ewma", "--horizons", "1h", "--levels", "0.99"]
    assert main([*train, "--train-end", "2024-03-20"]) == 0
    assert "version 1, challenger" in capsys.readouterr().out
    registry = Registry(mlflow_store)
    assert registry.champion() is None
    assert main(["promote", "--bars", str(bars_folder), "--levels", "0.99"]) == 0
    printed = capsys.readouterr().out
    assert "FZ0 1h 99 % against ewma" in printed
    champion = registry.champion()
    assert champion is not None, printed
    assert "promoted: no worse than ewma" in printed
    assert main(["promote", "--bars", str(bars_folder)]) == 0
    assert "kept champion: no challenger waits; version 1 is champion" in capsys.readouterr().out
    assert main(["promote", "--rollback"]) == 6
    assert "nothing to roll back to" in error_of(capsys)
    registry.promote(registry.register(champion.run_id, champion.source, read_info(Path(champion.source))))
    assert main(["promote", "--rollback", "--reason", "drill"]) == 0
    assert "rolled back from version 2 to version 1" in capsys.readouterr().out
    assert registry.history()[-1].reason == "drill"


def test_under_torchrun_one_process_publishes(
    bars_folder: Path, mlflow_store: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    train = ["train", "--bars", str(bars_folder), "--model", "ewma", "--horizons", "1h", "--levels", "0.99"]
    assert main([*train, "--train-end", "2024-03-20"]) == 0
    assert "challenger (run" not in capsys.readouterr().out
    assert Registry(mlflow_store).challenger() is None


def test_nightly_says_what_it_did(
    bars_folder: Path, mlflow_store: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMARGIN_TRAINING__HORIZONS", "1h")
    assert main(["nightly", "--bars", str(bars_folder), "--model", "ewma"]) == 0
    printed = capsys.readouterr().out
    assert [step in printed for step in ("data ", "gate ", "train ", "publish ", "judge ", "finish ")] == [
        True
    ] * 6
    assert Registry(mlflow_store).by_run_key(printed.split("run      ")[1].split()[0]) is not None
    assert main(["nightly", "--bars", str(bars_folder), "--model", "ewma"]) == 0
    assert "had finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--bars", "nowhere"], "nowhere holds no bar files"),
        (["train", "--bars", "BARS", "--model", "oracle"], "model 'oracle' is unknown; choose among"),
        (["train", "--bars", "BARS", "--horizons", "90m"], "not a whole number of 1h bars"),
        (["train", "--bars", "BARS", "--levels", "1.5"], "[training] levels"),
        (["train", "--bars", "BARS", "--symbols", "OMEGA"], "no files for ['OMEGA']"),
        (["train", "--bars", "BARS", "--interval", "30m"], "smallest step between bars is 1h, not 30m"),
        (["train", "--bars", "BARS", "--train-end", "someday"], "--train-end is 'someday'"),
        (["promote", "--bars", "BARS"], "there is no challenger"),
        (["promote"], "--bars is missing"),
    ],
)
def test_bad_arguments_end_with_2_and_one_line(
    bars_folder: Path, capsys: Captured, arguments: list[str], message: str
) -> None:
    given = [str(bars_folder) if a == "BARS" else a for a in arguments]
    assert main(given) == 2
    line = error_of(capsys)
    assert line.startswith("error: ")
    assert message in line


def test_an_unknown_option_ends_with_2(capsys: Captured) -> None:
    assert main(["train", "--bar", "x"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_a_broken_bar_file_ends_nightly_with_2(tmp_path: Path, capsys: Captured) -> None:
    write_folder(simulate(1, 5), tmp_path / "bars")
    (path,) = (tmp_path / "bars").glob("*.parquet")
    bars = pd.read_parquet(path)
    bars.loc[7, "high"] = 0.5 * bars.loc[7, "low"]
    bars.to_parquet(path)
    assert main(["nightly", "--bars", str(tmp_path / "bars"), "--model", "ewma"]) == 2
    assert "row 7: high" in error_of(capsys)


def test_a_refused_training_ends_with_3(tmp_path: Path, capsys: Captured) -> None:
    write_folder(simulate(1, 50), tmp_path / "bars")
    assert main(["nightly", "--bars", str(tmp_path / "bars"), "--model", "ewma", "--horizons", "1h"]) == 3
    assert "give more history" in error_of(capsys)


def test_a_locked_run_ends_with_4(bars_folder: Path, tmp_path: Path, capsys: Captured) -> None:
    with locked(tmp_path / "nightly.lock", "nightly run"):
        arguments = ["nightly", "--bars", str(bars_folder), "--model", "ewma", "--work", str(tmp_path)]
        assert main(arguments) == 4
    assert "another nightly run" in error_of(capsys)


def test_an_unreachable_store_ends_with_5(
    bars_folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    arguments = ["nightly", "--bars", str(bars_folder), "--model", "ewma", "--work", str(tmp_path)]
    assert main(arguments) == 5
    assert "http://127.0.0.1:9 does not answer" in error_of(capsys)


def test_help_names_every_verb(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in ("train", "tune", "backtest", "promote", "nightly"))
