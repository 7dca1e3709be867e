import math

import pytest
from pydantic import TypeAdapter, ValidationError

from models.margin.limits import Limits, LimitsError


def test_defaults_are_those_of_the_safety_rules() -> None:
    limits = Limits()
    assert (limits.floor_of_base, limits.floor_scale) == (0.6, 0.5)
    assert (limits.cap_rate, limits.cap_multiplier) == (1.0, 10.0)
    assert (limits.forecast_valid_bars, limits.forecast_valid_s) == (2, 900.0)
    assert (limits.degraded_after_bars, limits.stale_after_bars, limits.dead_after_bars) == (1.0, 2.0, 6.0)
    assert (limits.up_limit_1h, limits.up_limit_24h, limits.down_limit_1h) == (0.50, 4.0, 0.25)
    assert limits.static_stress_factor == 2.0


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"cap_rate": math.nan}, "finite"),
        ({"cap_rate": 10**400}, "at most 1"),
        ({"up_limit_1h": math.inf}, "finite"),
        ({"floor_of_base": -0.1}, "at least 0"),
        ({"floor_of_base": 1.1}, "at most 1"),
        ({"cap_rate": 1.5}, "at most 1"),
        ({"cap_rate": 0.0}, "above 0"),
        ({"cap_multiplier": 0.5}, "at least 1"),
        ({"down_limit_1h": 1.0}, "at most 0.99"),
        ({"up_limit_1h": 4.1}, "at most up_limit_24h, which is 4.0"),
        ({"stale_after_bars": 7.0}, "at most dead_after_bars, which is 6.0"),
        ({"rules_warm_up_bars": 501}, "at most model_warm_up_bars, which is 500"),
        ({"static_stress_factor": 0.5}, "at least 1"),
        ({"degraded_after_bars": 0.5}, "at least 1"),
        ({"forecast_valid_bars": 0, "forecast_valid_s": 0}, "above 0"),
        ({"forecast_valid_bars": 2.0}, "a whole number"),
        ({"forecast_valid_bars": True}, "a whole number"),
        ({"cap_rate": "1"}, "a number"),
    ],
)
def test_an_impossible_limit_names_field_value_bound_and_remedy(change: dict, bound: str) -> None:
    with pytest.raises(LimitsError) as caught:
        Limits(**change)
    message = str(caught.value)
    assert bound in message
    assert "correct it in [margin.limits]" in message
    assert any(f"limit {name} is " in message for name in [*change, "static_stress_factor"])


def test_a_settings_reader_fills_them_and_refuses_unknown_keys() -> None:
    reader = TypeAdapter(Limits)
    assert reader.validate_python({"cap_rate": "0.5"}).cap_rate == 0.5
    with pytest.raises(ValidationError, match="cap_rates"):
        reader.validate_python({"cap_rates": 0.5})
    with pytest.raises(ValidationError, match="at most 1"):
        reader.validate_python({"cap_rate": 3})


def test_json_round_trip() -> None:
    limits = Limits(up_limit_1h=0.1)
    assert Limits(**limits.to_json()) == limits
