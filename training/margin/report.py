"""The report on served margins: one HTML file that needs nothing else, and its tables as parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from features.atomic import written_whole
from models.margin.types import RUNGS
from training.dataset import describe_market
from training.margin import crash_pictures, pictures
from training.margin.measures import MarginMeasures
from training.margin.page import Section, anchor, figure_html, folded, page, table_html
from training.margin.report_tables import (
    CONTRACTS,
    CRASH_READING,
    CRASH_SUMMARY,
    GAPS,
    PROCYCLICALITY,
    RUNG_TIMES,
    SUMMARY,
    THROUGH_CRASHES,
    crash_rows,
    crash_summary_rows,
    summary_reading,
    summary_rows,
    with_case,
)

PAGE_FILE = "margin.html"
#: Tables that are written beside the page, by the names of the attributes of ``MarginMeasures``.
TABLES = ("summary", "contracts", "procyclicality", "gaps", "rungs", "rules", "through_crashes", "crashes")


def html(measures: MarginMeasures) -> str:
    """The whole page."""
    equal_to = measures.equal_to
    sections = [
        Section("Margin and shortfall", _summary(measures), summary_reading(measures)),
        _picture(
            measures,
            "Margin at equal shortfall",
            pictures.ratios,
            f"The average margin of each series, once it is scaled to the shortfall of {equal_to}, over "
            f"that of {equal_to}; bars are 95 % intervals. Left of the line, it protects as well with less "
            "margin.",
        ),
        _picture(
            measures,
            "Margin against shortfall",
            pictures.margin_against_shortfall,
            f"Each line is one series scaled by constants from {pictures.SCALES[0]:g} to "
            f"{pictures.SCALES[-1]:g}, its disc the margin as served: the line that lies lower protects "
            "better at the same average margin. Where a line crosses the dashed one, its shortfall is that "
            f"of {equal_to}.",
        ),
        _picture(
            measures,
            "Margin over time",
            pictures.over_time,
            "Served rates, mean of a day and of all contracts: how far margin follows the market, and how "
            "fast it comes back. A click in the legend hides a line.",
        ),
        _picture(
            measures,
            "Shortfall over time",
            pictures.cumulated_shortfall,
            "The running sum of losses beyond margin, one notional a contract and side: each step is an "
            "event, and a line with few steps rests on few of them.",
        ),
        _procyclicality(measures),
        _engine(measures),
        _rungs(measures),
        _crashes(measures),
        _picture(
            measures,
            "The worst days",
            crash_pictures.worst_days,
            "Losses that followed each decision (bars) and the rate served at it (lines): where a bar "
            "stands above a line, that margin fell short. Required rates, dotted, come with a click in the "
            "legend.",
        ),
        _contracts(measures),
    ]
    return page("What served margin covered and cost", _facts(measures), sections)


def write_margin_report(measures: MarginMeasures, folder: Path) -> Path:
    """Write the page and every table (parquet) into the folder, each whole or not at all.

    Returns the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        table: pd.DataFrame = getattr(measures, name)
        with written_whole(folder / f"{name}.parquet") as draft:
            table.to_parquet(draft, index=False)
    text = html(measures)
    with written_whole(folder / PAGE_FILE) as draft:
        draft.write_text(text, encoding="utf-8")
    return folder / PAGE_FILE


def _facts(measures: MarginMeasures) -> str:
    margin = next(iter(measures.margins.values()))
    kinds = ", ".join(f"{kind} over {measures.horizons[kind]}" for kind in measures.kinds)
    return (
        f"Decision times {margin.times[0]:%Y-%m-%d %H:%M} to {margin.times[-1]:%Y-%m-%d %H:%M} UTC; "
        f"{len(margin.contracts)} contracts and sides; {kinds}; margins {', '.join(measures.series)}. "
        f"Bars: {describe_market(measures.market)}."
    )


def _summary(measures: MarginMeasures) -> str:
    return table_html(summary_rows(measures), SUMMARY, case="case", best="ratio")


def _picture(
    measures: MarginMeasures, title: str, draw: Callable[[MarginMeasures], Any], reading: str
) -> Section:
    return Section(title, figure_html(draw(measures), anchor(title)), reading)


def _procyclicality(measures: MarginMeasures) -> Section:
    title = "Procyclicality"
    figure = figure_html(pictures.rises(measures), anchor(title))
    table = table_html(with_case(measures, measures.procyclicality), PROCYCLICALITY, case="case")
    return Section(
        title,
        figure + table,
        "Largest rise: the rate over the lowest of the n days before, less 1, at its worst; what a position "
        "held that long has to find. Bars and plain columns are means over contracts and sides, marks and "
        "'worst' the largest. Bars with a change: of all neighbouring bars, those at which the rate moved "
        "at all.",
    )


def _engine(measures: MarginMeasures) -> Section:
    title = "What the limits withheld"
    figure = pictures.rules_that_bound(measures)
    table = table_html(with_case(measures, measures.gaps), GAPS, case="case")
    return Section(
        title,
        table + ("" if figure is None else figure_html(figure, anchor(title))),
        "Required above served is risk that a limit hid, served above required is what floors, slow falls "
        "and buffers cost."
        + (" No rule is recorded as binding." if figure is None else " Below: how often each rule bound."),
    )


def _rungs(measures: MarginMeasures) -> Section:
    title = "Time on each rung"
    figure = pictures.time_on_rungs(measures)
    if figure is None:
        return Section(title, "", "No engine answered: these margins are requirements and constants.")
    rungs = measures.rungs
    tables = folded("By symbol", table_html(rungs, RUNG_TIMES, case="series"))
    below = int(rungs["below_rules_alive"].sum())
    judged = (
        "No rung below rules was needed while a feed was alive."
        if below == 0
        else f"A rung below rules answered {below:,} decisions although the feed was alive."
    )
    return Section(
        title,
        figure_html(figure, anchor(title)) + tables,
        f"From the champion down to the cap: what answered, by share of decisions. {judged}",
    )


def _crashes(measures: MarginMeasures) -> Section:
    title = "Through the crashes"
    absent = ", ".join(f"{crash.name} (bars of {crash.bars})" for crash in measures.not_covered)
    missing = f" The decision times do not cover {absent}." if absent else ""
    figure = crash_pictures.crashes(measures)
    if figure is None:
        return Section(title, "", f"The decision times cover none of the named crashes.{missing}")
    answered = not measures.crashes[list(RUNGS)].isna().all().all()
    hidden = () if answered else ("lowest_rung", "lowest_rung_alive", "rungs")
    columns = [column for column in CRASH_SUMMARY if column[0] not in hidden]
    rows = crash_summary_rows(measures)
    heads = {
        crash: f"{crash}: fell by {-own['fall'].min():.0%}, by {-own['hour_fall'].min():.1%} in an hour, "
        f"in the worst of {own['symbols'].max()} symbols"
        for crash, own in rows.groupby("crash")
    }
    table = table_html(rows.assign(case=rows["crash"].map(heads)), columns, case="case")
    details = folded("By symbol", table_html(crash_rows(measures), THROUGH_CRASHES, case="crash"))
    return Section(title, table + figure_html(figure, anchor(title)) + details, CRASH_READING + missing)


def _contracts(measures: MarginMeasures) -> Section:
    rows = with_case(measures, measures.contracts)
    tables = [
        folded(name, table_html(rows[rows["series"] == name], CONTRACTS, case="case"))
        for name in measures.series
    ]
    return Section(
        "Contracts",
        "".join(tables),
        "Every symbol and side by itself, as served: shortfall and coverage on the rows that all series "
        "have, procyclicality on all of its own.",
    )
