"""The frontier of measured policies, for people: a table, a page and a picture.

Average margin in percent of notional, shortfall per million of it. A policy stands on the frontier of a kind
where no other policy is as good in average margin, total shortfall and the measure of procyclicality, and
better in one of them. A policy and a multiple of it are two points, as two levels are.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from plotly.subplots import make_subplots

from features.atomic import written_whole
from models.margin.types import KINDS
from training.margin.page import Columns, Section, anchor, figure_html, page, table_html
from training.margin.policy import POLICY_COLUMNS, Policy, non_dominated
from training.report_layout import sized

#: What procyclicality may be measured by, and how it is called.
PROCYCLICALITY = {
    "rise_1d": "largest rise in 1 day",
    "rise_5d": "largest rise in 5 days",
    "rise_30d": "largest rise in 30 days",
    "peak_to_trough": "peak to trough",
    "changes": "share of bars with a change",
}
COLUMNS: Columns = (
    *(("scale", "scale", "{:g}"), ("floor_of_base", "floor of base", "{:g}")),
    *(("release_ratio", "release", "{:.0%}"), ("fall_after_s", "fall after, s", "{:g}")),
    *(("down_limit_1h", "down in 1 h", "{:.0%}"), ("up_limit_1h", "up in 1 h", "{:.0%}")),
    *(("up_limit_24h", "up in 24 h", "{:.0%}"), ("mean_margin", "mean margin", "{:.2%}")),
    *(("mean_shortfall", "mean shortfall, per million", "{:.1f}"), ("coverage", "coverage", "{:.3%}")),
    *(("ratio", "margin ratio", "{:.3f}"), ("rise_1d", "rise in 1 d", "{:.1f}")),
    *(("rise_5d", "rise in 5 d", "{:.1f}"), ("rise_30d", "rise in 30 d", "{:.1f}")),
    *(("peak_to_trough", "peak to trough", "{:.1f}"), ("changes", "bars with a change", "{:.0%}")),
)
READING = (
    "Scale: the requirement of every rung times this, which is what another level would ask for. Mean margin "
    "is of notional; the margin ratio is the average margin over that of the static rate once its shortfall "
    "is the same; rises and the share of changes are means over contracts and sides."
)
PAGE_FILE, PICTURE_FILE = "policy.html", "frontier.png"


@dataclass(frozen=True)
class Frontier:
    """Measured policies (``policy.measured``, with a column ``stands``), the shipped one, and by which
    measure of procyclicality they were compared."""

    table: pd.DataFrame
    shipped: Policy
    by: str

    def of(self, kind: str) -> pd.DataFrame:
        """The policies of a kind, by average margin."""
        own = self.table[self.table["kind"] == kind]
        return own.sort_values(["mean_margin", *POLICY_COLUMNS])

    def is_shipped(self, rows: pd.DataFrame) -> pd.Series[bool]:
        """Which rows are the shipped policy."""
        return (rows[POLICY_COLUMNS] == np.array(astuple(self.shipped))).all(axis=1)

    def better(self, kind: str) -> pd.DataFrame:
        """The policies that dominate the shipped one."""
        rows = self.of(kind)
        values = rows[self.columns].to_numpy()
        own = values[self.is_shipped(rows).to_numpy()][0]
        better: pd.DataFrame = rows[(values <= own).all(axis=1) & (values < own).any(axis=1)]
        return better

    @property
    def columns(self) -> list[str]:
        """What is compared."""
        return ["mean_margin", "total_shortfall", self.by]


def frontier(measured: pd.DataFrame, shipped: Policy, by: str = "rise_1d") -> Frontier:
    """Mark the policies that no other dominates, kind by kind.

    Raises ``ValueError`` where ``by`` is no measure of procyclicality, the shipped policy was not measured,
    or a measure is NaN.
    """
    check_measure(by)
    found = Frontier(measured.assign(stands=False), shipped, by)
    if not found.is_shipped(measured).any():
        raise ValueError("the shipped policy is not among those that were measured; measure it too")
    for kind in KINDS:
        own = found.table["kind"] == kind
        found.table.loc[own, "stands"] = non_dominated(found.table.loc[own, found.columns].to_numpy())
    return found


def check_measure(by: str) -> None:
    """Raise ``ValueError`` where ``by`` is no measure of procyclicality."""
    if by not in PROCYCLICALITY:
        raise ValueError(f"procyclicality is measured by {by!r}; choose one of {sorted(PROCYCLICALITY)}")


def facts(found: Frontier, champion: str, times: pd.DatetimeIndex) -> str:
    """What was searched, in a sentence."""
    axes = [
        f"{name} {', '.join(f'{value:g}' for value in values)}"
        for name in POLICY_COLUMNS
        if len(values := sorted(found.table[name].unique())) > 1
    ]
    return (
        f"{len(found.table) // len(KINDS)} policies of {champion} through the engine, {times[0]:%Y-%m-%d} to "
        f"{times[-1]:%Y-%m-%d}: {'; '.join(axes) or 'the shipped one alone'}."
    )


def write_frontier(
    found: Frontier, champion: str, times: pd.DatetimeIndex, folder: Path
) -> tuple[Path, Path]:
    """Write the page and the picture into the folder, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = [
        Section(
            "Margin against shortfall",
            figure_html(drawn(found), anchor("frontier")),
            "Each disc is a policy; lower and further left is better. Its colour is the "
            f"{PROCYCLICALITY[found.by]}, its size the share of bars with a change. Discs with a "
            "dark edge are on the frontier of average "
            "margin, total shortfall and that measure; the dashed line joins those that stand in margin "
            "and shortfall alone. The star is the shipped policy.",
        )
    ]
    for kind in KINDS:
        rows = found.of(kind)
        better = found.better(kind)
        body = table_html(rows[found.is_shipped(rows)], COLUMNS)
        words = f"The shipped policy; {len(better)} of the others dominate it."
        sections.append(Section(f"Shipped, {kind}", body, words))
        if len(better):
            sections.append(Section(f"Better than shipped, {kind}", table_html(better, COLUMNS), READING))
        standing = table_html(rows[rows["stands"]], COLUMNS)
        sections.append(Section(f"Frontier, {kind}", standing, READING))
    text = page("Policies of the safety engine", facts(found, champion, times), sections)
    with written_whole(folder / PAGE_FILE) as draft:
        draft.write_text(text, encoding="utf-8")
    with written_whole(folder / PICTURE_FILE) as draft:
        picture(found).savefig(draft, dpi=130, format="png")
    return folder / PAGE_FILE, folder / PICTURE_FILE


def drawn(found: Frontier) -> Any:
    """The plotly figure: a panel a kind."""
    figure = make_subplots(cols=len(KINDS), rows=1, subplot_titles=[f"{kind} margin" for kind in KINDS])
    lowest, highest = found.table[found.by].min(), found.table[found.by].max()
    for column, kind in enumerate(KINDS, start=1):
        rows = found.of(kind)
        figure.add_trace(
            go.Scatter(
                x=100 * rows["mean_margin"],
                y=rows["mean_shortfall"],
                mode="markers",
                showlegend=False,
                marker={
                    "color": rows[found.by],
                    "colorscale": "Viridis",
                    "cmin": lowest,
                    "cmax": highest,
                    "showscale": column == len(KINDS),
                    "colorbar": {"title": {"text": PROCYCLICALITY[found.by].replace(" in ", "<br>in ")}},
                    "size": 7 + 18 * rows["changes"],
                    "line": {"color": "#111111", "width": np.where(rows["stands"], 1.8, 0.0)},
                },
                customdata=[_words(row) for row in rows.to_dict("records")],
                hovertemplate="%{customdata}<extra></extra>",
            ),
            row=1,
            col=column,
        )
        margin, shortfall = _lowest(rows)
        figure.add_trace(
            go.Scatter(
                x=margin,
                y=shortfall,
                mode="lines",
                name="least shortfall at a margin",
                showlegend=column == 1,
                line={"color": "#999999", "width": 1, "dash": "dash"},
                hoverinfo="skip",
            ),
            row=1,
            col=column,
        )
        own = rows[found.is_shipped(rows)]
        figure.add_trace(
            go.Scatter(
                x=100 * own["mean_margin"],
                y=own["mean_shortfall"],
                mode="markers",
                name="shipped",
                showlegend=column == 1,
                marker={
                    "symbol": "star",
                    "color": "#d55e00",
                    "size": 18,
                    "line": {"color": "white", "width": 1},
                },
                customdata=[_words(row) for row in own.to_dict("records")],
                hovertemplate="shipped: %{customdata}<extra></extra>",
            ),
            row=1,
            col=column,
        )
    figure.update_xaxes(title_text="average margin, % of notional")
    figure.update_yaxes(type=_axis(found))
    figure.update_yaxes(title_text="mean shortfall, per million of notional", col=1)
    sized(figure, 520)
    return figure


def picture(found: Frontier) -> Figure:
    """The same for a page that has no script."""
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    panels = figure.subplots(1, len(KINDS))
    lowest, highest = found.table[found.by].min(), found.table[found.by].max()
    for panel, kind in zip(panels, KINDS, strict=True):
        rows = found.of(kind)
        standing = rows["stands"].to_numpy()
        for chosen, edge in ((~standing, "none"), (standing, "#111111")):
            some = rows[chosen]
            discs = panel.scatter(
                *(100 * some["mean_margin"], some["mean_shortfall"]),
                **{"c": some[found.by], "vmin": lowest, "vmax": highest, "cmap": "viridis"},
                **{"s": 12 + 160 * some["changes"], "edgecolors": edge, "linewidths": 1.1},
            )
        own = rows[found.is_shipped(rows)]
        panel.scatter(
            *(100 * own["mean_margin"], own["mean_shortfall"]),
            **{"marker": "*", "s": 260, "c": "#d55e00", "edgecolors": "white", "label": "shipped"},
        )
        panel.plot(*_lowest(rows), color="#999999", linewidth=1, linestyle="--", zorder=0)
        panel.set_yscale(_axis(found))
        for which in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            which(StrMethodFormatter("{x:g}"))
        panel.set_title(f"{kind} margin", fontsize=10)
        panel.set_xlabel("average margin, % of notional")
    panels[0].set_ylabel("mean shortfall, per million of notional")
    panels[0].legend(loc="upper right", frameon=False)
    figure.colorbar(discs, ax=panels, label=PROCYCLICALITY[found.by])
    return figure


def _lowest(rows: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """Margin and shortfall of those that no other beats in these two, however much they move."""
    two = rows[non_dominated(rows[["mean_margin", "total_shortfall"]].to_numpy())]
    return 100 * two["mean_margin"], two["mean_shortfall"]


def _axis(found: Frontier) -> str:
    """Logarithmic where every policy has a shortfall."""
    return "log" if (found.table["mean_shortfall"] > 0).all() else "linear"


def _words(row: Mapping[Hashable, Any]) -> str:
    return "<br>".join(f"{words}: {form.format(row[name])}" for name, words, form in COLUMNS)


def printed_columns(found: Frontier) -> Sequence[tuple[str, str, str]]:
    """The columns that differ among the policies, and what a terminal has room for of the measures."""
    varied = [name for name in POLICY_COLUMNS if found.table[name].nunique() > 1]
    kept = {*varied, "mean_margin", "mean_shortfall", "ratio", "rise_1d", "rise_5d", "changes", found.by}
    return [column for column in COLUMNS if column[0] in kept]
