"""``benchmark``: every model on the same decision times, one table, one report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.forecast.discovery import model_names
from models.registry import default_tracking_uri
from training.backtest import progress_bars
from training.benchmark import Plan, run_benchmark, write_tables
from training.benchmark_runs import log_benchmark
from training.commands.options import (
    Bars,
    Book,
    Cluster,
    Context,
    Finer,
    Horizons,
    Interval,
    Jobs,
    Levels,
    Since,
    Symbols,
    beneath_and_beside,
    interval_of,
    settings_with,
    utc,
)
from training.commands.tables import show_families, show_summary, show_trials
from training.dataset import describe_market, read_history
from training.parallel import Workers
from training.report import write_report
from training.train import task_of


def benchmark_command(
    bars: Bars,
    start: Annotated[str, typer.Option(help="first decision time (UTC)")],
    end: Annotated[str, typer.Option(help="last decision time (UTC)")],
    interval: Interval = None,
    models: Annotated[str | None, typer.Option(help="comma-separated; default: all there are")] = None,
    reference: Annotated[
        str, typer.Option(help="the model that the others are compared with; always among the models")
    ] = "garch",
    horizons: Horizons = None,
    levels: Levels = None,
    symbols: Symbols = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
    jobs: Jobs = 1,
    cluster: Cluster = None,
    explain: Annotated[
        int, typer.Option(min=0, help="decision times that tell what a model lives on; 0: do not ask")
    ] = 500,
    out: Annotated[Path, typer.Option(help="folder to write forecasts, tables and report to")] = Path(
        "benchmark"
    ),
) -> None:
    """Compare models walk-forward: forecasts, tables and a report in a folder, one MLflow run with a child a
    model.

    The folder is complete before MLflow is asked. Exit codes: 2 bad bars, arguments or settings; 3 a model
    cannot be fitted on the span; 5 the tracking store does not answer; 6 it refuses the run.
    """
    settings = settings_with(
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        **beneath_and_beside(finer, book, context, since),
    )
    given = model_names() if models is None else [name.strip() for name in models.split(",")]
    task, workers = task_of(settings), Workers(jobs, cluster)
    first, last = utc("start", start), utc("end", end)
    history = read_history(settings.source(bars, interval_of(interval)), (reference, *given), task)
    typer.echo(describe_market(history.market))
    out.mkdir(parents=True, exist_ok=True)  # now, and not after hours of work
    plan = Plan(history.models, task, settings.levels, first, last, explain)
    with progress_bars() as progress:
        found = run_benchmark(history, plan, workers, progress)
    write_tables(found, out)
    write_report(found, out)
    typer.echo(f"{out}: {len(found.forecasts):,} forecasts, their tables, and {out / 'report.html'}")
    show_summary(found.table, "Benchmark")
    show_families(found.importance, plan.names)
    show_trials(found.trials, plan.names)
    run_id = log_benchmark(default_tracking_uri(), settings.experiment, found, out)
    typer.echo(f"run {run_id}")
