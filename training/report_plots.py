"""The pictures of a benchmark's report, drawn by plotly: each a figure and a sentence that says how to read
it.

A picture of which there is nothing to show (a span too short for 30 days of coverage, no rival of the
reference) is None. Ratios are hits over those promised; losses, VaR and ES in percent; FZ0 in percent units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from training.benchmark import Benchmark
from training.report_layout import (
    by_case,
    case_subplots,
    cases_of,
    colour,
    grid,
    line,
    percent,
    place_of,
    sized,
)

GROUPS = ("weekday", "weekend", "calm", "normal", "stressed", "crisis", "unknown")
WORST_DAYS = 3
AROUND = pd.Timedelta(days=3)
TOP_INPUTS = 10
ALONE = "There is no model beside the reference."
NOT_ASKED = "It was not asked for, or no decision time had all it takes."


@dataclass(frozen=True)
class Picture:
    """A figure under a title, with the sentence below it. ``figure`` is None where there is nothing to show,
    and the sentence says why."""

    title: str
    figure: Any
    reading: str


def pictures(benchmark: Benchmark) -> list[Picture]:
    """All of them, in the order of the report."""
    draw: list[Callable[[Benchmark], Picture]] = [
        *(reliability, excursions, cumulative_difference, by_symbol, rolling, by_hour, by_group),
        *(worst_days, importance),
    ]
    return [picture(benchmark) for picture in draw]


def reliability(benchmark: Benchmark) -> Picture:
    figure = by_case(benchmark, {"hit_ratio": ("circle", "hits")})
    return Picture(
        "Reliability",
        figure,
        "Losses beyond VaR over those promised, all symbols and sides; on the line at 1 VaR was right, above "
        "it too little margin was asked for, below it too much.",
    )


def excursions(benchmark: Benchmark) -> Picture:
    figure = by_case(
        benchmark,
        {
            "excursion_ratio": ("circle", "worst on the way beyond VaR"),
            "es_excursion_ratio": ("diamond-open", "beyond ES"),
        },
    )
    return Picture(
        "Excursions",
        figure,
        "The worst loss on the way, from lows and highs, over what VaR promises for the close: a position "
        "is closed out when it is worst. Discs: beyond VaR on the way; diamonds: beyond ES.",
    )


def cumulative_difference(benchmark: Benchmark) -> Picture:
    reference = benchmark.plan.reference
    title = f"FZ0 gained on {reference} over time"
    if benchmark.daily.empty:
        return Picture(title, None, ALONE)

    def draw(model: str, rows: pd.DataFrame) -> Any:
        ordered = rows.sort_values("time")
        return line(benchmark, model, ordered["time"], ordered["difference"].cumsum())

    return Picture(
        title,
        grid(benchmark, benchmark.daily, draw, "sum of differences", zero=0.0),
        f"The running sum of FZ0 less that of {reference}, averaged over symbols and sides: a line that "
        f"falls steadily is a model that is better all the time, one step is a single event.",
    )


def by_symbol(benchmark: Benchmark) -> Picture:
    reference = benchmark.plan.reference
    rivals = [name for name in benchmark.plan.names if name != reference]
    title = f"FZ0 against {reference} by symbol"
    if not rivals:
        return Picture(title, None, ALONE)
    horizons, levels = cases_of(benchmark)
    figure = case_subplots(horizons, levels)
    found = benchmark.symbols[benchmark.symbols["model"] != reference]
    for row, level in enumerate(levels, start=1):
        for column, horizon in enumerate(horizons, start=1):
            here = found[(found["horizon"] == horizon) & (found["level"] == level)]
            wide = here.pivot(index="model", columns="symbol", values="difference")
            wide = wide.loc[rivals[::-1], list(benchmark.market.symbols)]
            figure.add_trace(
                go.Heatmap(
                    z=wide.to_numpy(),
                    x=list(wide.columns),
                    y=list(wide.index),
                    coloraxis="coloraxis",
                    texttemplate="%{z:.2f}",
                    textfont={"size": 10},
                    hovertemplate="%{y}, %{x}: %{z:+.4f}<extra></extra>",
                ),
                row,
                column,
            )
    largest = float(found["difference"].abs().quantile(0.95)) or 1.0
    figure.update_layout(
        coloraxis={
            "colorscale": "RdBu_r",
            "cmin": -largest,
            "cmax": largest,
            "colorbar": {"title": "FZ0", "thickness": 12},
        }
    )
    figure.update_yaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=True, col=1)
    figure.update_xaxes(showticklabels=False)
    figure.update_xaxes(showticklabels=True, tickangle=-35, row=len(levels))
    sized(figure, 60 + len(levels) * (110 + 26 * len(rivals)))
    return Picture(
        title, figure, f"Mean FZ0 less that of {reference}: blue is better, red is worse, white is the same."
    )


def rolling(benchmark: Benchmark) -> Picture:
    title = "Coverage over 30 days"
    if benchmark.rolling.empty:
        return Picture(title, None, "The span is shorter than 30 days.")

    def draw(model: str, rows: pd.DataFrame) -> Any:
        return line(benchmark, model, rows["time"], rows["hit_ratio"])

    return Picture(
        title,
        grid(benchmark, benchmark.rolling, draw, "hits / promised", zero=1.0),
        "Hits over those promised in the 30 days before: a model that is right on the whole may still be "
        "wrong for a month, above 1 when margin was too low.",
    )


def by_hour(benchmark: Benchmark) -> Picture:
    hours = benchmark.coverage[benchmark.coverage["by"] == "hour"]

    def draw(model: str, rows: pd.DataFrame) -> Any:
        return line(benchmark, model, rows["group"].astype(int), rows["hit_ratio"])

    return Picture(
        "Coverage by hour of the day",
        grid(benchmark, hours, draw, "hits / promised", zero=1.0),
        "By the hour (UTC) of the decision: a hump is an hour that the model does not see coming. With few "
        "hits an hour, lines are jagged by chance.",
    )


def by_group(benchmark: Benchmark) -> Picture:
    groups = benchmark.coverage[benchmark.coverage["by"] != "hour"]
    seen = [group for group in GROUPS if group in set(groups["group"])]

    def draw(model: str, rows: pd.DataFrame) -> Any:
        found = rows.set_index("group").reindex(seen)
        place = place_of(benchmark, model)
        return go.Scatter(
            x=[number + place for number in range(len(seen))],
            y=found["hit_ratio"],
            mode="markers",
            marker={"color": colour(benchmark, model), "size": 8},
            customdata=[
                f"{group}: {hits:.0f} hits, {promised:.1f} promised"
                for group, hits, promised in zip(seen, found["hits"], found["promised"], strict=True)
            ],
            hovertemplate=f"{model}, %{{customdata}} (%{{y:.2f}})<extra></extra>",
        )

    figure = grid(benchmark, groups, draw, "hits / promised", zero=1.0)
    figure.update_xaxes(tickvals=list(range(len(seen))), ticktext=seen, showgrid=False, zeroline=False)
    return Picture(
        "Coverage on weekends and by regime",
        figure,
        "Regimes are those known at the decision, learned before the span began: margin that is right on "
        "average can be too low just when it counts, in the points above 1 under stressed and crisis. "
        "Hovering over a point tells how few hits it may rest on.",
    )


def worst_days(benchmark: Benchmark) -> Picture:
    """Days are chosen by the loss itself; the reference and the best model are shown, others on a click."""
    horizons, levels = cases_of(benchmark)
    horizon, level = horizons[0], levels[-1]
    scored = benchmark.scored
    picked = scored[(scored["horizon"] == horizon) & (scored["level"] == level)]
    reference = benchmark.plan.reference
    base = picked[picked["model"] == reference]
    worst = base.loc[base.groupby(base["time"].dt.floor("D"))["loss"].idxmax()].nlargest(WORST_DAYS, "loss")
    table = benchmark.table
    case = table[(table["horizon"] == horizon) & (table["level"] == level)]
    best = str(case.sort_values("fz0")["model"].iloc[0])
    days = worst.to_dict("records")
    titles = [f"{day['symbol']} {day['side']}, {day['time']:%Y-%m-%d %H:%M} UTC" for day in days]
    figure = make_subplots(rows=len(days), cols=1, subplot_titles=titles, vertical_spacing=0.08)
    for row, day in enumerate(days, start=1):
        near = picked[
            (picked["symbol"] == day["symbol"])
            & (picked["side"] == day["side"])
            & picked["time"].between(day["time"] - AROUND, day["time"] + AROUND)
        ].sort_values("time")
        losses = near[near["model"] == reference]
        figure.add_trace(
            go.Bar(
                x=losses["time"],
                y=100 * losses["loss"].clip(lower=0),
                marker={"color": "#bbbbbb", "line": {"width": 0}},
                name="loss",
                showlegend=row == 1,
                legendgroup="loss",
            ),
            row,
            1,
        )
        for model in benchmark.plan.names:
            own = near[near["model"] == model]
            for score, dash in (("var", "solid"), ("es", "dot")):
                trace = line(benchmark, model, own["time"], 100 * own[score], dash)
                trace.update(
                    name=f"{score.upper() if score == 'es' else 'VaR'} {model}",
                    showlegend=row == 1,
                    legendgroup=f"{model} {score}",
                    visible=True if model in {best, reference} else "legendonly",
                )
                figure.add_trace(trace, row, 1)
    figure.update_yaxes(title_text="% of price", rangemode="tozero")
    figure.update_layout(bargap=0)
    sized(figure, 70 + 250 * len(days))
    return Picture(
        "VaR and ES around the worst days",
        figure,
        f"Losses over {horizon} (bars), VaR (solid) and ES (dotted) at {percent(level)}: a good forecast "
        f"rises before the bars do and falls soon after. A click in the legend shows another model.",
    )


def importance(benchmark: Benchmark) -> Picture:
    title = "What the models live on"
    found = benchmark.importance
    if found.empty:
        return Picture(title, None, NOT_ASKED)
    mean = found.groupby(["model", "feature"])["importance"].mean()
    gain = found.groupby(["model", "feature"])["gain"].mean()
    models = [name for name in benchmark.plan.names if name in mean.index]
    columns = min(3, len(models))
    rows = -(-len(models) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=models,
        horizontal_spacing=0.14,
        vertical_spacing=0.3 / max(rows, 2),
    )
    for place, model in enumerate(models):
        row, column = place // columns + 1, place % columns + 1
        top = mean.loc[model].loc[lambda values: values != 0].nlargest(TOP_INPUTS)[::-1]
        figure.add_trace(
            go.Bar(
                x=top.to_numpy(),
                y=list(top.index),
                orientation="h",
                marker={"color": colour(benchmark, model)},
                customdata=[
                    "" if np.isnan(share) else f", {share:.1%} of the trees' gain"
                    for share in gain.loc[model].loc[list(top.index)]
                ],
                hovertemplate="%{y}: %{x:+.4f}%{customdata}<extra></extra>",
                showlegend=False,
            ),
            row,
            column,
        )
        # Room for as many bars in every panel, so that all are as thick.
        figure.update_yaxes(range=[len(top) - TOP_INPUTS - 0.5, len(top) - 0.5], row=row, col=column)
    figure.update_yaxes(tickfont={"size": 10}, showgrid=False)
    sized(figure, 60 + 270 * rows)
    return Picture(
        title,
        figure,
        "How much FZ0 rises when one input is shuffled in time, for the model fitted before the span, mean "
        "over horizons and levels: the longer the bar, the more the forecast hangs on that input. Inputs "
        "that say the same share their worth. Hovering over a bar tells its share of the trees' gain.",
    )
