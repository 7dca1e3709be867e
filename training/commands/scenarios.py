"""``scenarios``: play the named scenarios through the safety engine, and draw each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from features.commands.pictures import check_format
from models.margin.types import SIDES, Decision
from training.margin.scenarios.drawing import draw_scenario
from training.margin.scenarios.registry import SCENARIOS, tape
from training.margin.scenarios.tape import Tape, play


def scenarios_command(
    out: Annotated[Path, typer.Option(help="folder for the pictures, NAME.svg each")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="this scenario; may be given several times")
    ] = None,
    picture_format: Annotated[str, typer.Option("--format", help="svg, png or pdf")] = "svg",
) -> None:
    """Play constructed tapes of what has gone wrong elsewhere through the safety engine, with the default
    limits, and draw each: price, rates asked for and served, rungs, and which rule acted when.

    Exit codes: 2 an unknown scenario or format, or a folder that cannot be written to.
    """
    tapes = [tape(name) for name in only or SCENARIOS]
    check_format(out / f"any.{picture_format}")
    out.mkdir(parents=True, exist_ok=True)
    shown = Table(title="Named scenarios, default limits")
    for column, justify in (
        ("scenario", "left"),
        ("decisions", "right"),
        ("rungs", "left"),
        ("maintenance served, lowest", "right"),
        ("highest", "right"),
        ("rules that moved a rate", "left"),
    ):
        shown.add_column(column, justify="right" if justify == "right" else "left")
    for one in tapes:
        draw_scenario(one, out / f"{one.name}.{picture_format}")
        shown.add_row(*_row(one, play(one)))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(shown)
    typer.echo(f"{out}: {len(tapes)} pictures")


def _row(one: Tape, decisions: list[Decision]) -> tuple[str, ...]:
    maintenance = [d.served_rates[2 * SIDES.index(one.side) + 1] for d in decisions]
    rungs = Counter(d.rung for d in decisions)
    moved = sorted({t.rule for d in decisions for t in d.traces if t.before != t.after})
    return (
        one.name,
        str(len(decisions)),
        ", ".join(f"{rung} {count}" for rung, count in rungs.items()),
        f"{min(maintenance):.2%}",
        f"{max(maintenance):.2%}",
        ", ".join(map(str, moved)),
    )
