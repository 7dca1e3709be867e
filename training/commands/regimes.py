"""``regimes``: how early the regimes warn of the worst hours, and whether their names keep their meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features.sources.market import read_market
from training.commands.options import (
    Bars,
    Book,
    Context,
    Finer,
    Interval,
    Since,
    Symbols,
    beneath_and_beside,
    interval_of,
    settings_with,
    utc,
)
from training.regime_report import markdown, write_regime_report
from training.regime_study import study_regimes


def regimes_command(
    bars: Bars,
    interval: Interval = None,
    symbols: Symbols = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
    start: Annotated[str | None, typer.Option(help="first decision time that is asked about (UTC)")] = None,
    end: Annotated[str | None, typer.Option(help="last decision time that is asked about (UTC)")] = None,
    worst: Annotated[int, typer.Option(min=1, help="how many of the worst hours")] = 10,
    out: Annotated[Path, typer.Option(help="folder to write tables and report to")] = Path("regimes"),
) -> None:
    """Learn the regimes anew every quarter, and ask how long before the worst hours P(stressed or crisis)
    exceeded one half, at what price, against volatility alone.

    Exit codes: 2 bad bars or arguments, or a history too short to ask.
    """
    first = None if start is None else utc("start", start)
    last = None if end is None else utc("end", end)
    settings = settings_with(symbols=symbols, **beneath_and_beside(finer, book, context, since))
    market = read_market(settings.source(bars, interval_of(interval)))
    study = study_regimes(market, worst, first, last)
    write_regime_report(study, out)
    typer.echo(markdown(study))
    typer.echo(f"{out / 'regimes.html'}: tables and pictures")
