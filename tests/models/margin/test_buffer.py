"""Rule 13: a buffer built in calm and spent under stress. Base rates are 10 % and 5 %; stress begins above
1.5 times that, at 15 % and 7.5 %. The buffer is a quarter, built over four hours: a sixteenth an hour.
"""

import math
from dataclasses import replace

import pytest

from models.margin.limits import Limits

CALM = (0.12, 0.06, 0.12, 0.06)
HOUR = 3600.0
ON = Limits(
    buffer_ratio=0.25,
    buffer_build_s=4 * HOUR,
    release_ratio=0.0,
    publish_step=0.0,
    up_limit_1h=1.0,
    up_limit_24h=9.0,
)
FULL = (0.25, 0.25, 0.25, 0.25)


def test_it_is_off_unless_asked_for(step, candidate, served, t0) -> None:
    decision, state = step(candidate(CALM), now_s=t0 + HOUR, state=served(CALM, buffer=FULL))
    assert (decision.served_rates, state.buffer) == (CALM, (0.0,) * 4)


def test_calm_builds_it_evenly_and_no_further(step, candidate, t0) -> None:
    state, path = None, []
    for hour in range(7):
        now_s = t0 + HOUR * hour
        decision, state = step(candidate(CALM, made_at_s=now_s), now_s=now_s, state=state, limits=ON)
        path.append(state.buffer[0])
        assert decision.served_rates == pytest.approx([r * (1 + path[-1]) for r in CALM], rel=1e-12)
    assert path == [0.0, 0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25]
    assert decision.rules(0) == ("buffer",)
    assert decision.traces[0].why == "25.0% of buffer on top"


def test_an_empty_buffer_leaves_no_trace(answer, candidate) -> None:
    assert answer(candidate(CALM), limits=ON).traces == ()


def test_a_long_silence_builds_no_more_than_all_of_it(step, candidate, served, t0) -> None:
    now_s = t0 + 100 * HOUR
    _, state = step(candidate(CALM, made_at_s=now_s), now_s=now_s, state=served(CALM), limits=ON)
    assert state.buffer == FULL


def test_stress_begins_one_bit_above_the_multiple(step, candidate, served, t0) -> None:
    exact = Limits(buffer_ratio=0.25, buffer_release_multiplier=2.0, publish_step=0.0)
    at, beyond = 0.20, math.nextafter(0.20, 1)
    state = served((0.25, 0.125, 0.25, 0.125), buffer=FULL)
    decision, after = step(candidate((at, 0.10, beyond, 0.10)), now_s=t0, state=state, limits=exact)
    assert decision.served_rates == pytest.approx((0.25, 0.125, 0.25, 0.125), rel=1e-12)
    assert after.buffer[0] == 0.25
    assert after.buffer[2] == pytest.approx(0.25, rel=1e-12)
    assert [t.why for t in decision.traces if t.rule == 13] == [
        *["25.0% of buffer on top"] * 2,
        "stress spends the buffer, 25.0% is left",
        "25.0% of buffer on top",
    ]


def test_stress_is_met_from_the_buffer_before_the_rate_rises(step, candidate, served, t0) -> None:
    # In force are 20 % (16 % and a quarter); 18 % and 20 % are carried, 24 % is not.
    state = served((0.20, 0.09, 0.20, 0.09), buffer=FULL)
    path = []
    for minute, level in enumerate((0.18, 0.20, 0.24, 0.18), start=1):
        now_s = t0 + 60 * minute
        asks = candidate((level, 0.09, level, 0.09), made_at_s=now_s)
        decision, state = step(asks, now_s=now_s, state=state, limits=ON)
        path.append((decision.served_rates[0], state.buffer[0]))
    assert [p[0] for p in path[:3]] == pytest.approx([0.20, 0.20, 0.24], rel=1e-12)
    assert [p[1] for p in path] == pytest.approx([0.20 / 0.18 - 1, 0.0, 0.0, 0.0], abs=1e-12)
    # What was given is gone: the fall to 18 % has no buffer on top.
    assert path[3][0] < 0.24


def test_the_traces_of_spending_and_of_exhaustion(answer, candidate, served, t0) -> None:
    state = served((0.20, 0.09, 0.20, 0.09), buffer=(0.25, 0.25, 0.0, 0.25))
    decision = answer(candidate((0.18, 0.09, 0.24, 0.10)), now_s=t0 + 60, state=state, limits=ON)
    traces = [(t.side, t.kind, t.why) for t in decision.traces if t.rule == 13]
    assert traces == [
        ("long", "initial", "stress spends the buffer, 11.1% is left"),
        ("long", "maintenance", "the buffer is exhausted"),
        ("short", "maintenance", "the buffer is exhausted"),
    ]


def test_no_more_is_spent_than_there_is(step, candidate, served, t0) -> None:
    # In force are 40 %; of 20 % asked for a quarter of buffer carries 25 %. The rest is for rules 10 and 11.
    state = served((0.40, 0.20, 0.40, 0.20), buffer=FULL)
    decision, after = step(candidate((0.20, 0.10, 0.20, 0.10)), now_s=t0 + 60, state=state, limits=ON)
    assert decision.traces[0].after == 0.25
    assert after.buffer == FULL


def test_a_buffer_from_larger_settings_is_cut(step, candidate, served, t0) -> None:
    state = served(CALM, buffer=(3.0,) * 4)
    assert step(candidate(CALM), now_s=t0, state=state, limits=ON)[1].buffer == FULL
    stressed = (0.20, 0.10, 0.20, 0.10)
    decision, after = step(
        candidate(stressed), now_s=t0, state=served((0.9,) * 4, buffer=(3.0,) * 4), limits=ON
    )
    assert after.buffer == FULL
    assert decision.traces[0].after == 0.25


def test_the_first_decision_of_a_contract_is_never_stress(step, candidate) -> None:
    decision, state = step(candidate((0.90, 0.45, 0.90, 0.45)), limits=ON)
    assert (decision.served_rates, state.buffer) == ((0.90, 0.45, 0.90, 0.45), (0.0,) * 4)


def test_initial_margin_covers_maintenance_margin_where_their_buffers_differ(
    answer, candidate, served, t0
) -> None:
    # Initial margin is in calm and has a sixteenth on top by now: 10.625 %. Maintenance margin is in stress,
    # and a full buffer carries its 9 % up to 11.25 %.
    deep = replace(ON, down_limit_1h=0.9)
    state = served((0.20, 0.12, 0.12, 0.06), buffer=(0.0, 0.25, 0.0, 0.25))
    asks = candidate((0.10, 0.09, 0.12, 0.06), made_at_s=t0 + HOUR)
    decision = answer(asks, now_s=t0 + HOUR, state=state, limits=deep)
    assert decision.rung == "champion"
    assert decision.served_rates[:2] == pytest.approx((0.1125, 0.1125), rel=1e-12)


def test_a_huge_requirement_does_not_become_infinite(step, candidate, served, t0) -> None:
    wide = Limits(buffer_ratio=10.0, buffer_release_multiplier=1000.0, cap_multiplier=1000.0)
    state = served((1.0,) * 4, buffer=(10.0,) * 4)
    decision, after = step(candidate((1.7e308, 1.7e308, 0.2, 0.1)), now_s=t0, state=state, limits=wide)
    assert all(math.isfinite(b) and b >= 0 for b in after.buffer)
    assert all(t.after is None or math.isfinite(t.after) for t in decision.traces)
