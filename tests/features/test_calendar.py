"""Clock features and the learned hourly profile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.calendar import CELLS, MOVE_CAP, SHRUNK_BY_BARS
from features.pipeline import Pipeline

MakeMarket = Callable[..., Market]


def closes_with_busy_hour(days: int, busy: int) -> list[float]:
    """|r| is 0.02 in the bar that opens at ``busy`` o'clock, else 0.01; the first bar opens at midnight."""
    sizes = [0.02 if i % 24 == busy else 0.01 for i in range(24 * days)]
    signs = np.where(np.arange(len(sizes)) % 2, -1.0, 1.0)
    return list(100 * np.exp(np.cumsum(np.array(sizes) * signs)))


def test_the_clock_speaks_of_the_bar_to_come(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": [100.0] * 24 * 7})
    frame = Pipeline.fit(market, ["hour_sin"]).batch(market)
    at = market.times.get_loc(pd.Timestamp("2024-01-05 06:00", tz="UTC"))
    assert frame["hour_sin"][at, 0] == pytest.approx(1.0)
    assert frame["hour_cos"][at, 0] == pytest.approx(0.0, abs=1e-12)
    saturday = market.times.get_loc(pd.Timestamp("2024-01-06 00:00", tz="UTC"))
    assert frame["weekend"][saturday - 1, 0] == 0.0
    assert frame["weekend"][saturday, 0] == 1.0, "the bar that opens on Saturday at midnight"


def test_the_profile_knows_the_busy_hour(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": closes_with_busy_hour(70, 15)})
    pipeline = Pipeline.fit(market, ["hour_profile"])
    profile = np.array(pipeline.states["hour_profile"]["symbols"]["A"])
    assert profile.shape == (CELLS,)
    assert profile[:24].argmax() == 15
    # 50 weekdays: a weekday cell is 50 bars of 1 or 2 units of the quiet size, shrunk by 20 bars of the mean
    # size.
    mean = (23 + 2) / 24
    quiet, busy = ((50 * size / mean + SHRUNK_BY_BARS) / (50 + SHRUNK_BY_BARS) for size in (1, 2))
    assert profile[15] == pytest.approx(np.log(busy), abs=2e-3)
    assert profile[3] == pytest.approx(np.log(quiet), abs=2e-3)

    frame = pipeline.batch(market)
    for hour, name in ((15, "hour_profile"), (12, "hour_profile_4h"), (19, "hour_profile_past")):
        at = market.times.get_loc(pd.Timestamp(f"2024-01-10 {hour}:00", tz="UTC"))
        day = frame[name][at - hour : at - hour + 24, 0]
        assert day[hour] == pytest.approx(day.max())
        assert day[hour] > day[hour - 11]
    np.testing.assert_allclose(frame["hour_profile_4h"][12, 0], frame["hour_profile"][12:16, 0].mean())


def test_one_crash_is_no_habit(market_of_closes: MakeMarket) -> None:
    closes = closes_with_busy_hour(70, 15)
    at = 24 * 30 + 4
    crashed = closes[:at] + [c * 0.5 for c in closes[at:]]
    profile = Pipeline.fit(market_of_closes({"A": crashed}), ["hour_profile"]).states["hour_profile"]
    cell = profile["symbols"]["A"]
    assert cell[4] < cell[15]
    assert cell[4] < np.log(1 + MOVE_CAP / 50)


def test_long_bars_speak_for_every_hour_they_cover(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": closes_with_busy_hour(20, 3)[:240]}, pd.Timedelta(hours=4))
    profile = Pipeline.fit(market, ["hour_profile"]).states["hour_profile"]["symbols"]["A"]
    assert len(set(profile[0:4])) == 1
    assert profile[0] != profile[4]


def test_a_flat_symbol_and_an_unknown_one(market_of_closes: MakeMarket) -> None:
    closes = closes_with_busy_hour(30, 15)
    market = market_of_closes({"A": closes, "B": [100.0] * len(closes)})
    pipeline = Pipeline.fit(market, ["hour_profile"])
    state = pipeline.states["hour_profile"]
    assert state["symbols"]["B"] == [0.0] * CELLS
    np.testing.assert_allclose(state["pooled"], np.array(state["symbols"]["A"]) / 2)
    other = market_of_closes({"C": closes})
    at = market.times.get_loc(pd.Timestamp("2024-01-10 15:00", tz="UTC"))
    assert pipeline.batch(other)["hour_profile"][at, 0] == state["pooled"][15]
