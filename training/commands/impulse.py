"""``impulse``: how a margin answers a shock, as a table and a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from features.commands.pictures import check_format
from models.margin.types import KINDS
from training.margin.impulse import PATHS, SERIES, measures, responses
from training.margin.impulse_picture import draw_impulse


def impulse_command(
    out: Annotated[Path, typer.Option(help="picture to write, .svg, .png or .pdf")],
    kind: Annotated[str, typer.Option(help="initial or maintenance")] = "maintenance",
    paths: Annotated[int, typer.Option(min=1, help="simulated paths; about half a second each")] = PATHS,
    seed: Annotated[int, typer.Option(min=0, help="of the simulated market")] = 7,
) -> None:
    """Shock a simulated market: volatility doubles, a single jump, a slow burn, a feed outage. Print how far
    the margin overshoots, the time to 90 % and the largest step, and draw the responses: the rules rung
    through the safety engine, an informed champion through it, a plain limiter, and EWMA and GARCH without an
    engine.

    Exit codes: 2 an unknown kind, a picture that cannot be written, bad arguments.
    """
    if kind not in KINDS:
        raise ValueError(f"--kind is {kind!r}; give one of {list(KINDS)}")
    check_format(out)  # now, and not after the work
    out.parent.mkdir(parents=True, exist_ok=True)
    found = responses(paths, seed)
    draw_impulse(found, kind, out)
    _show(measures(found, kind), kind, paths)
    typer.echo(f"{out}: the responses")


def _show(table: pd.DataFrame, kind: str, paths: int) -> None:
    shown = Table(title=f"Impulse response of {kind} margin, long, {paths} paths")
    for column in ("shock", "series"):
        shown.add_column(column)
    for column in ("overshoot", "hours to 90 %", "largest step in 1 h"):
        shown.add_column(column, justify="right")
    for row in table.to_dict("records"):
        hours = row["hours_to_90"]
        shown.add_row(
            row["shock"],
            row["series"],
            f"{row['overshoot']:.1%}",
            "never" if math.isnan(hours) else f"{hours:g}",
            f"{row['largest_step']:.1%}",
            end_section=bool(row["series"] == SERIES[-1]),
        )
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(shown)
