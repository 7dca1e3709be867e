"""What the same hours of earlier days did, on prices whose every move is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline, all_features
from features.volatility import sigma

HOUR = pd.Timedelta(hours=1)
SEASONAL = tuple(f for f in all_features() if f.family == "seasonality")


@pytest.fixture(scope="module")
def clockwork() -> Market:
    """40 days of one symbol that moves 3 % in the hour from 14:00, on Mondays 6 %, and 1 % in every other."""
    times = pd.date_range("2024-01-01 01:00", periods=40 * 24, freq=HOUR, tz="UTC", unit="ns")
    opened = times - HOUR
    size = np.where(opened.hour == 14, np.where(opened.day_of_week == 0, 0.06, 0.03), 0.01)
    close = 100 * np.exp(np.cumsum(size * np.where(np.arange(len(times)) % 2, 1, -1)))
    return Market(HOUR, {"close": pd.DataFrame({"A": close}, index=times)})


def usual(market: Market, name: str, time: str) -> float:
    """The usual move that the feature speaks of, as a fraction."""
    frame = Pipeline(HOUR, SEASONAL).batch(market)
    row = frame.times.get_loc(pd.Timestamp(time, tz="UTC"))
    return float(np.exp(frame[name][row, 0]) * sigma(market)[row, 0])


@pytest.mark.parametrize(
    ("name", "time", "squares"),
    [
        # Thursday 14:00: the hour that begins now moved 3 % on each of the days before.
        ("usual_1h_2d", "2024-02-01 14:00", [9]),
        ("usual_1h_2d", "2024-02-01 13:00", [1]),
        # Tuesday: Monday's 6 % and Sunday's 3 %.
        ("usual_1h_2d", "2024-01-30 14:00", [36, 9]),
        ("usual_1h_5d", "2024-02-01 14:00", [9, 9, 36, 9, 9]),
        # Four hours, of which one moves 3 %.
        ("usual_4h_2d", "2024-02-01 12:00", [9, 1, 1, 1]),
        # Only the Mondays before.
        ("usual_1h_4w", "2024-02-05 14:00", [36]),
        ("usual_1h_4w", "2024-02-06 14:00", [9]),
        ("usual_1d_4w", "2024-02-06 00:00", [9, *[1] * 23]),
    ],
)
def test_it_is_what_the_hours_that_begin_now_did_before(
    clockwork: Market, name: str, time: str, squares: list[int]
) -> None:
    assert usual(clockwork, name, time) == pytest.approx(0.01 * np.sqrt(np.mean(squares)), rel=1e-9)


def test_a_day_without_its_bar_does_not_count(clockwork: Market) -> None:
    close = clockwork.close.copy()
    close.loc["2024-01-29 15:00"] = np.nan
    holed = Market(HOUR, {"close": close})
    assert usual(holed, "usual_1h_2d", "2024-01-30 14:00") == pytest.approx(0.03, rel=1e-9)
