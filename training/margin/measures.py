"""All measures of a margin table: what it covers and costs, how it moves, how it went through crashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import parse_duration
from models.margin.types import KINDS
from training.margin.binding import clamp_gaps, clamp_gaps_by_contract, rules_that_bound, rungs
from training.margin.crash_table import crash_summary, not_covered, through_crashes
from training.margin.crashes import CRASHES, Crash
from training.margin.losses import LEVEL, STATIC, static_table
from training.margin.procyclicality import procyclicality, procyclicality_by_contract
from training.margin.ratio import RESAMPLES, SEED, margin_ratios
from training.margin.requirements import HORIZONS
from training.margin.served import ServedMargin, served_margins
from training.margin.shortfall import by_contract, by_series


@dataclass(frozen=True)
class MarginMeasures:
    """What was measured, and how. Tables have a row per series and kind, unless told otherwise.

    Attributes:
        market: the bars that the losses come from.
        margins: every series and kind on the grid of the bars.
        horizons: of each kind.
        equal_to: the series whose shortfall the others are scaled to; its ratio is 1.
        compared_with: the series that differences of ratios are taken from.
        static_before: only losses before it made the static rate; None where the table brought its own.
        resamples: of the bootstrap.
        summary: shortfall and coverage (``shortfall.by_series``) with ``scale``, ``ratio``, ``ratio_low``,
            ``ratio_high``, ``difference``, ``difference_low`` and ``difference_high`` (``ratio``), all on the
            rows that every series has.
        contracts: a row per contract and side too: shortfall on those rows; procyclicality, clamp gap.
        procyclicality: mean and worst over the contracts.
        gaps: ``binding.clamp_gaps``; ``rungs``: ``binding.rungs``; ``rules``: ``binding.rules_that_bound``.
        through_crashes: ``crash_table.through_crashes``; ``crashes``: ``crash_table.crash_summary``.
        windows: the crashes that were looked for; ``not_covered``: those outside the decision times.
    """

    market: Market
    margins: Mapping[tuple[str, str], ServedMargin]
    horizons: Mapping[str, str]
    equal_to: str
    compared_with: str
    static_before: pd.Timestamp | None
    resamples: int
    summary: pd.DataFrame
    contracts: pd.DataFrame
    procyclicality: pd.DataFrame
    gaps: pd.DataFrame
    rungs: pd.DataFrame
    rules: pd.DataFrame
    through_crashes: pd.DataFrame
    crashes: pd.DataFrame
    windows: tuple[Crash, ...]
    not_covered: tuple[Crash, ...]

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(series for series, _ in self.margins))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds there are, shortest horizon first."""
        there = {kind for _, kind in self.margins}
        return tuple(sorted(there, key=lambda kind: (parse_duration(self.horizons[kind]), kind)))


def measure(
    table: pd.DataFrame,
    market: Market,
    *,
    horizons: Mapping[str, str] = HORIZONS,
    equal_to: str = STATIC,
    compared_with: str | None = None,
    static_before: pd.Timestamp | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    crashes: Sequence[Crash] = CRASHES,
) -> MarginMeasures:
    """Measure a margin table with the bars that it was made from.

    Args:
        table: a margin table of one or more series.
        market: its bars, with as much history before as the static rate is to rest on.
        horizons: of each kind.
        equal_to: the series whose total shortfall the others are scaled to. Where it is ``static`` and the
            table has no such series, it is made here: ES at ``level`` of all losses before ``static_before``
            (default: the first decision time), per symbol and side.
        compared_with: the series that differences of ratios are taken from; default the table's first.
        resamples, seed: of the bootstrap (``ratio``).
        crashes: windows to look at.

    Raises ``MarginTableError`` as ``served_margins`` does, ``ValueError`` where a series to compare with is
    not there, the series share no row with a known loss, or the static rate has no history.
    """
    margins = served_margins(table, market, horizons)
    there = list(dict.fromkeys(series for series, _ in margins))
    made = equal_to == STATIC and STATIC not in there
    for name in (equal_to, compared_with):
        if name is not None and name not in there and not (made and name == STATIC):
            raise ValueError(f"series {name!r} is not in the margin table; it has {there}")
    before = None
    if made:
        times = pd.DatetimeIndex(table["time"].unique()).sort_values()
        before = times[0] if static_before is None else static_before
        here = set(table["symbol"].unique())
        symbols = [symbol for symbol in market.symbols if symbol in here]
        kinds = {kind: horizons[kind] for kind in KINDS if (table["kind"] == kind).any()}
        static = static_table(market.select(symbols), times, before=before, horizons=kinds, level=level)
        margins |= served_margins(static, market, horizons)
    shared = common_rows(margins)
    compared = compared_with or there[0]
    ratios = _ratios(shared, equal_to, compared, resamples, seed)
    by_contracts = procyclicality_by_contract(margins)
    keys = ["series", "kind", "symbol", "side"]
    through = through_crashes(margins, market, crashes)
    return MarginMeasures(
        market=market,
        margins=margins,
        horizons=dict(horizons),
        equal_to=equal_to,
        compared_with=compared,
        static_before=before,
        resamples=resamples,
        summary=by_series(shared).merge(ratios, on=["series", "kind"]),
        contracts=by_contract(shared)
        .merge(by_contracts.drop(columns="mean_rate"), on=keys)
        .merge(clamp_gaps_by_contract(margins), on=keys),
        procyclicality=procyclicality(by_contracts),
        gaps=clamp_gaps(margins),
        rungs=rungs(margins),
        rules=rules_that_bound(table),
        through_crashes=through,
        crashes=crash_summary(through),
        windows=tuple(crashes),
        not_covered=tuple(not_covered(margins, crashes)),
    )


def common_rows(margins: Mapping[tuple[str, str], ServedMargin]) -> dict[tuple[str, str], ServedMargin]:
    """The margins with NaN in place of every rate that another series of the kind lacks.

    Raises ``ValueError`` where the series of a kind share no row with a known loss.
    """
    shared = {}
    for kind in dict.fromkeys(kind for _, kind in margins):
        own = [margin for (_, other), margin in margins.items() if other == kind]
        known = np.logical_and.reduce([~np.isnan(margin.rate) for margin in own])
        if not (known & ~np.isnan(own[0].loss)).any():
            names = [margin.series for margin in own]
            raise ValueError(
                f"{names} share no row of {kind} margin with a known loss; serve the same times and symbols"
            )
        for margin in own:
            shared[margin.series, kind] = replace(margin, rate=np.where(known, margin.rate, np.nan))
    return {key: shared[key] for key in margins}


def _ratios(
    margins: Mapping[tuple[str, str], ServedMargin],
    equal_to: str,
    compared_with: str,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    lines = []
    for kind in dict.fromkeys(kind for _, kind in margins):
        own = {series: margin for (series, other), margin in margins.items() if other == kind}
        for name in (equal_to, compared_with):
            if name not in own:
                raise ValueError(f"series {name!r} has no {kind} margin; serve it, or compare another")
        reference = own[equal_to]
        found = margin_ratios(
            reference.times,
            reference.loss,
            {series: margin.rate for series, margin in own.items()},
            reference.rate,
            compared_with=compared_with,
            resamples=resamples,
            seed=seed,
        )
        lines += [
            {
                **{"series": series, "kind": kind, "scale": ratio.scale, "ratio": ratio.ratio},
                **{"ratio_low": ratio.low, "ratio_high": ratio.high, "difference": ratio.difference},
                **{"difference_low": ratio.difference_low, "difference_high": ratio.difference_high},
            }
            for series, ratio in found.items()
        ]
    return pd.DataFrame(lines)
