"""Rule 11, publish step: a change below 2 % is not published. In force are 50 % and 25 %."""

import math

import pytest

from models.margin.limits import Limits

NOW = (0.50, 0.25, 0.50, 0.25)
HOUR = 3600.0
STEP = Limits(release_ratio=0.0, publish_step=0.125, down_limit_1h=0.5)  # to 43.75 % and from 56.25 % on


@pytest.mark.parametrize(
    ("asks", "rate"),
    [
        (0.5625, 0.5625),
        (math.nextafter(0.5625, 0), 0.50),
        (math.nextafter(0.50, 1), 0.50),
        (0.50, 0.50),
        (math.nextafter(0.4375, 1), 0.50),
        (0.4375, 0.4375),
        (0.30, 0.30),
    ],
)
def test_the_step_itself_is_published_and_one_bit_less_is_not(
    answer, candidate, served, t0, asks, rate
) -> None:
    given = candidate((asks, 0.25, 0.50, 0.25), made_at_s=t0 + HOUR)
    decision = answer(given, now_s=t0 + HOUR, state=served(NOW), limits=STEP)
    assert decision.served_rates == (rate, 0.25, 0.50, 0.25)
    if asks == rate:
        assert decision.traces == ()
    else:
        [trace] = decision.traces
        assert (trace.rule, trace.name, trace.before, trace.after) == (11, "publish step", asks, 0.50)
        assert trace.why == "stays: a change below 12% is not published"


def test_the_default_is_two_percent(answer, candidate, served, t0) -> None:
    given = candidate((0.509, 0.2549, 0.511, 0.2551), made_at_s=t0 + HOUR)
    decision = answer(given, now_s=t0 + HOUR, state=served(NOW))
    assert decision.served_rates == (0.50, 0.25, 0.511, 0.2551)


def test_initial_margin_covers_a_maintenance_margin_that_rises_beyond_it(
    answer, candidate, served, t0
) -> None:
    # Initial would stay at 26 %, since 26.5 % is not a step; maintenance rises to 26.4 %.
    given = candidate((0.265, 0.264, 0.50, 0.25), made_at_s=t0 + HOUR)
    decision = answer(given, now_s=t0 + HOUR, state=served((0.26, 0.25, 0.50, 0.25)))
    assert decision.served_rates == (0.264, 0.264, 0.50, 0.25)
    assert decision.traces[0].why == "covers the maintenance margin that stays"


@pytest.mark.parametrize(("interval_s", "falls_at"), [(60.0, [5, 10, 15]), (120.0, [6, 12, 18])])
def test_decisions_in_quick_succession_fall_a_step_at_a_time(
    step, candidate, market, served, t0, interval_s, falls_at
) -> None:
    """25 % an hour are 0.48 % a minute, which is never a step of 2 %; after 4.2 minutes it is."""
    state, path = served(NOW, since_s=(t0,) * 4), [0.50]
    for bar in range(1, 1 + int(900 / interval_s) + 2):
        now_s = t0 + interval_s * bar
        low = candidate((0.20, 0.10, 0.20, 0.10), made_at_s=now_s)
        decision, state = step(low, now_s=now_s, state=state, seen=market(now_s, interval_s=interval_s))
        if decision.served_rates[0] != path[-1]:
            assert (now_s - t0) / 60 == falls_at[round(math.log(path[-1] / 0.5) / math.log(0.98))]
            assert decision.served_rates[0] == path[-1] * 0.98
            assert state.since_s == (now_s,) * 4
            path.append(decision.served_rates[0])
    assert len(path) >= 3


def test_a_rate_that_moved_just_now_has_to_stand_first(answer, candidate, served, t0) -> None:
    low = candidate((0.20, 0.10, 0.20, 0.10), made_at_s=t0 + 60)
    # Since when: long initial an hour ago, long maintenance just now, the short's 4 and 4.5 minutes ago.
    since_s = (t0 - HOUR, t0, t0 - 180, t0 - 210)
    decision = answer(low, now_s=t0 + 60, state=served(NOW, since_s=since_s))
    assert decision.served_rates == (0.50 * 0.98, 0.25, 0.50, 0.25 * 0.98)


def test_the_time_that_a_step_takes_is_enough_to_the_second(answer, candidate, served, t0) -> None:
    halves = Limits(release_ratio=0.0, publish_step=0.5, down_limit_1h=0.5)  # an hour exactly
    low = candidate((0.10, 0.05, 0.10, 0.05), made_at_s=t0 + 60)
    since_s = (t0 + 60 - HOUR, t0 + 61 - HOUR, t0, t0 - 10 * HOUR)
    decision = answer(low, now_s=t0 + 60, state=served(NOW, since_s=since_s), limits=halves)
    assert decision.served_rates == (0.25, 0.25, 0.50, 0.125)


def test_a_memory_that_does_not_know_since_when_waits(answer, candidate, served, t0) -> None:
    low = candidate((0.20, 0.10, 0.20, 0.10), made_at_s=t0 + 60)
    assert answer(low, now_s=t0 + 60, state=served(NOW)).served_rates == NOW


def test_since_when_a_rate_is_in_force(step, candidate, t0) -> None:
    _, state = step(candidate(NOW))
    assert state.since_s == (t0,) * 4
    later = candidate((0.50, 0.30, 0.50, 0.25), made_at_s=t0 + HOUR)
    _, state = step(later, now_s=t0 + HOUR, state=state)
    assert state.since_s == (t0, t0 + HOUR, t0, t0)
    # A clock that jumps back takes them along.
    _, state = step(later, now_s=t0 + 60, state=state)
    assert state.since_s == (t0 + 60 - HOUR, t0 + 60, t0 + 60 - HOUR, t0 + 60 - HOUR)
