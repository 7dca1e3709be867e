"""The report of an ablation: a table as Markdown and parquet, and one HTML file with a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from features.atomic import written_whole
from features.bars import Market
from features.durations import parse_duration
from training.ablation import UNCORRECTED, Ablation, over_seeds
from training.dataset import describe_market
from training.report_layout import COLOURS, REFERENCE_COLOUR, sized

SCORES_FILE, TRIALS_FILE, TABLE_FILE, PAGE_FILE = (
    "ablation.parquet",
    "trials.parquet",
    "ablation.md",
    "ablation.html",
)
_READING = (
    "Differences of FZ0 in percent units, below 0 is better: of 'without X' to 'all', of the others to "
    "'core'. t is HAC over decision times; of several seeds, the one nearest to 0."
)


def markdown(ablation: Ablation) -> str:
    """The scores over seeds, and in how many trials each family was kept."""
    lines = [
        "| horizon | level | variant | FZ0 | hits/promised | difference | to | t (nearest 0) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in over_seeds(ablation.scores).to_dict("records"):
        own = row["variant"] == row["reference"]
        lines.append(
            f"| {row['horizon']} | {row['level']:g} | {row['variant']} | {row['fz0']:.4f} | "
            f"{row['hit_ratio']:.2f} | {'' if own else format(row['difference'], '+.4f')} | "
            f"{'' if own else row['reference']} | {'' if own else format(row['t_weakest'], '+.1f')} |"
        )
    lines += ["", "| horizon | family | kept | t of its trials |", "| --- | --- | --- | --- |"]
    for (horizon, family), rows in ablation.trials.groupby(["horizon", "family"], sort=False):
        lines.append(
            f"| {horizon} | {family} | {int(rows['kept'].sum())} of {len(rows)} | "
            f"{rows['t'].min():+.1f} to {rows['t'].max():+.1f} |"
        )
    return "\n".join(lines) + "\n"


def picture(ablation: Ablation) -> Any:
    """Differences by variant: a panel a horizon, a dot a seed, a colour a level."""
    scores = ablation.scores[ablation.scores["variant"] != ablation.scores["reference"]]
    horizons = sorted(scores["horizon"].unique(), key=parse_duration)
    levels = sorted(scores["level"].unique())
    figure = make_subplots(cols=len(horizons), subplot_titles=horizons, shared_yaxes=True)
    for column, horizon in enumerate(horizons, start=1):
        for level, colour in zip(levels, COLOURS, strict=False):
            rows = scores[(scores["horizon"] == horizon) & (scores["level"] == level)]
            figure.add_trace(
                go.Scatter(
                    x=rows["difference"],
                    y=rows["variant"],
                    mode="markers",
                    name=f"{level:g}",
                    legendgroup=f"{level:g}",
                    showlegend=column == 1,
                    marker={"color": colour, "size": 9, "opacity": 0.8},
                    customdata=rows[["seed", "t"]],
                    hovertemplate="seed %{customdata[0]}: %{x:.4f}, t %{customdata[1]:.1f}<extra></extra>",
                ),
                row=1,
                col=column,
            )
        figure.add_vline(x=0, line={"color": REFERENCE_COLOUR, "width": 1, "dash": "dash"}, row=1, col=column)
    names = [v for v in dict.fromkeys(scores["variant"]) if v != UNCORRECTED] + [UNCORRECTED]
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    figure.update_xaxes(title_text="difference of FZ0")
    sized(figure, 160 + 32 * len(names))
    return figure


def write_ablation(ablation: Ablation, market: Market, folder: Path) -> None:
    """Write tables and page into the folder, each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, name in ((ablation.scores, SCORES_FILE), (ablation.trials, TRIALS_FILE)):
        with written_whole(folder / name) as draft:
            table.to_parquet(draft, index=False)
    with written_whole(folder / TABLE_FILE) as draft:
        draft.write_text(markdown(ablation), encoding="utf-8")
    figure = picture(ablation).to_html(full_html=False, include_plotlyjs=True)
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>What families are worth</title>"
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}"
        "th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #eee}</style></head><body>"
        f"<h1>What families of inputs are worth</h1><p>{describe_market(market)}</p><p>{_READING}</p>"
        f"{figure}{_html(over_seeds(ablation.scores))}</body></html>"
    )
    with written_whole(folder / PAGE_FILE) as draft:
        draft.write_text(page, encoding="utf-8")


def _html(table: pd.DataFrame) -> str:
    return str(table.to_html(index=False, float_format=lambda x: f"{x:.4f}", border=0))
