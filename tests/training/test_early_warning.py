"""Worst hours, lead times and false alarms, by hand and against a loop."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.sources.simulated import simulate
from training.early_warning import (
    LARGE_SHARE,
    Alarm,
    Span,
    costs_of,
    first_alarm_hours,
    hourly_moves,
    lead_hours,
    threshold_for,
    warnings_of,
    worst_hours,
)

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


def hours(count: int) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01 01:00", periods=count, freq=HOUR, tz="UTC", unit="ns")


def market_of(closes: dict[str, list[float]], interval: pd.Timedelta) -> Market:
    count = len(next(iter(closes.values())))
    times = pd.date_range("2024-01-01", periods=count, freq=interval, tz="UTC", unit="ns")
    return Market(interval, {"close": pd.DataFrame(closes, index=times)})


def alarm(on: list[int], count: int, name: str = "rule") -> Alarm:
    score = np.zeros(count)
    score[on] = 1.0
    return Alarm.of(name, score, 0.5)


def test_moves_are_log_returns_of_the_hour_and_their_mean() -> None:
    nan = float("nan")
    hourly = hourly_moves(market_of({"A": [100.0, 110.0, nan, 121.0], "B": [50.0, 50.0, 45.0, 45.0]}, HOUR))
    np.testing.assert_allclose(hourly["A"], [nan, np.log(1.1), nan, nan])
    np.testing.assert_allclose(hourly["B"], [nan, 0.0, np.log(0.9), 0.0])
    np.testing.assert_allclose(hourly["market"], [nan, np.log(1.1) / 2, np.log(0.9), 0.0])


def test_moves_of_finer_bars_cover_an_hour() -> None:
    market = simulate(symbols=2, days=2, interval=pd.Timedelta(minutes=15), seed=3)
    log_close = np.log(market.close.to_numpy())
    found = hourly_moves(market)
    np.testing.assert_allclose(found.iloc[4:, :2], log_close[4:] - log_close[:-4], atol=1e-12)
    assert found.iloc[:4, :2].isna().all(axis=None)


def test_worst_hours_lie_apart_and_are_the_largest_first() -> None:
    move = np.array([np.nan, -5.0, 6.0, np.nan, 0.1, 4.0, 3.0, 0.2])
    assert worst_hours(move, 3, 3) == [2, 5]  # 1, 4, 6 and 7 are too near to one of them, 0 is unknown
    assert worst_hours(move, 2, 1) == [2, 1]
    assert worst_hours(move, 9, 4) == [2, 6]  # 5 is three rows from 2, too near


def test_lead_is_the_time_without_interruption() -> None:
    rule = alarm([2, 3, 5, 6, 7], 10)
    assert [lead_hours(rule, begin, HOUR) for begin in (3, 5, 7)] == [1.0, 0.0, 2.0]
    assert np.isnan(lead_hours(rule, 4, HOUR))
    assert np.isnan(lead_hours(rule, 0, HOUR))
    assert lead_hours(rule, 7, pd.Timedelta(minutes=15)) == 0.5
    assert lead_hours(alarm([0, 1, 2], 5), 2, HOUR) == 2.0  # since the first row there is


def test_the_first_alarm_before_may_have_been_interrupted() -> None:
    rule = alarm([1, 5], 10)
    assert first_alarm_hours(rule, 6, 5 * HOUR, HOUR) == 5.0
    assert first_alarm_hours(rule, 6, 4 * HOUR, HOUR) == 1.0
    assert np.isnan(first_alarm_hours(rule, 9, 3 * HOUR, HOUR))
    assert first_alarm_hours(rule, 1, DAY, HOUR) == 0.0


def test_an_unknown_score_is_no_alarm() -> None:
    rule = Alarm.of("rule", np.array([np.nan, 0.9, 0.1, np.nan, 0.7]), 0.5)
    assert rule.on.tolist() == [False, True, False, False, True]
    assert rule.share == pytest.approx(2 / 3)


def test_the_threshold_gives_the_share_that_is_asked_for() -> None:
    score = np.append(np.random.default_rng(1).standard_normal(1000), [np.nan] * 200)
    assert Alarm.of("rule", score, threshold_for(score, 0.1)).share == pytest.approx(0.1)
    assert Alarm.of("rule", score, threshold_for(score, 0.0)).share == 0.0


@pytest.mark.parametrize("interval", [HOUR, pd.Timedelta(minutes=15), 2 * HOUR, DAY])
def test_what_is_large_ahead_agrees_with_a_loop(interval: pd.Timedelta) -> None:
    rng = np.random.default_rng(4)
    times = pd.date_range("2024-01-01", periods=900, freq=interval, tz="UTC", unit="ns")
    move = pd.Series(rng.standard_t(3, 900), times)
    move.iloc[[100, 500]] = np.nan
    span = Span.of(move, interval, 3)
    bars, day = max(1, HOUR // interval), DAY // interval
    values = move.to_numpy().copy()
    values[:bars] = np.nan
    large = np.nanquantile(np.abs(values), 1 - LARGE_SHARE)
    for row in range(900 - day):
        known = [abs(v) for v in values[row + bars : row + day + 1] if np.isfinite(v)]
        expected = float(max(known) >= large) if known else float("nan")
        np.testing.assert_equal(span.large_ahead[row], expected)
    assert np.isnan(span.large_ahead[900 - day :]).all()
    assert all(span.move[begin + bars] == values[begin + bars] for begin in span.begins)


def test_a_worst_hour_begins_at_the_close_before_it() -> None:
    move = pd.Series(0.001, hours(200))
    move.iloc[50], move.iloc[120] = -0.08, 0.05
    span = Span.of(move, HOUR, 2)
    assert span.begins == [49, 119]
    found = warnings_of(span, alarm([40, 46, 47, 48, 49, 50], 200))
    assert found["begins"].tolist() == [move.index[49], move.index[119]]
    assert found["side"].tolist() == ["long", "short"]
    assert found["move"].tolist() == [-0.08, 0.05]
    np.testing.assert_array_equal(found["lead"], [3.0, np.nan])
    np.testing.assert_array_equal(found["first_24h"], [9.0, np.nan])


def test_costs_by_hand() -> None:
    """240 hours with two large moves: at 0.005, one hour in 200, both are at least the quantile."""
    move = pd.Series(0.001, hours(240))
    move.iloc[50], move.iloc[150] = -0.08, -0.08
    span = Span.of(move, HOUR, 2)
    # On for 4 hours up to the first, for 2 hours long before the second, and for 2 of which the day ahead is
    # not over.
    rule = alarm([46, 47, 48, 49, 100, 101, 230, 231], 240)
    found = costs_of(span, rule)
    assert found["in_alarm"] == pytest.approx(8 / 240)
    assert found["false"] == pytest.approx(2 / 6)
    assert found["false_always"] == pytest.approx(1 - 48 / 216)
    assert found["starts"] == pytest.approx(3 * 30 * 24 / 240)
    assert (found["warned"], found["warned_24h"], found["median_lead"]) == (0.5, 0.5, 3.0)
    never = costs_of(span, alarm([], 240))
    assert np.isnan(never["false"])
    assert np.isnan(never["median_lead"])
    assert never["warned"] == never["starts"] == 0.0


def test_more_of_the_worst_hours_are_asked_about_where_there_are_more() -> None:
    move = pd.Series(np.random.default_rng(5).standard_normal(24 * 30), hours(24 * 30))
    span = Span.of(move, HOUR, 5)
    assert span.begins == span.begins_more[:5]
    assert 15 <= len(span.begins_more) <= 30
    rule = alarm(span.begins_more[:3], len(move))
    assert costs_of(span, rule)["warned_more"] == pytest.approx(3 / len(span.begins_more))


def test_too_short_a_span_is_refused() -> None:
    move = pd.Series(0.001, hours(60))
    with pytest.raises(ValueError, match=re.escape("and the 10 worst are asked for; ask for fewer")):
        Span.of(move, HOUR, 10)
