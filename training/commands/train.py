"""``train``: fit, judge on held-out days, log, register, name it challenger."""

from __future__ import annotations

import os
from typing import Annotated

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
    utc,
)
from training.commands.tables import show_summary, show_trials
from training.dataset import describe_market, read_history
from training.lives_on import trials_of
from training.publish import publish_trained
from training.train import task_of, train


def train_command(
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
    train_end: Annotated[
        str | None, typer.Option(help="last bar close to train on (UTC); default: before the held-out days")
    ] = None,
) -> None:
    """Train a model, measure it on the days it has not seen, and register it as challenger."""
    settings = settings_with(
        model=model,
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        evaluation_days=evaluation_days,
        **beneath_and_beside(finer, book, context, since),
    )
    end = None if train_end is None else utc("train-end", train_end)
    history = read_history(
        settings.source(bars, interval_of(interval)),
        (settings.model, *settings.baselines),
        task_of(settings),
    )
    typer.echo(describe_market(history.market))
    with progress_bars() as progress:
        trained = train(history, settings, end, progress)
    if int(os.environ.get("RANK", "0")) > 0:
        return  # under torchrun every process ends with the same model; the first one publishes it
    version = publish_trained(Registry(), settings.experiment, trained)
    show_summary(trained.table, f"{settings.model} on the days it has not seen")
    fitted = trained.fitted
    show_trials(trials_of(fitted.model.trials(), settings.model, fitted.train_end), [settings.model])
    typer.echo(
        f"{settings.model}, trained {fitted.train_start:%Y-%m-%d} to {fitted.train_end:%Y-%m-%d}: "
        f"{version}, challenger (run {version.run_id})"
    )
