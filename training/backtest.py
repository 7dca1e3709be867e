"""Walk-forward backtest: each model refitted as often as it asks for, forecasting only what came after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from features.atomic import written_whole
from models.forecast.base import FamilyTrial, TailForecast, TailModel
from models.forecast.confidence import Confidence, Trust
from training.dataset import History, Task
from training.evaluation import FORECAST_COLUMNS
from training.importance import permutation_importance
from training.parallel import IN_THIS_PROCESS, Workers, run_jobs
from training.splits import Fold, walk_forward, warm_up

#: Called with what is done and how many forecasts of a model there will be: ``(model, done, folds)``.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Explained:
    """Ask what a model lives on (``training.importance``) on ``times`` decision times, from the fold's first
    to ``end``, which may lie beyond the fold."""

    times: int
    end: pd.Timestamp


@dataclass(frozen=True)
class FoldJob:
    """One model, to be fitted for one fold, whether to ask what it lives on, and whether to judge its
    forecasts as a server does. A ``warm_up`` moves the calibration and nothing else: none of its forecasts is
    in the table."""

    model: type[TailModel]
    fold: Fold
    task: Task
    explained: Explained | None = None
    warm_up: bool = False
    judged: bool = False


@dataclass(frozen=True)
class FoldForecast:
    """What a model forecast in one fold, all its levels, and the seconds that fitting and forecasting took,
    features included. ``importance`` and ``trust`` (of each row) are None where they were not asked for;
    ``trials`` are of the families that the model chose among."""

    forecast: TailForecast
    fit_s: float
    predict_s: float
    importance: pd.DataFrame | None = None
    trials: tuple[FamilyTrial, ...] = ()
    trust: Trust | None = None


def backtest(
    history: History,
    models: Sequence[type[TailModel]],
    task: Task,
    start: pd.Timestamp,
    end: pd.Timestamp,
    levels: Sequence[float],
    progress: Progress = lambda *_: None,
    workers: Workers = IN_THIS_PROCESS,
    *,
    judged: bool = False,
) -> pd.DataFrame:
    """The forecast table of these models at the decision times in [start, end].

    Columns ``time, symbol, horizon, side, level, model, var, es``; losses as fractions of log return;
    ``levels`` are the ones kept (a model gives 0.999 besides). Rows without the inputs of a forecast are
    absent. Each fold's model was trained up to the largest horizon before the fold's first row (see
    ``training.splits``). A model that asks for calibration is calibrated over all folds and, where there is
    history enough, over a warm-up before them, from a neutral start in the first. The table is the same to
    the bit whoever works.

    With ``judged`` there are columns ``confidence`` and ``drift`` besides (``models.forecast.confidence``),
    learned in each fold's training window.
    """
    jobs = [replace(job, judged=judged) for job in fold_jobs(history, models, task, start, end)]
    return assemble(history, jobs, forecast_folds(history, jobs, progress, workers), levels)


def fold_jobs(
    history: History,
    models: Sequence[type[TailModel]],
    task: Task,
    start: pd.Timestamp,
    end: pd.Timestamp,
) -> list[FoldJob]:
    """What there is to do: model by model, folds in the order of time, the warm-up of a calibration first."""
    times, jobs = history.market.times, []
    for model in models:
        folds = walk_forward(times, start, end, model.refit_every, task.embargo)
        warm = None if model.calibration is None else warm_up(times, folds[0].test_start, task.embargo)
        if warm is not None:
            jobs.append(FoldJob(model, warm, task, warm_up=True))
        jobs += [FoldJob(model, fold, task) for fold in folds]
    return jobs


def forecast_fold(history: History, job: FoldJob) -> FoldForecast:
    """Fit the job's model on what was known, and forecast the fold."""
    _ = history.static_features  # computed once for all folds, and no fold's time
    began = perf_counter()
    window = history.window(job.model, job.fold.train_end, job.task)
    fit = window.fit(job.model())
    fitted = perf_counter()
    features = history.features(fit.pipeline, job.fold.test_start, job.fold.test_end)
    forecast = fit.model.predict(features)
    forecasted = perf_counter()
    importance = None
    if job.explained is not None:
        asked = history.features(fit.pipeline, job.fold.test_start, job.explained.end)
        importance = permutation_importance(fit.model, asked, history.market, job.explained.times)
    trust = None
    if job.judged:
        trust = Confidence.learned(fit.model, window.dataset.features).judge(features, forecast)
    return FoldForecast(forecast, fitted - began, forecasted - fitted, importance, fit.model.trials(), trust)


def forecast_folds(
    history: History, jobs: Sequence[FoldJob], progress: Progress, workers: Workers
) -> list[FoldForecast]:
    """Do all jobs; what comes back is in the order of the jobs, whoever was done first."""
    folds = Counter(job.model.name for job in jobs)
    done: Counter[str] = Counter()
    for model, count in folds.items():
        progress(model, 0, count)
    found: dict[int, FoldForecast] = {}
    for position, forecast in run_jobs(forecast_fold, history, jobs, workers):
        found[position] = forecast
        model = jobs[position].model.name
        done[model] += 1
        progress(model, done[model], folds[model])
    return [found[position] for position in range(len(jobs))]


def assemble(
    history: History, jobs: Sequence[FoldJob], found: Sequence[FoldForecast], levels: Sequence[float]
) -> pd.DataFrame:
    """The forecast table: model by model, calibrated from its first fold to its last, the rows of a warm-up
    left out, these levels."""
    tables = []
    for model in dict.fromkeys(job.model for job in jobs):
        own = [(job, fold) for job, fold in zip(jobs, found, strict=True) if job.model is model]
        joined = TailForecast.joined([fold.forecast for _, fold in own])
        table = history.calibrated(joined, model.calibration)[0].to_table(model.name)
        trusts = [fold.trust for _, fold in own if fold.trust is not None]
        if len(trusts) == len(own):
            values = len(table) // len(joined.rows) if len(joined.rows) else 1
            for name in Trust._fields:
                table[name] = np.repeat(np.concatenate([getattr(t, name) for t in trusts]), values)
        start = min(job.fold.test_start for job, _ in own if not job.warm_up)
        tables.append(keep_levels(table[table["time"] >= start], levels))
    return pd.concat(tables, ignore_index=True)


def keep_levels(table: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """The rows of a forecast table at these levels."""
    return table[table["level"].isin(list(levels))]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a forecast table as parquet, whole or not at all, with ``confidence`` and ``drift`` where it has
    them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    judged = [name for name in Trust._fields if name in table]
    with written_whole(path) as draft:
        table[[*FORECAST_COLUMNS, *judged]].to_parquet(draft, index=False)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress bars on stderr, one a model."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(model: str, done: int, folds: int) -> None:
            if model not in tasks:
                tasks[model] = bars.add_task(f"{model}: fit and forecast", total=folds)
            bars.update(tasks[model], completed=done)

        yield show
