"""``policy``: what the engine's limits cost and carry, for a committee to choose a point by looking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from features.sources.market import read_market
from models.margin.types import KINDS
from models.settings import MarginSettings
from training.commands.margin import Champion, Forecasts, last_model, read_forecasts
from training.commands.options import Bars, Interval, Jobs, Since, Symbols, interval_of, settings_with, utc
from training.dataset import describe_market
from training.margin.frontier import (
    READING,
    Frontier,
    check_measure,
    facts,
    frontier,
    printed_columns,
    write_frontier,
)
from training.margin.page import cell_text
from training.margin.policy import grid, shipped, trial
from training.margin.policy_study import Progress, inputs_of, study
from training.parallel import Workers

#: Lines of a frontier that are printed; the page has all of them.
MOST_LINES = 30


def policy_command(
    bars: Bars,
    forecasts: Forecasts,
    out: Annotated[Path, typer.Option(help="folder to write policies, page and picture to")] = Path("policy"),
    champion: Champion = None,
    scales: Annotated[
        str, typer.Option(help="multiples of the requirement, which stand in for levels; comma-separated")
    ] = "0.85,1,1.2,1.45",
    floors: Annotated[str, typer.Option(help="floor_of_base, comma-separated")] = "0.4,0.6,0.8",
    releases: Annotated[str, typer.Option(help="release_ratio, comma-separated")] = "0,0.15,0.3",
    falls_after: Annotated[
        str | None, typer.Option(help="fall_after_s, comma-separated; default: that of the settings")
    ] = None,
    downs: Annotated[str, typer.Option(help="down_limit_1h, comma-separated")] = "0.05,0.25",
    ups: Annotated[
        str, typer.Option(help="up_limit_1h:up_limit_24h, comma-separated pairs")
    ] = "0.25:0.6,0.5:4",
    by: Annotated[
        str,
        typer.Option(help="procyclicality by rise_1d, rise_5d, rise_30d, peak_to_trough or changes"),
    ] = "rise_1d",
    interval: Interval = None,
    symbols: Symbols = None,
    since: Since = None,
    jobs: Jobs = 1,
) -> None:
    """Serve a stored forecast table within every policy of a grid, and show which no other dominates.

    What is measured is kept in the folder; run it again to go on after an interruption, or with other values:
    the frontier is of all policies in the folder.
    The shipped policy, that of the settings, is always among them. Exit code 2: bad bars, forecasts,
    arguments or settings.
    """
    axes: dict[str, Sequence[float | tuple[float, ...]]] = {
        "scale": _numbers("scales", scales),
        "floor_of_base": _numbers("floors", floors),
        "release_ratio": _numbers("releases", releases),
        "down_limit_1h": _numbers("downs", downs),
        "up_limit_1h,up_limit_24h": _pairs("ups", ups),
    }
    if falls_after is not None:
        axes["fall_after_s"] = _numbers("falls-after", falls_after)
    check_measure(by)
    margin = MarginSettings()
    own = shipped(margin.limits)
    policies = grid(axes, own)
    settings = settings_with(symbols=symbols, since=None if since is None else utc("since", since))
    table = read_forecasts(forecasts)
    model = champion or last_model(table)
    market = read_market(settings.source(bars, interval_of(interval)))
    typer.echo(describe_market(market))
    on = trial(table, market, margin, model)
    inputs = inputs_of(table, market, margin, model)
    with _progress_bar() as progress:
        measured = study(on, policies, inputs, out, Workers(jobs), progress)
    found = frontier(measured, own, by)
    typer.echo(facts(found, model, on.times))
    for kind in KINDS:
        _show(found, kind)
    written, picture = write_frontier(found, model, on.times, out)
    typer.echo(f"{written}: all of them; {picture}: the frontier")


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--{name} is {text!r}; give numbers, comma-separated") from error


def _pairs(name: str, text: str) -> list[tuple[float, ...]]:
    pairs = [part.split(":") for part in text.split(",")]
    try:
        return [(float(hour), float(day)) for hour, day in pairs]
    except ValueError as error:
        raise ValueError(f"--{name} is {text!r}; give pairs, 0.25:0.6,0.5:1 say") from error


def _show(found: Frontier, kind: str) -> None:
    rows, columns = found.of(kind), printed_columns(found)
    better = found.better(kind)
    console = Console(width=None if Console().is_terminal else 150)
    for title, own in (
        (f"{kind}: the shipped policy", rows[found.is_shipped(rows)]),
        (f"{kind}: policies that dominate it ({len(better)})", better),
        (f"{kind}: the frontier ({int(rows['stands'].sum())} policies)", rows[rows["stands"]]),
    ):
        if own.empty:
            continue
        shown = Table(title=title, title_justify="left")
        for _, words, _ in columns:
            shown.add_column(words, justify="right")
        for row in _spread(own).to_dict("records"):
            shown.add_row(*(cell_text(row[name], form) for name, _, form in columns))
        console.print(shown)
    console.print(READING, highlight=False, soft_wrap=True)


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    """At most so many rows, evenly from the least margin to the most."""
    if len(rows) <= MOST_LINES:
        return rows
    places = [round(i * (len(rows) - 1) / (MOST_LINES - 1)) for i in range(MOST_LINES)]
    return rows.iloc[places]


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("policies", total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)
