"""``backtest``: walk-forward forecasts of several models, and how good they were."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.backtest import backtest, progress_bars, write_table
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
from training.commands.tables import show_summary
from training.dataset import describe_market, read_history
from training.evaluation import summary, with_losses
from training.parallel import Workers
from training.train import task_of


def backtest_command(
    bars: Bars,
    start: Annotated[str, typer.Option(help="first decision time (UTC)")],
    end: Annotated[str, typer.Option(help="last decision time (UTC)")],
    out: Annotated[Path, typer.Option(help="forecast table to write, a parquet file")],
    interval: Interval = None,
    models: Annotated[
        str | None, typer.Option(help="comma-separated; the first is the reference of differences")
    ] = None,
    horizons: Horizons = None,
    levels: Levels = None,
    symbols: Symbols = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
    jobs: Jobs = 1,
    cluster: Cluster = None,
) -> None:
    """Refit each model as time goes on, write the forecast table, and print the scores."""
    settings = settings_with(
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        **beneath_and_beside(finer, book, context, since),
    )
    names = (
        [*settings.baselines, settings.model] if models is None else [m.strip() for m in models.split(",")]
    )
    task = task_of(settings)
    first, last = utc("start", start), utc("end", end)
    history = read_history(settings.source(bars, interval_of(interval)), names, task)
    typer.echo(describe_market(history.market))
    with progress_bars() as progress:
        table = backtest(
            history,
            history.models,
            task,
            first,
            last,
            settings.levels,
            progress,
            Workers(jobs, cluster),
            judged=True,
        )
    write_table(table, out)
    typer.echo(f"{out}: {len(table):,} forecasts")
    scored = with_losses(table, history.market)
    show_summary(summary(scored, history.market.interval), "Walk-forward backtest")
