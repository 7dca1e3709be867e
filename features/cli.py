"""The command line of this room. ``main`` returns 0, or 2 after one line on stderr about bad data or
arguments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from features.durations import format_duration, parse_duration
from features.sources.binance import archive_files, read_klines, symbol_of
from features.sources.parquet import add_bars, read_folder, write_bars, write_folder
from features.sources.simulated import simulate

app = typer.Typer(help="Get bars, and look at them.", no_args_is_help=True, add_completion=False)
imports = typer.Typer(help="Turn what an exchange publishes into bar files.", no_args_is_help=True)
app.add_typer(imports, name="import")


@app.command("simulate")
def simulate_command(
    out: Annotated[Path, typer.Argument(help="folder to write SYMBOL.parquet files into")],
    symbols: Annotated[int, typer.Option(help="how many contracts")] = 10,
    days: Annotated[int, typer.Option(help="length of the history")] = 365,
    interval: Annotated[str, typer.Option(help="bar length: 1m, 15m, 1h, ...")] = "1h",
    seed: Annotated[int, typer.Option(help="the same seed gives the same bars")] = 7,
    crash_at: Annotated[
        float | None, typer.Option(help="begin of the crash, fraction of the history")
    ] = None,
) -> None:
    """Write a simulated market: regimes, order flow that leads volatility, jumps, one crash."""
    market = simulate(symbols, days, parse_duration(interval), seed, crash_at=crash_at)
    write_folder(market, out)
    first, last = market.times[0] - market.interval, market.times[-1]
    typer.echo(
        f"{out}: {len(market.times):,} bars of {format_duration(market.interval)} for {len(market.symbols)} "
        f"symbols, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    )


@imports.command("binance")
def import_binance(
    paths: Annotated[list[Path], typer.Argument(help="kline archives (.csv, .zip), or folders of them")],
    out: Annotated[Path, typer.Option(help="folder of SYMBOL.parquet files to add to")],
    symbol: Annotated[str | None, typer.Option(help="default: from the archives' names")] = None,
    interval: Annotated[str | None, typer.Option(help="bar length; default: from the times")] = None,
) -> None:
    """Kline archives of spot or USD-margined futures. What the folder already holds of a symbol is kept."""
    by_symbol: dict[str, list[Path]] = {}
    for path in archive_files(paths):
        by_symbol.setdefault(symbol or symbol_of(path), []).append(path)
    given = None if interval is None else parse_duration(interval)
    # All are read before any is written: a bad archive leaves the folder as it was.
    bars = {name: read_klines(files, given) for name, files in by_symbol.items()}
    for name, (table, step) in bars.items():
        bars[name] = add_bars(table, step, out / f"{name}.parquet"), step
    out.mkdir(parents=True, exist_ok=True)
    for name, (table, step) in bars.items():
        path = write_bars(table, out / f"{name}.parquet")
        first, last = table["open_time"].iloc[0], table["open_time"].iloc[-1]
        typer.echo(
            f"{path}: {len(table):,} bars of {format_duration(step)}, {first:%Y-%m-%d %H:%M} to "
            f"{last:%Y-%m-%d %H:%M} UTC"
        )


@app.command("trades")
def trades_command(
    interval: Annotated[str, typer.Option(help="bar length: 1s, 1m, 15m, 1h, ...")],
    out: Annotated[Path, typer.Option(help="folder to write SYMBOL.parquet into")],
    files: Annotated[
        list[Path] | None,
        typer.Option("--in", help="Binance's aggTrades or trades (.csv, .zip), or parquet; oldest first"),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="further files", show_default=False)] = None,
    symbol: Annotated[str | None, typer.Option(help="default: from the files' names")] = None,
    market: Annotated[str | None, typer.Option(help="which market, where a file has several")] = None,
    side_column: Annotated[str, typer.Option(help="parquet: the column of the aggressor's side")] = "side",
    no_side: Annotated[bool, typer.Option("--no-side", help="read no side: bars without taker flow")] = False,
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns"] | None, typer.Option(help="default: from the times")
    ] = None,
    repeats: Annotated[
        Literal["refuse", "leave_out"], typer.Option(help="of trades whose id was there before")
    ] = "refuse",
    most_missing_ids: Annotated[float, typer.Option(min=0, max=1, help="refuse above this share")] = 0.2,
    largest_price_step: Annotated[float, typer.Option(min=1.001, help="refuse steps above it")] = 10.0,
    longest_silence: Annotated[str, typer.Option(help="flat bars at most so long after a trade")] = "1h",
    replace: Annotated[bool, typer.Option("--replace", help="write a file anew that is there")] = False,
) -> None:
    """Bars from single trades: prices, volumes, taker flow, and the columns that only trades have."""
    from features.commands.trades import make_trade_bars, symbol_in
    from features.sources.trades_pieces import TradeChoice
    from features.trades.checks import CheckSettings
    from features.trades.settings import TradeSettings

    paths = [*(files or []), *(more or [])]
    choice = TradeChoice(
        symbol=symbol or symbol_in(paths),
        market=market,
        side_column=None if no_side else side_column,
        time_unit=time_unit,
    )
    checks = CheckSettings(
        repeats=repeats, most_missing_ids=most_missing_ids, largest_price_step=largest_price_step
    )
    silence_s = parse_duration(longest_silence).total_seconds()
    told, warnings = make_trade_bars(
        paths, parse_duration(interval), out, choice, checks,
        TradeSettings(longest_silence_s=silence_s), replace,
    )  # fmt: skip
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(told)


@app.command("book")
def book_command(
    files: Annotated[list[Path], typer.Option("--in", help="parquet files of snapshots, oldest first")],
    interval: Annotated[str, typer.Option(help="bar length: 10s, 1m, 15m, ...")],
    out: Annotated[Path, typer.Option(help="folder to write SYMBOL.parquet files into")],
    symbol: Annotated[str | None, typer.Option(help="which symbol; default: all of the files")] = None,
    market: Annotated[str | None, typer.Option(help="which market, where a symbol is in several")] = None,
    hole: Annotated[str, typer.Option(help="how long a book stands when no other follows")] = "30s",
    bars: Annotated[Path | None, typer.Option(help="folder of bars to write the columns beside")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="write files anew that are there")] = False,
) -> None:
    """Book columns of bars (spread, depth, imbalance, order flow, resilience) from order-book snapshots."""
    from features.commands.book import make_book_columns

    told = make_book_columns(
        files, parse_duration(interval), out,
        symbol=symbol, market=market, hole=parse_duration(hole), bars=bars, replace=replace,
    )  # fmt: skip
    for line in told:
        typer.echo(line)


@app.command("context")
def context_command(
    folder: Annotated[Path, typer.Argument(help="folder of bars")],
    out: Annotated[Path, typer.Option(help="folder to write the bars into, with the series beside them")],
    funding: Annotated[Path | None, typer.Option(help="parquet file of funding rates")] = None,
    index: Annotated[Path | None, typer.Option(help="... of an implied-volatility index (DVOL)")] = None,
    open_interest: Annotated[Path | None, typer.Option(help="... of open interest")] = None,
    liquidations: Annotated[Path | None, typer.Option(help="... of liquidations")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="write files anew that are there")] = False,
) -> None:
    """Put series from elsewhere beside bars, as of the time at which they were known."""
    from features.commands.context import add_context
    from features.sources.context import read_context

    series = read_context(funding, index, open_interest, liquidations)
    for line in add_context(folder, series, out, replace):
        typer.echo(line)


@app.command("describe")
def describe_command(
    folder: Annotated[Path, typer.Argument(help="folder of SYMBOL.parquet files")],
    out: Annotated[Path | None, typer.Option(help="picture to draw: FILE.png, .svg or .pdf")] = None,
    interval: Annotated[str | None, typer.Option(help="bar length; default: from the times")] = None,
) -> None:
    """Print what is in a folder, and draw prices, volatility and order flow."""
    # Matplotlib is slow to import, and only this verb needs it.
    from features.commands.describe import draw, summary_table

    market = read_folder(folder, None if interval is None else parse_duration(interval))
    console = Console(width=None if sys.stdout.isatty() else 160)
    title = "/".join(folder.resolve().parts[-2:])
    console.print(summary_table(market, title))
    if out is not None:
        typer.echo(f"drawn: {draw(market, title, out)}")


def main(argv: list[str]) -> int:
    """Run one command. 0: done; 2: bad data or arguments, said in one line on stderr."""
    try:
        app(argv, prog_name="python -m features")
    except SystemExit as stop:  # how typer ends: 0, or 2 after it has explained a usage error
        return stop.code if isinstance(stop.code, int) else 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
