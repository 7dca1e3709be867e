"""How each margin went through each crash, by symbol and all together; ``crashes`` has the definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from models.forecast.base import SIDES
from models.margin.types import RUNGS
from training.margin.binding import clamp_gap, lowest_rung, rung_shares, while_alive
from training.margin.crashes import CRASHES, HOUR, Crash, WorstHour, covers, raised, worst_hour
from training.margin.served import ServedMargin
from training.margin.shortfall import MILLION, shortfall_of

#: How long before the window an onset is looked for.
LOOKED_FOR = pd.Timedelta(days=1)
_COLUMNS = [
    *("crash", "series", "kind", "symbol", "fall", "hour_fall", "hour_begins"),
    *("onset", "lead_h", "onset_before", "raised", "multiplier_at", "largest_multiplier"),
    *("mean_margin", "coverage", "worst_shortfall", "total_shortfall", "mean_gap", "worst_gap"),
    *("lowest_rung", "lowest_rung_alive", *RUNGS),
]
_SUMMARY = [
    *("crash", "series", "kind", "symbols", "fall", "hour_fall", "risen_before", "lead_h", "least_lead_h"),
    *("raised", "multiplier_at", "largest_multiplier"),
    *("mean_margin", "coverage", "worst_shortfall", "total_shortfall", "mean_gap", "worst_gap"),
    *("lowest_rung", "lowest_rung_alive", *RUNGS),
]


def through_crashes(
    margins: Mapping[tuple[str, str], ServedMargin], market: Market, crashes: Sequence[Crash] = CRASHES
) -> pd.DataFrame:
    """A row per crash that the decision times cover, series, kind and symbol.

    Columns: ``crash, series, kind, symbol``; ``fall``, ``hour_fall`` (fractions, at most 0), ``hour_begins``;
    ``onset`` (NaT: never), ``lead_h`` (hours from the onset to the worst hour; NaN: never), ``onset_before``
    (the rise is older than the day before the window); of the long side ``raised`` (at what share of all
    decision times it is), ``multiplier_at`` (at the beginning of the worst hour) and ``largest_multiplier``;
    ``mean_margin``, ``coverage``, ``worst_shortfall`` and ``total_shortfall`` (per million of notional, both
    sides); ``mean_gap`` and ``worst_gap`` (``binding.clamp_gap``);
    ``lowest_rung`` and ``lowest_rung_alive`` (while the feed was not dead), empty where no engine answered,
    and the share of the rows on each rung.
    """
    lines: list[dict[str, object]] = []
    for (series, kind), margin in margins.items():
        here = [crash for crash in crashes if covers(margin, crash)]
        risen = raised(margin) if here else np.empty((0, 0), dtype=bool)
        for crash in here:
            rows = slice(*(int(margin.times.searchsorted(t)) for t in (crash.start, crash.end)))
            for symbol, columns in margin.by_symbol().items():
                worst = worst_hour(market.close.loc[crash.start : crash.end, symbol], market.interval)
                if worst is None or np.isnan(margin.rate[rows][:, columns]).all():
                    continue
                long = margin.contracts.index((symbol, SIDES[0]))
                lines.append(
                    {
                        **{"crash": crash.name, "series": series, "kind": kind, "symbol": symbol},
                        **{"fall": worst.fall, "hour_fall": worst.hour_fall, "hour_begins": worst.begins},
                        **_rise(margin, long, risen[:, long], crash, worst, rows),
                        **_beyond(margin, rows, columns),
                    }
                )
    order = {crash.name: place for place, crash in enumerate(crashes)}
    lines.sort(key=lambda line: order[str(line["crash"])])  # stable: series and kinds stay in their order
    return pd.DataFrame(lines, columns=_COLUMNS)


def not_covered(
    margins: Mapping[tuple[str, str], ServedMargin], crashes: Sequence[Crash] = CRASHES
) -> list[Crash]:
    """The crashes that no margin's decision times cover."""
    return [crash for crash in crashes if not any(covers(margin, crash) for margin in margins.values())]


def crash_summary(through: pd.DataFrame) -> pd.DataFrame:
    """All symbols of a crash together, a row per crash, series and kind, out of ``through_crashes``.

    Columns: ``symbols``; ``fall`` and ``hour_fall`` (the deepest); ``risen_before`` (symbols whose multiplier
    was raised by the beginning of their worst hour); ``lead_h`` (median over the symbols that rose at all)
    and ``least_lead_h``; ``raised`` (mean), ``multiplier_at`` (median), ``largest_multiplier``;
    ``mean_margin``, ``coverage`` and ``mean_gap`` (means), ``worst_shortfall`` and ``worst_gap`` (the worst),
    ``total_shortfall`` (the sum); ``lowest_rung`` and ``lowest_rung_alive``; the mean share of each rung.
    """
    how = {
        **dict.fromkeys(("fall", "hour_fall"), "min"),
        **dict.fromkeys(("raised", "mean_margin", "coverage", "mean_gap", *RUNGS), "mean"),
        **dict.fromkeys(("lead_h", "multiplier_at"), "median"),
        **dict.fromkeys(("largest_multiplier", "worst_shortfall", "worst_gap"), "max"),
        "total_shortfall": "sum",
    }
    lines = [
        {
            **{"crash": crash, "series": series, "kind": kind, "symbols": len(own)},
            **{column: own[column].agg(way) for column, way in how.items()},
            "risen_before": int((own["lead_h"] >= 0).sum()),
            "least_lead_h": own["lead_h"].min(),
            **{column: _lowest(own[column]) for column in ("lowest_rung", "lowest_rung_alive")},
        }
        for (crash, series, kind), own in through.groupby(["crash", "series", "kind"], sort=False)
    ]
    return pd.DataFrame(lines, columns=_SUMMARY)


def _rise(
    margin: ServedMargin, column: int, risen: NDArray[np.bool_], crash: Crash, worst: WorstHour, rows: slice
) -> dict[str, object]:
    begin = int(margin.times.searchsorted(crash.start - LOOKED_FOR))
    within = risen[begin : rows.stop]
    first = margin.times[begin + int(np.argmax(within))] if within.any() else None
    multiplier = margin.multiplier[:, column]
    known = multiplier[rows][~np.isnan(multiplier[rows])]
    return {
        "onset": pd.NaT if first is None else first,
        "lead_h": float("nan") if first is None else (worst.begins - first) / HOUR,
        "onset_before": bool(within.any() and within[0]),
        "raised": float(risen[~np.isnan(margin.rate[:, column])].mean()),
        "multiplier_at": float(multiplier[int(margin.times.searchsorted(worst.begins))]),
        "largest_multiplier": float(known.max()) if known.size else float("nan"),
    }


def _beyond(margin: ServedMargin, rows: slice, columns: list[int]) -> dict[str, object]:
    found = shortfall_of(margin.loss[rows][:, columns], margin.rate[rows][:, columns])
    rung, mode = margin.rung[rows][:, columns], margin.mode[rows][:, columns]
    gap = clamp_gap(margin.required[rows][:, columns], margin.rate[rows][:, columns])
    return {
        "mean_margin": found.mean_margin,
        "coverage": found.coverage,
        "worst_shortfall": MILLION * found.worst,
        "total_shortfall": MILLION * found.total,
        "mean_gap": gap["mean_gap"],
        "worst_gap": gap["worst_gap"],
        "lowest_rung": lowest_rung(rung),
        "lowest_rung_alive": lowest_rung(while_alive(rung, mode)),
        **rung_shares(rung),
    }


def _lowest(rungs: pd.Series[str]) -> str:
    return max((str(rung) for rung in rungs if rung), key=RUNGS.index, default="")
