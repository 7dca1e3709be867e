"""``backtest``: walk-forward forecasts of several models, how good they were, and the margin they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.settings import MarginSettings
from training.backtest import backtest, progress_bars, write_table
from training.commands.margin import Champion, Resamples, serve
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
from training.dataset import Task, describe_market, read_history
from training.evaluation import summary, with_losses
from training.margin.tape import RULES_MODEL, needs, refuse_horizons_off_the_grid
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
    out_margin: Annotated[
        Path | None,
        typer.Option(help="margin table to write, a parquet file: the forecasts through the safety engine"),
    ] = None,
    champion: Champion = None,
    margin_report: Annotated[
        Path | None, typer.Option(help="folder to write the report on the margin to; needs --out-margin")
    ] = None,
    resamples: Resamples = 1000,
) -> None:
    """Refit each model as time goes on, write the forecast table, and print the scores; then serve the
    margin.

    With --out-margin the models include ewma, whose forecast is the rules rung's, and horizons and levels
    those that [margin] needs; so does the forecast table.
    """
    settings = settings_with(
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        **beneath_and_beside(finer, book, context, since),
    )
    names = (
        [*settings.baselines, settings.model] if models is None else [m.strip() for m in models.split(",")]
    )
    if out_margin is None and (champion is not None or margin_report is not None):
        raise ValueError("--champion and --margin-report say what to do with a margin; give --out-margin too")
    served = names[-1] if champion is None else champion
    if served not in names:
        raise ValueError(f"--champion {served} is none of the models {names}; add it to --models")
    if out_margin is not None and RULES_MODEL not in names:
        names = [RULES_MODEL, *names]
    task, levels_kept, margin = task_of(settings), settings.levels, MarginSettings()
    first, last = utc("start", start), utc("end", end)
    history = read_history(settings.source(bars, interval_of(interval)), names, task)
    typer.echo(describe_market(history.market))
    if out_margin is not None:
        refuse_horizons_off_the_grid(margin, history.market.interval)
        more = needs(margin)
        all_levels = tuple(sorted({*task.levels, *more.levels}))
        task = Task(tuple(sorted({*task.horizons, *more.horizons})), all_levels)
        levels_kept = tuple(sorted({*levels_kept, *more.levels}))
    workers = Workers(jobs, cluster)
    with progress_bars() as progress:
        table = backtest(
            history, history.models, task, first, last, levels_kept, progress, workers, judged=True
        )
    write_table(table, out)
    typer.echo(f"{out}: {len(table):,} forecasts")
    scored = with_losses(table, history.market)
    show_summary(summary(scored, history.market.interval), "Walk-forward backtest")
    if out_margin is not None:
        serve(table, history.market, margin, served, out_margin, margin_report, resamples, workers)
