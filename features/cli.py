"""The command line of this room. ``main`` returns 0, or 2 after one line on stderr about bad data or
arguments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from features.durations import format_duration, parse_duration
from features.sources.parquet import write_folder
from features.sources.simulated import simulate

app = typer.Typer(help="Get bars, and look at them.", no_args_is_help=True, add_completion=False)


@app.command("simulate")
def simulate_command(
    out: Annotated[Path, typer.Argument(help="folder to write SYMBOL.parquet files into")],
    symbols: Annotated[int, typer.Option(help="how many contracts")] = 10,
    days: Annotated[int, typer.Option(help="length of the history")] = 365,
    interval: Annotated[str, typer.Option(help="bar length: 1m, 15m, 1h, ...")] = "1h",
    seed: Annotated[int, typer.Option(help="the same seed gives the same bars")] = 7,
) -> None:
    """Write a simulated market: regimes, order flow that leads volatility, jumps, one crash."""
    market = simulate(symbols, days, parse_duration(interval), seed)
    write_folder(market, out)
    first, last = market.times[0] - market.interval, market.times[-1]
    typer.echo(
        f"{out}: {len(market.times):,} bars of {format_duration(market.interval)} for {len(market.symbols)} "
        f"symbols, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    )


@app.callback()
def _root() -> None:
    """Get bars, and look at them."""


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
