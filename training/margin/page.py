"""What a report on margins is made of: tables and pictures as HTML, and the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from training.page_style import PAGE_STYLE

#: Column of a table, what it is called for people, and its format.
Columns = Sequence[tuple[str, str, str]]

_STYLE = (
    PAGE_STYLE
    + """\
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid #eee; }
td { white-space: nowrap; } th { vertical-align: bottom; max-width: 9rem; }
th { border-bottom: 2px solid #ccc; color: #555; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: 700; background: #eef6ee; }
tr.case td { background: #f6f6f6; font-weight: 600; text-align: left; }
details { margin: .4rem 0; } summary { cursor: pointer; color: #0b5cad; }
"""
)


@dataclass(frozen=True)
class Section:
    """A part of the page under a title: its HTML, and the sentence that says how to read it."""

    title: str
    body: str
    reading: str


def cell_text(value: object, form: str, missing: str = "–") -> str:
    """A value as it is shown; text stands as it is, what is missing is a dash."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value is pd.NaT or (not isinstance(value, str) and pd.isna(value)):  # type: ignore[call-overload]
        return missing
    return form.format(value) or missing


def table_html(
    rows: pd.DataFrame, columns: Columns, *, case: str | None = None, best: str | None = None
) -> str:
    """A table. ``case`` is a column whose values head groups of rows, ``best`` one whose least value of each
    group is marked.
    """
    head = "".join(f"<th>{escape(words)}</th>" for _, words, _ in columns)
    groups = [("", rows)] if case is None else list(rows.groupby(case, sort=False))
    body = "".join(
        (f'<tr class="case"><td colspan="{len(columns)}">{escape(str(title))}</td></tr>' if title else "")
        + _lines(group, columns, best)
        for title, group in groups
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _lines(rows: pd.DataFrame, columns: Columns, best: str | None) -> str:
    least = None if best is None else rows[best].min()
    lines = []
    for row in rows.to_dict("records"):
        cells = (
            f"<td{' class=best' if name == best and row[name] == least else ''}>"
            f"{escape(cell_text(row[name], form))}</td>"
            for name, _, form in columns
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join(lines)


def folded(summary: str, body: str) -> str:
    """Something that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def figure_html(figure: Any, name: str) -> str:
    """A plotly figure without its script, which the page has once."""
    drawn: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{name}",
        config={"displayModeBar": False, "responsive": True},
    )
    return drawn


def anchor(title: str) -> str:
    """The name of a section within the page."""
    return "".join(c if c.isalnum() else "-" for c in title.lower())


def page(title: str, facts: str, sections: Sequence[Section]) -> str:
    """The whole page: plotly's script once, no address of anything outside."""
    from plotly.offline import get_plotlyjs

    links = " ".join(f'<a href="#{anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    body = "".join(
        f'<h2 id="{anchor(s.title)}">{escape(s.title)}</h2>{s.body}<p class="reading">{escape(s.reading)}</p>'
        for s in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
        f'<h1>{escape(title)}</h1><p class="facts">{escape(facts)}</p><nav>{links}</nav>{body}</body></html>'
    )
