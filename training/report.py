"""The report of a benchmark: one HTML file that needs nothing else, and the table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from features.atomic import written_whole
from features.durations import format_duration
from training.benchmark import Benchmark
from training.dataset import describe_market
from training.lives_on import FAMILIES, INPUTS, TRIALS, by_family, by_input, by_trial
from training.page_style import PAGE_STYLE
from training.report_layout import cases_of, percent
from training.report_plots import NOT_ASKED, Picture, pictures

#: Column of the table, what it is called for people, and its format.
SHOWN = (
    ("rows", "rows", "{:,}"),
    ("fz0", "FZ0", "{:.4f}"),
    ("difference", "difference", "{:+.4f}"),
    ("t", "t", "{:+.1f}"),
    ("in_set", "among the best", "{}"),
    ("pinball_ratio", "pinball ratio", "{:.3f}"),
    ("hit_ratio", "hit ratio", "{:.2f}"),
    ("worst_cell", "worst cell", "{:.2f}"),
    ("excursion_ratio", "on the way > VaR", "{:.2f}"),
    ("es_excursion_ratio", "on the way > ES", "{:.2f}"),
    ("z2", "Z2", "{:+.2f}"),
    ("es_rejected", "ES too small", "{:.0%}"),
)
COSTS = (
    ("folds", "folds", "{:.0f}"),
    ("fit_s", "fit, s", "{:.1f}"),
    ("fit_s_per_fold", "fit a fold, s", "{:.2f}"),
    ("predict_s", "forecast, s", "{:.2f}"),
)
CELLS = (
    ("symbol", "symbol", "{}"),
    ("side", "side", "{}"),
    ("rows", "rows", "{:,}"),
    ("fz0", "FZ0", "{:.4f}"),
    ("hit_ratio", "hit ratio", "{:.2f}"),
    ("pof_p", "Kupiec p", "{:.3f}"),
    ("conditional_p", "Christoffersen p", "{:.3f}"),
    ("es_p", "ES p", "{:.3f}"),
)
Columns = Sequence[tuple[str, str, str]]
#: Inputs of a model that are shown.
TOP_INPUTS = 20

_STYLE = (
    PAGE_STYLE
    + """\
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { border-bottom: 2px solid #ccc; color: #555; font-weight: 600; }
th:first-child, td:first-child, th.words, td.words { text-align: left; }
table + table { margin-top: 1rem; }
td.best { font-weight: 700; background: #eef6ee; }
tr.case td { background: #f6f6f6; font-weight: 600; text-align: left; }
details { margin: .4rem 0; } summary { cursor: pointer; color: #0b5cad; }
"""
)


def markdown(benchmark: Benchmark) -> str:
    """The table, a section per horizon and level, and what each model cost."""
    lines = [f"# Benchmark against `{benchmark.plan.reference}`", "", _facts(benchmark), ""]
    columns = [("model", "model", "`{}`"), *SHOWN]
    for title, rows in _by_case(benchmark):
        lines += [f"## {title}", "", *_markdown_rows(rows, columns), ""]
    lines += [
        "## Seconds",
        "",
        *_markdown_rows(benchmark.costs, [columns[0], *COSTS]),
        "",
        _reading(benchmark),
    ]
    return "\n".join(lines) + "\n"


def html(benchmark: Benchmark) -> str:
    """The whole page: plotly's script once, no address of anything outside."""
    from plotly.offline import get_plotlyjs

    drawn = pictures(benchmark)
    links = " ".join(
        f'<a href="#{name}">{escape(title)}</a>'
        for name, title in [
            ("scores", "Scores"),
            *((_anchor(p), p.title) for p in drawn),
            ("inputs", "Inputs"),
            ("cells", "Cells"),
            ("seconds", "Seconds"),
        ]
    )
    body = [
        f"<h1>Tail forecasts against {escape(benchmark.plan.reference)}</h1>",
        f'<p class="facts">{escape(_facts(benchmark))}</p><nav>{links}</nav>',
        '<h2 id="scores">Scores</h2>',
        f'<div class="wide">{_scores(benchmark)}</div>',
        f'<p class="reading">{escape(_reading(benchmark))}</p>',
        *(_section(picture) for picture in drawn),
        '<h2 id="inputs">Inputs</h2>',
        *_inputs(benchmark),
        *_trials(benchmark),
        '<h2 id="cells">Cells</h2>',
        *_cells(benchmark),
        '<p class="reading">Every symbol and side by itself. A small p speaks against the model: Kupiec asks '
        "whether hits are as many as promised, Christoffersen whether they come alone, ES whether losses "
        "beyond VaR are deeper than ES says (no p where too few are promised). Overlapping losses are "
        "thinned to every h-th and the answers of the h series averaged.</p>",
        '<h2 id="seconds">Seconds</h2>',
        _html_rows(benchmark.costs, [("model", "model", "{}"), *COSTS]),
        '<p class="reading">Wall time of all folds, features included; folds that ran side by side have '
        "slowed each other down.</p>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Foremargin benchmark</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(body)}</body></html>"
    )


def write_report(benchmark: Benchmark, folder: Path) -> None:
    """Write ``table.md`` and ``report.html``, each whole or not at all."""
    for name, text in (("table.md", markdown(benchmark)), ("report.html", html(benchmark))):
        with written_whole(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")


def _facts(benchmark: Benchmark) -> str:
    plan, times = benchmark.plan, benchmark.scored["time"]
    return (
        f"Decision times {times.min():%Y-%m-%d %H:%M} to {times.max():%Y-%m-%d %H:%M} UTC; horizons "
        f"{', '.join(format_duration(h) for h in plan.task.horizons)}; levels "
        f"{', '.join(percent(level) for level in plan.levels)}; models {', '.join(plan.names)}. "
        f"Bars: {describe_market(benchmark.market)}."
    )


def _reading(benchmark: Benchmark) -> str:
    return (
        f"FZ0 scores VaR and ES together, in percent units, lower is better; difference is to "
        f"{benchmark.plan.reference}, with its HAC t, negative is better; among the best: in the model "
        f"confidence set of 90 %. Hit ratio: losses beyond VaR over those promised, and worst cell that of "
        f"the symbol and side farthest from 1. On the way: the same for the worst loss within the horizon, "
        f"beyond VaR and beyond ES. Z2: Acerbi and Szekely's test of ES, 0 is right and below 0 too little. "
        f"ES too small: the share of symbols and sides where a regression test says so at 5 %; no figure "
        f"where the span is too short to tell."
    )


def _by_case(benchmark: Benchmark) -> list[tuple[str, pd.DataFrame]]:
    horizons, levels = cases_of(benchmark)
    table = benchmark.table
    return [
        (f"{h}, {percent(level)}", table[(table["horizon"] == h) & (table["level"] == level)])
        for h in horizons
        for level in levels
    ]


def _text(value: object, form: str, missing: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return missing if pd.isna(value) else form.format(value)  # type: ignore[call-overload]


def _markdown_rows(rows: pd.DataFrame, columns: Columns) -> list[str]:
    head = [f"| {' | '.join(words for _, words, _ in columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    cells = [[_text(row[name], form, "") for name, _, form in columns] for row in rows.to_dict("records")]
    return head + [f"| {' | '.join(line)} |" for line in cells]


#: Of cells that hold a sentence.
_WORDS = ' class="words"'


def _html_head(columns: Columns) -> str:
    cells = (f"<th{_WORDS if name == 'words' else ''}>{escape(words)}</th>" for name, words, _ in columns)
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _html_lines(rows: pd.DataFrame, columns: Columns, best: str | None = None) -> str:
    lowest = rows[best].min() if best is not None else None
    lines = []
    for row in rows.to_dict("records"):
        cells = []
        for name, _, form in columns:
            mark = ' class="best"' if name == best and row[name] == lowest else ""
            mark = _WORDS if name == "words" else mark
            cells.append(f"<td{mark}>{escape(_text(row[name], form, '–'))}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join(lines)


def _html_rows(rows: pd.DataFrame, columns: Columns) -> str:
    return f"<table>{_html_head(columns)}<tbody>{_html_lines(rows, columns)}</tbody></table>"


def _scores(benchmark: Benchmark) -> str:
    columns = [("model", "model", "{}"), *SHOWN]
    body = "".join(
        f'<tr class="case"><td colspan="{len(columns)}">{escape(title)}</td></tr>'
        f"{_html_lines(rows, columns, best='fz0')}"
        for title, rows in _by_case(benchmark)
    )
    return f"<table>{_html_head(columns)}<tbody>{body}</tbody></table>"


def _cells(benchmark: Benchmark) -> list[str]:
    """A table per model, folded away."""
    columns = [("horizon", "horizon", "{}"), ("level", "level", "{:.1%}"), *CELLS]
    cells = benchmark.cells
    return [
        f'<details><summary>{escape(name)}</summary><div class="wide">'
        f"{_html_rows(cells[cells['model'] == name], columns)}</div></details>"
        for name in benchmark.plan.names
    ]


def _inputs(benchmark: Benchmark) -> list[str]:
    """Families and inputs of each model, folded away."""
    found = benchmark.importance
    asked = [name for name in benchmark.plan.names if name in set(found["model"])]
    if not asked:
        return [f'<p class="reading">{NOT_ASKED}</p>']
    return [
        *(
            f"<details><summary>{escape(name)}</summary>{_html_rows(by_family(found, name), FAMILIES)}"
            f'<div class="wide">{_html_rows(by_input(found, name, TOP_INPUTS), INPUTS)}</div></details>'
            for name in asked
        ),
        '<p class="reading">Of the model fitted before the span. Moves ES by: the mean size of what an input '
        "does to the forecast, right or wrong, a family's inputs taken together. FZ0 without: what its score "
        "loses where the input is shuffled, the sum over a family. An input that moves the forecast, and "
        "whose loss costs nothing, is noise.</p>",
    ]


def _trials(benchmark: Benchmark) -> list[str]:
    """Which families the models that choose tried and used; nothing where none chooses."""
    tables = [(name, by_trial(benchmark.trials, name)) for name in benchmark.plan.names]
    shown = [
        f"<details><summary>{escape(name)}: families that it tried</summary>{_html_rows(table, TRIALS)}"
        "</details>"
        for name, table in tables
        if not table.empty
    ]
    reading = (
        '<p class="reading">A family is used in a fit where it paid on blocks of time that it had not seen; '
        "t is of the error with it against without it, negative is better.</p>"
    )
    return [*shown, reading] if shown else []


def _anchor(picture: Picture) -> str:
    return "".join(c if c.isalnum() else "-" for c in picture.title.lower())


def _section(picture: Picture) -> str:
    name = _anchor(picture)
    figure = (
        ""
        if picture.figure is None
        else picture.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{name}",
            config={"displayModeBar": False, "responsive": True},
        )
    )
    return (
        f'<h2 id="{name}">{escape(picture.title)}</h2>{figure}'
        f'<p class="reading">{escape(picture.reading)}</p>'
    )
