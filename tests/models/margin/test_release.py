"""Rule 11, release: a rate falls only where what is asked for lies well below it, and has for long enough.

In force are 50 % and 25 %; the release ratio is a quarter, so that a fall begins at 37.5 % and 18.75 %.
"""

import math

import pytest

from models.margin.limits import Limits
from models.margin.types import Served

NOW = (0.50, 0.25, 0.50, 0.25)
HOUR = 3600.0
QUARTER = Limits(release_ratio=0.25, publish_step=0.0, down_limit_1h=0.5)
WAIT = Limits(release_ratio=0.0, publish_step=0.0, down_limit_1h=0.9, fall_after_s=6 * HOUR)


def test_exactly_the_release_ratio_below_falls_and_one_bit_less_stays(answer, candidate, served, t0) -> None:
    just, short = 0.375, math.nextafter(0.375, 1)
    asks = candidate((just, 0.1875, short, 0.25), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=served(NOW), limits=QUARTER)
    assert decision.served_rates == (0.375, 0.1875, 0.50, 0.25)
    [trace] = decision.traces
    assert (trace.rule, trace.name, trace.side, trace.kind) == (11, "release", "short", "initial")
    assert (trace.before, trace.after) == (short, 0.50)
    assert trace.why == "stays: less than 25% below is asked for"


def test_the_default_is_fifteen_percent(answer, candidate, served, t0) -> None:
    asks = candidate((0.424, 0.2126, 0.426, 0.2124), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=served(NOW))
    assert decision.served_rates == (0.424, 0.25, 0.50, 0.2124)


def test_a_rise_is_not_its_affair(answer, candidate, served, t0) -> None:
    asks = candidate((0.51, 0.25, 0.55, 0.26), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=served(NOW), limits=QUARTER)
    assert (decision.served_rates, decision.traces) == ((0.51, 0.25, 0.55, 0.26), ())


def test_the_first_decision_has_no_path(step, candidate) -> None:
    decision, state = step(candidate((0.2, 0.1, 0.2, 0.1)), limits=QUARTER)
    assert decision.traces == ()
    assert state.served[0].asked is None
    assert step(candidate((0.2, 0.1, 0.2, 0.1)), limits=WAIT)[1].served[0].asked == (0.2, 0.1, 0.2, 0.1)


def test_initial_margin_covers_a_maintenance_margin_that_stays(answer, candidate, served, t0) -> None:
    # Initial may fall to 20 %, maintenance (19 % of 25 %) may not: initial falls to 25 % only.
    asks = candidate((0.20, 0.19, 0.50, 0.25), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=served(NOW), limits=QUARTER)
    assert decision.served_rates == (0.25, 0.25, 0.50, 0.25)
    assert [t.why for t in decision.traces] == [
        "covers the maintenance margin that stays",
        "stays: less than 25% below is asked for",
    ]


def test_a_pair_of_equal_rates_is_a_pair(answer, candidate, served, t0) -> None:
    asks = candidate((0.20, 0.20, 0.50, 0.25), made_at_s=t0 + HOUR)
    deep = Limits(release_ratio=0.25, publish_step=0.0, down_limit_1h=0.9)
    decision = answer(asks, now_s=t0 + HOUR, state=served((0.50, 0.21, 0.50, 0.25)), limits=deep)
    assert (decision.rung, decision.served_rates) == ("champion", (0.21, 0.21, 0.50, 0.25))
    assert "covers the maintenance margin that stays" in [t.why for t in decision.traces]


def test_the_shortest_wait_is_a_wait(step, candidate, served, t0) -> None:
    second = Limits(release_ratio=0.0, publish_step=0.0, fall_after_s=1.0)
    asks = (0.20, 0.10, 0.20, 0.10)
    decision, state = step(candidate(asks), now_s=t0 + 1, state=served(NOW), limits=second)
    assert (decision.served_rates, state.served[-1].asked) == (NOW, asks)


def test_a_pair_that_came_crossed_is_left_to_rule_16(answer, candidate, served, t0) -> None:
    asks = candidate((0.20, 0.24, 0.50, 0.25), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=served(NOW), limits=QUARTER)
    # Initial 25 % at the least by rule 10, maintenance stays at 25 %: in order after all.
    assert decision.served_rates == (0.25, 0.25, 0.50, 0.25)
    assert "covers the maintenance margin that stays" not in [t.why for t in decision.traces]


def test_a_fall_waits_until_it_was_asked_for_during_six_hours(step, candidate, served, t0) -> None:
    state, path = served(NOW, served=(Served(t0, NOW, NOW),)), []
    for hour in range(1, 9):
        now_s = t0 + HOUR * hour
        # 30 % and less is asked for from the first hour on; the last 50 % was asked for until then.
        asks = (0.30 - 0.01 * hour, 0.10, 0.50, 0.25)
        decision, state = step(candidate(asks, made_at_s=now_s), now_s=now_s, state=state, limits=WAIT)
        path.append(decision.served_rates[0])
        assert state.served[-1].asked == asks
    # In the seventh hour the first 29 % are the highest of the last six; then 28 %.
    assert path == pytest.approx([*[0.50] * 6, 0.29, 0.28], rel=1e-12)
    assert decision.traces[0].why == "falls to what was asked for during 6 h"


def test_one_high_request_within_the_wait_begins_it_anew(step, candidate, served, t0) -> None:
    state, path = served(NOW, served=(Served(t0, NOW, NOW),)), []
    for hour in range(1, 13):
        now_s = t0 + HOUR * hour
        level = 0.45 if hour == 3 else 0.20
        asks = candidate((level, 0.10, level, 0.10), made_at_s=now_s)
        decision, state = step(asks, now_s=now_s, state=state, limits=WAIT)
        path.append(decision.served_rates[0])
    # The 45 % of the third hour ended with the fourth; they count for six hours from then on.
    assert path == pytest.approx([*[0.50] * 6, *[0.45] * 3, *[0.20] * 3], rel=1e-12)


def test_memory_without_requests_counts_as_what_was_in_force(answer, candidate, served, t0) -> None:
    asks = candidate((0.20, 0.10, 0.20, 0.10), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=served(NOW), limits=WAIT)
    assert decision.served_rates == NOW


def test_what_was_asked_for_lifts_no_rate_above_what_is_in_force(answer, candidate, served, t0) -> None:
    state = served(NOW, served=(Served(t0, NOW, (0.9, 0.45, 0.9, 0.45)),))
    asks = candidate((0.20, 0.10, 0.20, 0.10), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=state, limits=WAIT)
    assert decision.served_rates == NOW


def test_release_ratio_and_wait_together(answer, candidate, served, t0) -> None:
    both = Limits(release_ratio=0.25, publish_step=0.0, down_limit_1h=0.9, fall_after_s=HOUR)
    state = served(NOW, served=(Served(t0, NOW, (0.40, 0.1875, 0.36, 0.10)),))
    asks = candidate((0.20, 0.10, 0.20, 0.10), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=state, limits=both)
    # Long initial: 40 % in the hour before is not a quarter below. The others fall to the highest asked for.
    assert decision.served_rates == pytest.approx((0.50, 0.1875, 0.36, 0.10), rel=1e-12)
