"""New York's clock: summer and winter, weekends, holidays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline, all_features

HOUR = pd.Timedelta(hours=1)
SESSIONS = tuple(f for f in all_features() if f.family == "sessions")


def at(time: str) -> dict[str, float]:
    """Every output at this decision time (UTC)."""
    times = pd.date_range(time, periods=1, freq=HOUR, tz="UTC", unit="ns")
    frame = Pipeline(HOUR, SESSIONS).batch(Market(HOUR, {"close": pd.DataFrame({"A": [1.0]}, index=times)}))
    return {name: float(frame[name][0, 0]) for name in frame.names}


@pytest.mark.parametrize(
    ("time", "flag"),
    [
        ("2024-01-10 13:00", "new_york_8h"),  # winter: five hours behind UTC
        ("2024-07-10 12:00", "new_york_8h"),  # summer: four
        ("2024-01-10 14:00", "new_york_9h"),
        ("2024-07-10 13:00", "new_york_9h"),
        ("2024-07-10 14:00", "new_york_10h"),
        ("2024-07-10 18:00", "new_york_14h"),
    ],
)
def test_an_hour_that_matters_has_its_flag(time: str, flag: str) -> None:
    values = at(time)
    flags = {name for name in values if name.endswith("h") and name.startswith("new_york")}
    assert {name for name in flags if values[name] == 1.0} == {flag}
    assert values["business_day"] == 1.0


@pytest.mark.parametrize(
    "time",
    [
        "2024-07-13 13:00",  # a Saturday
        "2024-07-04 13:00",  # Independence Day
        "2024-03-29 13:00",  # Good Friday
        "2024-11-28 14:00",  # Thanksgiving
        "2024-06-19 13:00",  # Juneteenth
        "2022-12-26 14:00",  # Christmas fell on a Sunday
        "2023-01-02 14:00",  # and so did New Year
    ],
)
def test_when_the_exchange_is_closed_nothing_opens(time: str) -> None:
    values = at(time)
    assert values["business_day"] == 0.0
    assert values["new_york_9h"] == 0.0


def test_the_day_is_new_yorks() -> None:
    """In UTC it is Saturday already, in New York Friday evening."""
    assert at("2024-07-13 02:00")["business_day"] == 1.0


def test_the_angles_turn_once_a_day_and_once_a_week() -> None:
    six = at("2024-07-10 10:00")
    assert (six["new_york_sin"], six["new_york_cos"]) == pytest.approx((1.0, 0.0))
    assert (six["new_york_sin_2"], six["new_york_cos_2"]) == pytest.approx((0.0, -1.0))
    monday, friday = at("2024-07-08 00:00"), at("2024-07-12 06:00")
    assert (monday["week_sin"], monday["week_cos"]) == pytest.approx((0.0, 1.0))
    angle = 2 * np.pi * 4.25 / 7
    assert (friday["week_sin"], friday["week_cos"]) == pytest.approx((np.sin(angle), np.cos(angle)))
