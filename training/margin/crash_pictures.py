"""Pictures of a margin through crashes, and through the days with the largest losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from models.forecast.base import SIDES
from training.margin.measures import MarginMeasures
from training.margin.pictures import colour
from training.report_layout import sized

#: How much is shown before and after.
AROUND = pd.Timedelta(days=2)
#: How many of the worst days are shown.
WORST_DAYS = 3


def crashes(measures: MarginMeasures) -> Any:
    """A row per crash: the first symbol's long maintenance margin with its losses, and its multiplier.

    None where the decision times cover no crash.
    """
    through = measures.through_crashes
    seen = [crash for crash in measures.windows if crash.name in set(through["crash"])]
    if not seen:
        return None
    kind = measures.kinds[0]
    symbol = next(symbol for symbol in measures.market.symbols if symbol in set(through["symbol"]))
    titles = [
        title
        for crash in seen
        for title in (
            f"{crash.name}: {symbol} long, {kind} margin and losses",
            "multiplier, and the worst hour",
        )
    ]
    figure = make_subplots(
        rows=len(seen),
        cols=2,
        subplot_titles=titles,
        horizontal_spacing=0.07,
        vertical_spacing=min(0.1, 0.4 / len(seen)),
    )
    for row, crash in enumerate(seen, start=1):
        span = crash.start - AROUND, crash.end + AROUND
        _draw_margins(figure, measures, kind, (symbol, SIDES[0]), span, row, first=row == 1)
        worst = through[(through["crash"] == crash.name) & (through["symbol"] == symbol)].iloc[0]
        for name in measures.series:
            margin = measures.margins.get((name, kind))
            if margin is None:
                continue
            column = margin.contracts.index((symbol, SIDES[0]))
            near = (margin.times >= span[0]) & (margin.times <= span[1])
            figure.add_trace(
                go.Scatter(
                    x=margin.times[near],
                    y=margin.multiplier[near, column],
                    mode="lines",
                    line={"color": colour(measures, name), "width": 1.7, "shape": "hv"},
                    legendgroup=name,
                    showlegend=False,
                    hovertemplate=f"{name}: %{{y:.2f}}<extra></extra>",
                ),
                row=row,
                col=2,
            )
        figure.add_vline(x=worst["hour_begins"], line={"color": "#222222", "width": 1}, row=row, col=2)
    figure.update_yaxes(title_text="% of notional", rangemode="tozero", col=1)
    figure.update_yaxes(title_text="x base rate", col=2)
    figure.update_layout(bargap=0)
    _sized(figure, measures, len(seen))
    return figure


def worst_days(measures: MarginMeasures) -> Any:
    """The days with the largest losses over the shortest horizon, one contract and side each.

    Days are chosen by the loss itself, not by anybody's shortfall.
    """
    kind = measures.kinds[0]
    margin = next(m for (_, other), m in measures.margins.items() if other == kind)
    loss = np.where(np.isnan(margin.rate) | np.isnan(margin.loss), -np.inf, margin.loss)
    largest = pd.DataFrame({"loss": loss.max(axis=1), "column": loss.argmax(axis=1)}, index=margin.times)
    days = margin.times.floor("D")
    best = largest.loc[largest.groupby(days)["loss"].idxmax()].nlargest(WORST_DAYS, "loss")
    titles = [
        f"{' '.join(margin.contracts[int(column)])}, {time:%Y-%m-%d %H:%M} UTC"
        for time, column in best["column"].items()
    ]
    figure = make_subplots(rows=len(best), cols=1, subplot_titles=titles, vertical_spacing=0.09)
    for row, (time, column) in enumerate(best["column"].items(), start=1):
        assert isinstance(time, pd.Timestamp)
        span = time - AROUND, time + AROUND
        contract = margin.contracts[int(column)]
        _draw_margins(figure, measures, kind, contract, span, row, first=row == 1, required=True)
    figure.update_yaxes(title_text="% of notional", rangemode="tozero")
    figure.update_layout(bargap=0)
    _sized(figure, measures, len(best))
    return figure


def _sized(figure: Any, measures: MarginMeasures, rows: int) -> None:
    """As high as its rows, with room above for a legend of several lines."""
    lines = -(-2 * len(measures.series) // 6)
    sized(figure, 60 + 20 * lines + 260 * rows)
    figure.update_layout(margin_t=45 + 20 * lines)


def _draw_margins(
    figure: Any,
    measures: MarginMeasures,
    kind: str,
    contract: tuple[str, str],
    span: tuple[pd.Timestamp, pd.Timestamp],
    row: int,
    *,
    first: bool,
    required: bool = False,
) -> None:
    """Losses as bars and served rates as steps, in the first column; required rates too where they differ."""
    drawn = False
    for name in measures.series:
        margin = measures.margins.get((name, kind))
        if margin is None or contract not in margin.contracts:
            continue
        column = margin.contracts.index(contract)
        near = (margin.times >= span[0]) & (margin.times <= span[1])
        times = margin.times[near]
        if not drawn:
            figure.add_trace(
                go.Bar(
                    x=times,
                    y=100 * np.maximum(margin.loss[near, column], 0),
                    marker={"color": "#bbbbbb", "line": {"width": 0}},
                    name="loss that followed",
                    legendgroup="loss",
                    showlegend=first,
                    hovertemplate="loss: %{y:.2f} %<extra></extra>",
                ),
                row=row,
                col=1,
            )
            drawn = True
        lines = [("served", margin.rate, "solid", True)]
        if required and not np.array_equal(margin.rate, margin.required, equal_nan=True):
            lines.append(("required", margin.required, "dot", False))
        for what, rate, dash, shown in lines:
            figure.add_trace(
                go.Scatter(
                    x=times,
                    y=100 * rate[near, column],
                    mode="lines",
                    line={"color": colour(measures, name), "width": 1.7, "dash": dash, "shape": "hv"},
                    name=name if shown else f"{name}, required",
                    legendgroup=name if shown else f"{name} required",
                    showlegend=first,
                    visible=True if shown else "legendonly",
                    hovertemplate=f"{name}, {what}: %{{y:.2f}} %<extra></extra>",
                ),
                row=row,
                col=1,
            )
