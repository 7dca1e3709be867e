"""The nightly run ends the same way however often it was killed, and says why where it does not run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from features.bars import Market
from features.sources.parquet import write_folder
from models.registry import Registry, RegistryUnreachableError, open_client
from training.dataset import TrainingRefusedError
from training.lock import LockedError, locked
from training.nightly import Outcome, nightly, refuse_unfit_bars
from training.promotion import Verdict
from training.settings import TrainingSettings

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
ROOT = Path(__file__).resolve().parent.parent.parent
#: In the order in which a run that promotes its version passes them.
CHECKPOINTS = (
    "data_read",
    "gate_passed",
    "trained",
    "scores_written",
    "artifact_written",
    "run_logged",
    "version_registered",
    "challenger_named",
    "judged",
    "promotion_recorded",
    "champion_moved",
    "promoted_or_kept",
    "finished",
)
Run = Callable[..., tuple[Outcome, Verdict | None]]
KilledAfter = Callable[[str], Callable[[str], None]]


def no_pictures(*_: object) -> dict[str, Figure]:
    """Pictures take most of such a short run's time; the run in a process of its own draws them."""
    return {}


@pytest.fixture
def registry(mlflow_store: str) -> Registry:
    return Registry(mlflow_store)


#: One horizon and level, and a gate that lets a model through that is as good as the baseline: what is
#: trained does not matter here.
SETTINGS = {
    "model": "ewma",
    "horizons": "1h",
    "levels": "0.99",
    "evaluation_days": 20,
    "minimum_train_days": 60,
    "gate": {"worse_t": 10, "worse_t_overall": 10},
}


@pytest.fixture
def settings() -> TrainingSettings:
    return TrainingSettings(**SETTINGS)


@pytest.fixture(scope="session")
def older_folder(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bars as they were two days before."""
    folder = tmp_path_factory.mktemp("older")
    write_folder(market.until(market.times[-1] - 2 * DAY), folder)
    return folder


@pytest.fixture
def run(registry: Registry, settings: TrainingSettings, bars_folder: Path, tmp_path: Path) -> Run:
    def once(
        checkpoint: Callable[[str], None] = lambda _: None, bars: Path = bars_folder, **changes: object
    ) -> tuple[Outcome, Verdict | None]:
        used = settings.model_copy(update=changes)
        return nightly(bars, None, used, registry, tmp_path / "work", checkpoint=checkpoint, draw=no_pictures)

    return once


@pytest.fixture(scope="session")
def clean_fingerprint(
    migrated_mlflow_database: Path, bars_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """What one clean run ends with."""
    folder = tmp_path_factory.mktemp("clean")
    shutil.copyfile(migrated_mlflow_database, folder / "mlflow.db")
    used = TrainingSettings(**SETTINGS)
    registry = Registry(f"sqlite:///{folder}/mlflow.db")
    outcome, _ = nightly(bars_folder, None, used, registry, folder / "work", draw=no_pictures)
    return outcome.fingerprint


def test_a_clean_run_promotes_the_first_model_and_passes_every_step(
    run: Run, registry: Registry, clean_fingerprint: str
) -> None:
    passed: list[str] = []
    outcome, verdict = run(passed.append)
    assert tuple(passed) == CHECKPOINTS
    assert verdict is not None
    assert verdict.promote
    assert (outcome.result, outcome.version, outcome.champion) == ("promoted", 1, 1)
    assert outcome.fingerprint == clean_fingerprint
    champion = registry.champion()
    assert champion is not None
    assert champion.run_key == outcome.run_key
    assert outcome.run_key.startswith("2024-04-30-")


@pytest.mark.parametrize("step", CHECKPOINTS)
def test_a_run_killed_after_any_step_ends_as_a_clean_one(
    step: str, run: Run, registry: Registry, killed_after: KilledAfter, clean_fingerprint: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(killed_after(step))
    outcome, _ = run()
    assert (outcome.result, outcome.version, outcome.champion) == ("promoted", 1, 1)
    assert outcome.fingerprint == clean_fingerprint
    assert [v.run_key for v in registry.versions()] == [outcome.run_key]
    champion = registry.champion()
    assert champion is not None
    assert champion.fingerprint == clean_fingerprint
    assert registry.challenger() is None
    client = open_client(registry.tracking_uri)
    experiment = client.get_experiment_by_name("foremargin").experiment_id
    assert [r.info.status for r in client.search_runs([experiment])] == ["FINISHED"]


@pytest.mark.parametrize("step", ["version_registered", "judged", "promotion_recorded", "champion_moved"])
def test_a_killed_run_leaves_the_old_champion_or_the_new(
    step: str, run: Run, registry: Registry, older_folder: Path, killed_after: KilledAfter
) -> None:
    first, _ = run(bars=older_folder)
    with pytest.raises(KeyboardInterrupt):
        run(killed_after(step))
    champion = registry.champion()
    assert champion is not None
    assert champion.number == (2 if step == "champion_moved" else first.version)
    second, _ = run()
    previous = registry.previous()
    assert (second.result, second.champion) == ("promoted", 2)
    assert previous is not None
    assert previous.number == 1
    assert registry.rollback().number == 1


@pytest.mark.parametrize("step", ["challenger_named", "finished"])
def test_a_run_whose_work_folder_was_lost_makes_no_second_version(
    step: str,
    run: Run,
    registry: Registry,
    killed_after: KilledAfter,
    tmp_path: Path,
    clean_fingerprint: str,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(killed_after(step))
    shutil.rmtree(tmp_path / "work")
    outcome, _ = run()
    assert (outcome.result, outcome.version, outcome.champion) == ("promoted", 1, 1)
    assert outcome.fingerprint == clean_fingerprint
    assert len(registry.versions()) == len(registry.history()) == 1


def test_a_finished_run_is_not_done_again(run: Run, registry: Registry) -> None:
    first, _ = run()
    passed: list[str] = []
    again, verdict = run(passed.append)
    assert (again, verdict, passed) == (first, None, ["data_read"])
    assert len(registry.versions()) == 1


def test_bars_without_news_are_refused(run: Run, market: Market, tmp_path: Path) -> None:
    write_folder(market.until(market.times[-6]), tmp_path / "older")
    run(bars=tmp_path / "older")
    with pytest.raises(TrainingRefusedError, match=r"5\.0 hours after the champion's \(version 1\)"):
        run()
    outcome, _ = run(minimum_new_hours=4)
    assert outcome.version == 2


def test_a_challenger_that_loses_is_kept_out(
    run: Run, registry: Registry, settings: TrainingSettings, older_folder: Path
) -> None:
    first, _ = run(bars=older_folder)
    # Sure to refuse: any cell whose hits are not exactly as many as promised.
    strict = settings.gate.model_copy(update={"too_few_hits_error": 0.999, "too_many_hits_error": 0.999})
    outcome, verdict = run(gate=strict)
    assert verdict is not None
    assert not verdict.promote
    assert (outcome.result, outcome.version, outcome.champion) == ("kept champion", 2, first.version)
    champion, challenger = registry.champion(), registry.challenger()
    assert champion is not None
    assert challenger is not None
    assert (champion.number, challenger.number) == (1, 2)


def test_a_second_run_is_locked_out(run: Run, tmp_path: Path) -> None:
    with (
        locked(tmp_path / "work" / "nightly.lock", "nightly run"),
        pytest.raises(LockedError, match=r"another nightly run \(process \d+\) holds"),
    ):
        run()


def test_a_store_that_does_not_answer_stops_the_run_before_training(
    settings: TrainingSettings, bars_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all, but long enough to look like a file" * 50)
    passed: list[str] = []
    with pytest.raises(RegistryUnreachableError):
        nightly(
            bars_folder,
            None,
            settings,
            Registry(f"sqlite:///{tmp_path}/mlflow.db"),
            tmp_path / "work",
            checkpoint=passed.append,
        )
    assert passed == ["data_read"]


def with_close(market: Market, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Market:
    return replace(market, columns={**market.columns, "close": change(market.close.copy())})


def test_a_dead_feed_is_refused(market: Market, settings: TrainingSettings) -> None:
    def flat(close: pd.DataFrame) -> pd.DataFrame:
        close.iloc[-21 * 24 :, 1] = 5.0
        return close

    with pytest.raises(TrainingRefusedError, match="BETA: the price did not move in the last 20 days"):
        refuse_unfit_bars(with_close(market, flat), settings)


def test_holes_are_refused_but_a_late_listing_is_none(market: Market, settings: TrainingSettings) -> None:
    def listed_late(close: pd.DataFrame) -> pd.DataFrame:
        close.iloc[:1000, 1] = float("nan")
        return close

    def holes(close: pd.DataFrame) -> pd.DataFrame:
        close.iloc[1000:1160, 1] = float("nan")
        return close

    refuse_unfit_bars(with_close(market, listed_late), settings)
    with pytest.raises(TrainingRefusedError, match=r"BETA: 5\.6% of the 1h bars are missing"):
        refuse_unfit_bars(with_close(market, holes), settings)


def test_a_run_killed_by_the_system_ends_as_a_clean_one(
    mlflow_store: str, bars_folder: Path, tmp_path: Path, clean_fingerprint: str
) -> None:
    """The real thing: a process of its own, SIGKILL just after the alias moved, and the command again."""
    arguments = ["nightly", "--bars", str(bars_folder), "--model", "ewma", "--horizons", "1h"]
    arguments += ["--levels", "0.99", "--evaluation-days", "20", "--work", str(tmp_path / "work")]
    killing = (
        "import os, signal, sys, functools\n"
        "import training.commands.nightly as command\n"
        "from training.cli import main\n"
        "def checkpoint(step):\n"
        "    if step == 'champion_moved': os.kill(os.getpid(), signal.SIGKILL)\n"
        "command.nightly = functools.partial(command.nightly, checkpoint=checkpoint)\n"
        f"main({arguments!r})\n"
    )
    environment = os.environ | {
        "FOREMARGIN_TRAINING__MINIMUM_TRAIN_DAYS": "60",
        "FOREMARGIN_TRAINING__GATE__WORSE_T": "10",
        "FOREMARGIN_TRAINING__GATE__WORSE_T_OVERALL": "10",
        "PYTHONPATH": str(ROOT),
    }
    killed = subprocess.run(
        [sys.executable, "-c", killing], env=environment, cwd=tmp_path, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = subprocess.run(
        [sys.executable, "-m", "training", *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert "promoted; version 1, champion version 1" in again.stdout
    registry = Registry(mlflow_store)
    champion = registry.champion()
    assert champion is not None
    assert champion.fingerprint == clean_fingerprint
    assert len(registry.versions()) == len(registry.history()) == 1
