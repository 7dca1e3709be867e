"""The margin ratio at equal shortfall: by hand, against a search, and its bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import brentq

from training.margin.ratio import MarginRatio, calendar_weeks, margin_ratios, scale_at

Array = np.ndarray


def times(rows: int, start: str = "2026-01-05") -> pd.DatetimeIndex:
    return pd.date_range(start, periods=rows, freq="h", tz="UTC", unit="ns")


def sample(rows: int = 1500, contracts: int = 3, seed: int = 2) -> tuple[Array, Array, Array]:
    """Losses whose scale the rate knows, and a reference that does not."""
    rng = np.random.default_rng(seed)
    scale = 0.01 * np.exp(0.5 * rng.standard_normal((rows, contracts)))
    return scale * rng.standard_t(4, (rows, contracts)), 4 * scale, np.full((rows, contracts), 0.045)


def shortfall(loss: Array, rate: Array) -> float:
    return float(np.maximum(loss - rate, 0).sum())


def test_the_constant_by_hand() -> None:
    # With c = 2 the shortfall is (0.5 - 0.2) + (0.3 - 0.2) = 0.4; with c = 4 it is 0.1.
    loss, rate = np.array([0.5, 0.3, -0.4, 0.05]), np.full(4, 0.1)
    assert scale_at(loss, rate, 0.4) == pytest.approx(2)
    assert scale_at(loss, rate, 0.1) == pytest.approx(4)
    assert scale_at(loss, rate, 0.0) == pytest.approx(5)
    assert scale_at(loss, rate, 0.85) == pytest.approx(0, abs=1e-15)


def test_no_shortfall_wanted_is_the_least_constant_without_any() -> None:
    loss, rate = np.array([0.2, 0.3, 0.1]), np.array([0.1, 0.3, 0.02])
    assert scale_at(loss, rate, 0.0) == pytest.approx(5)


def test_no_loss_at_all_has_no_constant() -> None:
    assert math.isnan(scale_at(np.array([-0.1, 0.0]), np.array([0.1, 0.1]), 0.0))


def test_rows_of_nan_are_left_out() -> None:
    loss, rate = np.array([0.5, np.nan, 0.3, 9.0]), np.array([0.1, 0.1, 0.1, np.nan])
    assert scale_at(loss, rate, 0.4) == pytest.approx(2)


def test_an_impossible_total_or_rate_is_refused() -> None:
    loss, rate = np.array([0.5, 0.3]), np.array([0.1, 0.1])
    for total in (-0.1, 0.81, math.nan):
        with pytest.raises(ValueError, match="must lie within 0 and that of no margin"):
            scale_at(loss, rate, total)
    with pytest.raises(ValueError, match="1 rates are not above 0"):
        scale_at(loss, np.array([0.1, 0.0]), 0.1)


@given(st.integers(0, 10_000), st.floats(0.001, 0.999))
def test_the_exact_constant_is_the_one_that_a_search_finds(seed: int, part: float) -> None:
    loss, rate, _ = (a.ravel() for a in sample(rows=60, seed=seed))
    total = part * shortfall(loss, 0 * rate)
    found = scale_at(loss, rate, total)
    searched = brentq(lambda c: shortfall(loss, c * rate) - total, 0, 1e4, xtol=1e-14)
    assert found == pytest.approx(searched, rel=1e-9)
    assert shortfall(loss, found * rate) == pytest.approx(total, rel=1e-9)


@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_a_multiple_of_the_reference_saves_nothing_and_no_constant_changes_a_ratio(
    seed: int, factor: float
) -> None:
    loss, rate, reference = sample(rows=80, seed=seed)
    assume(shortfall(loss, reference) > 0)
    found = margin_ratios(
        times(80),
        loss,
        {"same": factor * reference, "one": rate, "scaled": factor * rate},
        reference,
        resamples=0,
    )
    assert found["same"].ratio == pytest.approx(1)
    assert found["same"].scale == pytest.approx(1 / factor)
    assert found["scaled"].ratio == pytest.approx(found["one"].ratio)
    assert found["scaled"].scale == pytest.approx(found["one"].scale / factor)


def test_the_ratio_by_hand() -> None:
    """The model asks 0.1 at rest and 0.4 in the storm; the static rate 0.4 always: a quarter but for one
    row."""
    loss = np.array([[0.05], [0.05], [0.05], [0.5]])
    rate, static = np.array([[0.1], [0.1], [0.1], [0.4]]), np.full((4, 1), 0.4)
    found = margin_ratios(times(4), loss, {"m": rate}, static, resamples=0)["m"]
    assert found.scale == pytest.approx(1)
    assert found.ratio == pytest.approx(0.7 / 1.6)
    assert math.isnan(found.low) and math.isnan(found.difference)


def test_only_rows_that_all_have_count() -> None:
    loss, rate, reference = sample()
    holes = rate.copy()
    holes[::3] = np.nan
    both = margin_ratios(times(1500), loss, {"full": rate, "holes": holes}, reference, resamples=0)
    assert both["full"].ratio == pytest.approx(both["holes"].ratio)
    kept = np.arange(1500) % 3 != 0
    alone = margin_ratios(times(1500)[kept], loss[kept], {"full": rate[kept]}, reference[kept], resamples=0)
    assert alone["full"].ratio == pytest.approx(both["full"].ratio)
    with pytest.raises(ValueError, match="share no row"):
        margin_ratios(times(1500), np.full_like(loss, np.nan), {"full": rate}, reference)


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    loss, rate, reference = sample()
    first, again, other = (
        margin_ratios(times(1500), loss, {"m": rate}, reference, resamples=50, seed=seed)["m"]
        for seed in (1, 1, 2)
    )
    assert (first.low, first.high) == (again.low, again.high)
    assert (first.low, first.high) != (other.low, other.high)
    assert first.ratio == other.ratio
    assert first.low <= first.ratio <= first.high


def resampled_slowly(
    loss: Array, rate: Array, reference: Array, weeks: int, resamples: int, seed: int
) -> tuple[float, float]:
    """The interval from weeks that are really strung together."""
    ratios = []
    for count in np.random.default_rng(seed).multinomial(weeks, np.full(weeks, 1 / weeks), size=resamples):
        drawn = np.repeat(range(weeks), count)
        rows = np.concatenate([np.arange(168) + 168 * week for week in drawn])
        total = shortfall(loss[rows], reference[rows])
        scale = scale_at(loss[rows].ravel(), rate[rows].ravel(), total)
        ratios.append(scale * rate[rows].mean() / reference[rows].mean())
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def test_a_resample_is_the_ratio_of_the_weeks_drawn() -> None:
    loss, rate, reference = sample(rows=4 * 168)
    found = margin_ratios(times(4 * 168), loss, {"m": rate}, reference, resamples=40, seed=11)["m"]
    slow = resampled_slowly(loss, rate, reference, 4, 40, 11)
    assert (found.low, found.high) == (pytest.approx(slow[0]), pytest.approx(slow[1]))


def test_far_kinks_are_found_where_a_resample_needs_them() -> None:
    """One week alone decides the constant; the resamples without it have one that is far smaller."""
    loss, rate, reference = sample(rows=3 * 168)
    loss[:168] *= 20
    reference[:] = 50.0
    found = margin_ratios(times(3 * 168), loss, {"m": rate}, reference, resamples=60, seed=3)["m"]
    slow = resampled_slowly(loss, rate, reference, 3, 60, 3)
    assert (found.low, found.high) == (pytest.approx(slow[0]), pytest.approx(slow[1]))
    assert found.low < 0.2 * found.high


def test_a_pair_that_moves_together_differs_by_little() -> None:
    loss, rate, reference = sample()
    found = margin_ratios(
        times(1500),
        loss,
        {"m": rate, "twin": 3 * rate, "worse": np.sqrt(rate * reference)},
        reference,
        compared_with="m",
        resamples=100,
    )
    twin, worse = found["twin"], found["worse"]
    assert twin.difference == pytest.approx(0) and twin.difference_high == pytest.approx(0)
    assert worse.difference > 0
    assert (
        worse.difference_high - worse.difference_low
        < worse.high - worse.low + found["m"].high - found["m"].low
    )
    assert found["m"].difference == 0


def test_a_single_week_has_no_interval() -> None:
    loss, rate, reference = sample(rows=100)
    found = margin_ratios(times(100), loss, {"m": rate}, reference, resamples=50)["m"]
    assert math.isfinite(found.ratio) and math.isnan(found.low) and math.isnan(found.high)


def test_no_shortfall_of_the_reference() -> None:
    loss, rate, _ = sample(rows=400)
    found = margin_ratios(times(400), loss, {"m": rate}, np.full_like(rate, 10.0), resamples=20)["m"]
    assert found.scale == pytest.approx(np.nanmax(loss / rate))
    assert found.ratio == pytest.approx(found.scale * rate.mean() / 10)


def test_no_loss_at_all() -> None:
    rate = np.full((400, 1), 0.1)
    found = margin_ratios(times(400), np.full((400, 1), -0.1), {"m": rate}, rate, resamples=20)["m"]
    assert isinstance(found, MarginRatio)
    assert math.isnan(found.scale) and math.isnan(found.ratio) and math.isnan(found.low)


def test_what_cannot_be_compared_is_refused() -> None:
    loss, rate, reference = sample(rows=10)
    with pytest.raises(ValueError, match="'x' to compare with is not there"):
        margin_ratios(times(10), loss, {"m": rate}, reference, compared_with="x")
    with pytest.raises(ValueError, match="resamples is -1"):
        margin_ratios(times(10), loss, {"m": rate}, reference, resamples=-1)
    with pytest.raises(ValueError, match="not above 0"):
        margin_ratios(times(10), loss, {"m": 0 * rate}, reference)


def test_weeks_are_those_of_the_calendar() -> None:
    # 2026-01-04 is a Sunday.
    found = calendar_weeks(
        pd.DatetimeIndex(["2026-01-04 23:00", "2026-01-05", "2026-01-11 23:00", "2026-02-02"], tz="UTC")
    )
    assert found.tolist() == [0, 1, 1, 2]
    shifted = calendar_weeks(
        pd.DatetimeIndex(["2026-01-04 23:00", "2026-01-05 00:30"], tz="UTC").tz_convert("Asia/Tokyo")
    )
    assert shifted.tolist() == [0, 1]
