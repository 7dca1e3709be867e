"""Whatever arrives, in whatever order, with restarts in between: bounded, paired, not NaN, replayable."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import (
    RUNGS,
    Candidate,
    Candidates,
    EngineState,
    Inputs,
    MarketState,
    Open,
    Overrides,
    Served,
)

T0 = 1_700_000_000.0
JUNK = st.sampled_from(
    [
        math.nan,
        math.inf,
        -math.inf,
        0.0,
        -0.0,
        -1.0,
        1e308,
        -1e308,
        5e-324,
        10**400,
        None,
        "x",
        True,
        (),
        1e12,
    ]
)
RATE = st.floats(1e-4, 1.5)
SETTINGS = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


def either(good: st.SearchStrategy, junk: st.SearchStrategy = JUNK) -> st.SearchStrategy:
    """Mostly good, so that histories grow; junk often enough that every field is hit."""
    return st.integers(0, 9).flatmap(lambda n: junk if n == 0 else good)


def four(value: st.SearchStrategy) -> st.SearchStrategy:
    return either(st.tuples(value, value, value, value), JUNK | st.tuples(value, value, value))


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    def one(rung: str) -> object:
        made_at_s = draw(either(st.floats(T0 - 1e5, T0 + 1e6)))
        return Candidate(
            rung,
            draw(four(either(RATE))),
            draw(four(either(RATE))),
            made_at_s,
            draw(either(st.floats(T0, T0 + 2e6))),
            "v",
        )

    chosen = {rung: draw(st.none() | st.just(rung) | st.just(rung)) for rung in RUNGS[:3]}
    return Candidates(**{rung: None if name is None else one(rung) for rung, name in chosen.items()})


@st.composite
def steps(draw: st.DrawFn) -> tuple[Candidates, MarketState, float]:
    """What one decision sees; made around the clock so that many candidates and feeds are usable."""
    now_s = draw(either(st.floats(T0, T0 + 1e6)))
    around = now_s if isinstance(now_s, float) and math.isfinite(now_s) and abs(now_s) < 1e11 else T0
    given = draw(candidates())
    fresh = draw(st.booleans())
    if fresh:  # the same candidates, made just now
        given = Candidates(
            **{
                rung: None
                if (c := getattr(given, rung)) is None
                else Candidate(c.rung, c.requirement, c.var, around, around + 7200.0, c.model_version)
                for rung in RUNGS[:3]
            }
        )
    base = draw(four(either(st.floats(1e-3, 1.0))))
    if draw(st.booleans()) and isinstance(base, tuple) and len(base) == 4:
        base = (0.1, 0.05, 0.2, 0.05)
    market = MarketState(
        draw(either(st.just(True), JUNK | st.just(False))),
        draw(either(st.sampled_from([60.0, 3600.0, 86400.0]))),
        draw(either(st.just(around) | st.floats(around - 1e5, around + 1e4))),
        draw(either(st.just(1000) | st.integers(0, 1000))),
        draw(either(st.floats(50.0, 150.0))),
        base,
        draw(four(either(RATE))),
        draw(either(st.just((14400.0, 3600.0)))),
    )
    return given, market, now_s


def assert_bounded(decision, limits: Limits) -> None:
    for i, (rate, base) in enumerate(zip(decision.served_rates, decision.base_rates, strict=True)):
        assert math.isfinite(rate)
        assert math.isfinite(base)
        assert 0 < base <= limits.cap_rate
        assert limits.floor_of_base * base <= rate <= min(limits.cap_rate, limits.cap_multiplier * base)
        assert 0 < decision.multipliers[i] <= limits.cap_multiplier
        assert decision.multipliers[i] == pytest.approx(rate / base)
    long_i, long_m, short_i, short_m = decision.served_rates
    assert long_i >= long_m
    assert short_i >= short_m
    assert all(math.isfinite(r) and r > 0 for r in decision.required_rates)
    assert decision.rung in RUNGS
    assert math.isfinite(decision.valid_until_s)
    json.dumps(decision.to_json(), allow_nan=False)


@SETTINGS
@given(st.lists(steps(), min_size=1, max_size=8), st.booleans())
def test_whatever_arrives_the_answer_is_bounded_and_a_restart_changes_nothing(tape, restarts) -> None:
    limits, state, kept = Limits(), EngineState(), EngineState()
    for given_candidates, market, now_s in tape:
        decision, state = decide(given_candidates, market, limits, Overrides(), state, now_s)
        assert_bounded(decision, limits)
        if restarts:
            kept = EngineState.from_json(json.loads(json.dumps(kept.to_json(), allow_nan=False)))
        again, kept = decide(given_candidates, market, limits, Overrides(), kept, now_s)
        assert (again.served_rates, again.traces) == (decision.served_rates, decision.traces)
        assert kept == state


@SETTINGS
@given(st.lists(steps(), min_size=1, max_size=4))
def test_a_decision_is_made_again_from_its_recorded_inputs(tape) -> None:
    state = EngineState()
    for given_candidates, market, now_s in tape:
        decision, state = decide(given_candidates, market, Limits(), Overrides(), state, now_s)
        text = json.dumps(decision.to_json()["inputs"], allow_nan=False)
        again, state_again = decide(*Inputs.from_json(json.loads(text)).arguments())
        assert again.served_rates == decision.served_rates
        assert (again.rung, again.mode, again.valid_until_s) == (
            decision.rung,
            decision.mode,
            decision.valid_until_s,
        )
        assert state_again == state


ORDERED = st.tuples(RATE, RATE, RATE, RATE).map(
    lambda r: (max(r[0], r[1]), min(r[0], r[1]), max(r[2], r[3]), min(r[2], r[3]))
)


@SETTINGS
@given(
    low=ORDERED,
    scale=st.floats(1.0, 3.0),
    rung=st.sampled_from(RUNGS[:3]),
    before=ORDERED,
    rules=st.none() | ORDERED,
    close=st.floats(80.0, 125.0),
    age_s=st.floats(0.0, 90000.0),
    lag_s=st.sampled_from([0.0, 5000.0]),
    long_run=RATE,
)
def test_what_is_served_does_not_fall_as_the_requirement_rises(
    low, scale, rung, before, rules, close, age_s, lag_s, long_run
) -> None:
    now_s = T0 + age_s
    base = (0.1, 0.05, 0.1, 0.05)
    state = EngineState(
        served=(Served(T0, before, None),),
        open=(Open(T0, 100.0, (0.08, 0.04, 0.08, 0.04), None),),
        rates=before,
        rung="champion",
        mode="fresh",
        model_version="v",
        valid_until_s=T0 + 7200,
        base_rates=base,
    )
    market = MarketState(
        True, 3600.0, now_s - lag_s, 1000, close, base, (long_run, 0.01, 0.01, 0.01), (14400.0, 3600.0)
    )

    def served_for(requirement: tuple[float, ...]) -> tuple[float, ...]:
        def made(name: str, asks: tuple[float, ...]) -> Candidate:
            return Candidate(name, asks, (0.08, 0.04, 0.08, 0.04), now_s, now_s + 7200, "v")

        by_rung = {rung: made(rung, requirement)}
        if rules is not None and rung != "rules":
            by_rung["rules"] = made("rules", rules)
        decision, _ = decide(Candidates(**by_rung), market, Limits(), Overrides(), state, now_s)
        assert decision.rung == rung
        return decision.served_rates

    lower, higher = served_for(low), served_for(tuple(r * scale for r in low))
    assert all(a <= b for a, b in zip(lower, higher, strict=True))


@SETTINGS
@given(
    before=ORDERED, spoil=st.integers(0, 3), junk=JUNK, rest=st.lists(st.booleans(), min_size=2, max_size=2)
)
def test_a_change_of_rung_caused_by_bad_input_lowers_nothing(before, spoil, junk, rest) -> None:
    base = (0.1, 0.05, 0.1, 0.05)
    held = tuple(min(max(r, 0.6 * b), 10 * b, 1.0) for r, b in zip(before, base, strict=True))
    now_s = T0 + 3600
    state = EngineState(
        served=(Served(T0, held, None),),
        open=(Open(T0, 100.0, held, None),),
        rates=held,
        rung="champion",
        mode="fresh",
        model_version="v",
        valid_until_s=T0 + 7200,
        base_rates=base,
    )
    bad = [0.2, 0.1, 0.2, 0.1]
    bad[spoil] = junk if junk != 1e12 and junk != 1e308 and junk != 5e-324 else math.nan
    low = (0.06, 0.03, 0.06, 0.03)
    made = {"champion": Candidate("champion", tuple(bad), low, now_s, now_s + 7200, "v")}
    for rung, present in zip(("last_good", "rules"), rest, strict=True):
        if present:
            made[rung] = Candidate(rung, low, low, now_s, now_s + 7200, "v")
    market = MarketState(True, 3600.0, now_s, 1000, 100.0, base, (0.0,) * 4, (14400.0, 3600.0))
    decision, _ = decide(Candidates(**made), market, Limits(), Overrides(), state, now_s)
    assert decision.rung != "champion"
    assert all(a >= b for a, b in zip(decision.served_rates, held, strict=True))
