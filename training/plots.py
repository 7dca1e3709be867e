"""Pictures of a scored forecast table (``training.evaluation.with_losses``), for the run's page in MLflow.

Drawn on ``Figure`` objects alone, so no display and no global state is needed. Losses and VaR in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.figure import Figure

from features.durations import parse_duration

#: Makes pictures, by file name, of a scored table and the name of the model that they are about.
Draw = Callable[[pd.DataFrame, str], Mapping[str, Figure]]

#: How much is shown around a worst day, and over how long a coverage is averaged.
AROUND = pd.Timedelta(days=4)
WINDOW = pd.Timedelta(days=7)


def figures(scored: pd.DataFrame, model: str) -> dict[str, Figure]:
    """File name -> figure."""
    return {
        "worst_days.png": worst_days(scored, model),
        "reliability.png": reliability(scored),
        "rolling_coverage.png": rolling_coverage(scored, model),
    }


def worst_days(scored: pd.DataFrame, model: str, days: int = 3) -> Figure:
    """VaR of every model against the losses around the days with the largest losses, one symbol and side
    each.

    Shortest horizon, highest level. Days are chosen by the loss itself, not by the model's error.
    """
    horizon, level = _horizons(scored)[0], scored["level"].max()
    picked = scored[(scored["horizon"] == horizon) & (scored["level"] == level)]
    own = picked[picked["model"] == model]
    largest = own.loc[own.groupby(own["time"].dt.floor("D"))["loss"].idxmax()].nlargest(days, "loss")
    figure = Figure(figsize=(9, 2.6 * len(largest)), layout="constrained")
    axes = figure.subplots(len(largest), 1, squeeze=False)[:, 0]
    for ax, worst in zip(axes, largest.itertuples(), strict=True):
        near = picked[
            (picked["symbol"] == worst.symbol)
            & (picked["side"] == worst.side)
            & picked["time"].between(worst.time - AROUND, worst.time + AROUND)
        ]
        base = near[near["model"] == model].sort_values("time")
        ax.vlines(base["time"], 0, 100 * base["loss"], color="0.75", label="loss")
        for name, rows in near.groupby("model", sort=False):
            ordered = rows.sort_values("time")
            ax.plot(ordered["time"], 100 * ordered["var"], label=f"VaR {name}")
        hits = base[base["hit"]]
        ax.plot(hits["time"], 100 * hits["loss"], "v", color="crimson", label=f"beyond {model}")
        ax.set_title(f"{worst.symbol} {worst.side}, {horizon}, VaR {100 * level:g} %", fontsize=9)
        ax.set_ylabel("% of price")
        ax.legend(fontsize=7, loc="upper left")
    return figure


def reliability(scored: pd.DataFrame) -> Figure:
    """Hits over those promised, by horizon and level; 1 is right, above 1 too little margin."""
    ratio = (
        scored.assign(ratio=scored["hit"] / (1 - scored["level"]))
        .groupby(["horizon", "level", "model"], sort=False)["ratio"]
        .mean()
        .unstack("model")
    )
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    ax = figure.subplots()
    for name in ratio.columns:
        ax.plot(range(len(ratio)), ratio[name], "o", label=str(name))
    ax.axhline(1, color="0.5", linewidth=1)
    ax.set_xticks(range(len(ratio)), [f"{h}\n{100 * level:g} %" for h, level in ratio.index])
    ax.set_ylabel("hits / promised")
    ax.legend(fontsize=8)
    return figure


def rolling_coverage(scored: pd.DataFrame, model: str) -> Figure:
    """The hit ratio over the trailing week, all symbols and sides, a line per horizon, lowest level."""
    level = scored["level"].min()
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    ax = figure.subplots()
    own = scored[(scored["model"] == model) & (scored["level"] == level)]
    for horizon in _horizons(own):
        by_time = own[own["horizon"] == horizon].groupby("time")["hit"].mean() / (1 - level)
        ax.plot(by_time.rolling(WINDOW).mean().loc[by_time.index[0] + WINDOW :], label=horizon)
    ax.axhline(1, color="0.5", linewidth=1)
    ax.set_title(f"{model}: hit ratio over {WINDOW.days} days, VaR {100 * level:g} %", fontsize=9)
    ax.legend(fontsize=8)
    ax.tick_params(axis="x", labelrotation=20)
    return figure


def _horizons(scored: pd.DataFrame) -> list[str]:
    return sorted(scored["horizon"].unique(), key=parse_duration)
