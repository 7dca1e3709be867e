"""The command line of this room: ``serve``, ``replay``, ``draw``, ``audit`` and ``override``.

Exit codes: 0 done (or stopped by Ctrl-C), 1 ``audit`` found something altered, 2 bad arguments, settings,
bars or store (one line on stderr), 3 the server refused what it was sent, or does not answer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from features.bars import BarError
from features.durations import parse_duration
from models.settings import SettingsError
from serving.commands import audit, override
from serving.commands.override import OverrideRefusedError
from serving.replay import ReplayError, parse_speed, replay
from serving.serve import serve
from serving.settings import ServingSettings
from serving.store.bars import ContradictionError
from serving.store.engine import StoreError
from serving.times import parse_time

app = typer.Typer(
    help="Serve margin multipliers, override them, feed recorded bars, draw and audit decisions.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(audit.app, name="audit")
app.add_typer(override.app, name="override")


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="IP address to bind")] = None,
    port: Annotated[int | None, typer.Option(help="port to bind")] = None,
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL; default sqlite:///foremargin.db")
    ] = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: the time of day; bars: the close of the newest bar, for replays")
    ] = None,
    interval: Annotated[str | None, typer.Option(help="bar length; default: the history's, else 1h")] = None,
    history: Annotated[
        Path | None, typer.Option(help="folder of bars to load first; no decisions are made on them")
    ] = None,
    finer_history: Annotated[
        Path | None, typer.Option(help="folder of finer bars to load too; their length is the finer interval")
    ] = None,
    until: Annotated[str | None, typer.Option(help="load bars that closed by this time only")] = None,
) -> None:
    """Serve in the foreground; every other setting is in [serving] of foremargin.toml."""
    given: dict[str, Any] = {"host": host, "port": port, "database": database, "clock": clock}
    given["interval_s"] = None if interval is None else int(parse_duration(interval).total_seconds())
    chosen = {name: value for name, value in given.items() if value is not None}
    serve(chosen, history, finer_history, None if until is None else parse_time(until))


@app.command("replay")
def replay_command(
    folder: Annotated[Path, typer.Argument(help="folder of SYMBOL.parquet files")],
    start: Annotated[str, typer.Option("--from", help="feed bars that close after this time")],
    to: Annotated[str | None, typer.Option("--to", help="the last close; default: all")] = None,
    finer: Annotated[
        Path | None, typer.Option(help="folder of finer bars to feed beneath them; see finer_interval_s")
    ] = None,
    speed: Annotated[str, typer.Option(help="3600x: an hour a second; max: as fast as it goes")] = "max",
    url: Annotated[str, typer.Option(help="the server")] = "http://127.0.0.1:3000",
    token: Annotated[str | None, typer.Option(envvar="FOREMARGIN_TOKEN", help="ingest token")] = None,
) -> None:
    """Feed recorded bars into a running server and print its multipliers."""
    end = None if to is None else parse_time(to)
    console = Console(width=None if sys.stdout.isatty() else 110)
    replay(folder, url, parse_time(start), end, parse_speed(speed), token, console, finer)


@app.command("draw")
def draw_command(
    symbol: Annotated[str, typer.Argument(help="the contract")],
    out: Annotated[Path, typer.Argument(help="picture to write: FILE.png, .svg or .pdf")],
    database: Annotated[str | None, typer.Option(help="default: that of [serving]")] = None,
    side: Annotated[str, typer.Option(help="long or short")] = "long",
    kind: Annotated[str, typer.Option(help="initial or maintenance")] = "maintenance",
    start: Annotated[str | None, typer.Option("--from", help="first decision time")] = None,
    to: Annotated[str | None, typer.Option("--to", help="last decision time")] = None,
) -> None:
    """Draw price, required and served margin of one contract from the stored decisions."""
    # Matplotlib is slow to import, and only this verb needs it.
    from serving.draw import Picture, draw

    picture = Picture(
        symbol,
        side,
        kind,
        None if start is None else parse_time(start),
        None if to is None else parse_time(to),
    )
    typer.echo(f"drawn: {draw(database or ServingSettings().database, picture, out)}")


def main(argv: list[str] | None = None) -> int:
    """Run one verb; see the module for exit codes."""
    try:
        app(argv, prog_name="python -m serving")
    except SystemExit as stop:  # how typer ends: 0, or 2 after it has explained a usage error
        return stop.code if isinstance(stop.code, int) else 0
    except (ReplayError, OverrideRefusedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except (BarError, ContradictionError, SettingsError, StoreError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
