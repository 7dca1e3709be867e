"""Extreme bars and stressed requirements against a loop over bars, and against numbers made by hand."""

import math

import numpy as np
import pytest

from models.margin import fhs
from models.margin.base_rate import base_rates
from models.margin.requirement import margin_rates
from models.margin.stress import LEAST_RETURNS, Stress
from models.margin.types import Tail

HOUR, DAY = 3600.0, 86400.0
START = 1672531200.0  # 1 January 2023
INITIAL, MAINTENANCE = Tail(0.99, 4 * HOUR), Tail(0.99, HOUR)
NONE = (0.0, 0.0, 0.0, 0.0)


def history(bars: int, seed: int = 5) -> np.ndarray:
    """Closes whose volatility trebles in every third 200 bars."""
    rng = np.random.default_rng(seed)
    loud = np.where(np.arange(bars) // 200 % 3 == 2, 3.0, 1.0)
    return 100 * np.exp(np.cumsum(rng.normal(0, 0.004, bars) * loud))


def made(closes: np.ndarray) -> Stress:
    return Stress(
        np.log(closes), fhs.scale(closes, HOUR), interval_s=HOUR, initial=INITIAL, maintenance=MAINTENANCE
    )


def test_stressed_rates_are_the_quantile_over_the_requirement_of_each_bar() -> None:
    closes, rows = history(2500), 2100
    known = closes[:rows]
    es = fhs.filtered_historical_simulation(known, HOUR, (HOUR, 4 * HOUR), (0.99,))[1]
    scales = fhs.scale(known, HOUR)
    required = [es[:, :, 0] * sigma / scales[-1] for sigma in scales if np.isfinite(sigma)]
    (long_m, short_m), (long_i, short_i) = np.quantile(required, 0.9, axis=0)
    expected = margin_rates((long_i, long_m, short_i, short_m))
    assert made(closes).stressed_rates(rows) == pytest.approx(expected, rel=1e-12)


def test_stress_is_more_than_the_median_requirement() -> None:
    closes = history(2500)
    quiet = history(2500)
    quiet[1:] = quiet[0] * np.exp(np.cumsum(np.clip(np.diff(np.log(quiet)), -0.004, 0.004)))
    loud_rates, quiet_rates = made(closes).stressed_rates(2500), made(quiet).stressed_rates(2500)
    assert min(a / b for a, b in zip(loud_rates, quiet_rates, strict=True)) > 2


def test_an_extreme_bar_is_exceeded_by_three_in_ten_thousand() -> None:
    rng = np.random.default_rng(1)
    returns = rng.permutation(np.concatenate([np.arange(1, 5001), -2 * np.arange(1, 5002)])) * 1e-6
    closes = np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
    long, short = made(closes).extreme_losses(len(closes))
    # 10,001 returns: of each side's losses exactly three lie beyond the fourth largest.
    assert long == pytest.approx(9996e-6, rel=1e-9)
    assert short == pytest.approx(4997e-6, rel=1e-9)


def test_an_extreme_bar_needs_one_expected_exceedance() -> None:
    closes = history(LEAST_RETURNS + 1)
    assert LEAST_RETURNS == 3334
    assert made(closes).extreme_losses(LEAST_RETURNS) == (0.0, 0.0)
    assert min(made(closes).extreme_losses(LEAST_RETURNS + 1)) > 0.01
    closes[2000] = np.nan  # and with it two returns
    assert made(closes).extreme_losses(LEAST_RETURNS + 1) == (0.0, 0.0)


def test_a_side_that_never_lost_has_no_extreme() -> None:
    closes = np.exp(np.arange(4000) * 1e-4)
    long, short = made(closes).extreme_losses(4000)
    assert long == 0.0
    assert short == pytest.approx(1e-4)


def test_too_few_residuals_are_no_stress() -> None:
    # 24 returns until there is a scale, then 200 residuals of 4 bars that have matured.
    closes = history(400)
    assert made(closes).stressed_rates(227) == NONE
    assert min(made(closes).stressed_rates(228)) > 0


def test_a_price_that_does_not_move_is_no_stress() -> None:
    assert made(np.full(4000, 5.0)).stressed_rates(4000) == NONE
    assert made(np.full(4000, 5.0)).extreme_losses(4000) == (0.0, 0.0)
    assert made(np.full(4000, np.nan)).stressed_rates(4000) == NONE


def test_nothing_after_the_row_is_used() -> None:
    closes = history(5000)
    later = np.where(np.arange(5000) >= 4000, closes * np.linspace(1, 9, 5000), closes)
    for rows in (3500, 4000):
        assert made(later).stressed_rates(rows) == made(closes).stressed_rates(rows)
        assert made(later).extreme_losses(rows) == made(closes).extreme_losses(rows)
        assert made(closes[:rows]).stressed_rates(rows) == made(closes).stressed_rates(rows)


def test_residuals_older_than_two_years_are_forgotten() -> None:
    days = 1000
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(3).standard_t(3, days) * 0.02))
    daily = {"interval_s": DAY, "initial": Tail(0.99, 2 * DAY), "maintenance": Tail(0.99, DAY)}
    whole = Stress(np.log(closes), fhs.scale(closes, DAY), **daily)
    scales = fhs.scale(closes, DAY)
    es = fhs.filtered_historical_simulation(closes, DAY, (DAY,), (0.99,))[1][0, 0, 0]
    loss = np.nanquantile(scales, 0.9) / scales[-1] * es
    assert whole.stressed_rates(days)[1] == pytest.approx(1 - math.exp(-loss), rel=1e-12)


def test_they_follow_the_months_clock() -> None:
    closes = history(24 * 200)
    times = START + HOUR * np.arange(1, len(closes) + 1)
    schedule = base_rates(
        times,
        closes,
        interval_s=HOUR,
        initial=INITIAL,
        maintenance=MAINTENANCE,
        default=(0.1, 0.05, 0.1, 0.05),
    )
    march, may, june = START + 59 * DAY, START + 120 * DAY, START + 151 * DAY
    assert (schedule.at(march).extreme_losses, schedule.at(march).stressed_rates) == ((0.0, 0.0), NONE)
    # Four months of hours make a requirement and not yet an extreme bar.
    assert schedule.at(may).extreme_losses == (0.0, 0.0)
    assert schedule.at(may).stressed_rates == made(closes).stressed_rates(120 * 24)
    assert schedule.at(june + 5 * DAY).extreme_losses == made(closes).extreme_losses(151 * 24)
    assert schedule.at(june + 5 * DAY).stressed_rates == made(closes).stressed_rates(151 * 24)
    rates = schedule.at(june).stressed_rates
    assert rates[0] >= rates[1] > 0
    assert rates[2] >= rates[3] > 0
