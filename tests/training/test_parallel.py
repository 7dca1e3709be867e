"""Jobs side by side: the same to the bit whoever works, and nobody works on other bars."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from features.sources.market import MarketSource
from features.sources.parquet import write_folder
from features.sources.simulated import simulate
from models.forecast.calibration import CalibrationSettings
from models.forecast.ewma import EwmaModel
from training.backtest import FoldJob, backtest, fold_jobs, forecast_fold
from training.dataset import History, Task, TrainingRefusedError, read_history
from training.parallel import Workers, run_jobs
from training.splits import Fold

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
MODELS = ("ewma", "har")


@pytest.fixture
def shared(bars_folder: Path, task: Task) -> History:
    """A history that other processes can read."""
    return read_history(MarketSource(bars_folder), MODELS, task)


def table_by(workers: Workers, history: History, task: Task) -> pd.DataFrame:
    times = history.market.times
    return backtest(history, history.models, task, times[2000], times[2500], (0.99,), workers=workers)


def days_of(history: History, job: int) -> int:
    return job * (len(history.market.times) // 24)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Dask cluster within this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address=None
    ) as made:
        yield made.scheduler_address


def test_two_processes_give_the_table_of_one_to_the_bit(shared: History, task: Task) -> None:
    seen: list[tuple[str, int, int]] = []
    times = shared.market.times
    two = backtest(
        shared,
        shared.models,
        task,
        times[2000],
        times[2500],
        (0.99,),
        lambda *told: seen.append(told),
        Workers(2),
    )
    pd.testing.assert_frame_equal(two, table_by(Workers(1), shared, task), check_exact=True)
    assert seen[:2] == [("ewma", 0, 3), ("har", 0, 1)]
    assert [told for told in seen if told[0] == "ewma"] == [("ewma", i, 3) for i in range(4)]
    early = FoldJob(EwmaModel, Fold(times[0] - DAY, times[0], times[5]), task)
    with pytest.raises(TrainingRefusedError, match="no bar closed by"):
        list(run_jobs(forecast_fold, shared, [early, early], Workers(2)))


def test_two_processes_warm_a_calibration_up_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers only fit and forecast; whoever asked them calibrates.
    monkeypatch.setattr(EwmaModel, "calibration", CalibrationSettings(var_step=0.1, es_step=0.1))
    write_folder(simulate(symbols=2, days=170, interval=4 * HOUR, seed=3), tmp_path)
    slow = Task((4 * HOUR, 8 * HOUR), (0.99, 0.999))
    history = read_history(MarketSource(tmp_path), ("ewma",), slow)
    start, end = history.market.times[[960, 1010]]
    jobs = fold_jobs(history, history.models, slow, start, end)
    assert [job.warm_up for job in jobs] == [True, False, False]
    one, two = (
        backtest(history, history.models, slow, start, end, (0.99,), workers=Workers(processes))
        for processes in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert one["time"].min() == start


def test_a_cluster_gives_the_same_table(shared: History, task: Task, cluster: str) -> None:
    found = table_by(Workers(cluster=cluster), shared, task)
    pd.testing.assert_frame_equal(found, table_by(Workers(), shared, task), check_exact=True)
    times = shared.market.times
    early = FoldJob(EwmaModel, Fold(times[0] - DAY, times[0], times[5]), task)
    with pytest.raises(TrainingRefusedError, match="no bar closed by"):
        list(run_jobs(forecast_fold, shared, [early], Workers(cluster=cluster)))


def test_bars_that_have_changed_are_refused(task: Task, tmp_path: Path, cluster: str) -> None:
    folder = tmp_path / "bars"
    write_folder(simulate(symbols=1, days=60, interval=HOUR, seed=1), folder)
    history = read_history(MarketSource(folder), MODELS, task)
    _ = history.fingerprint
    shutil.rmtree(folder)
    write_folder(simulate(symbols=1, days=60, interval=HOUR, seed=2), folder)
    with pytest.raises(ValueError, match=r"a worker reads data .* give all workers the same files"):
        list(run_jobs(days_of, history, [1, 2], Workers(cluster=cluster)))


def test_what_no_other_process_can_read_is_refused(history: History) -> None:
    with pytest.raises(ValueError, match="not read from a folder"):
        list(run_jobs(days_of, history, [1, 2], Workers(2)))
    assert dict(run_jobs(days_of, history, [1, 2], Workers(1))) == {0: 120, 1: 240}


def test_no_jobs_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="0 jobs cannot work; give at least 1"):
        Workers(0)


def test_a_cluster_that_does_not_answer_is_named(shared: History, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("training.parallel.CLUSTER_TIMEOUT_S", 0.5)
    with pytest.raises(ConnectionError, match=r"answers at tcp://127.0.0.1:9 .*start one with `dask sched"):
        list(run_jobs(days_of, shared, [1], Workers(cluster="tcp://127.0.0.1:9")))


def test_a_missing_extra_is_named(shared: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # as if it were not installed
    with pytest.raises(ValueError, match="the extra `cluster`, which is not installed; pip install"):
        list(run_jobs(days_of, shared, [1], Workers(cluster="tcp://127.0.0.1:9")))
