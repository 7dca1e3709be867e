"""``margin``: what a venue would have served, by the engine over history, and how good that was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from features.bars import Market
from features.sources.market import read_market
from models.settings import MarginSettings
from training.commands.options import Bars, Interval, Jobs, Since, Symbols, interval_of, settings_with, utc
from training.dataset import describe_market
from training.margin.measures import measure
from training.margin.printed import show_margin
from training.margin.report import write_margin_report
from training.margin.series import margin_table, through_engine
from training.margin.table import write_margins
from training.margin.tape import ForecastTableError, horizons_of
from training.parallel import Workers

Forecasts = Annotated[
    Path, typer.Option(help="forecast table of the champion and of ewma, as `backtest --out` writes it")
]
Champion = Annotated[
    str | None,
    typer.Option(help="the model that the engine serves; default: the last of the forecasts, or of --models"),
]
Resamples = Annotated[
    int, typer.Option(min=0, help="of the bootstrap of the margin ratio; 0 leaves the intervals out")
]


def margin_command(
    bars: Bars,
    forecasts: Forecasts,
    out_margin: Annotated[Path, typer.Option(help="margin table to write, a parquet file")],
    report: Annotated[Path | None, typer.Option(help="folder to write the report on it to")] = None,
    champion: Champion = None,
    interval: Interval = None,
    symbols: Symbols = None,
    since: Since = None,
    resamples: Resamples = 1000,
    jobs: Jobs = 1,
) -> None:
    """Serve a stored forecast table through the safety engine, bar by bar, and measure the margin.

    Kinds, base rates and limits are those of the settings. Exit code 2: bad bars, forecasts, arguments or
    settings.
    """
    settings = settings_with(symbols=symbols, since=None if since is None else utc("since", since))
    table = read_forecasts(forecasts)
    market = read_market(settings.source(bars, interval_of(interval)))
    typer.echo(describe_market(market))
    serve(
        *(table, market, MarginSettings(), champion or last_model(table)),
        *(out_margin, report, resamples, Workers(jobs)),
    )


def serve(
    forecasts: pd.DataFrame,
    market: Market,
    margin: MarginSettings,
    champion: str,
    out: Path,
    report: Path | None,
    resamples: int,
    workers: Workers,
) -> None:
    """Write the margin table of every series, print its measures, and write the report where one is asked
    for."""
    table = margin_table(forecasts, market, margin, champion, workers)
    write_margins(table, out)
    typer.echo(f"{out}: {len(table):,} rows of {', '.join(table['series'].unique())}")
    measures = measure(
        table,
        market,
        horizons=horizons_of(margin),
        compared_with=through_engine(champion),
        resamples=resamples,
    )
    show_margin(measures)
    if report is not None:
        typer.echo(f"{write_margin_report(measures, report)}: the report, its tables beside it")


def read_forecasts(path: Path) -> pd.DataFrame:
    """Raises ``ForecastTableError`` where there is no such file, or no parquet in it."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ForecastTableError(
            f"{path} cannot be read as a forecast table ({error}); write one with "
            f"`python -m training backtest --out {path}`"
        ) from error


def last_model(forecasts: pd.DataFrame) -> str:
    """The model that a forecast table names last: a backtest lists baselines first."""
    if "model" not in forecasts.columns or forecasts.empty:
        raise ForecastTableError(
            "the forecast table names no model; write one with `python -m training backtest --out`"
        )
    return str(forecasts["model"].unique()[-1])
