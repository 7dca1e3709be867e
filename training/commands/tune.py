"""``tune``: search for better settings of a model, resumably, and tell what they are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from features.atomic import written_whole
from models.registry import default_tracking_uri
from training.commands.options import (
    Bars,
    Book,
    Context,
    Finer,
    Horizons,
    Interval,
    Levels,
    Since,
    Symbols,
    beneath_and_beside,
    interval_of,
    settings_with,
    utc,
)
from training.commands.study_table import show_study
from training.dataset import describe_market, read_history
from training.publish import work_folder
from training.train import task_of
from training.tuning import TuneSettings, tune


def tune_command(
    bars: Bars,
    start: Annotated[str, typer.Option(help="first decision time that is scored (UTC)")],
    end: Annotated[str, typer.Option(help="last decision time (UTC); no later bar is used")],
    model: Annotated[
        str | None, typer.Option("--model", help="which model of models/forecast to tune")
    ] = None,
    trials: Annotated[int, typer.Option(help="finished trials that the study is to have in total")] = 30,
    folds: Annotated[int, typer.Option(help="blocks of time searched; one more is held back")] = 4,
    study: Annotated[
        Path | None, typer.Option(help="SQLite file, gone on with where it exists; default: beside MLflow's")
    ] = None,
    jobs: Annotated[int, typer.Option(help="trials side by side, in threads")] = 1,
    seed: Annotated[int, typer.Option(help="of the suggestions")] = 1,
    out: Annotated[Path | None, typer.Option(help="JSON file for the best settings")] = None,
    interval: Interval = None,
    horizons: Horizons = None,
    levels: Levels = None,
    symbols: Symbols = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
) -> None:
    """Try settings of a model on blocks of time, the shipped ones first. Killed? Start it again.

    Differences are FZ0 to the first baseline; lower is better. Exit codes: 2 bad bars, arguments, settings or
    study; 3 the data cannot carry the shipped settings; 4 another process searches the study; 5 and 6 the
    tracking store.
    """
    settings = settings_with(
        model=model,
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        **beneath_and_beside(finer, book, context, since),
    )
    how = TuneSettings(utc("start", start), utc("end", end), trials, folds, jobs, seed)
    uri = default_tracking_uri()
    file = study or work_folder(uri) / "tuning" / f"{settings.model}.db"
    history = read_history(
        settings.source(bars, interval_of(interval)),
        (settings.model, settings.baselines[0]),
        task_of(settings),
    )
    typer.echo(describe_market(history.market))
    found = tune(
        history,
        settings.model,
        settings,
        how,
        file,
        uri,
        typer.echo,
        lambda done, blocks: typer.echo(f"block {done} of {blocks} is ready"),
    )
    show_study(found, settings.baselines[0])
    typer.echo(f"study {file}: {len(found.trials)} finished trials")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(out) as draft:
            draft.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
        typer.echo(f"{out}: the best settings")
