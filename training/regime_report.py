"""The report on regimes: tables as Markdown, and one HTML file that needs nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from features.atomic import written_whole
from training.dataset import describe_market
from training.early_warning import MORE
from training.regime_study import HALF, MARKET, RegimeStudy
from training.report_layout import COLOURS, sized

#: Column of a table, what it is called for people, and its format.
COST_COLUMNS = (
    ("rule", "rule", "{}"),
    ("in_alarm", "hours in alarm", "{:.1%}"),
    ("false", "false alarms", "{:.1%}"),
    ("false_always", "always in alarm", "{:.1%}"),
    ("starts", "alarms a month", "{:.1f}"),
    ("warned", "worst hours warned of", "{:.0%}"),
    ("warned_24h", "in the 24 h before", "{:.0%}"),
    ("median_lead", "median lead, h", "{:.1f}"),
    ("warned_more", f"of the {MORE} worst", "{:.0%}"),
)
STABILITY_COLUMNS = (
    ("start", "refit", "{:%Y-%m-%d}"),
    ("chain", "chain", "{}"),
    ("rows", "rows", "{:,}"),
    ("agreement", "same name", "{:.1%}"),
    ("distance", "mean distance", "{:.3f}"),
    ("distance_99", "99 %", "{:.3f}"),
)
#: How much is shown around a worst hour.
AROUND = pd.Timedelta(days=2)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; }
body { padding: 0 1rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid #eee; }
th { border-bottom: 2px solid #ccc; color: #555; } th:first-child, td:first-child { text-align: left; }
.reading { color: #555; max-width: 62rem; } .wide { overflow-x: auto; }
"""

Columns = tuple[tuple[str, str, str], ...]


def warning_rows(study: RegimeStudy) -> tuple[pd.DataFrame, Columns]:
    """A row per worst hour, with the lead of every rule and its first alarm in the 24 h and 48 h before."""
    base = study.warnings.drop_duplicates("begins").set_index("begins")[["side", "move"]]
    columns: list[tuple[str, str, str]] = [
        ("begins", "begins (UTC)", "{:%Y-%m-%d %H:%M}"),
        ("side", "loses", "{}"),
        ("move", "move", "{:+.1%}"),
    ]
    for rule, rows in study.warnings.groupby("rule", sort=False):
        own = rows.set_index("begins")
        text = own.apply(lambda row: " / ".join(_hours(row[c]) for c in _LEADS), axis=1)
        base[str(rule)] = text
        columns.append((str(rule), str(rule), "{}"))
    return base.reset_index(), tuple(columns)


_LEADS = ("lead", "first_24h", "first_48h")


def _hours(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:g}"


def cost_rows(study: RegimeStudy) -> dict[str, pd.DataFrame]:
    """The rules' costs for the market, and the mean over the symbols, each asked about itself."""
    own = study.costs[study.costs["scope"] != MARKET].drop(columns="scope")
    return {
        "The market": study.costs[study.costs["scope"] == MARKET],
        "Every symbol by itself, mean over the symbols": own.groupby("rule", sort=False).mean().reset_index(),
    }


READING = (
    "Hours in alarm: share of all. False alarms: hours in alarm after which no hour within a day moved as "
    "far as one in 200 does; beside it, the same for a rule that is always in alarm. Worst hours warned of: "
    "those that began in alarm; lead: for how long it had been on without interruption. Of each worst hour: "
    "lead / first alarm in the 24 h before / in the 48 h before, all in hours before it began; a dash where "
    "there was none. The thresholds of volatility and ewma are chosen on the whole span so that they alarm "
    "as often as regimes, which flatters them."
)
STABILITY_READING = (
    "Each quarter's rows by the regimes learned at its beginning and by those learned a quarter before: the "
    "share whose likeliest regime is the same, and half the sum of |p - q| over the four probabilities."
)

ONE_QUARTER = (
    "Learned once: the bars hold no second quarter at which they would be learned again and compared."
)


def markdown(study: RegimeStudy) -> str:
    """All tables."""
    rows, columns = warning_rows(study)
    lines = ["# Regimes", "", _facts(study), "", "## The worst hours", "", *_markdown(rows, columns), ""]
    for title, costs in cost_rows(study).items():
        lines += [f"## {title}", "", *_markdown(costs, COST_COLUMNS), ""]
    lines += [READING, "", "## From refit to refit", "", *_markdown(study.stability, STABILITY_COLUMNS), ""]
    return "\n".join([*lines, *_markdown(*_mean_stability(study)), "", _stability_reading(study)]) + "\n"


def html(study: RegimeStudy) -> str:
    """The whole page: plotly's script once, no address of anything outside."""
    from plotly.offline import get_plotlyjs

    rows, columns = warning_rows(study)
    body = [
        f"<h1>Regimes and early warning</h1><p class='reading'>{escape(_facts(study))}</p>",
        f"<h2>The worst hours</h2>{_html(rows, columns)}",
        *(f"<h2>{escape(t)}</h2>{_html(costs, COST_COLUMNS)}" for t, costs in cost_rows(study).items()),
        f"<p class='reading'>{escape(READING)}</p>",
        f"<h2>Around the worst hours</h2>{_figure(around_the_worst(study))}",
        "<p class='reading'>Bars: mean return of the market in the hour, % of price. Lines: P(stressed or "
        "crisis); in alarm above one half. The worst hour ends where the axis says 0.</p>",
        f"<h2>The whole span</h2>{_figure(over_time(study))}",
        "<p class='reading'>Each day's highest P(stressed or crisis), and the worst hours.</p>",
        f"<h2>From refit to refit</h2>{_html(*_mean_stability(study))}<br>"
        f"{_html(study.stability, STABILITY_COLUMNS)}"
        f"<p class='reading'>{escape(_stability_reading(study))}</p>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Foremargin regimes</title>'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>{''.join(body)}</body></html>"
    )


def write_regime_report(study: RegimeStudy, folder: Path) -> None:
    """Write ``warnings.parquet``, ``costs.parquet``, ``stability.parquet``, ``regimes.md`` and
    ``regimes.html``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("warnings", "costs", "stability"):
        with written_whole(folder / f"{name}.parquet") as draft:
            getattr(study, name).to_parquet(draft, index=False)
    for name, text in (("regimes.md", markdown(study)), ("regimes.html", html(study))):
        with written_whole(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")


def around_the_worst(study: RegimeStudy) -> Any:
    """A panel per worst hour: returns as bars, P(stressed or crisis) of both chains as lines."""
    worst = study.warnings.drop_duplicates("begins")
    titles = [f"{row.begins:%Y-%m-%d %H:%M}, {row.move:+.1%}" for row in worst.itertuples()]
    rows = -(-len(worst) // 2)
    figure = make_subplots(
        rows=rows,
        cols=2,
        subplot_titles=titles,
        specs=[[{"secondary_y": True}] * 2] * rows,
        vertical_spacing=0.25 / rows,
        horizontal_spacing=0.09,
    )
    for place, begins in enumerate(worst["begins"]):
        row, column = place // 2 + 1, place % 2 + 1
        near = slice(begins - AROUND, begins + AROUND)
        moves, scores = study.moves.loc[near], study.scores.loc[near]
        ends = study.market.times[study.market.times > begins][0]
        figure.add_trace(
            go.Bar(
                x=_hours_from(ends, moves.index),
                y=100 * moves,
                name="return",
                legendgroup="return",
                showlegend=place == 0,
                marker={"color": "#bbbbbb", "line": {"width": 0}},
            ),
            row,
            column,
        )
        for name, colour in zip(("regimes", "volatility"), COLOURS, strict=False):
            figure.add_trace(
                go.Scatter(
                    x=_hours_from(ends, scores.index),
                    y=scores[name],
                    mode="lines",
                    name=f"P(stressed or crisis), {name}",
                    legendgroup=name,
                    showlegend=place == 0,
                    line={"color": colour, "width": 1.7},
                ),
                row,
                column,
                secondary_y=True,
            )
        figure.add_hline(
            y=HALF,
            line={"color": "#999999", "width": 1, "dash": "dash"},
            row=row,
            col=column,
            secondary_y=True,
        )
    figure.update_yaxes(title_text="%", secondary_y=False, showgrid=False)
    figure.update_yaxes(
        range=[0, 1.02], tickmode="array", tickvals=[0, 0.5, 1], secondary_y=True, showgrid=False
    )
    figure.update_xaxes(title_text="hours", row=rows)
    figure.update_layout(bargap=0)
    sized(figure, 90 + 210 * rows)
    return figure


def over_time(study: RegimeStudy) -> Any:
    figure = go.Figure()
    daily = study.scores[["regimes", "volatility"]].resample("1D").max()
    for name, colour in zip(daily, COLOURS, strict=False):
        figure.add_trace(
            go.Scatter(
                x=daily.index,
                y=daily[name],
                mode="lines",
                name=str(name),
                line={"color": colour, "width": 1},
                visible=True if name == "regimes" else "legendonly",
            )
        )
    worst = study.warnings.drop_duplicates("begins")
    figure.add_trace(
        go.Scatter(
            x=worst["begins"],
            y=np.full(len(worst), 1.05),
            mode="markers",
            name="worst hours",
            marker={"symbol": "triangle-down", "size": 10, "color": "#222222"},
            customdata=[f"{move:+.1%}" for move in worst["move"]],
            hovertemplate="%{x}: %{customdata}<extra></extra>",
        )
    )
    figure.add_hline(y=HALF, line={"color": "#999999", "width": 1, "dash": "dash"})
    figure.update_yaxes(range=[0, 1.1])
    sized(figure, 320)
    return figure


def _hours_from(zero: pd.Timestamp, times: pd.Index) -> Any:
    return (pd.DatetimeIndex(times) - zero) / pd.Timedelta(hours=1)


def _mean_stability(study: RegimeStudy) -> tuple[pd.DataFrame, Columns]:
    measures = ["agreement", "distance", "distance_99"]
    mean = study.stability.groupby("chain", sort=False)[measures].mean().reset_index()
    kept = tuple(c for c in STABILITY_COLUMNS if c[0] not in ("start", "rows"))
    return mean, (("chain", "chain, mean over refits", "{}"), *kept[1:])


def _stability_reading(study: RegimeStudy) -> str:
    return ONE_QUARTER if study.stability.empty else STABILITY_READING


def _facts(study: RegimeStudy) -> str:
    times = study.scores.index
    return (
        f"Bars: {describe_market(study.market)}. Learned anew every quarter on all bars before it; asked at "
        f"{len(times):,} decision times, {times[0]:%Y-%m-%d %H:%M} to {times[-1]:%Y-%m-%d %H:%M} UTC. The "
        f"market's chain observes {', '.join(study.observed)}."
    )


def _text(value: Any, form: str) -> str:
    return "–" if not isinstance(value, str) and pd.isna(value) else form.format(value)


def _markdown(rows: pd.DataFrame, columns: Columns) -> list[str]:
    head = [f"| {' | '.join(words for _, words, _ in columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    cells = [[_text(row[name], form) for name, _, form in columns] for row in rows.to_dict("records")]
    return head + [f"| {' | '.join(line)} |" for line in cells]


def _html(rows: pd.DataFrame, columns: Columns) -> str:
    head = "".join(f"<th>{escape(words)}</th>" for _, words, _ in columns)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(_text(row[name], form))}</td>' for name, _, form in columns)}</tr>"
        for row in rows.to_dict("records")
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _figure(figure: Any) -> str:
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
    return drawn
