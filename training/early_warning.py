"""How early a rule warns of the worst hours, and how often for nothing.

A rule gives a number at every decision time; it is in alarm while the number is above a threshold. A worst
hour is one in which the log return of the hour (of a bar where bars are longer), up or down, was among the
largest of the span, each at least a day from the others. It begins at a decision time, and what a rule says
then is the last that could have warned. An alarm is false where within the next ``AHEAD`` no hour moved as
far as the hour in ``1 / LARGE_SHARE`` that moves most. Lead times are in hours; returns are fractions.

Thresholds that bring two rules to the same share of hours in alarm are chosen knowing the whole span. That
makes them comparable, and flatters the rule that is so chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.regime_observations import over_symbols, step_bars
from features.volatility import DAY, HOUR, log_returns
from features.windows import Array, rolling_max, rolling_sum

#: A large move is among this share of hours.
LARGE_SHARE = 0.005
AHEAD = DAY
#: Ten hours are few. This many, or as many as lie a day apart from each other, are asked about besides.
MORE = 100
#: How far back a first alarm is looked for.
BEFORE = {"24h": DAY, "48h": 2 * DAY}
MONTH = pd.Timedelta(days=30)


def hourly_moves(market: Market) -> pd.DataFrame:
    """Log return of the hour (or bar) that ends at each row: the symbols, and ``market``, their mean over
    those known. NaN where a close of the hour or before it is missing."""
    bars = step_bars(market.interval)
    r = log_returns(market)
    unknown = np.isnan(r)
    total = rolling_sum(np.where(unknown, 0.0, r), bars)
    unknown_within = rolling_sum(unknown.astype("float64"), bars) > 0
    unknown_within[: bars - 1] = True
    moves = np.where(unknown_within, np.nan, total)
    found = pd.DataFrame(moves, market.times, list(market.symbols))
    return found.assign(market=over_symbols(moves)[:, 0])


def worst_hours(move: Array, count: int, apart: int) -> list[int]:
    """Rows with the largest \\|move\\|, largest first, each at least ``apart`` rows from the others."""
    size = np.abs(move)
    order = np.argsort(-np.where(np.isnan(size), -1.0, size), kind="stable")
    chosen: list[int] = []
    for row in order:
        if len(chosen) == count or np.isnan(size[row]):
            break
        if all(abs(row - other) >= apart for other in chosen):
            chosen.append(int(row))
    return chosen


def threshold_for(score: Array, share: float) -> float:
    """Above which the score is for this share of the rows where it is known."""
    return float(np.nanquantile(score, 1 - share))


@dataclass(frozen=True)
class Span:
    """The moves that are to be warned of, at the decision times of one history.

    ``begins`` are the rows at which the worst hours begin, largest first, ``begins_more`` those of the
    ``MORE`` worst; ``large_ahead`` is 1 where an hour that begins at the row or later, and ends within
    ``AHEAD``, moves far, 0 where none does, and NaN where that is not known yet.
    """

    times: pd.DatetimeIndex
    interval: pd.Timedelta
    move: Array
    begins: list[int]
    begins_more: list[int]
    large_ahead: Array

    @classmethod
    def of(cls, move: pd.Series[float], interval: pd.Timedelta, count: int) -> Span:
        """``move`` as ``hourly_moves`` gives it. Raises ``ValueError`` where fewer than ``count`` hours lie a
        day apart."""
        times = pd.DatetimeIndex(move.index)
        bars, day = step_bars(interval), max(1, AHEAD // interval)
        values: Array = np.array(move, dtype="float64")
        values[:bars] = np.nan  # no row of the span is at their beginning
        worst = worst_hours(values, max(count, MORE), day)
        if len(worst) < count:
            raise ValueError(
                f"only {len(worst)} hours from {times[0]} to {times[-1]} lie a day apart, and the {count} "
                f"worst are asked for; ask for fewer or give a longer span"
            )
        size: Array = np.abs(values)
        large = float(np.nanquantile(size, 1 - LARGE_SHARE))
        largest = np.full(len(size), np.nan)
        largest[:-day] = rolling_max(size[:, np.newaxis], day - bars + 1)[day:, 0]
        ahead = np.where(np.isfinite(largest), (largest >= large).astype("float64"), np.nan)
        begins = [row - bars for row in worst]
        return cls(times, interval, values, begins[:count], begins[:MORE], ahead)


@dataclass(frozen=True)
class Alarm:
    """A rule and where it is in alarm; ``known`` where it can say anything."""

    name: str
    threshold: float
    on: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, name: str, score: Array, threshold: float) -> Alarm:
        known = np.isfinite(score)
        return cls(name, threshold, known & (np.where(known, score, 0.0) > threshold), known)

    @property
    def share(self) -> float:
        return float(self.on[self.known].mean())


def lead_hours(alarm: Alarm, begin: int, interval: pd.Timedelta) -> float:
    """For how many hours the rule was in alarm without interruption when the hour began; NaN where it was
    not."""
    calm = np.flatnonzero(~alarm.on[: begin + 1])
    rows = begin if calm.size == 0 else begin - int(calm[-1]) - 1
    return float(rows * interval / HOUR) if rows >= 0 else float("nan")


def first_alarm_hours(alarm: Alarm, begin: int, within: pd.Timedelta, interval: pd.Timedelta) -> float:
    """How long before the hour began the rule was first in alarm within the time before; NaN where it never
    was."""
    first = max(0, begin - within // interval)
    rows = np.flatnonzero(alarm.on[first : begin + 1])
    return float("nan") if rows.size == 0 else float((begin - first - int(rows[0])) * interval / HOUR)


def warnings_of(span: Span, alarm: Alarm) -> pd.DataFrame:
    """A row per worst hour, largest first: ``begins``, ``side`` (which lost), ``move``; ``rule``; ``lead``
    and ``first_24h``, ``first_48h`` in hours, NaN where there was no alarm."""
    bars = step_bars(span.interval)
    return pd.DataFrame(
        [
            {
                "begins": span.times[begin],
                "side": "long" if span.move[begin + bars] < 0 else "short",
                "move": span.move[begin + bars],
                "rule": alarm.name,
                "lead": lead_hours(alarm, begin, span.interval),
            }
            | {
                f"first_{name}": first_alarm_hours(alarm, begin, within, span.interval)
                for name, within in BEFORE.items()
            }
            for begin in span.begins
        ]
    )


def costs_of(span: Span, alarm: Alarm) -> dict[str, float | str]:
    """What a rule costs and what it is worth on the span.

    ``threshold``; ``in_alarm``, share of the hours; ``false``, share of those without a large move ahead;
    ``false_always``, the same for a rule that is always in alarm; ``starts``, alarms a month; ``warned``, the
    share of the worst hours that began in alarm, ``warned_24h``, that had one in the day before;
    ``median_lead`` of those warned, hours; and ``warned_more``, of the ``MORE`` worst hours.
    """
    found = warnings_of(span, alarm)
    told = np.isfinite(span.large_ahead) & alarm.known
    starts = int((alarm.on[1:] & ~alarm.on[:-1]).sum())
    warned = found["lead"].notna()
    raised = alarm.on & told
    return {
        "rule": alarm.name,
        "threshold": alarm.threshold,
        "in_alarm": alarm.share,
        "false": float(1 - span.large_ahead[raised].mean()) if raised.any() else float("nan"),
        "false_always": float(1 - span.large_ahead[told].mean()),
        "starts": starts / (float(alarm.known.sum()) * span.interval / MONTH),
        "warned": float(warned.mean()),
        "warned_24h": float(found["first_24h"].notna().mean()),
        "median_lead": float(found["lead"][warned].median()) if warned.any() else float("nan"),
        "warned_more": float(alarm.on[span.begins_more].mean()),
    }
