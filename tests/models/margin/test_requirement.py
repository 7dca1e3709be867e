import math

import numpy as np
import pytest

from models.forecast import base
from models.margin import requirement
from models.margin.limits import Limits
from models.margin.requirement import RequirementError, candidate, margin_rate, margin_rates, pick
from models.margin.types import Tail

INITIAL, MAINTENANCE = Tail(0.99, 14400.0), Tail(0.99, 3600.0)
HORIZONS, LEVELS = (3600.0, 14400.0), (0.975, 0.99, 0.999)
#: Value = 100 x horizon index + 10 x side index + level index, in percent.
VALUES = np.array([[[h * 100 + s * 10 + k for k in range(3)] for s in range(2)] for h in range(2)]) / 100


def test_a_loss_of_ln_two_takes_half_of_a_long_and_all_of_a_short() -> None:
    assert margin_rate(math.log(2), "long") == pytest.approx(0.5, rel=1e-15)
    assert margin_rate(math.log(2), "short") == pytest.approx(1.0, rel=1e-15)
    assert margin_rate(0.1, "long") == pytest.approx(0.09516258196404048, rel=1e-15)
    assert margin_rate(0.1, "short") == pytest.approx(0.10517091807564763, rel=1e-15)
    assert margin_rate(0.0, "long") == margin_rate(0.0, "short") == 0.0


def test_absurd_losses_stay_numbers_and_nan_stays_nan() -> None:
    assert margin_rate(1e9, "long") == 1.0
    assert math.isfinite(margin_rate(1e9, "short"))
    assert math.isfinite(margin_rate(math.inf, "short"))
    assert math.isnan(margin_rate(math.nan, "long"))
    assert math.isnan(margin_rate(math.nan, "short"))


def test_an_unknown_side_is_refused() -> None:
    with pytest.raises(RequirementError, match="side is 'buy'"):
        margin_rate(0.1, "buy")


def test_initial_is_raised_to_maintenance_and_nan_is_kept() -> None:
    half = math.log(2)
    assert margin_rates((half / 2, half, half, half / 2)) == pytest.approx(
        (0.5, 0.5, 1.0, math.sqrt(2) - 1), rel=1e-14
    )
    assert math.isnan(margin_rates((math.nan, half, half, half))[0])
    assert math.isnan(margin_rates((half, math.nan, half, half))[1])


def test_pick_takes_each_kind_at_its_level_and_horizon() -> None:
    assert pick(VALUES, HORIZONS, LEVELS, INITIAL, MAINTENANCE) == (1.01, 0.01, 1.11, 0.11)
    assert pick(VALUES, HORIZONS, LEVELS, Tail(0.999, 3600.0), Tail(0.975, 3600.0)) == (0.02, 0.0, 0.12, 0.10)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (Tail(0.99, 7200.0), r"no forecast for horizon 7200 s, only for \[3600.0, 14400.0\]"),
        (Tail(0.995, 3600.0), r"no forecast at level 0.995, only at \[0.975, 0.99, 0.999\]"),
    ],
)
def test_a_forecast_without_the_horizon_or_level_is_refused(tail: Tail, message: str) -> None:
    with pytest.raises(RequirementError, match=message):
        pick(VALUES, HORIZONS, LEVELS, INITIAL, tail)


def test_a_forecast_of_another_shape_is_refused() -> None:
    with pytest.raises(
        RequirementError, match=r"shape \(2, 2, 2\); horizons x sides x levels is \(2, 2, 3\)"
    ):
        pick(VALUES[:, :, :2], HORIZONS, LEVELS, INITIAL, MAINTENANCE)


@pytest.mark.parametrize(
    ("rung", "interval_s", "lasts_s"),
    [("champion", 3600.0, 7200.0), ("champion", 60.0, 900.0), ("rules", 3600.0, 21600.0)],
)
def test_candidate(rung: str, interval_s: float, lasts_s: float) -> None:
    es = np.full((2, 2, 3), math.log(2))
    made = candidate(
        rung,
        es / 2,
        es,
        horizons_s=HORIZONS,
        levels=LEVELS,
        initial=INITIAL,
        maintenance=MAINTENANCE,
        made_at_s=1000.0,
        interval_s=interval_s,
        limits=Limits(),
        model_version="7",
    )
    assert made.requirement == pytest.approx((0.5, 0.5, 1.0, 1.0), rel=1e-15)
    assert made.var == (math.log(2) / 2,) * 4
    assert (made.rung, made.model_version) == (rung, "7")
    assert (made.made_at_s, made.valid_until_s) == (1000.0, 1000.0 + lasts_s)
    assert all(type(v) is float for v in (*made.requirement, *made.var))


def breaker_of(levels: tuple[float, ...]) -> tuple[float, float] | None:
    var = VALUES[:, :, : len(levels)] + 1
    made = candidate(
        "champion",
        var,
        var,
        horizons_s=HORIZONS,
        levels=levels,
        initial=INITIAL,
        maintenance=MAINTENANCE,
        made_at_s=0.0,
        interval_s=3600.0,
        limits=Limits(),
        confidence=0.5,
        drift=0.25,
    )
    assert (made.confidence, made.drift) == (0.5, 0.25)
    return made.breaker


def test_the_breaker_is_the_var_of_999_per_mille_over_the_maintenance_horizon() -> None:
    assert breaker_of(LEVELS) == (1.02, 1.12)
    assert breaker_of((0.975, 0.99)) is None


def test_the_breaker_has_the_level_that_every_model_forecasts() -> None:
    assert requirement.BREAKER_LEVEL == base.BREAKER_LEVEL
