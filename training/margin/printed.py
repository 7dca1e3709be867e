"""The measures of a margin table for the terminal."""

from __future__ import annotations

from collections.abc import Set

import pandas as pd
from rich.console import Console
from rich.table import Table

from training.margin.measures import MarginMeasures
from training.margin.page import Columns, cell_text
from training.margin.report_tables import (
    CRASH_READING,
    CRASH_SUMMARY,
    GAPS,
    PROCYCLICALITY,
    SUMMARY,
    crash_summary_rows,
    summary_reading,
    summary_rows,
    with_case,
)

#: Columns that a terminal has no room for; the report has them.
_NOT_IN_SUMMARY = {"scale", "exceptions", "rows", "difference_interval"}
_NOT_IN_PROCYCLICALITY = {"changes_worst"}
_NOT_IN_CRASHES = {"kind", "raised", "least_lead_h", "total_shortfall", "worst_gap", "rungs"}
#: As wide, where the output is no terminal.
_WIDTH = 150


def show_margin(measures: MarginMeasures, console: Console | None = None) -> None:
    """Print what each margin covered and cost, how it moved, what the engine withheld, and the crashes."""
    shown = console or Console(width=None if Console().is_terminal else _WIDTH)
    _show(shown, "Served margin", summary_rows(measures), _but(SUMMARY, _NOT_IN_SUMMARY))
    shown.print(summary_reading(measures), highlight=False, soft_wrap=True)
    moves = with_case(measures, measures.procyclicality)
    _show(shown, "Procyclicality", moves, _but(PROCYCLICALITY, _NOT_IN_PROCYCLICALITY))
    _show(shown, "Required against served", with_case(measures, measures.gaps), GAPS)
    for series, below in measures.rungs.groupby("series", sort=False)["below_rules_alive"].sum().items():
        words = f"{series}: {below:,} decisions below the rules rung with a live feed"
        shown.print(words, highlight=False, soft_wrap=True)
    crashes = crash_summary_rows(measures)
    if not crashes.empty:
        kinds = [
            f"{crash}, {kind} margin" for crash, kind in zip(crashes["crash"], crashes["kind"], strict=True)
        ]
        _show(shown, "Through the crashes", crashes.assign(case=kinds), _but(CRASH_SUMMARY, _NOT_IN_CRASHES))
        shown.print(CRASH_READING, highlight=False, soft_wrap=True)


def _but(columns: Columns, left_out: Set[str]) -> Columns:
    return [column for column in columns if column[0] not in left_out]


def _show(console: Console, title: str, rows: pd.DataFrame, columns: Columns) -> None:
    for case, group in rows.groupby("case", sort=False):
        table = Table(title=f"{title}: {case}", title_justify="left")
        for name, words, _ in columns:
            whole = name in ("series", "ratio_interval")
            table.add_column(words, justify="left" if name == "series" else "right", no_wrap=whole)
        for row in group.to_dict("records"):
            table.add_row(*(cell_text(row[name], form) for name, _, form in columns))
        console.print(table)
