"""``unseen``: how good forecasts are for a contract that no one trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.backtest import progress_bars, write_table
from training.commands.options import (
    Bars,
    Book,
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
from training.commands.tables import show_unseen
from training.dataset import describe_market, read_history
from training.parallel import Workers
from training.train import task_of
from training.unseen import unseen_forecasts, unseen_scores


def unseen_command(
    bars: Bars,
    start: Annotated[str, typer.Option(help="first decision time; training ends an embargo before (UTC)")],
    end: Annotated[str, typer.Option(help="last decision time (UTC)")],
    interval: Interval = None,
    model: Annotated[str | None, typer.Option("--model", help="which model of models/forecast")] = None,
    horizons: Horizons = None,
    levels: Levels = None,
    symbols: Symbols = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
    jobs: Jobs = 1,
    out: Annotated[Path | None, typer.Option(help="forecast table to write, a parquet file")] = None,
) -> None:
    """Leave each symbol out of the training in turn, forecast it all the same, and compare with the model
    that saw it.

    Exit codes: 2 bad bars, arguments or settings; 3 a model cannot be fitted on the bars before the span.
    """
    settings = settings_with(
        model=model,
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        **beneath_and_beside(finer, book, context, since),
    )
    task, workers = task_of(settings), Workers(jobs)
    first, last = utc("start", start), utc("end", end)
    history = read_history(settings.source(bars, interval_of(interval)), (settings.model,), task)
    typer.echo(describe_market(history.market))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)  # now, and not after hours of work
    with progress_bars() as progress:
        table = unseen_forecasts(
            history, history.models[0], task, first, last, settings.levels, progress, workers
        )
    if out is not None:
        write_table(table, out)
        typer.echo(f"{out}: {len(table):,} forecasts")
    show_unseen(unseen_scores(table, history.market), settings.model)
