"""``promote``: judge the challenger and move the champion alias if it earned that; or roll back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.registry import Registry
from training.backtest import progress_bars
from training.commands.options import (
    Book,
    Context,
    Finer,
    Levels,
    Since,
    beneath_and_beside,
    settings_with,
)
from training.commands.tables import show_summary, show_verdict
from training.promotion import judge, promote
from training.publish import work_folder


def promote_command(
    bars: Annotated[Path | None, typer.Option(help="folder of SYMBOL.parquet bar files to judge on")] = None,
    levels: Levels = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="return to the champion before")] = False,
    reason: Annotated[str, typer.Option(help="why, for the record of a rollback")] = "",
) -> None:
    """Compare challenger, champion and baselines on the same unseen rows; promote if it is no worse."""
    registry = Registry()
    if rollback:
        replaced = registry.champion()
        returned = registry.rollback(reason)
        typer.echo(f"rolled back from {replaced} to {returned}; it is champion now")
        return
    if bars is None:
        raise ValueError("--bars is missing; give the folder of bars to judge on, or --rollback")
    challenger = registry.challenger()
    if challenger is None:
        champion = registry.champion()
        if champion is None:
            raise ValueError("there is no challenger; register one: python -m training train --bars DIR")
        typer.echo(f"kept champion: no challenger waits; {champion} is champion")
        return
    settings = settings_with(levels=levels, **beneath_and_beside(finer, book, context, since))
    with progress_bars() as progress:
        verdict = judge(
            registry, challenger, bars, settings, work_folder(registry.tracking_uri) / "cache", progress
        )
    if not verdict.table.empty:
        show_summary(verdict.table, "Days that none of them has seen")
    promote(registry, verdict)
    show_verdict(verdict)
