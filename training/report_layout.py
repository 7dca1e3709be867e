"""How a report's pictures are laid out: a panel per horizon and level, a colour and a place per model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from features.durations import parse_duration
from training.benchmark import Benchmark

#: Told apart by colour-blind readers too (Okabe, Ito 2008, and three more); the reference is grey.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#6a3d9a", "#8c564b", "#17becf"),
)
REFERENCE_COLOUR = "#666666"


def by_case(benchmark: Benchmark, marks: Mapping[str, tuple[str, str]]) -> Any:
    """Columns of the table as marks, models side by side within each horizon and level."""
    horizons, levels = cases_of(benchmark)
    cases = [(horizon, level) for level in levels for horizon in horizons]
    figure = go.Figure()
    for model in benchmark.plan.names:
        own = benchmark.table[benchmark.table["model"] == model].set_index(["horizon", "level"])
        for column, (symbol, words) in marks.items():
            figure.add_trace(
                go.Scatter(
                    x=[number + place_of(benchmark, model) for number in range(len(cases))],
                    y=own[column].loc[cases],
                    mode="markers",
                    name=model,
                    legendgroup=model,
                    showlegend=column == next(iter(marks)),
                    marker={"color": colour(benchmark, model), "size": 11, "symbol": symbol},
                    customdata=[f"{h}, {percent(level)}" for h, level in cases],
                    hovertemplate=f"{model}, %{{customdata}}, {words}: %{{y:.2f}}<extra></extra>",
                )
            )
    figure.add_hline(y=1, line={"color": "#999999", "width": 1, "dash": "dash"})
    for number in range(1, len(cases)):
        figure.add_vline(x=number - 0.5, line={"color": "#eeeeee", "width": 1})
    figure.update_xaxes(
        showgrid=False,
        zeroline=False,
        tickvals=list(range(len(cases))),
        ticktext=[f"{h}<br>{percent(level)}" for h, level in cases],
    )
    figure.update_yaxes(title_text="seen / promised", rangemode="tozero")
    sized(figure, 380)
    return figure


def grid(
    benchmark: Benchmark,
    table: pd.DataFrame,
    draw: Callable[[str, pd.DataFrame], Any],
    unit: str,
    zero: float,
) -> Any:
    """A row per level, a column per horizon, a trace per model, and a line at ``zero``."""
    horizons, levels = cases_of(benchmark)
    figure = case_subplots(horizons, levels)
    for row, level in enumerate(levels, start=1):
        for column, horizon in enumerate(horizons, start=1):
            here = table[(table["horizon"] == horizon) & (table["level"] == level)]
            for model in benchmark.plan.names:
                own = here[here["model"] == model]
                if own.empty:
                    continue
                trace = draw(model, own)
                trace.update(name=model, legendgroup=model, showlegend=row == column == 1)
                figure.add_trace(trace, row, column)
            figure.add_hline(
                y=zero, line={"color": "#999999", "width": 1, "dash": "dash"}, row=row, col=column
            )
    figure.update_yaxes(title_text=unit, col=1)
    sized(figure, 70 + 240 * len(levels))
    return figure


def case_subplots(horizons: Sequence[str], levels: Sequence[float]) -> Any:
    return make_subplots(
        rows=len(levels),
        cols=len(horizons),
        subplot_titles=[f"{horizon}, {percent(level)}" for level in levels for horizon in horizons],
        horizontal_spacing=0.05,
        vertical_spacing=0.3 / max(len(levels), 2),
    )


def line(benchmark: Benchmark, model: str, x: Any, y: Any, dash: str = "solid") -> Any:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colour(benchmark, model), "width": 1.7, "dash": dash},
        hovertemplate=f"{model}: %{{y:.3f}}<extra></extra>",
    )


def sized(figure: Any, height: int) -> None:
    figure.update_layout(
        height=height,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 62, "b": 40},
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#222222"},
        # Along the top edge, above the titles of the panels, however high the figure is.
        legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0},
        hoverlabel={"namelength": -1},
    )
    figure.update_annotations(font={"size": 12})


def cases_of(benchmark: Benchmark) -> tuple[list[str], list[float]]:
    return sorted(benchmark.table["horizon"].unique(), key=parse_duration), sorted(benchmark.plan.levels)


def colour(benchmark: Benchmark, model: str) -> str:
    place = benchmark.plan.names.index(model)
    return REFERENCE_COLOUR if place == 0 else COLOURS[(place - 1) % len(COLOURS)]


def place_of(benchmark: Benchmark, model: str) -> float:
    """Where a model's mark stands beside the others', in [-0.3, 0.3]."""
    names = benchmark.plan.names
    return 0.6 * ((names.index(model) + 0.5) / len(names) - 0.5)


def percent(level: float) -> str:
    return f"{100 * level:g} %"
