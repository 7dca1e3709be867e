"""Crashes that are built bar by bar: when the worst hour began, when the margin had begun to rise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from training.margin.crash_table import crash_summary, not_covered, through_crashes
from training.margin.crashes import CRASHES, Crash, covers, raised, worst_hour
from training.margin.served import served_margins

MarketOf = Callable[..., Market]
TableOf = Callable[..., pd.DataFrame]

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
START = pd.Timestamp("2026-01-05", tz="UTC")
#: The eleventh day; 16 days of bars are there.
CRASH = Crash("the crash", START + 10 * DAY, START + 11 * DAY, "1h")
FELL = 10 * 24 + 5


@pytest.fixture
def market(market_of: MarketOf) -> Market:
    """A falls by a fifth from the fifth hour of the day on, in one bar; B by a tenth, and by a half later."""
    closes = {s: np.full(16 * 24, 100.0) for s in "AB"}
    closes["A"][FELL + 1 :] = 80.0
    closes["B"][FELL - 2 :] = 90.0
    closes["B"][FELL + 40 :] = 45.0
    return market_of(closes)


def multipliers(rises_at: int, to: float = 2.0) -> np.ndarray:
    return np.where(np.arange(16 * 24) >= rises_at, 0.1 * to, 0.1)


def test_the_worst_hour_begins_at_the_close_before() -> None:
    times = pd.date_range(START, periods=5, freq="h")
    found = worst_hour(pd.Series([100.0, 110.0, 99.0, 97.0, 98.0], times), HOUR)
    assert found is not None
    assert found.begins == times[1]
    assert found.hour_fall == pytest.approx(-0.1)
    assert found.fall == pytest.approx(97 / 110 - 1)


def test_an_hour_is_two_bars_of_half_an_hour_and_one_of_two() -> None:
    half = pd.Timedelta(minutes=30)
    closes = pd.Series([100.0, 95.0, 91.0, 91.0, 90.0], pd.date_range(START, periods=5, freq=half))
    found = worst_hour(closes, half)
    assert found is not None
    assert (found.begins, found.hour_fall) == (START, pytest.approx(-0.09))
    found = worst_hour(closes.set_axis(pd.date_range(START, periods=5, freq="2h")), 2 * HOUR)
    assert found is not None
    assert (found.begins, found.hour_fall) == (START, pytest.approx(-0.05))


def test_missing_closes_leave_the_hours_that_are_known() -> None:
    times = pd.date_range(START, periods=4, freq="h")
    found = worst_hour(pd.Series([100.0, np.nan, 50.0, 45.0], times), HOUR)
    assert found is not None
    assert (found.begins, found.fall) == (times[2], pytest.approx(-0.55))
    assert worst_hour(pd.Series([100.0, np.nan, 50.0, np.nan], times), HOUR) is None
    assert worst_hour(pd.Series([100.0], times[:1]), HOUR) is None


def test_a_multiplier_is_raised_beyond_its_median_of_the_week_before(
    market: Market, table_of: TableOf
) -> None:
    rates = np.full(16 * 24, 0.1)
    rates[[5, 100, 200]] = [0.9, 0.124, 0.126]
    rates[300:] = 0.2
    found = raised(served_margins(table_of(market, rates), market)["model", "initial"])
    assert not found[5].any()  # less than a day is known
    assert np.flatnonzero(found[:, 0])[:2].tolist() == [200, 300]
    # Half of the week before has to be as high before it is the usual.
    assert np.flatnonzero(found[:, 0])[-1] == min(300 + 7 * 12, 16 * 24 - 1)


def test_the_lead_is_counted_to_the_worst_hour(market: Market, table_of: TableOf) -> None:
    table = table_of(market, multipliers(FELL - 7), base=0.1, kinds=["maintenance"])
    found = through_crashes(served_margins(table, market), market, [CRASH]).set_index("symbol")
    a = found.loc["A"]
    assert a["hour_begins"] == market.times[FELL]
    assert a["onset"] == market.times[FELL - 7]
    assert (a["lead_h"], a["onset_before"]) == (7, False)
    assert (a["fall"], a["hour_fall"]) == (pytest.approx(-0.2), pytest.approx(-0.2))
    assert (a["multiplier_at"], a["largest_multiplier"]) == (pytest.approx(2), pytest.approx(2))
    # It lost a fifth at a margin of a fifth; B's worst hour of the window began three hours before A's.
    assert a["worst_shortfall"] == pytest.approx(0, abs=1e-6)
    assert found.loc["B", "lead_h"] == 4
    assert found.loc["B", "fall"] == pytest.approx(-0.1)


def test_a_margin_that_rises_too_late_or_never(market: Market, table_of: TableOf) -> None:
    late = table_of(market, multipliers(FELL + 3), "late", kinds=["maintenance"])
    never = table_of(market, 0.1, "never", kinds=["maintenance"])
    margins = served_margins(pd.concat([late, never]), market)
    found = through_crashes(margins, market, [CRASH]).set_index(["series", "symbol"])
    assert found.loc[("late", "A"), "lead_h"] == -3
    assert found.loc[("late", "A"), "multiplier_at"] == pytest.approx(1)
    assert found.loc[("late", "A"), "worst_shortfall"] == pytest.approx(1e5)
    assert found.loc[("late", "A"), "total_shortfall"] == pytest.approx(1e5)
    assert found.loc[("late", "A"), "coverage"] == pytest.approx(47 / 48)
    assert np.isnan(found.loc[("never", "A"), "lead_h"])
    assert pd.isna(found.loc[("never", "A"), "onset"])
    assert found.loc[("never", "A"), "raised"] == 0
    summary = crash_summary(found.reset_index()).set_index("series")
    assert summary["risen_before"].to_dict() == {"late": 0, "never": 0}
    assert summary.loc["late", "lead_h"] == pytest.approx(-4.5)
    assert summary.loc["late", "least_lead_h"] == -6
    assert summary.loc["late", "fall"] == pytest.approx(-0.2)
    assert summary.loc["late", "symbols"] == 2


def test_a_rise_before_what_is_looked_at_is_said_to_be_older(market: Market, table_of: TableOf) -> None:
    table = table_of(market, multipliers(9 * 24 - 5), kinds=["maintenance"])
    found = through_crashes(served_margins(table, market), market, [CRASH]).iloc[0]
    assert (found["lead_h"], found["onset_before"]) == (29, True)


def test_served_rates_stand_in_for_unknown_multipliers(market: Market, table_of: TableOf) -> None:
    table = table_of(market, multipliers(FELL - 2), kinds=["maintenance"]).assign(multiplier=np.nan)
    found = through_crashes(served_margins(table, market), market, [CRASH]).iloc[0]
    assert found["lead_h"] == 2
    assert np.isnan(found["largest_multiplier"])


def test_rungs_within_the_window_alone(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1, kinds=["maintenance"], rung="champion", mode="fresh")
    early, within = table["time"] == market.times[3], table["time"] == market.times[FELL]
    table.loc[early, ["rung", "mode"]] = ["cap", "fresh"]
    table.loc[within, ["rung", "mode"]] = ["static", "dead"]
    table.loc[within, "required_rate"], table.loc[early, "required_rate"] = 0.13, 0.9
    through = through_crashes(served_margins(table, market), market, [CRASH])
    found = crash_summary(through).iloc[0]
    assert (found["lowest_rung"], found["lowest_rung_alive"]) == ("static", "champion")
    assert found["worst_gap"] == pytest.approx(3e4)
    assert found["mean_gap"] == pytest.approx(3e4 / 24)
    assert found["mean_margin"] == pytest.approx(0.1)
    assert (found["champion"], found["static"]) == (pytest.approx(23 / 24), pytest.approx(1 / 24))


def test_a_window_that_is_not_covered_is_told(market: Market, table_of: TableOf) -> None:
    margins = served_margins(table_of(market, 0.1), market)
    beyond = Crash("beyond", START + 15 * DAY, START + 17 * DAY, "1h")
    assert not_covered(margins, [CRASH, beyond]) == [beyond]
    margin = margins["model", "initial"]
    assert covers(margin, Crash("to the end", START + 15 * DAY, START + 16 * DAY, "1h"))
    assert not covers(margin, Crash("before", START - HOUR, START + DAY, "1h"))
    found = through_crashes(margins, market, [beyond])
    assert found.empty and crash_summary(found).empty


def test_the_named_crashes_are_in_order_and_apart() -> None:
    assert [c.name for c in sorted(CRASHES, key=lambda c: c.start)] == [c.name for c in CRASHES]
    assert len({c.name for c in CRASHES}) == len(CRASHES)
    for one, next_ in pairwise(CRASHES):
        assert one.start < one.end <= next_.start
