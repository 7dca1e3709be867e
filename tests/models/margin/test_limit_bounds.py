"""Every limit: its default, the least and the most that it may be, and one step beyond either."""

import math
from dataclasses import fields

import pytest

from models.margin.limits import MEMORY_S, Limits, LimitsError

INF = math.inf
DAY = 86400.0
#: Of each limit: default, least, whether the least itself is allowed, most.
TABLE = {
    "floor_of_base": (0.6, 0, True, 1),
    "floor_scale": (0.5, 0, True, 1),
    "cap_rate": (1.0, 0, False, 1),
    "cap_multiplier": (10.0, 1, True, 1000),
    "band_low": (0.5, 0, False, 1),
    "band_high": (2.0, 1, True, 1000),
    "band_strike_factor": (2.0, 1, True, 1000),
    "band_strikes": (3, 1, True, 1000),
    "forecast_valid_bars": (2, 0, True, 1000),
    "forecast_valid_s": (900.0, 0, True, DAY),
    "degraded_after_bars": (1.0, 1, True, INF),
    "stale_after_bars": (2.0, 0, True, INF),
    "dead_after_bars": (6.0, 0, True, 1000),
    "feed_grace_bars": (0.1, 0, True, 0.5),
    "feeds_degraded_ratio": (0.02, 0, False, 1),
    "feeds_refused_ratio": (0.06, 0, False, 1),
    "uncertainty_surcharge": (0.5, 0, True, 10),
    "model_warm_up_bars": (500, 0, True, INF),
    "rules_warm_up_bars": (250, 0, True, INF),
    "up_limit_1h": (0.50, 0, True, INF),
    "up_limit_24h": (4.0, 0, True, 100),
    "down_limit_1h": (0.25, 0, True, 0.99),
    "memory_step_s": (900.0, 0, False, 3600),
    "release_ratio": (0.15, 0, True, 0.9),
    "fall_after_s": (0.0, 0, True, DAY),
    "publish_step": (0.02, 0, True, 0.5),
    "breaker_s": (3600.0, 0, True, DAY),
    "buffer_ratio": (0.0, 0, True, 10),
    "buffer_release_multiplier": (1.5, 0, False, 1000),
    "buffer_build_s": (30 * DAY, 0, False, INF),
    "resume_grace_s": (1800.0, 0, True, DAY),
    "maintenance_delay_s": (0.0, 0, True, DAY),
    "impact_budget": (0.05, 0, True, 1),
    "health_window": (250, 1, True, 10000),
    "health_yellow_breaches": (8, 1, True, INF),
    "health_red_breaches": (10, 1, True, INF),
    "drift_yellow": (0.25, 0, False, INF),
    "drift_red": (0.5, 0, False, INF),
    "static_stress_factor": (2.0, 1, True, INF),
}
#: Settings beside which one limit may go to its ends without contradicting another.
LOW = {
    "up_limit_1h": 0.0,
    "degraded_after_bars": 1.0,
    "stale_after_bars": 1.0,
    "feeds_degraded_ratio": 1e-300,
    "rules_warm_up_bars": 0,
    "health_yellow_breaches": 1,
    "drift_yellow": 1e-300,
    "static_stress_factor": 1.0,
}
HIGH = {
    "up_limit_24h": 100.0,
    "stale_after_bars": 999.0,
    "dead_after_bars": 1000.0,
    "feeds_refused_ratio": 1.0,
    "model_warm_up_bars": 10**9,
    "health_red_breaches": 10**9,
    "drift_red": 1e9,
    "cap_multiplier": 1000.0,
}
#: The lower of two limits and the one that it may not exceed.
ORDERED = [
    ("up_limit_1h", "up_limit_24h"),
    ("degraded_after_bars", "stale_after_bars"),
    ("stale_after_bars", "dead_after_bars"),
    ("feeds_degraded_ratio", "feeds_refused_ratio"),
    ("rules_warm_up_bars", "model_warm_up_bars"),
    ("health_yellow_breaches", "health_red_breaches"),
    ("drift_yellow", "drift_red"),
    ("static_stress_factor", "cap_multiplier"),
]
WHOLE = {name for name, row in TABLE.items() if isinstance(row[0], int)}
LEAST = {"stale_after_bars": 1.0, "dead_after_bars": 1.0}  # by their order with degraded_after_bars


def made(name: str, value: float, beside: dict[str, float]) -> Limits:
    return Limits(**{**beside, name: value})


def below(name: str, value: float) -> float:
    return value - 1 if name in WHOLE else math.nextafter(value, -INF)


def above(name: str, value: float) -> float:
    return value + 1 if name in WHOLE else math.nextafter(value, INF)


def test_the_defaults() -> None:
    assert Limits().to_json() == {name: row[0] for name, row in TABLE.items()}
    assert {f.name for f in fields(Limits)} == set(TABLE)
    assert {f.name for f in fields(Limits) if f.type == "int"} == WHOLE
    assert MEMORY_S == DAY


@pytest.mark.parametrize("name", TABLE)
def test_the_least(name) -> None:
    _, least, included, _ = TABLE[name]
    least = LEAST.get(name, least)
    if included:
        assert getattr(made(name, least, LOW), name) == least
        with pytest.raises(LimitsError, match=f"limit ({name}|degraded_after_bars|stale_after_bars) is"):
            made(name, below(name, least), LOW)
    else:
        assert getattr(made(name, 1e-300, LOW), name) == 1e-300
        with pytest.raises(LimitsError, match=rf"limit {name} is 0.*; it must be above 0"):
            made(name, 0, LOW)
        with pytest.raises(LimitsError, match=rf"limit {name} is -"):
            made(name, -1e-300, LOW)


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row[3] < INF])
def test_the_most(name) -> None:
    most = TABLE[name][3]
    assert getattr(made(name, most, HIGH), name) == most
    with pytest.raises(LimitsError, match=rf"limit {name} is .*; it must be at most {most:g}"):
        made(name, above(name, most), HIGH)


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row[3] == INF])
def test_what_has_no_most_is_finite_all_the_same(name) -> None:
    for value in (INF, -INF, math.nan):
        with pytest.raises(LimitsError, match=f"limit {name} is .*; it must be (finite|a whole number)"):
            made(name, value, HIGH)


@pytest.mark.parametrize(("low", "high"), ORDERED)
def test_limits_that_have_an_order(low, high) -> None:
    value = TABLE[high][0]
    beside = {"dead_after_bars": 6.0, "stale_after_bars": 6.0} if low == "stale_after_bars" else {}
    assert getattr(made(low, value, beside), low) == value
    with pytest.raises(LimitsError, match=rf"limit {low} is .*; it must be at most {high}, which is {value}"):
        made(low, above(low, value), {k: v for k, v in beside.items() if k != low})


def test_a_forecast_has_to_live_for_some_time() -> None:
    assert Limits(forecast_valid_bars=0).forecast_valid_s == 900.0
    assert Limits(forecast_valid_s=0).forecast_valid_bars == 2
    assert Limits(forecast_valid_bars=0, forecast_valid_s=1e-9)
    assert Limits(forecast_valid_bars=1, forecast_valid_s=0.0)
    with pytest.raises(LimitsError, match=r"limit forecast_valid_s is 0.0; it must be above 0 where"):
        Limits(forecast_valid_bars=0, forecast_valid_s=0)


@pytest.mark.parametrize("junk", [None, "1", True, False, (1,), 1j])
def test_what_is_no_number_is_refused(junk) -> None:
    with pytest.raises(LimitsError, match=r"limit cap_rate is .*; it must be a number; correct it in"):
        Limits(cap_rate=junk)
    with pytest.raises(LimitsError, match=r"limit band_strikes is .*; it must be a whole number"):
        Limits(band_strikes=junk)
    with pytest.raises(LimitsError, match=r"limit band_strikes is 2.0; it must be a whole number"):
        Limits(band_strikes=2.0)
    assert Limits(cap_rate=1).cap_rate == 1
