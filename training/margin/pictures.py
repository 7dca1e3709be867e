"""Pictures of the measures of a margin table; rates in percent of notional, shortfall per million of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from models.margin.types import RUNGS
from training.margin.measures import MarginMeasures, common_rows
from training.margin.procyclicality import RISE_DAYS
from training.margin.served import ServedMargin
from training.margin.shortfall import MILLION, shortfalls
from training.report_layout import COLOURS, REFERENCE_COLOUR, sized

#: Constants by which a margin is scaled for the curve of margin against shortfall.
SCALES = np.linspace(0.4, 1.6, 49)
#: The ladder from the model down: calm colours first.
RUNG_COLOURS = ("#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#7a0019")
_GREY_LINE = {"color": "#999999", "width": 1, "dash": "dash"}


def colour(measures: MarginMeasures, series: str) -> str:
    """Each series has one colour; the one that the others are scaled to is grey."""
    if series == measures.equal_to:
        return REFERENCE_COLOUR
    others = [name for name in measures.series if name != measures.equal_to]
    return COLOURS[others.index(series) % len(COLOURS)]


def ratios(measures: MarginMeasures) -> Any:
    """The ratio of each series with its interval, a panel a kind."""
    figure = _by_kind(measures)
    names = [name for name in measures.series if name != measures.equal_to]
    for column, kind in enumerate(measures.kinds, start=1):
        own = measures.summary[measures.summary["kind"] == kind].set_index("series")
        for name in (name for name in names if name in own.index):
            row = own.loc[name]
            error = {
                "symmetric": False,
                "array": [row["ratio_high"] - row["ratio"]],
                "arrayminus": [row["ratio"] - row["ratio_low"]],
                "thickness": 1.5,
            }
            figure.add_trace(
                go.Scatter(
                    x=[row["ratio"]],
                    y=[name],
                    mode="markers+text",
                    text=[f"{row['ratio']:.3f}"],
                    textposition="top center",
                    marker={"color": colour(measures, name), "size": 11},
                    error_x=None if np.isnan(row["ratio_low"]) else error,
                    hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
                    showlegend=False,
                ),
                row=1,
                col=column,
            )
        figure.add_vline(x=1, line=_GREY_LINE, row=1, col=column)
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    figure.update_yaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=True, col=1)
    title = f"average margin at equal shortfall / that of {measures.equal_to}"
    figure.update_xaxes(title_text=title, matches="x")
    sized(figure, 130 + 55 * max(len(names), 2))
    figure.update_yaxes(range=[-0.6, len(names) - 0.3])
    return figure


def margin_against_shortfall(measures: MarginMeasures) -> Any:
    """Each series scaled by many constants: a curve of mean margin against mean shortfall, a panel a kind."""
    figure = _by_kind(measures)
    shared = common_rows(measures.margins)
    for column, kind in enumerate(measures.kinds, start=1):
        for name in measures.series:
            if (name, kind) not in shared:
                continue
            margin = shared[name, kind]
            known = ~(np.isnan(margin.rate) | np.isnan(margin.loss))
            rate, loss = margin.rate[known], margin.loss[known]
            positive = loss > SCALES[0] * rate  # no other row has a shortfall at any of the constants
            short = [
                MILLION * float(np.maximum(loss[positive] - c * rate[positive], 0).sum()) / rate.size
                for c in SCALES
            ]
            mean = 100 * float(rate.mean())
            here = {"color": colour(measures, name)}
            figure.add_trace(
                go.Scatter(
                    x=mean * SCALES,
                    y=short,
                    mode="lines",
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    line={**here, "width": 1.7},
                    customdata=SCALES,
                    hovertemplate=f"{name} x %{{customdata:.2f}}: %{{x:.2f}} %, %{{y:.1f}}<extra></extra>",
                ),
                row=1,
                col=column,
            )
            own = MILLION * float(np.maximum(loss - rate, 0).sum()) / rate.size
            figure.add_trace(
                go.Scatter(
                    x=[mean],
                    y=[own],
                    mode="markers",
                    marker={**here, "size": 10},
                    showlegend=False,
                    legendgroup=name,
                    hovertemplate=f"{name}: %{{x:.2f}} %, %{{y:.1f}}<extra></extra>",
                ),
                row=1,
                col=column,
            )
            if name == measures.equal_to:
                figure.add_hline(y=own, line=_GREY_LINE, row=1, col=column)
    figure.update_xaxes(title_text="average margin, % of notional")
    figure.update_yaxes(type="log", dtick="D2")
    figure.update_yaxes(title_text="mean shortfall, per million", col=1)
    sized(figure, 400)
    return figure


def over_time(measures: MarginMeasures) -> Any:
    """The daily mean over contracts of each served rate, a panel a kind."""

    def daily(margin: ServedMargin) -> pd.Series[float]:
        return 100 * _mean_over_contracts(margin).resample("1D").mean().dropna()

    figure = _lines(measures, daily, "%{y:.2f} %")
    figure.update_yaxes(title_text="% of notional", rangemode="tozero", col=1)
    return figure


def cumulated_shortfall(measures: MarginMeasures) -> Any:
    """The running sum of the shortfall over all contracts, a panel a kind."""
    shared = common_rows(measures.margins)

    def running(margin: ServedMargin) -> pd.Series[float]:
        own = shared[margin.series, margin.kind]
        beyond = np.nan_to_num(shortfalls(own.loss, own.rate)).sum(axis=1)
        return pd.Series(beyond, index=margin.times).resample("1D").sum().cumsum()

    figure = _lines(measures, running, "%{y:.2f}")
    figure.update_yaxes(title_text="sum of losses beyond margin, notionals", col=1)
    return figure


def rises(measures: MarginMeasures) -> Any:
    """The largest rise within 1, 5 and 30 days: mean over contracts as bars, worst contract as marks."""
    figure = _by_kind(measures)
    words = [f"{days} d" for days in RISE_DAYS]
    for column, kind in enumerate(measures.kinds, start=1):
        own = measures.procyclicality[measures.procyclicality["kind"] == kind].set_index("series")
        for name in (name for name in measures.series if name in own.index):
            row = own.loc[name]
            for suffix in ("", "_worst"):
                values = [100 * row[f"rise_{days}d{suffix}"] for days in RISE_DAYS]
                shown = {
                    **{"x": words, "y": values, "name": name, "legendgroup": name, "offsetgroup": name},
                    "hovertemplate": f"{name}, {'worst' if suffix else 'mean'}: +%{{y:.0f}} %<extra></extra>",
                }
                marker = {"color": colour(measures, name)}
                trace = (
                    go.Scatter(
                        **shown, mode="markers", marker={**marker, "symbol": "line-ew-open", "size": 12}
                    )
                    if suffix
                    else go.Bar(**shown, marker=marker)
                )
                trace.update(showlegend=not suffix and column == 1)
                figure.add_trace(trace, row=1, col=column)
    figure.update_layout(barmode="group", scattermode="group", bargap=0.25)
    figure.update_yaxes(title_text="largest rise, %", col=1)
    sized(figure, 360)
    return figure


def time_on_rungs(measures: MarginMeasures) -> Any:
    """Bars of the share of time on each rung, a bar a series and symbol; None where no engine answered."""
    rungs = measures.rungs
    if rungs.empty:
        return None
    labels = [rungs["series"], rungs["symbol"]]
    figure = go.Figure(
        [
            go.Bar(
                y=labels,
                x=100 * rungs[rung],
                name=rung,
                orientation="h",
                marker={"color": shade},
                hovertemplate=f"%{{y}}, {rung}: %{{x:.2f}} %<extra></extra>",
            )
            for rung, shade in zip(RUNGS, RUNG_COLOURS, strict=True)
        ]
    )
    figure.update_layout(barmode="stack", bargap=0.25, legend_traceorder="normal")
    figure.update_xaxes(title_text="% of decision times", range=[0, 100])
    figure.update_yaxes(autorange="reversed")
    sized(figure, 130 + 24 * len(rungs))
    return figure


def rules_that_bound(measures: MarginMeasures) -> Any:
    """How often each rule bound, a bar a series, a panel a kind; None where none did."""
    if measures.rules.empty:
        return None
    figure = _by_kind(measures)
    for column, kind in enumerate(measures.kinds, start=1):
        own = measures.rules[measures.rules["kind"] == kind]
        for name in (name for name in measures.series if name in set(own["series"])):
            rows = own[own["series"] == name]
            figure.add_trace(
                go.Bar(
                    y=rows["rule"],
                    x=100 * rows["share"],
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    orientation="h",
                    marker={"color": colour(measures, name)},
                    hovertemplate=f"{name}, %{{y}}: %{{x:.2f}} %<extra></extra>",
                ),
                row=1,
                col=column,
            )
    rules = list(dict.fromkeys(measures.rules.sort_values("share", ascending=False)["rule"]))
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_yaxes(categoryorder="array", categoryarray=rules[::-1], showticklabels=False)
    figure.update_yaxes(showticklabels=True, col=1)
    figure.update_xaxes(title_text="% of rows")
    sized(figure, 130 + 14 * len(rules) * (1 + measures.rules["series"].nunique()))
    return figure


def _by_kind(measures: MarginMeasures) -> Any:
    titles = [f"{kind}, {measures.horizons[kind]}" for kind in measures.kinds]
    return make_subplots(rows=1, cols=len(titles), subplot_titles=titles, horizontal_spacing=0.08)


def _lines(measures: MarginMeasures, draw: Callable[[ServedMargin], pd.Series[float]], value: str) -> Any:
    figure = _by_kind(measures)
    for column, kind in enumerate(measures.kinds, start=1):
        for name in (name for name in measures.series if (name, kind) in measures.margins):
            found = draw(measures.margins[name, kind])
            figure.add_trace(
                go.Scatter(
                    x=found.index,
                    y=found.to_numpy(),
                    mode="lines",
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    line={"color": colour(measures, name), "width": 1.5},
                    hovertemplate=f"{name}: {value}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    sized(figure, 360)
    return figure


def _mean_over_contracts(margin: ServedMargin) -> pd.Series[float]:
    known = ~np.isnan(margin.rate)
    count: NDArray[np.float64] = known.sum(axis=1).astype("float64")
    total = np.where(known, margin.rate, 0.0).sum(axis=1)
    return pd.Series(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0), margin.times)
