"""What the engine remembers between decisions: served rates thinned to one a quarter of an hour, decisions
whose horizon runs, and the base rates that were usable.
"""

import math

import pytest

from models.margin.limits import Limits
from models.margin.types import EngineState, Open, Served

A, B, C = (0.20, 0.10, 0.20, 0.10), (0.21, 0.098, 0.21, 0.098), (0.22, 0.11, 0.205, 0.099)
FREE = Limits(release_ratio=0.0, publish_step=0.0, down_limit_1h=0.9, up_limit_1h=9.0, up_limit_24h=9.0)
HOUR = 3600.0


@pytest.fixture
def decided(step, candidate):
    """The state after decisions of these rates at these times."""

    def make(*given, state=None, limits=FREE):
        for now_s, rates in given:
            _, state = step(candidate(rates, made_at_s=now_s), now_s=now_s, state=state, limits=limits)
        return state

    return make


def test_the_newest_decisions_are_kept_and_older_ones_thinned_to_the_lowest(decided, t0) -> None:
    state = decided((t0, A), (t0 + 60, B), (t0 + 120, C))
    low = (0.20, 0.098, 0.20, 0.098)
    assert state.served == (Served(t0, low, None), Served(t0 + 120, C, None))
    assert state.rates == C


def test_a_new_quarter_of_an_hour_begins_a_new_entry(decided, t0) -> None:
    state = decided((t0 + 840, A), (t0 + 899, A), (t0 + 900, A), (t0 + 1799, A), (t0 + 1800, A))
    assert [entry.time_s - t0 for entry in state.served] == [840, 900, 1800]
    state = decided((t0 + 840, A), (t0 + 899, A), (t0 + 900, A), (t0 + 901, A))
    assert [entry.time_s - t0 for entry in state.served] == [840, 900, 901]


def test_the_step_is_a_limit(decided, t0) -> None:
    times = [t0, t0 + 10, t0 + 20, t0 + 60, t0 + 70, t0 + 80]
    by_the_minute = decided(*((t, A) for t in times), limits=Limits(memory_step_s=60.0))
    assert [entry.time_s - t0 for entry in by_the_minute.served] == [0, 60, 80]


def test_of_what_was_asked_for_the_highest_is_kept(decided, t0) -> None:
    waits = Limits(fall_after_s=HOUR, up_limit_1h=9.0, up_limit_24h=9.0)
    state = decided((t0, A), (t0 + 60, B), (t0 + 120, C), limits=waits)
    assert state.served[0].asked == (0.21, 0.10, 0.21, 0.10)
    assert state.served[1].asked == C
    forgotten = EngineState(served=(Served(t0, A, None), Served(t0 + 60, A, A)), rates=A)
    assert decided((t0 + 120, A), state=forgotten, limits=waits).served[0].asked is None
    forgotten = EngineState(served=(Served(t0, A, A), Served(t0 + 60, A, None)), rates=A)
    assert decided((t0 + 120, A), state=forgotten, limits=waits).served[0].asked is None


def test_what_was_in_force_a_day_ago_is_kept_and_nothing_older(decided, t0) -> None:
    hours = [(t0 + HOUR * h, A) for h in range(30)]
    state = decided(*hours)
    assert [entry.time_s for entry in state.served] == [t0 + HOUR * h for h in range(5, 30)]
    # In force a day before a decision at half past is what was served on the hour before.
    state = decided((t0 + HOUR * 29.5, A), state=state)
    assert state.served[0].time_s == t0 + HOUR * 5


def test_decisions_whose_horizon_runs_are_kept_one_a_step(decided, t0) -> None:
    state = decided(*((t0 + 300 * n, A) for n in range(7)))
    assert [entry.time_s - t0 for entry in state.open] == [0, 900, 1800]
    # The longest horizon is four hours; an entry of just that age still counts.
    state = decided((t0 + 4 * HOUR, A), state=state)
    assert [entry.time_s - t0 for entry in state.open] == [0, 900, 1800, 4 * HOUR]
    state = decided((t0 + 4 * HOUR + 1, A), state=state)
    assert [entry.time_s - t0 for entry in state.open] == [900, 1800, 4 * HOUR]
    assert state.open[0] == Open(t0 + 900, 100.0, (0.08, 0.04, 0.08, 0.04), None)


def test_a_decision_without_forecast_or_price_opens_nothing(step, candidate, market) -> None:
    assert step()[1].open == ()
    assert step(candidate(A), seen=market(close=None))[1].open == ()
    assert step(candidate(A), seen=market(close=0.0))[1].open == ()
    assert step(candidate(A, "rules", breaker=(0.1, 0.2)))[1].open[0].breaker == (0.1, 0.2)


def test_without_a_decision_of_its_own_the_memory_ages_all_the_same(step, candidate, market, t0) -> None:
    _, state = step(candidate(A))
    _, state = step(now_s=t0 + 5 * HOUR, state=state, seen=market(t0))
    assert state.open == ()


@pytest.mark.parametrize(
    "junk", [None, (), (HOUR,), (HOUR, math.nan), (HOUR, -HOUR), (0.0, HOUR), "ab", [HOUR, HOUR]]
)
def test_where_the_horizons_are_unknown_nothing_is_forgotten(step, candidate, market, t0, junk) -> None:
    _, state = step(candidate(A))
    now_s = t0 + 90 * HOUR
    _, state = step(
        candidate(A, made_at_s=now_s), now_s=now_s, state=state, seen=market(now_s, horizons_s=junk)
    )
    assert [entry.time_s for entry in state.open] == [t0, now_s]


def test_the_longer_horizon_counts_whichever_it_is(step, candidate, market, t0) -> None:
    _, state = step(candidate(A))
    now_s = t0 + 2 * HOUR
    for horizons_s, kept in (((HOUR, 2 * HOUR), 2), ((2 * HOUR, HOUR), 2), ((HOUR, HOUR), 1)):
        seen = market(now_s, horizons_s=horizons_s)
        _, after = step(candidate(A, made_at_s=now_s), now_s=now_s, state=state, seen=seen)
        assert len(after.open) == kept


def test_usable_base_rates_are_remembered_and_others_are_not(step, candidate, market) -> None:
    _, state = step(candidate(A), seen=market(base_rates=(0.3, 0.2, 0.3, 0.2)))
    assert state.base_rates == (0.3, 0.2, 0.3, 0.2)
    _, state = step(candidate(A), state=state, seen=market(base_rates=None))
    assert state.base_rates == (0.3, 0.2, 0.3, 0.2)


def test_the_decision_carries_what_it_saw_and_its_own_clock(step, candidate, market, t0) -> None:
    decision, state = step(candidate(A), now_s=t0 + 60, seen=market(t0))
    assert (decision.decided_at_s, decision.bar_close_s) == (t0 + 60, t0)
    assert (decision.rung, decision.mode, decision.model_version) == ("champion", "fresh", "v1")
    assert decision.var == (0.08, 0.04, 0.08, 0.04)
    assert (state.rung, state.mode, state.model_version) == ("champion", "fresh", "v1")
    assert state.valid_until_s == decision.valid_until_s == t0 + 2 * HOUR
    assert decision.inputs.now_s == t0 + 60
    assert step(seen=market(last_close_s=1e13))[0].bar_close_s is None


@pytest.mark.parametrize("junk", [math.nan, math.inf, None, "now", 1.7e12, True])
def test_without_a_clock_time_stands_still_and_the_feed_is_dead(
    step, candidate, market, served, t0, junk
) -> None:
    decision, state = step(candidate(A), now_s=junk, state=served(A), seen=market(t0))
    assert (decision.mode, decision.rung, decision.decided_at_s) == ("dead", "static", t0)
    assert decision.served_rates == A
    assert f"the clock shows {junk!r}, which is not a time" in decision.traces[0].why
    assert state.served[-1].time_s == t0


def test_a_step_is_a_stretch_of_the_clock_and_not_since_the_last_entry(decided, t0) -> None:
    state = decided((t0 + 100, A), (t0 + 400, A), (t0 + 899, A), (t0 + 901, A))
    assert [entry.time_s - t0 for entry in state.open] == [100, 901]
