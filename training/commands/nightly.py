"""``nightly``: retrain, compare, promote, in one command for a scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from models.registry import Registry
from training.backtest import progress_bars
from training.commands.options import (
    Bars,
    Book,
    Context,
    EvaluationDays,
    Finer,
    Horizons,
    Interval,
    Levels,
    ModelName,
    Since,
    Symbols,
    beneath_and_beside,
    interval_of,
    settings_with,
)
from training.commands.tables import show_verdict
from training.nightly import nightly
from training.publish import work_folder


def nightly_command(
    bars: Bars,
    interval: Interval = None,
    model: ModelName = None,
    horizons: Horizons = None,
    levels: Levels = None,
    symbols: Symbols = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
    evaluation_days: EvaluationDays = None,
    work: Annotated[
        Path | None, typer.Option(help="lock, progress and cache; default: beside the MLflow store")
    ] = None,
) -> None:
    """Retrain on all bars but the newest days, judge there, promote if earned. Killed? Start it again.

    Exit codes: 0 promoted, or "kept champion"; 2 bad bars, arguments or settings; 3 the gate refused to
    train (too little new data, holes, a flat price); 4 another run holds the lock; 5 the tracking store does
    not answer; 6 the store or an artifact in it cannot be used.
    """
    settings = settings_with(
        model=model,
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        evaluation_days=evaluation_days,
        **beneath_and_beside(finer, book, context, since),
    )
    registry = Registry()

    def say(line: str) -> None:
        typer.echo(f"{pd.Timestamp.now('UTC'):%H:%M:%S}  {line}")

    with progress_bars() as progress:
        outcome, verdict = nightly(
            bars,
            interval_of(interval),
            settings,
            registry,
            work or work_folder(registry.tracking_uri),
            say,
            progress,
        )
    if verdict is not None:
        show_verdict(verdict)
    champion = "none" if outcome.champion is None else f"version {outcome.champion}"
    typer.echo(f"{outcome.run_key}: {outcome.result}; version {outcome.version}, champion {champion}")
