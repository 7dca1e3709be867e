"""Options that several verbs share, and how they become settings and times."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from features.durations import parse_duration
from training.settings import TrainingSettings

Bars = Annotated[Path, typer.Option(help="folder of SYMBOL.parquet bar files")]
Interval = Annotated[str | None, typer.Option(help="bar length, 1h say; default: as in the files")]
Finer = Annotated[
    list[Path] | None, typer.Option(help="folder of finer bars beneath the bars; may be given several times")
]
Book = Annotated[Path | None, typer.Option(help="folder of book columns beside the bars (features book)")]
Context = Annotated[
    list[Path] | None,
    typer.Option(
        help="file of funding, a volatility index, open interest or liquidations, or a folder of them; may "
        "be given several times"
    ),
]
Since = Annotated[str | None, typer.Option(help="use only bars that closed at or after it (UTC)")]
Horizons = Annotated[str | None, typer.Option(help="comma-separated durations: 1h,4h,24h")]
Levels = Annotated[str | None, typer.Option(help="comma-separated confidences: 0.975,0.99")]
Symbols = Annotated[str | None, typer.Option(help="comma-separated, the leader first; default: all")]
ModelName = Annotated[str | None, typer.Option("--model", help="which model of models/forecast to train")]
Jobs = Annotated[int, typer.Option(help="processes side by side; the answer does not depend on it")]
Cluster = Annotated[
    str | None, typer.Option(help="address of a Dask scheduler to work on instead, tcp://host:8786 say")
]
EvaluationDays = Annotated[int | None, typer.Option(help="newest days that are held out to judge on")]


def settings_with(**given: Any) -> TrainingSettings:
    """The settings of file and environment, with the options that were given on the command line."""
    return TrainingSettings(**{name: value for name, value in given.items() if value is not None})


def beneath_and_beside(
    finer: list[Path] | None, book: Path | None, context: list[Path] | None, since: str | None
) -> dict[str, Any]:
    """What of a market lies elsewhere than its bars, for ``settings_with``."""
    return {
        "finer_folders": finer or None,
        "book_folder": book,
        "context_files": context or None,
        "since": None if since is None else utc("since", since).to_pydatetime(),
    }


def interval_of(text: str | None) -> pd.Timedelta | None:
    return None if text is None else parse_duration(text)


def utc(name: str, text: str) -> pd.Timestamp:
    """A date or time; without a zone it is UTC. Raises ``ValueError`` naming the option."""
    try:
        time = pd.Timestamp(text)
    except ValueError as error:
        raise ValueError(
            f"--{name} is {text!r}; give a date or a time, 2025-07-01 or 2025-07-01T12:00 (UTC)"
        ) from error
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
