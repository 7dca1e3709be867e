"""Rule 12: after a move beyond what was held possible nothing falls, rates may rise at once, and are at least
those of stress. The contract serves 20 % and 10 % and asks for four times that, or half.
"""

import math

import pytest

from models.margin.limits import Limits
from models.margin.types import EngineState, Open

NOW = (0.20, 0.10, 0.20, 0.10)
HIGH = (0.80, 0.40, 0.80, 0.40)
LOW = (0.10, 0.05, 0.10, 0.05)
VAR = (0.9, 0.9, 0.9, 0.9)  # out of reach, so that rule 10's own breach stays out of these tests
HOUR = 3600.0
OFF = Limits(breaker_s=0.0, up_limit_1h=0.25, up_limit_24h=0.60)
EXTREME = {"last_return": -0.2, "extreme_losses": (0.1, 0.1)}


@pytest.fixture
def calm(served, t0):
    """A state whose last decision rests on 99.9 % VaRs of 12.5 % and 25 %, at a close of 100."""
    return served(NOW, open=(Open(t0, 100.0, VAR, (0.125, 0.25)),))


@pytest.mark.parametrize(
    ("last_return", "extreme_losses", "trips"),
    [
        (-0.125, (0.125, 0.5), False),
        (math.nextafter(-0.125, -1), (0.125, 0.5), True),
        (0.5, (0.125, 0.5), False),
        (math.nextafter(0.5, 1), (0.125, 0.5), True),
        (-0.4, (0.5, 0.125), False),  # each side has its own
        (-9.0, (0.0, 0.0), False),  # unknown
        (-9.0, (-1.0, -1.0), False),
        (-9.0, (math.nan, 0.1), False),
        (-9.0, ("x", 0.1), False),
        (-9.0, (0.1,), False),
        (-9.0, (0.1, 0.1, 0.1), False),
        (-9.0, None, False),
        (-9.0, [0.1, 0.1], False),
        (None, (0.1, 0.1), False),
        (math.nan, (0.1, 0.1), False),
        (-math.inf, (0.1, 0.1), False),
        ("-0.5", (0.1, 0.1), False),
    ],
)
def test_a_bar_beyond_the_contracts_extreme(
    step, candidate, market, calm, t0, last_return, extreme_losses, trips
) -> None:
    now_s = t0 + 60
    seen = market(t0, last_return=last_return, extreme_losses=extreme_losses)
    decision, state = step(candidate(HIGH, made_at_s=now_s), now_s=now_s, state=calm, seen=seen)
    assert (state.breaker_until_s, decision.served_rates == HIGH) == (
        (t0 + HOUR, True) if trips else (None, False)
    )


@pytest.mark.parametrize(
    ("close", "age_s", "trips"),
    [
        (100 * math.exp(-0.126), 60, True),
        (100 * math.exp(-0.124), 60, False),
        (100 * math.exp(0.251), 60, True),
        (100 * math.exp(0.249), 60, False),
        (80.0, 3600, True),  # just within the maintenance horizon
        (80.0, 3601, False),
        (None, 60, False),
        (0.0, 60, False),
    ],
)
def test_a_loss_beyond_the_999_var(step, candidate, market, calm, t0, close, age_s, trips) -> None:
    now_s = t0 + age_s
    seen = market(now_s, close=close)
    decision, state = step(candidate(HIGH, made_at_s=now_s), now_s=now_s, state=calm, seen=seen)
    assert (state.breaker_until_s, decision.served_rates == HIGH) == (
        (now_s + HOUR, True) if trips else (None, False)
    )


def test_any_open_decision_counts_the_newest_that_is_breached_speaks(
    answer, candidate, market, served, t0
) -> None:
    opened = (
        Open(t0 - 1800, 120.0, VAR, (0.1, 0.1)),
        Open(t0 - 900, 110.0, VAR, None),  # has no 99.9 % VaR
        Open(t0, 100.0, VAR, (0.5, 0.5)),
    )
    decision = answer(
        candidate(LOW), now_s=t0 + 60, state=served(NOW, open=opened), seen=market(t0 + 60, close=100.0)
    )
    assert decision.traces[0].why == (
        "the long loss of 18.23% over the last 1860 s is beyond the 99.9 % VaR of 10.00%"
    )


def test_while_it_holds_nothing_falls_and_after_it_rates_fall_again(
    step, candidate, market, calm, t0
) -> None:
    state, seen = calm, []
    for minutes in (1, 30, 59, 60, 61):
        now_s = t0 + 60 * minutes
        bar = market(t0, **EXTREME) if minutes == 1 else market(now_s)
        decision, state = step(candidate(LOW, made_at_s=now_s), now_s=now_s, state=state, seen=bar)
        seen.append((decision.served_rates, state.breaker_until_s, decision.mode))
    assert [s[:2] for s in seen[:3]] == [(NOW, t0 + HOUR)] * 3
    # It ends exactly an hour after the bar; the next rates fall.
    assert [s[1] for s in seen[3:]] == [None, None]
    assert seen[-1][0][0] < 0.20


def test_the_trace_says_what_moved_and_what_it_did(answer, candidate, market, calm, t0) -> None:
    move = "the long loss of 20.00% in one bar is beyond 10.00%, the contract's extreme"
    decision = answer(candidate(LOW), now_s=t0 + 60, state=calm, seen=market(t0, **EXTREME))
    assert [(t.rule, t.why) for t in decision.traces] == [
        (12, move),
        *[(10, f"does not fall: circuit breaker: {move}")] * 4,
    ]
    decision = answer(candidate(HIGH), now_s=t0 + 60, state=calm, seen=market(t0, **EXTREME))
    assert [(t.rule, t.why) for t in decision.traces] == [
        (12, move),
        *[(10, f"rises at once: circuit breaker: {move}")] * 4,
    ]
    again = EngineState(breaker_until_s=t0 + HOUR)
    again = answer(candidate(LOW), now_s=t0 + 60, state=again, seen=market(t0, **EXTREME))
    assert again.traces[0].why == move  # the same bar, still the reason
    same = answer(candidate(NOW), now_s=t0 + 60, state=calm, seen=market(t0, **EXTREME))
    assert [(t.rule, t.why) for t in same.traces] == [(12, move)]
    later = answer(candidate(LOW), now_s=t0 + 60, state=EngineState(breaker_until_s=t0 + 61))
    assert later.traces[0].why == "a bar moved beyond what was held possible"


def test_rates_are_at_least_those_of_stress(answer, candidate, market, calm, t0) -> None:
    stressed = (0.30, 0.35, 0.15, 0.20)  # a long's initial margin is at least its maintenance margin
    seen = market(t0, stressed_rates=stressed, **EXTREME)
    decision = answer(candidate(LOW), now_s=t0 + 60, state=calm, seen=seen)
    assert decision.served_rates == (0.35, 0.35, 0.20, 0.20)
    assert decision.rules(0)[0] == "circuit breaker"
    assert decision.traces[0].why.startswith("at least as in stress, since the long loss of 20.00%")
    higher = answer(candidate(HIGH), now_s=t0 + 60, state=calm, seen=seen)
    assert higher.served_rates == HIGH
    assert [t.rule for t in higher.traces] == [12, 10, 10, 10, 10]
    calm_again = answer(candidate(NOW), now_s=t0 + 60, state=calm, seen=market(t0, stressed_rates=stressed))
    assert calm_again.served_rates == NOW


@pytest.mark.parametrize(
    "stressed", [(0.0,) * 4, (math.nan,) * 4, (0.9, 0.9, 0.9), (0.9, 0.9, 0.9, 0.0), None, [0.9] * 4, "abcd"]
)
def test_without_rates_of_stress_it_holds_all_the_same(answer, candidate, market, calm, t0, stressed) -> None:
    seen = market(t0, stressed_rates=stressed, **EXTREME)
    assert answer(candidate(LOW), now_s=t0 + 60, state=calm, seen=seen).served_rates == NOW


def test_the_first_decision_is_lifted_too(answer, candidate, market) -> None:
    seen = market(stressed_rates=(0.5, 0.25, 0.5, 0.25), **EXTREME)
    assert answer(candidate(LOW), seen=seen).served_rates == (0.5, 0.25, 0.5, 0.25)


def test_a_further_move_extends_it_and_an_older_bar_does_not_shorten_it(
    step, candidate, market, calm, t0
) -> None:
    seen = market(t0 + HOUR, **EXTREME)
    _, state = step(candidate(NOW), now_s=t0 + HOUR, state=calm, seen=seen)
    assert state.breaker_until_s == t0 + 2 * HOUR
    _, state = step(candidate(NOW), now_s=t0 + HOUR + 60, state=state, seen=market(t0, **EXTREME))
    assert state.breaker_until_s == t0 + 2 * HOUR
    _, state = step(
        candidate(NOW), now_s=t0 + HOUR + 120, state=state, seen=market(t0 + HOUR + 120, **EXTREME)
    )
    assert state.breaker_until_s == t0 + 2 * HOUR + 120


def test_a_bar_ahead_of_the_clock_holds_no_longer_than_from_now(step, candidate, market, calm, t0) -> None:
    _, state = step(candidate(NOW), now_s=t0 + 60, state=calm, seen=market(t0 + 1800, **EXTREME))
    assert state.breaker_until_s == t0 + 60 + HOUR


def test_without_a_dated_bar_the_clock_counts(step, candidate, market, calm, t0) -> None:
    seen = market(last_close_s=None, **EXTREME)
    _, state = step(candidate(NOW), now_s=t0 + 60, state=calm, seen=seen)
    assert state.breaker_until_s == t0 + 60 + HOUR


def test_a_bar_whose_hour_is_over_trips_nothing(step, candidate, market, calm, t0) -> None:
    _, state = step(
        candidate(NOW, made_at_s=t0 + HOUR), now_s=t0 + HOUR, state=calm, seen=market(t0, **EXTREME)
    )
    assert state.breaker_until_s is None


def test_how_long_it_holds_is_a_limit(step, candidate, market, calm, t0) -> None:
    seen = market(t0 + 60, **EXTREME)
    _, state = step(candidate(NOW), now_s=t0 + 60, state=calm, seen=seen, limits=Limits(breaker_s=60))
    assert state.breaker_until_s == t0 + 120
    decision, state = step(candidate(HIGH), now_s=t0 + 60, state=calm, seen=seen, limits=OFF)
    assert (decision.served_rates[0], state.breaker_until_s) == (0.25, None)


def test_it_frees_a_rise_from_initial_first_resume_grace_and_budget(
    answer, candidate, market, served, t0
) -> None:
    state = served(NOW, resumed_s=t0)
    slow = Limits(maintenance_delay_s=HOUR, up_limit_1h=0.25, up_limit_24h=0.60)
    book = ((0.15, 1.0),)
    calm = market(t0 + 60, positions=(book, book))
    held = answer(candidate(HIGH), now_s=t0 + 60, state=state, seen=calm, limits=slow)
    assert held.served_rates == (0.25, 0.10, 0.25, 0.10)
    crash = market(t0 + 60, positions=(book, book), **EXTREME)
    free = answer(candidate(HIGH), now_s=t0 + 60, state=state, seen=crash, limits=slow)
    assert free.served_rates == HIGH


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((0.1, 0.2), (0.1, 0.2)),
        (None, None),
        ((0.1, math.nan), None),
        ((0.1, 0.0), None),
        ((0.1,), None),
        ([0.1, 0.1], None),
        (("x", 0.1), None),
        (0.1, None),
    ],
)
def test_a_999_var_that_cannot_be_used_is_unknown_and_the_forecast_stands(
    step, candidate, given, kept
) -> None:
    decision, state = step(candidate(NOW, breaker=given))
    assert (decision.rung, state.open[0].breaker) == ("champion", kept)
    assert EngineState.from_json(state.to_json()) == state


def test_a_clock_that_jumps_back_takes_it_along(step, candidate, calm, market, t0) -> None:
    _, state = step(candidate(NOW), now_s=t0 + HOUR, state=calm, seen=market(t0 + HOUR, **EXTREME))
    _, state = step(candidate(NOW), now_s=t0 + 1800, state=state, seen=market(t0 + HOUR))
    assert state.breaker_until_s == t0 + 1800 + HOUR


def test_a_breaker_whose_time_is_long_over_is_forgotten(step, candidate, served, t0) -> None:
    state = served(NOW, breaker_until_s=t0 - 100)
    decision, after = step(candidate(LOW, made_at_s=t0 + HOUR), now_s=t0 + HOUR, state=state)
    assert (decision.served_rates[0] < 0.20, after.breaker_until_s) == (True, None)


def test_a_loss_of_exactly_the_999_var_trips_nothing(step, candidate, market, served, t0) -> None:
    loss = math.log(100.0) - math.log(80.0)
    for bound, trips in ((loss, False), (math.nextafter(loss, 0), True)):
        state = served(NOW, open=(Open(t0, 100.0, VAR, (bound, 9.0)),))
        _, after = step(candidate(NOW), now_s=t0 + 60, state=state, seen=market(t0 + 60, close=80.0))
        assert (after.breaker_until_s is not None) == trips
