"""The tables of a report on margins: the columns that people see, and how they are read."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.margin.types import MODES, RUNGS
from training.margin.measures import MarginMeasures
from training.margin.page import Columns
from training.margin.procyclicality import RISE_DAYS

SUMMARY: Columns = (
    ("series", "margin", "{}"),
    ("ratio", "ratio at equal shortfall", "{:.3f}"),
    ("ratio_interval", "95 %", "{}"),
    ("difference", "difference", "{:+.3f}"),
    ("difference_interval", "95 %", "{}"),
    ("scale", "scale", "{:.3f}"),
    ("mean_margin", "average margin", "{:.2%}"),
    ("coverage", "coverage", "{:.3%}"),
    ("exceptions", "exceptions", "{:,}"),
    ("mean_shortfall", "shortfall, mean per million", "{:,.1f}"),
    ("worst_shortfall", "worst per million", "{:,.0f}"),
    ("half_rows", "rows with half of it", "{:,}"),
    ("rows", "rows", "{:,}"),
)
PROCYCLICALITY: Columns = (
    ("series", "margin", "{}"),
    ("peak_to_trough", "peak / trough", "{:.1f}"),
    ("peak_to_trough_worst", "worst", "{:.1f}"),
    *(
        column
        for days in RISE_DAYS
        for column in (
            (f"rise_{days}d", f"largest rise in {days} d", "{:+.0%}"),
            (f"rise_{days}d_worst", "worst", "{:+.0%}"),
        )
    ),
    ("changes", "bars with a change", "{:.1%}"),
    ("changes_worst", "worst", "{:.1%}"),
)
GAPS: Columns = (
    ("series", "margin", "{}"),
    ("withheld", "required above served", "{:.2%}"),
    ("mean_gap", "gap, mean per million", "{:,.1f}"),
    ("worst_gap", "worst per million", "{:,.0f}"),
    ("above", "served above required", "{:.1%}"),
    ("mean_above", "by, mean per million", "{:,.0f}"),
)
RUNG_TIMES: Columns = (
    ("symbol", "symbol", "{}"),
    *((rung, rung, "{:.2%}") for rung in RUNGS),
    *((f"feed_{mode}", f"feed {mode}", "{:.2%}") for mode in MODES),
    ("below_rules_alive", "below rules with a live feed", "{:,}"),
    ("rows", "decisions", "{:,}"),
)
CRASH_SUMMARY: Columns = (
    ("series", "margin", "{}"),
    ("kind", "kind", "{}"),
    ("risen", "had begun to rise", "{}"),
    ("lead_h", "median lead, h", "{:+.1f}"),
    ("least_lead_h", "least lead, h", "{:+.1f}"),
    ("raised", "raised at all times", "{:.0%}"),
    ("multiplier_at", "multiplier before the worst hour", "{:.2f}"),
    ("largest_multiplier", "largest", "{:.2f}"),
    ("mean_margin", "average margin", "{:.1%}"),
    ("coverage", "coverage", "{:.2%}"),
    ("worst_shortfall", "worst shortfall per million", "{:,.0f}"),
    ("total_shortfall", "sum per million", "{:,.0f}"),
    ("worst_gap", "worst clamp gap per million", "{:,.0f}"),
    ("lowest_rung", "lowest rung", "{}"),
    ("lowest_rung_alive", "with a live feed", "{}"),
    ("rungs", "time on rungs", "{}"),
)
THROUGH_CRASHES: Columns = (
    ("series", "margin", "{}"),
    ("kind", "kind", "{}"),
    ("symbol", "symbol", "{}"),
    ("fall", "fall", "{:.1%}"),
    ("hour_fall", "worst hour", "{:.1%}"),
    ("hour_begins", "begins (UTC)", "{:%m-%d %H:%M}"),
    ("onset", "onset (UTC)", "{:%m-%d %H:%M}"),
    ("lead", "lead, h", "{}"),
    ("multiplier_at", "multiplier before it", "{:.2f}"),
    ("largest_multiplier", "largest", "{:.2f}"),
    ("mean_margin", "average margin", "{:.1%}"),
    ("coverage", "coverage", "{:.2%}"),
    ("worst_shortfall", "worst shortfall per million", "{:,.0f}"),
    ("total_shortfall", "sum per million", "{:,.0f}"),
    ("worst_gap", "worst clamp gap per million", "{:,.0f}"),
    ("lowest_rung", "lowest rung", "{}"),
)
CONTRACTS: Columns = (
    ("symbol", "symbol", "{}"),
    ("side", "side", "{}"),
    ("mean_margin", "average margin", "{:.2%}"),
    ("coverage", "coverage", "{:.3%}"),
    ("exceptions", "exceptions", "{:,}"),
    ("mean_shortfall", "shortfall, mean per million", "{:,.1f}"),
    ("worst_shortfall", "worst per million", "{:,.0f}"),
    ("peak_to_trough", "peak / trough", "{:.1f}"),
    *((f"rise_{days}d", f"largest rise in {days} d", "{:+.0%}") for days in RISE_DAYS),
    ("changes", "bars with a change", "{:.1%}"),
    ("withheld", "required above served", "{:.2%}"),
    ("mean_gap", "clamp gap, mean per million", "{:,.1f}"),
    ("worst_gap", "worst per million", "{:,.0f}"),
    ("rows", "rows", "{:,}"),
)


def summary_rows(measures: MarginMeasures) -> pd.DataFrame:
    """The summary with its intervals as text, and ``case`` that names kind and horizon; kinds in order."""
    found = measures.summary
    compared, fixed = found["series"] == measures.compared_with, found["series"] == measures.equal_to
    found = found.assign(
        difference=found["difference"].mask(compared).round(3) + 0.0,
        ratio_interval=_intervals(found["ratio_low"].mask(fixed), found["ratio_high"]),
        difference_interval=_intervals(found["difference_low"].mask(compared), found["difference_high"]),
    )
    return with_case(measures, found)


def _intervals(lows: pd.Series[float], highs: pd.Series[float]) -> list[str]:
    pairs = zip(lows.round(3) + 0.0, highs.round(3) + 0.0, strict=True)  # + 0.0: no "-0.000"
    return ["" if np.isnan(low) else f"{low:.3f} to {high:.3f}" for low, high in pairs]


def with_case(measures: MarginMeasures, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table by series and kind, kinds in order, with the column ``case`` as above."""
    parts = [
        rows[rows["kind"] == kind].assign(case=f"{kind} margin, over {measures.horizons[kind]}")
        for kind in measures.kinds
    ]
    return pd.concat(parts, ignore_index=True)


def crash_summary_rows(measures: MarginMeasures) -> pd.DataFrame:
    """``crashes``, kinds in order, with two texts: ``risen``, how many symbols of how many had begun to rise,
    and ``rungs``, the shares of time on those that answered.
    """
    parts = [measures.crashes[measures.crashes["kind"] == kind] for kind in measures.kinds]
    names = [crash.name for crash in measures.windows]
    rows = pd.concat(parts).sort_values("crash", key=lambda c: c.map(names.index), kind="stable")
    shares = [
        ", ".join(f"{rung} {row[rung]:.1%}" for rung in RUNGS if row[rung] > 0)
        for row in rows.to_dict("records")
    ]
    risen = [f"{n} of {symbols}" for n, symbols in zip(rows["risen_before"], rows["symbols"], strict=True)]
    return rows.assign(risen=risen, rungs=shares)


def crash_rows(measures: MarginMeasures) -> pd.DataFrame:
    """``through_crashes`` with the lead as text: never, or older than what was looked at."""
    rows = measures.through_crashes
    leads = [
        "never" if np.isnan(lead) else f"{'≥ ' if before else ''}{lead:+.1f}"
        for lead, before in zip(rows["lead_h"], rows["onset_before"], strict=True)
    ]
    return rows.assign(lead=leads)


def summary_reading(measures: MarginMeasures) -> str:
    """What the columns of the summary mean."""
    before = measures.static_before
    since = "" if before is None else f"{before:%Y-%m-%d %H:%M} UTC, per symbol and side."
    static = since and f" The static rate is the ES of all losses before {since}"
    sides = (
        f"95 % from {measures.resamples:,} resamples of whole calendar weeks, the same for all."
        if measures.resamples
        else "No interval was asked for."
    )
    return (
        "Ratio: every margin is scaled by one constant until the sum of its losses beyond margin is that of "
        f"{measures.equal_to}; then its average over that of {measures.equal_to}: below 1 is the same "
        f"protection from less margin. {sides} Difference: ratio less that of {measures.compared_with}. All "
        "else is at scale 1, as served: coverage is the share of losses within the margin over its horizon, "
        "exceptions are the losses beyond (those of overlapping horizons count each), shortfall is what they "
        f"were beyond by, over all rows. Where few rows hold half of it, a few hours decide.{static}"
    )


CRASH_READING = (
    "Raised: the multiplier of the long side is beyond 1.25 times its median over the 7 days before. Lead: "
    "hours from the first such decision, from a day before the crash on, to the beginning of the largest "
    "hourly fall (one bar where bars are longer); positive is before it, and the symbols that had begun to "
    "rise by then are counted. A margin that is raised at many times anyhow warns by chance that often, and "
    "one that has stood high for days is not raised: the multiplier that carried the worst hour says more. "
    "Shortfall is of both sides and all decisions within the window."
)
