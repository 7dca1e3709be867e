"""The measures of a margin table for the terminal."""

from __future__ import annotations

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
_LEFT_OUT = {
    *("scale", "exceptions", "rows", "difference_interval", "changes_worst"),
    *("kind", "raised", "least_lead_h", "total_shortfall", "rungs", "worst_gap"),
}
#: As wide, where the output is no terminal.
_WIDTH = 150


def show_margin(measures: MarginMeasures, console: Console | None = None) -> None:
    """Print what each margin covered and cost, how it moved, what the engine withheld, and the crashes."""
    shown = console or Console(width=None if Console().is_terminal else _WIDTH)
    _show(shown, "Served margin", summary_rows(measures), SUMMARY)
    shown.print(summary_reading(measures), highlight=False, soft_wrap=True)
    _show(shown, "Procyclicality", with_case(measures, measures.procyclicality), PROCYCLICALITY)
    _show(shown, "Required against served", with_case(measures, measures.gaps), GAPS)
    for series, below in measures.rungs.groupby("series", sort=False)["below_rules_alive"].sum().items():
        words = f"{series}: {below:,} decisions below the rules rung with a live feed"
        shown.print(words, highlight=False, soft_wrap=True)
    crashes = crash_summary_rows(measures)
    if not crashes.empty:
        kinds = [
            f"{crash}, {kind} margin" for crash, kind in zip(crashes["crash"], crashes["kind"], strict=True)
        ]
        _show(shown, "Through the crashes", crashes.assign(case=kinds), CRASH_SUMMARY)
        shown.print(CRASH_READING, highlight=False, soft_wrap=True)


def _show(console: Console, title: str, rows: pd.DataFrame, columns: Columns) -> None:
    kept = [column for column in columns if column[0] not in _LEFT_OUT]
    for case, group in rows.groupby("case", sort=False):
        table = Table(title=f"{title}: {case}", title_justify="left")
        for name, words, _ in kept:
            whole = name in ("series", "ratio_interval")
            table.add_column(words, justify="left" if name == "series" else "right", no_wrap=whole)
        for row in group.to_dict("records"):
            table.add_row(*(cell_text(row[name], form) for name, _, form in kept))
        console.print(table)
