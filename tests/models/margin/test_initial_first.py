"""Rule 15: up, initial margin goes first; down, maintenance margin does. The delay is an hour here."""

import pytest

from models.margin.limits import Limits

NOW = (0.20, 0.10, 0.20, 0.10)
HIGH = (0.24, 0.12, 0.24, 0.12)
LOW = (0.16, 0.08, 0.16, 0.08)
HOUR = 3600.0
DELAY = Limits(maintenance_delay_s=HOUR, release_ratio=0.0, down_limit_1h=0.9)


def test_it_is_off_unless_asked_for(step, candidate, served, t0) -> None:
    decision, state = step(candidate(HIGH), now_s=t0 + 60, state=served(NOW))
    assert (decision.served_rates, state.waiting_s) == (HIGH, (None,) * 4)


@pytest.mark.parametrize(
    ("asks", "between", "waits"),
    [(HIGH, (0.24, 0.10, 0.24, 0.10), (1, 3)), (LOW, (0.20, 0.08, 0.20, 0.08), (0, 2))],
    ids=["rise", "fall"],
)
def test_the_other_kind_follows_an_hour_later(step, candidate, served, t0, asks, between, waits) -> None:
    begins = t0 + HOUR
    state, path = served(NOW), []
    for second in (0, 1200, 2400, 3600):
        now_s = begins + second
        decision, state = step(candidate(asks, made_at_s=now_s), now_s=now_s, state=state, limits=DELAY)
        path.append(decision.served_rates)
        assert state.waiting_s == tuple(begins if i in waits else None for i in range(4))
    assert path == [between, between, between, asks]
    now_s += 60
    _, state = step(candidate(asks, made_at_s=now_s), now_s=now_s, state=state, limits=DELAY)
    assert state.waiting_s == (None,) * 4


@pytest.mark.parametrize(("waited_s", "rate"), [(3599, 0.10), (3600, 0.12), (1e6, 0.12), (-60, 0.10)])
def test_the_delay_ends_on_its_second(answer, candidate, served, t0, waited_s, rate) -> None:
    state = served(NOW, waiting_s=(None, t0 + 60 - waited_s, None, None))
    decision = answer(candidate((0.20, 0.12, 0.20, 0.10)), now_s=t0 + 60, state=state, limits=DELAY)
    assert decision.served_rates[1] == rate


def test_the_trace(answer, candidate, served, t0) -> None:
    asks = candidate((0.16, 0.12, 0.20, 0.10), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=served(NOW), limits=DELAY)
    why = "follows 3600 s after the other kind of margin"
    assert [(t.rule, t.side, t.kind, t.before, t.after, t.why) for t in decision.traces] == [
        (15, "long", "initial", 0.16, 0.20, why),
        (15, "long", "maintenance", 0.12, 0.10, why),
    ]


def test_a_rise_that_is_no_longer_asked_for_waits_from_the_start(step, candidate, served, t0) -> None:
    state = served(NOW)
    for minute, asks in ((10, HIGH), (50, NOW), (60, HIGH)):
        now_s = t0 + 60 * minute
        decision, state = step(candidate(asks, made_at_s=now_s), now_s=now_s, state=state, limits=DELAY)
        assert state.waiting_s[1] == (None if asks == NOW else now_s)
    now_s = t0 + 60 * 119
    decision, _ = step(candidate(HIGH, made_at_s=now_s), now_s=now_s, state=state, limits=DELAY)
    assert decision.served_rates[1] == 0.10
    now_s = t0 + 60 * 120
    decision, _ = step(candidate(HIGH, made_at_s=now_s), now_s=now_s, state=state, limits=DELAY)
    assert decision.served_rates[1] == 0.12


def test_the_first_decision_waits_for_nothing(answer, candidate) -> None:
    assert answer(candidate(HIGH), limits=DELAY).served_rates == HIGH


def test_a_clock_that_jumps_back_takes_the_waiting_along(step, candidate, served, t0) -> None:
    _, state = step(candidate(HIGH), now_s=t0 + 1800, state=served(NOW), limits=DELAY)
    _, state = step(candidate(HIGH), now_s=t0 + 600, state=state, limits=DELAY)
    assert state.waiting_s == (None, t0 + 600, None, t0 + 600)
