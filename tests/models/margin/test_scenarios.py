"""Named scenarios of the safety rules, in hand-computed numbers; tests/training/margin plays whole tapes.

Rises: 25 % in an hour and 60 % in a day, stated here because they are easily computed by hand. All other
limits are the defaults; falls: 25 % an hour, and only where 15 % less is asked for.
"""

import json

import pytest

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import Candidates, EngineState, Overrides

LOW = (0.10, 0.05, 0.10, 0.05)
HIGH = (0.80, 0.40, 0.80, 0.40)
LIMITS = Limits(up_limit_1h=0.25, up_limit_24h=0.60)


@pytest.fixture
def at(market, candidate):
    """One decision of a contract: the rates that its champion and its rules engine ask, over hourly bars."""

    def make(state, now_s, champion=None, rules=None, **seen):
        made = Candidates(
            champion=champion and candidate(champion, made_at_s=now_s),
            rules=rules and candidate(rules, "rules", made_at_s=now_s),
        )
        return decide(made, market(now_s, **seen), LIMITS, Overrides(), state, now_s)

    return make


def test_a_clock_that_jumps_back(at, served, t0) -> None:
    state = served(LOW, t0)
    decision, state = at(state, t0 + 3600, champion=(0.12, 0.06, 0.12, 0.06))
    # The clock says an hour earlier; bars and forecasts carry their true times. The requirement is lower.
    bars_at = t0 + 3660
    decision, state = at(state, t0 + 60, champion=LOW, last_close_s=bars_at)
    assert (decision.rung, decision.mode) == ("champion", "degraded")
    assert decision.served_rates == (0.12, 0.06, 0.12, 0.06)
    assert "jumped back by 3540 s" in decision.traces[0].why
    # What is remembered moved back with the clock, its distances kept.
    assert [entry.time_s - t0 for entry in state.served] == [-3540, 60, 60]
    assert [entry.time_s - t0 for entry in state.open] == [-3540, 60]
    assert state.valid_until_s == t0 + 60 + 7200
    # A rise keeps to the steps: the jump has not opened a new hour.
    risen, _ = at(state, t0 + 120, champion=HIGH, last_close_s=bars_at)
    assert risen.served_rates == pytest.approx((0.125, 0.0625, 0.125, 0.0625), rel=1e-12)
    # The clock goes on from where it is: an hour later the answer falls again, by no more than a quarter.
    fallen, _ = at(state, t0 + 3660, champion=(0.08, 0.04, 0.08, 0.04), last_close_s=bars_at)
    assert fallen.mode == "fresh"
    assert fallen.served_rates == pytest.approx((0.09, 0.045, 0.09, 0.045), rel=1e-12)


def test_a_feed_one_hour_behind(at, served, t0) -> None:
    # Hourly bars an hour late are one bar old when they arrive: no worse than a bar about to be followed.
    # After the grace nothing falls.
    now_s = t0 + 3600
    fresh, _ = at(served(HIGH, t0), now_s, champion=LOW, last_close_s=now_s - 3600)
    assert (fresh.rung, fresh.mode) == ("champion", "fresh")
    degraded, _ = at(served(HIGH, t0), now_s + 600, champion=LOW, last_close_s=now_s - 3600)
    assert (degraded.rung, degraded.mode, degraded.served_rates) == ("champion", "degraded", HIGH)
    # Of 15 min bars four are missing: no model is trusted. Of 1 min bars sixty: nothing but the static rate.
    stale, _ = at(served(HIGH, t0), now_s, LOW, LOW, last_close_s=now_s - 3600, interval_s=900.0)
    assert (stale.rung, stale.mode, stale.served_rates) == ("rules", "stale", HIGH)
    dead, _ = at(served(HIGH, t0), now_s, LOW, LOW, last_close_s=now_s - 3600, interval_s=60.0)
    assert (dead.rung, dead.mode, dead.served_rates) == ("static", "dead", HIGH)


def test_a_feed_that_repeats_the_same_bar(at, served, t0) -> None:
    # Each repeat arrives on time, but its close time is the first one's: the age grows.
    state, seen = served(HIGH, t0), []
    for hour in range(1, 9):
        decision, state = at(state, t0 + 3600 * hour, champion=LOW, rules=LOW, last_close_s=t0)
        seen.append((decision.mode, decision.rung))
    assert seen == [
        ("fresh", "champion"),
        ("degraded", "champion"),
        *[("stale", "rules")] * 4,
        *[("dead", "static")] * 2,
    ]
    # It fell in the one hour in which the bar still counted as fresh, and never again.
    assert decision.served_rates == pytest.approx((0.60, 0.30, 0.60, 0.30), rel=1e-12)


def test_a_model_that_returns_a_constant(at, t0) -> None:
    # It asks 12 % whatever happens, and the rules engine 50 %: half of that is the edge of the band (rule 4).
    # On the third bar in a row the model is struck, and stays struck as long as it is outside.
    constant, state = (0.12, 0.06, 0.12, 0.06), EngineState()
    for hour in range(48):
        decision, state = at(state, t0 + 3600 * hour, champion=constant, rules=(0.5, 0.25, 0.5, 0.25))
        if hour < 2:
            assert (decision.rung, decision.served_rates) == ("champion", (0.25, 0.125, 0.25, 0.125))
        else:
            assert (decision.rung, decision.served_rates) == ("rules", (0.5, 0.25, 0.5, 0.25))
        assert any("ALERT" in trace.why for trace in decision.traces)
    # Without a rules engine nothing judges it but its outcomes (rule 19); the floor of rule 2 still holds.
    absurd = (1e-9, 1e-9, 1e-9, 1e-9)
    for hour in range(48, 96):
        decision, state = at(state, t0 + 3600 * hour, champion=absurd)
        assert decision.rung == "champion"
    assert decision.served_rates == pytest.approx((0.06, 0.03, 0.06, 0.03), rel=1e-12)


def test_a_model_that_returns_a_constant_loses_its_rung_by_its_breaches(at, t0) -> None:
    # It asks what the rules engine asks, and its VaR for the hour is 4 %; every other bar falls by 5 %. The
    # tenth breach of a long (rule 19) strikes it, the eighth lets nothing fall. Forecasts are judged
    # one after the other, so every other bar.
    state, close, rungs, held = EngineState(), 100.0, [], []
    for hour in range(60):
        close *= 0.95 if hour % 2 else 1.0
        decision, state = at(state, t0 + 3600 * hour, champion=LOW, rules=LOW, close=close)
        rungs.append(decision.rung)
        held.append(any(trace.rule == 19 for trace in decision.traces))
    breaches = state.health.breaches[0]
    assert held.index(True) == 2 * 8 - 1
    struck = 2 * 10 - 1
    assert rungs.index("rules") == struck
    assert set(rungs[struck:]) == {"rules"}
    assert len(breaches) > 10


def test_a_restart_in_the_middle_of_a_raise(at, served, t0) -> None:
    def run(restart_after: int | None) -> list[tuple[float, ...]]:
        state, rates = served(LOW, t0), []
        for tick in range(1, 40):
            decision, state = at(state, t0 + 600 * tick, champion=HIGH)
            rates.append(decision.served_rates)
            if tick == restart_after:
                state = EngineState.from_json(json.loads(json.dumps(state.to_json())))
        return rates

    assert run(restart_after=5) == run(restart_after=None)
    # A contract that forgot would have jumped; this one is still on its way.
    assert max(r[0] for r in run(restart_after=5)) == pytest.approx(0.16, rel=1e-12)


def test_paired_clamp_incident(at, served, t0) -> None:
    """10 March 2026: of two paired values one was rate-limited, the other not.

    Here a fall of 6 % breaches the maintenance VaR (4 %, 1 h) but not the initial one (8 %, 4 h). If the
    breach freed maintenance alone, it would rise to 40 % beside an initial margin held at 25 %.
    """
    state = served((0.20, 0.10, 0.20, 0.10), t0)
    decision, _ = at(state, t0 + 1800, champion=(0.80, 0.40, 0.80, 0.40), close=94.0)
    assert decision.served_rates == (0.80, 0.40, 0.80, 0.40)
    calm, _ = at(state, t0 + 1800, champion=(0.80, 0.40, 0.80, 0.40), close=98.0)
    assert calm.served_rates == pytest.approx((0.25, 0.125, 0.25, 0.125), rel=1e-12)


def test_a_0001_print(at, served, t0) -> None:
    # The print breaches the VaR, so a model that believes it may raise the margin to the cap, never beyond;
    # when it has gone the answer falls by 25 % an hour.
    decision, state = at(served(LOW, t0), t0 + 3600, champion=(1.0, 1.0, 1e4, 1e4), close=0.0001)
    assert decision.served_rates == (1.0, 0.5, 1.0, 0.5)
    decision, _ = at(state, t0 + 7200, champion=LOW, close=100.0)
    assert decision.served_rates == pytest.approx((0.75, 0.375, 0.75, 0.375), rel=1e-12)
