"""The report of an ablation: a table as Markdown and parquet, and one HTML file with a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

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

_TRIALS_READING = (
    "Tried on the training window of each fold and seed, before the span above: a family is kept where the t "
    "of its squared errors is low enough."
)
_NOT_TRIED = (
    "No family was tried: the training windows have too few rows. All variants are the uncorrected model."
)

#: What the columns of the two tables are called.
_SCORES_HEAD = ("horizon", "level", "variant", "FZ0", "hits/promised", "difference", "to", "t (nearest 0)")
_TRIALS_HEAD = ("horizon", "family", "kept", "t of its trials")


def score_rows(ablation: Ablation) -> list[tuple[str, ...]]:
    """The scores over seeds as text, a row per horizon, level and variant."""
    scores = over_seeds(ablation.scores)
    scores = scores.assign(length=scores["horizon"].map(parse_duration))
    found = []
    for row in scores.sort_values(["length", "level"], kind="stable").to_dict("records"):
        own = row["variant"] == row["reference"]
        found.append(
            (
                *(row["horizon"], f"{row['level']:g}", row["variant"]),
                *(f"{row['fz0']:.4f}", f"{row['hit_ratio']:.2f}"),
                *(("", "", "") if own else (f"{row['difference']:+.4f}", row["reference"])),
                *(() if own else (f"{row['t_weakest']:+.1f}",)),
            )
        )
    return found


def trial_rows(ablation: Ablation) -> list[tuple[str, ...]]:
    """In how many trials each family was kept, as text; no row where the training windows were too short to
    try any."""
    if ablation.trials.empty:
        return []
    return [
        (
            *(str(horizon), str(family), f"{int(rows['kept'].sum())} of {len(rows)}"),
            f"{rows['t'].min():+.1f} to {rows['t'].max():+.1f}",
        )
        for (horizon, family), rows in ablation.trials.groupby(["horizon", "family"], sort=False)
    ]


def markdown(ablation: Ablation) -> str:
    """The scores over seeds, and in how many trials each family was kept."""
    scores, trials = score_rows(ablation), trial_rows(ablation)
    tables = [(_SCORES_HEAD, scores), *([(_TRIALS_HEAD, trials)] if trials else [])]
    return ("" if trials else f"{_NOT_TRIED}\n\n") + "\n".join(
        "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))
        for head, rows in tables
    )


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
    trials = trial_rows(ablation)
    figure = picture(ablation).to_html(full_html=False, include_plotlyjs=True)
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>What families are worth</title>"
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}"
        "th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #eee}"
        "th{border-bottom:2px solid #ccc;color:#555}</style></head><body>"
        f"<h1>What families of inputs are worth</h1><p>{describe_market(market)}</p><p>{_READING}</p>"
        f"{figure}{_html(_SCORES_HEAD, score_rows(ablation))}"
        f"<h2>Which families paid in their trials</h2>"
        f"{f'<p>{_TRIALS_READING}</p>{_html(_TRIALS_HEAD, trials)}' if trials else f'<p>{_NOT_TRIED}</p>'}"
        "</body></html>"
    )
    with written_whole(folder / PAGE_FILE) as draft:
        draft.write_text(page, encoding="utf-8")


def _html(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>{body}</table>"
