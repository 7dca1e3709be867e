"""Rule 14: no rise of maintenance margin right after a pause. The grace is half an hour."""

import pytest

from models.margin.limits import Limits
from models.margin.types import EngineState

NOW = (0.20, 0.10, 0.20, 0.10)
HIGH = (0.24, 0.12, 0.24, 0.12)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("mode", "held"), [("stale", True), ("dead", True), ("degraded", False), ("fresh", False), (None, False)]
)
def test_a_pause_is_a_feed_that_was_stale_or_dead(step, candidate, served, t0, mode, held) -> None:
    decision, state = step(candidate(HIGH), now_s=t0 + 60, state=served(NOW, mode=mode))
    assert decision.served_rates == ((0.24, 0.10, 0.24, 0.10) if held else HIGH)
    assert state.resumed_s == (t0 + 60 if held else None)


def test_the_grace_ends_exactly_half_an_hour_later(step, candidate, served, t0) -> None:
    state, path = served(NOW, mode="stale"), []
    for second in (60, 1800, 1859, 1860):
        now_s = t0 + second
        decision, state = step(candidate(HIGH, made_at_s=now_s), now_s=now_s, state=state)
        path.append((decision.served_rates[1], state.resumed_s))
    assert path == [*[(0.10, t0 + 60)] * 3, (0.12, None)]


def test_a_grace_that_is_long_over_is_forgotten(step, candidate, served, t0) -> None:
    decision, state = step(candidate(HIGH), now_s=t0 + 60, state=served(NOW, resumed_s=t0 - 5000))
    assert (decision.served_rates, state.resumed_s) == (HIGH, None)


def test_the_trace(answer, candidate, served, t0) -> None:
    decision = answer(candidate(HIGH), now_s=t0 + 60, state=served(NOW, mode="dead"))
    assert [(t.rule, t.side, t.kind, t.before, t.after, t.why) for t in decision.traces] == [
        (14, "long", "maintenance", 0.12, 0.10, "no rise within 1800 s of a pause"),
        (14, "short", "maintenance", 0.12, 0.10, "no rise within 1800 s of a pause"),
    ]


def test_a_fall_and_a_rate_that_stays_are_not_held(answer, candidate, served, t0) -> None:
    now_s = t0 + HOUR
    asks = candidate((0.20, 0.08, 0.20, 0.10), made_at_s=now_s)
    decision = answer(asks, now_s=now_s, state=served(NOW, mode="stale"))
    assert (decision.served_rates, decision.traces) == ((0.20, 0.08, 0.20, 0.10), ())


def test_it_holds_even_what_the_rules_engine_requires(answer, candidate, served, t0) -> None:
    given = candidate((0.40, 0.20, 0.40, 0.20)), candidate((0.40, 0.20, 0.40, 0.20), "rules")
    decision = answer(*given, now_s=t0 + 60, state=served(NOW, mode="stale"))
    assert decision.served_rates == (0.40, 0.10, 0.40, 0.10)


def test_while_the_pause_lasts_there_is_no_grace(step, candidate, market, served, t0) -> None:
    # Dead, then stale, then alive: the clock of the grace starts with the last step.
    state, now_s = served(NOW, mode="dead", resumed_s=t0 - 60), t0 + 4 * HOUR
    rules = candidate(HIGH, "rules", made_at_s=now_s)
    decision, state = step(rules, now_s=now_s, state=state, seen=market(t0))
    assert (decision.mode, state.resumed_s) == ("stale", None)
    assert decision.served_rates == HIGH
    now_s += 60
    higher = (0.25, 0.125, 0.25, 0.125)
    decision, state = step(candidate(higher, made_at_s=now_s), now_s=now_s, state=state)
    assert (decision.served_rates, state.resumed_s) == ((0.25, 0.12, 0.25, 0.12), now_s)


def test_a_second_pause_within_the_grace_begins_it_anew(step, candidate, served, t0) -> None:
    state = served(NOW, mode="stale", resumed_s=t0 - 1700)
    decision, state = step(candidate(HIGH), now_s=t0 + 60, state=state)
    assert (decision.served_rates[1], state.resumed_s) == (0.10, t0 + 60)


def test_a_contract_that_never_answered_has_no_grace(step, candidate, t0) -> None:
    decision, state = step(candidate(HIGH), state=EngineState(mode="dead"))
    assert (decision.served_rates, state.resumed_s) == (HIGH, t0)


def test_the_grace_is_a_limit(step, candidate, served, t0) -> None:
    off = Limits(resume_grace_s=0.0)
    decision, state = step(candidate(HIGH), now_s=t0 + 60, state=served(NOW, mode="dead"), limits=off)
    assert (decision.served_rates, state.resumed_s) == (HIGH, None)


def test_a_clock_that_jumps_back_takes_it_along(step, candidate, served, t0) -> None:
    state = served(NOW, t0 + 1000, resumed_s=t0 + 400)
    _, state = step(candidate(NOW), now_s=t0 + 100, state=state)
    assert state.resumed_s == t0 + 400 - 900
