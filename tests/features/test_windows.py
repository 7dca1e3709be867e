"""The doubled windows against loops, and what they promise: exactness and finite memory."""

from __future__ import annotations

import numpy as np
import pytest

from features.windows import (
    Array,
    decayed_mean,
    lag,
    log_ratio,
    quotient,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_sum,
)

RNG = np.random.default_rng(3)
VALUES = RNG.standard_normal((61, 2))
HOLED = np.where(RNG.random(VALUES.shape) < 0.2, np.nan, VALUES)
WINDOWS = (1, 2, 3, 7, 8, 13, 60, 61, 64, 100)


def slow_window(values: Array, t: int, bars: int, column: int) -> Array:
    """The window's values, newest first."""
    return values[max(0, t - bars + 1) : t + 1, column][::-1]


@pytest.mark.parametrize("bars", WINDOWS)
@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_sums_agree_with_a_loop(bars: int, decay: float) -> None:
    fast = rolling_sum(VALUES, bars, decay)
    for t in range(len(VALUES)):
        for i in range(2):
            window = slow_window(VALUES, t, bars, i)
            assert fast[t, i] == pytest.approx(sum(decay**j * x for j, x in enumerate(window)), abs=1e-12)


@pytest.mark.parametrize("bars", WINDOWS)
def test_means_and_extremes_agree_with_a_loop(bars: int) -> None:
    mean, high, low = rolling_mean(HOLED, bars), rolling_max(HOLED, bars), rolling_min(HOLED, bars)
    weighted = decayed_mean(HOLED, bars, 0.8, least=3)
    for t in range(len(HOLED)):
        for i in range(2):
            window = slow_window(HOLED, t, bars, i)
            age = np.flatnonzero(~np.isnan(window))
            known = window[age]
            if len(known) >= max(1, np.ceil(bars / 2)):
                assert mean[t, i] == pytest.approx(known.mean(), abs=1e-12)
            else:
                assert np.isnan(mean[t, i])
            assert high[t, i] == (known.max() if len(known) else -np.inf)
            assert low[t, i] == (known.min() if len(known) else np.inf)
            if len(known) >= 3:
                assert weighted[t, i] == pytest.approx(np.average(known, weights=0.8**age), abs=1e-12)
            else:
                assert np.isnan(weighted[t, i])


@pytest.mark.parametrize("bars", [3, 24, 37])
def test_a_window_alone_gives_the_same_bits(bars: int) -> None:
    whole = rolling_sum(VALUES, bars, 0.97)
    for t in range(bars, len(VALUES)):
        alone = rolling_sum(VALUES[t - bars + 1 : t + 1], bars, 0.97)
        assert np.array_equal(alone[-1], whole[t])


def test_a_spike_leaves_nothing_behind() -> None:
    calm = np.full((50, 1), 1e-8)
    spiked = calm.copy()
    spiked[10] = 1e12
    assert np.array_equal(rolling_sum(spiked, 8)[18:], rolling_sum(calm, 8)[18:])


def test_lag_shifts_down() -> None:
    np.testing.assert_array_equal(lag(np.array([[1.0], [2.0], [3.0]]), 2), [[np.nan], [np.nan], [1.0]])
    np.testing.assert_array_equal(lag(np.array([[1.0]]), 0), [[1.0]])


def test_a_window_has_a_bar() -> None:
    with pytest.raises(ValueError, match="at least one bar, not 0"):
        rolling_sum(VALUES, 0)


def test_quotients_are_missing_where_the_base_is_not_positive() -> None:
    top, bottom = np.array([1.0, 1.0, np.nan, 1.0]), np.array([2.0, 0.0, 1.0, np.nan])
    np.testing.assert_array_equal(quotient(top, bottom), [0.5, np.nan, np.nan, np.nan])


def test_log_ratios_are_bounded() -> None:
    value, base = np.array([np.e, 0.0, 1e9, np.nan, 1.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(log_ratio(value, base, 5.0), [1.0, -5.0, 5.0, np.nan, np.nan])
