"""Walk-forward backtest: each model refitted as often as it asks for, forecasting only what came after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from features.atomic import written_whole
from models.forecast.base import TailModel
from training.dataset import History, Task
from training.evaluation import FORECAST_COLUMNS
from training.splits import walk_forward

#: Called with what is done and how many forecasts of a model there will be: ``(model, done, folds)``.
Progress = Callable[[str, int, int], None]


def backtest(
    history: History,
    models: Sequence[type[TailModel]],
    task: Task,
    start: pd.Timestamp,
    end: pd.Timestamp,
    levels: Sequence[float],
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:
    """The forecast table of these models at the decision times in [start, end].

    Columns ``time, symbol, horizon, side, level, model, var, es``; losses as fractions of log return;
    ``levels`` are the ones kept (a model gives 0.999 besides). Rows without the inputs of a forecast are
    absent. Each fold's model was trained up to the largest horizon before the fold's first row (see
    ``training.splits``).
    """
    parts = []
    for model in models:
        folds = walk_forward(history.market.times, start, end, model.refit_every, task.embargo)
        progress(model.name, 0, len(folds))
        for done, fold in enumerate(folds, start=1):
            fit = history.fit(model, fold.train_end, task)
            forecast = history.forecast(fit.model, fit.pipeline, fold.test_start, fold.test_end)
            parts.append(keep_levels(forecast.to_table(model.name), levels))
            progress(model.name, done, len(folds))
    return pd.concat(parts, ignore_index=True)


def keep_levels(table: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """The rows of a forecast table at these levels."""
    return table[table["level"].isin(list(levels))]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a forecast table as parquet, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as draft:
        table[FORECAST_COLUMNS].to_parquet(draft, index=False)


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
