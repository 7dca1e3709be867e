"""Rules 2 and 3: floor and cap, always last."""

import math
import sys

import pytest

from models.margin.draft import cap_rates
from models.margin.limits import Limits


def test_the_floor_is_a_fraction_of_the_base(answer, candidate) -> None:
    decision = answer(candidate((0.01, 0.01, 0.05, 0.04)))
    assert decision.served_rates == pytest.approx((0.06, 0.03, 0.06, 0.04), rel=1e-12)
    assert decision.rules(0) == ("absolute floor",)
    assert decision.rules(3) == ()


def test_the_multiplier_keeps_the_floor_to_the_last_bit(answer, market, candidate) -> None:
    rounds_down = next(b / 1000 for b in range(1, 1000) if (0.6 * (b / 1000)) / (b / 1000) < 0.6)
    seen = market(base_rates=(rounds_down,) * 4)
    decision = answer(candidate((1e-6, 1e-6, 1e-6, 1e-6)), seen=seen)
    assert decision.multipliers == (0.6, 0.6, 0.6, 0.6)


def test_the_floor_is_a_fraction_of_the_long_run_normal_var(answer, market, candidate) -> None:
    seen = market(long_run_var=(0.20, 0.10, 0.02, 0.01))
    decision = answer(candidate((0.01, 0.01, 0.01, 0.01)), seen=seen)
    assert decision.served_rates == pytest.approx((0.10, 0.05, 0.06, 0.03), rel=1e-12)
    assert "long-run normal VaR" in decision.traces[0].why


@pytest.mark.parametrize("unknown", [None, (0.2, 0.1), (math.nan,) * 4, (-1.0,) * 4, (0.0,) * 4, "ab"])
def test_without_a_long_run_variance_the_base_alone_counts(answer, market, candidate, unknown) -> None:
    decision = answer(candidate((0.01, 0.01, 0.01, 0.01)), seen=market(long_run_var=unknown))
    assert decision.served_rates == pytest.approx((0.06, 0.03, 0.06, 0.03), rel=1e-12)


def test_long_run_variances_out_of_order_leave_initial_above_maintenance(answer, market, candidate) -> None:
    seen = market(long_run_var=(0.10, 0.30, 0.10, 0.30))
    decision = answer(candidate((0.01, 0.01, 0.01, 0.01)), seen=seen)
    assert decision.served_rates == pytest.approx((0.15, 0.15, 0.15, 0.15), rel=1e-12)


def test_the_cap_is_all_of_the_notional_and_ten_times_the_base(answer, candidate) -> None:
    decision = answer(candidate((3.0, 2.0, 0.9, 0.6)))
    assert decision.served_rates == (1.0, 0.5, 0.9, 0.5)
    assert decision.multipliers == (10.0, 10.0, 9.0, 10.0)
    assert decision.rules(0) == ("absolute cap",)


def test_the_cap_wins_over_the_floor(answer, market, candidate) -> None:
    decision = answer(candidate((0.2, 0.1, 0.2, 0.1)), seen=market(long_run_var=(9.0, 9.0, 9.0, 9.0)))
    assert decision.served_rates == (1.0, 0.5, 1.0, 0.5)


def test_the_bounds_win_over_the_path(answer, candidate, served, market, t0) -> None:
    # The base rate was doubled by the venue: the floor rises at once although rule 10 would not let it.
    seen = market(t0 + 60, base_rates=(0.5, 0.4, 0.5, 0.4))
    decision = answer(candidate((0.1, 0.1, 0.1, 0.1)), now_s=t0 + 60, state=served((0.1,) * 4), seen=seen)
    assert decision.served_rates == pytest.approx((0.30, 0.24, 0.30, 0.24), rel=1e-12)


def test_the_limits_are_those_given(answer, candidate) -> None:
    tight = Limits(cap_rate=0.3, cap_multiplier=4.0, floor_of_base=1.0)
    decision = answer(candidate((0.9, 0.9, 0.05, 0.05)), limits=tight)
    assert decision.served_rates == pytest.approx((0.3, 0.2, 0.1, 0.05), rel=1e-12)


def test_the_traces_of_floor_and_cap(answer, market, candidate) -> None:
    seen = market(long_run_var=(0.02, 0.01, 0.20, 0.08))
    decision = answer(candidate((0.01, 0.01, 0.01, 0.01)), seen=seen)
    assert [(t.rule, t.side, t.kind, t.before, t.after, t.why) for t in decision.traces] == [
        (2, "long", "initial", 0.01, 0.06, "raised to 0.6 times the base rate"),
        (2, "long", "maintenance", 0.01, 0.03, "raised to 0.6 times the base rate"),
        (2, "short", "initial", 0.01, 0.10, "raised to 0.5 times the long-run normal VaR"),
        (2, "short", "maintenance", 0.01, 0.04, "raised to 0.5 times the long-run normal VaR"),
    ]
    decision = answer(candidate((1.5, 0.5, 2.0, 0.75)))
    assert [(t.rule, t.side, t.kind, t.before, t.after, t.why) for t in decision.traces] == [
        (3, "long", "initial", 1.5, 1.0, "lowered to 100% of notional"),
        (3, "short", "initial", 2.0, 1.0, "lowered to 100% of notional"),
        (3, "short", "maintenance", 0.75, 0.5, "lowered to 10 times the base rate"),
    ]


def test_where_both_floors_are_off_no_rate_is_0(answer, candidate) -> None:
    off = Limits(floor_of_base=0.0, floor_scale=0.0)
    decision = answer(candidate((5e-324, 5e-324, 0.2, 0.1)), limits=off)
    assert decision.served_rates[:2] == (sys.float_info.min, sys.float_info.min)


def test_each_value_has_the_cap_of_its_own_base_rate() -> None:
    limits = Limits(cap_rate=0.35, cap_multiplier=10.0)
    assert cap_rates((0.02, 0.01, 0.03, 0.02), limits) == pytest.approx((0.2, 0.1, 0.3, 0.2), rel=1e-12)
    assert cap_rates((0.05, 0.01, 0.04, 0.02), limits) == pytest.approx((0.35, 0.1, 0.35, 0.2), rel=1e-12)
