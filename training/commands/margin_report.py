"""``margin-report``: what a margin table covered, cost, and did in the named crashes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features.sources.market import read_market
from models.settings import MarginSettings
from training.commands.margin import Resamples
from training.commands.options import Bars, Interval, Since, interval_of, settings_with, utc
from training.dataset import describe_market
from training.margin.losses import STATIC
from training.margin.measures import measure
from training.margin.printed import show_margin
from training.margin.ratio import RESAMPLES, SEED
from training.margin.report import write_margin_report
from training.margin.table import read_margins
from training.margin.tape import horizons_of, levels_of


def margin_report_command(
    bars: Bars,
    margins: Annotated[Path, typer.Option(help="margin table, as `margin --out-margin` writes it")],
    out: Annotated[Path, typer.Option(help="folder to write the page and its tables to")],
    interval: Interval = None,
    since: Since = None,
    equal_to: Annotated[
        str,
        typer.Option(help="series whose shortfall the others are scaled to; static is made where it lacks"),
    ] = STATIC,
    compared_with: Annotated[
        str | None, typer.Option(help="series that differences are taken from; default: the table's first")
    ] = None,
    static_before: Annotated[
        str | None,
        typer.Option(help="losses before it make the static rate (UTC); default: all before the table"),
    ] = None,
    resamples: Resamples = RESAMPLES,
    seed: Annotated[int, typer.Option(help="where the resamples' random numbers begin")] = SEED,
) -> None:
    """Measure a margin table with the bars that it was made from, print it, and write one page of it.

    Horizons and the level of the static rate are those of the settings' table margin. Exit code 2: bad bars,
    table, arguments or settings.
    """
    settings = settings_with(since=None if since is None else utc("since", since).to_pydatetime())
    margin = MarginSettings()
    table = read_margins(margins)
    market = read_market(settings.source(bars, interval_of(interval)))
    typer.echo(describe_market(market))
    found = measure(
        table,
        market,
        horizons=horizons_of(margin),
        equal_to=equal_to,
        compared_with=compared_with,
        static_before=None if static_before is None else utc("static-before", static_before),
        level=levels_of(margin)["maintenance"],
        resamples=resamples,
        seed=seed,
    )
    show_margin(found)
    typer.echo(str(write_margin_report(found, out)))
