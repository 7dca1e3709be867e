"""The rules rung at a close: filtered historical simulation, its residual tail refreshed once a week.

The forecast of ``models.margin.fhs`` is today's scale times a tail of standardised residuals. The tail is
taken from the two years before the start of the calendar week (Monday 00:00 UTC) of the bar, so it changes at
the same bars in every process, restarted or not; in between the forecast moves with the EWMA scale alone:
``VaR_T = VaR_week x sigma_T / sigma_week``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.margin import fhs
from serving.outlook import Forecast, Needs

Array = NDArray[np.float64]

_WEEK_S = 7 * 86400
#: 1970-01-05 was the first Monday.
_MONDAY_S = 4 * 86400
VERSION = "fhs"


@dataclass(frozen=True)
class WeeklyTail:
    """The forecast as of the start of a week, and the scale that it rests on (log return a bar)."""

    week_s: int
    scale: float
    forecast: Forecast

    def to_json(self) -> dict[str, Any]:
        return {"week_s": self.week_s, "scale": self.scale, "forecast": self.forecast.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WeeklyTail:
        return cls(content["week_s"], content["scale"], Forecast.from_json(content["forecast"]))

    def fits(self, week_s: int, needs: Needs) -> bool:
        """Whether it is of that week and of the horizons and levels that the settings ask for now."""
        asked = (needs.horizons_s, needs.levels)
        return self.week_s == week_s and (self.forecast.horizons_s, self.forecast.levels) == asked


def week_of(close_s: int) -> int:
    """The Monday 00:00 UTC at or before a close."""
    return (close_s - _MONDAY_S) // _WEEK_S * _WEEK_S + _MONDAY_S


def scale_at(closes: Array, interval_s: int) -> float:
    """The EWMA volatility (log return a bar) at the last close, as the forecast uses it; NaN where
    unknown."""
    needed = fhs.window_in_bars(float(interval_s)) + 1
    return float(fhs.scale(closes[-needed:], float(interval_s))[-1])


def weekly_tail(closes: Array, close_s: int, interval_s: int, needs: Needs) -> WeeklyTail:
    """The tail for the week of ``close_s``, of closes (on the grid, NaN where missing) that end at
    ``close_s``.

    Where the week began with too little history, the closes of the week are taken too, until the next one.
    Raises ``fhs.TooShortError`` where that is too little as well, and ``ValueError`` as ``fhs`` does.
    """
    week_s = week_of(close_s)
    before = closes[: len(closes) - (close_s - week_s) // interval_s]
    # The week may begin in a hole; the last close before it is as good a start.
    known = np.flatnonzero(np.isfinite(before))
    before = before[: known[-1] + 1] if len(known) else before
    try:
        var, es = fhs.filtered_historical_simulation(before, interval_s, needs.horizons_s, needs.levels)
    except fhs.TooShortError:
        before = closes
        var, es = fhs.filtered_historical_simulation(before, interval_s, needs.horizons_s, needs.levels)
    return WeeklyTail(week_s, scale_at(before, interval_s), Forecast(needs.horizons_s, needs.levels, var, es))


def rules_forecast(tail: WeeklyTail, closes: Array, interval_s: int) -> Forecast | None:
    """The week's tail at the scale of the last close; None where the scale is unknown."""
    scale = scale_at(closes, interval_s)
    if not math.isfinite(scale):
        return None
    ratio = scale / tail.scale
    var, es = fhs.floored(tail.forecast.var * ratio, tail.forecast.es * ratio)
    return Forecast(tail.forecast.horizons_s, tail.forecast.levels, var, es)
