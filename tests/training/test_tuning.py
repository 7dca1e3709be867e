"""``tune`` from bars to best settings: what it may see, what MLflow keeps, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.forecast.ewma import EwmaModel
from models.forecast.har import HarModel, Settings
from models.registry import open_client
from training.cli import main
from training.dataset import History
from training.lock import locked
from training.settings import TrainingSettings
from training.study import StudyError
from training.tuning import Tuned, TuneSettings, tune

ROOT = Path(__file__).resolve().parent.parent.parent
Captured = pytest.CaptureFixture[str]
Tune = Callable[..., Tuned]
START, END = (pd.Timestamp(t, tz="UTC") for t in ("2024-03-10", "2024-04-24 23:00"))


@pytest.fixture
def tuned(market: Market, settings: TrainingSettings, mlflow_store: str, tmp_path: Path) -> Tune:
    """``tuned(market=..., study=..., trials=...)``: two blocks of fifteen days searched, one held back."""

    def run(market: Market = market, study: str = "study.db", trials: int = 3, **changed: Any) -> Tuned:
        how = {"start": START, "end": END, "trials": trials, "folds": 2, "jobs": 1, "seed": 1} | changed
        history = History(market, (EwmaModel, HarModel))
        return tune(
            history, "har", settings, TuneSettings(**how), tmp_path / study, mlflow_store, lambda _: None
        )

    return run


def changed_after(market: Market, after: pd.Timestamp) -> Market:
    """Other prices after a time."""
    late = pd.Series(market.times > after, market.times)
    noise = np.exp(0.01 * np.random.default_rng(1).normal(size=len(market.times)).cumsum())
    columns = {
        name: frame.where(~late, frame.mul(noise, axis=0), axis=0)
        if name in {"open", "high", "low", "close"}
        else frame
        for name, frame in market.columns.items()
    }
    return Market(market.interval, columns)


def values(found: Tuned) -> list[tuple[Any, ...]]:
    return [(trial.params, trial.value) for trial in found.trials]


def test_the_search_sees_neither_the_held_back_block_nor_what_came_after(tuned: Tune, market: Market) -> None:
    first = tuned()
    assert first.best.params != first.shipped.params
    assert first.held_back is not None
    assert (first.held_back_fold.test_start, first.held_back_fold.test_end) == (
        pd.Timestamp("2024-04-09 16:00", tz="UTC"),
        END,
    )
    # Other bars after the end: the same study, gone on with by nothing.
    assert tuned(changed_after(market, END)).to_json() == first.to_json()
    # Other bars in the held-back block: other data, the same search, and another answer at the end.
    other = changed_after(market, first.held_back_fold.test_start)
    with pytest.raises(StudyError, match="begun with data"):
        tuned(other)
    second = tuned(other, study="other.db")
    assert values(second) == values(first)
    assert second.searched == first.searched
    assert second.held_back is not None
    assert second.held_back.mean != first.held_back.mean


def test_what_the_best_settings_are_worth(tuned: Tune) -> None:
    found = tuned()
    assert found.settings == Settings(**found.best.params)
    assert found.best.value == min(trial.value for trial in found.trials if trial.value is not None)
    assert found.searched is not None
    assert found.best.value is not None
    assert found.shipped.value is not None
    # The mean over days is nearly that over rows: days have as many rows, but for the last of a block.
    assert found.searched.mean == pytest.approx(found.best.value - found.shipped.value, rel=0.1)


def test_nothing_better_than_the_shipped_settings_is_said_so(tuned: Tune) -> None:
    only = tuned(trials=1)
    assert (only.searched, only.held_back, only.importances) == (None, None, {})
    assert only.settings == Settings()


def test_each_trial_is_a_child_of_one_parent(tuned: Tune, mlflow_store: str) -> None:
    tuned(trials=2)
    found = tuned(trials=4)
    client = open_client(mlflow_store)
    experiment = client.get_experiment_by_name("foremargin-tuning").experiment_id
    runs = client.search_runs([experiment], order_by=["attributes.start_time"])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_trial = {int(run.data.tags["foremargin.trial"]): run for run in children}
    assert sorted(by_trial) == [0, 1, 2, 3]
    for trial in found.trials:
        run = by_trial[trial.number]
        assert float(run.data.params["label_floor"]) == trial.params["label_floor"]
        assert run.data.metrics["difference"] == pytest.approx(trial.value)
        history = client.get_metric_history(run.info.run_id, "difference")
        assert [metric.step for metric in history] == [1, 2]
        assert run.info.run_id == trial.user_attrs["run"]
    assert parent.data.params["model"] == "har"
    assert parent.data.metrics == pytest.approx(found.metrics())
    kept = client.download_artifacts(parent.info.run_id, "best.json")
    assert json.loads(Path(kept).read_text()) == found.to_json()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"trials": 0}, "trials is 0; give at least 1"),
        ({"jobs": 0}, "jobs is 0"),
        ({"folds": 4}, r"are 9\.[0-9] days long, and fewer than gate\.minimum_days \(14\)"),
        ({"folds": 1000}, "give fewer blocks or a longer span"),
        ({"start": END + pd.Timedelta(days=1)}, "no decision time lies between"),
    ],
)
def test_a_search_that_would_tell_nothing_is_refused(
    tuned: Tune, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tuned(**changed)


def arguments(bars: Path, *more: str) -> list[str]:
    given = ["tune", "--model", "har", "--bars", str(bars), "--interval", "1h", "--horizons", "1h"]
    return [*given, "--start", "2024-03-10", "--end", "2024-04-24 23:00", "--folds", "2", *more]


def test_a_search_killed_by_the_system_is_gone_on_with(
    bars_folder: Path,
    mlflow_store: str,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real thing: a process of its own, SIGKILL in the second block of the second trial."""
    # Sources that are edited while the test runs are another study, rightly, and not what is tested.
    monkeypatch.setattr("training.tuning.code_version", lambda: "1")
    given = arguments(bars_folder, "--trials", "3", "--study", str(tmp_path / "study.db"))
    killing = (
        "import os, signal\n"
        "from training.blocks import Block\n"
        "from training.cli import main\n"
        "import training.tuning\n"
        "training.tuning.code_version = lambda: '1'\n"
        "score, calls = Block.score, []\n"
        "def killed(block, model):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return score(block, model)\n"
        "Block.score = killed\n"
        f"main({given!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    gone = subprocess.run(
        [sys.executable, "-c", killing], env=environment, cwd=tmp_path, capture_output=True, check=False
    )
    assert gone.returncode == -signal.SIGKILL, gone.stderr
    out = tmp_path / "best.json"
    assert main([*given, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "trial   0" not in printed  # it was finished
    assert printed.count("  complete  ") == 2
    assert "3 finished trials" in printed
    assert json.loads(out.read_text())["finished_trials"] == 3
    client = open_client(mlflow_store)
    experiment = client.get_experiment_by_name("foremargin-tuning").experiment_id
    runs = client.search_runs([experiment])
    states = sorted((run.data.tags.get("foremargin.trial", "parent"), run.info.status) for run in runs)
    # Trial 1 was killed, trial 2 has its settings.
    assert states == [
        ("0", "FINISHED"),
        ("1", "KILLED"),
        ("2", "FINISHED"),
        ("3", "FINISHED"),
        ("parent", "FINISHED"),
    ]
    floors = {run.data.tags.get("foremargin.trial"): run.data.params.get("label_floor") for run in runs}
    assert floors["1"] == floors["2"] != floors["3"]


def test_the_command_prints_what_it_found(bars_folder: Path, mlflow_store: str, capsys: Captured) -> None:
    assert main(arguments(bars_folder, "--trials", "2")) == 0
    printed = capsys.readouterr().out
    assert "0 (shipped)" in printed
    assert "2 completed, 0 pruned, 0 refused by the data" in printed
    assert "importance (fANOVA, completed trials only): label_floor 100%" in printed
    # Beside MLflow's store, where none is named.
    (study,) = Path(mlflow_store.removeprefix("sqlite:///")).parent.rglob("har.db")
    assert f"study {study}: 2 finished trials" in printed


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--model", "ewma"], 2, "model ewma has nothing to tune"),
        (["--end", "2024-03-20"], 2, "give fewer folds or a longer span"),
        (["--start", "2024-01-05"], 3, "ewma cannot be fitted on"),
        (["--study", "STUDY"], 4, "another search of this study"),
    ],
)
def test_a_refusal_is_one_line_and_a_code(
    more: list[str],
    code: int,
    message: str,
    bars_folder: Path,
    mlflow_store: str,  # noqa: ARG001
    tmp_path: Path,
    capsys: Captured,
) -> None:
    study = tmp_path / "study.db"
    given = arguments(bars_folder, *(str(study) if word == "STUDY" else word for word in more))
    with locked(tmp_path / "study.db.lock", "search of this study"):
        assert main(given) == code
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not study.exists()
