"""What time it is in New York, where much of what moves crypto is published and traded.

The New York stock exchange opens at 09:30 and US figures come out at 08:30 and 14:00 local time, which is
another hour in UTC in summer than in winter. A row at decision time t speaks of what comes after t, and
depends on the time alone, not on bars; the row of a missing bar is NaN. No unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
from pandas.tseries.holiday import (
    AbstractHolidayCalendar,
    GoodFriday,
    Holiday,
    USLaborDay,
    USMartinLutherKingJr,
    USMemorialDay,
    USPresidentsDay,
    USThanksgivingDay,
    nearest_workday,
    sunday_to_monday,
)

from features.bars import Market
from features.pipeline import Feature, State
from features.volatility import DAY
from features.windows import Array

#: Local hours on business days that have a flag of their own: figures, opening, the hour after, decisions of
#: the central bank.
FLAGGED_HOURS = (8, 9, 10, 14)


class NewYorkHolidays(AbstractHolidayCalendar):
    """Days on which the New York stock exchange stays closed, by rule (its single closures are not)."""

    rules = [  # noqa: RUF012 - as pandas declares it
        Holiday("New Year", month=1, day=1, observance=sunday_to_monday),
        USMartinLutherKingJr,
        USPresidentsDay,
        GoodFriday,
        USMemorialDay,
        Holiday("Juneteenth", month=6, day=19, start_date="2022-01-01", observance=nearest_workday),
        Holiday("Independence Day", month=7, day=4, observance=nearest_workday),
        USLaborDay,
        USThanksgivingDay,
        Holiday("Christmas", month=12, day=25, observance=nearest_workday),
    ]


@cache
def _holidays(year: int) -> frozenset[int]:
    """Day of the year of each holiday in ``year``."""
    days = NewYorkHolidays().holidays(pd.Timestamp(year, 1, 1), pd.Timestamp(year, 12, 31))
    return frozenset(int(d) for d in pd.DatetimeIndex(days).day_of_year)


def _business_day(local: pd.DatetimeIndex) -> Array:
    """1 on days on which the New York stock exchange opens, else 0."""
    years, days = local.year.to_numpy(), local.day_of_year.to_numpy()
    closed = local.day_of_week.to_numpy() >= 5
    for year in np.unique(years):
        closed |= (years == year) & np.isin(days, list(_holidays(int(year))))
    return np.where(closed, 0.0, 1.0)


def _sessions(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Hour of the local day as the first two harmonics of its angle; the day of the (UTC) week likewise;
    whether New York trades that day, and which of ``FLAGGED_HOURS`` begins."""
    times = market.times
    local = times.tz_convert("America/New_York")
    angle = 2 * np.pi * ((local - local.normalize()) / DAY).to_numpy(dtype="float64")
    since_midnight = ((times - times.normalize()) / DAY).to_numpy(dtype="float64")
    week = 2 * np.pi * (times.day_of_week.to_numpy() + since_midnight) / 7
    business, hour = _business_day(local), local.hour.to_numpy()
    parts = {
        "new_york_sin": np.sin(angle),
        "new_york_cos": np.cos(angle),
        "new_york_sin_2": np.sin(2 * angle),
        "new_york_cos_2": np.cos(2 * angle),
        "week_sin": np.sin(week),
        "week_cos": np.cos(week),
        "business_day": business,
        **{f"new_york_{h}h": business * (hour == h) for h in FLAGGED_HOURS},
    }
    shape = market.close.shape
    return market.frames({name: np.broadcast_to(p[:, np.newaxis], shape) for name, p in parts.items()})


FEATURES = (
    Feature(
        (
            *("new_york_sin", "new_york_cos", "new_york_sin_2", "new_york_cos_2", "week_sin", "week_cos"),
            *("business_day", *(f"new_york_{h}h" for h in FLAGGED_HOURS)),
        ),
        *("sessions", DAY, ("close",), _sessions),
    ),
)
