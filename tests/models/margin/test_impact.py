"""Rule 18: a rise of maintenance margin goes as far as the budget of positions that it makes liquidatable.

Maintenance margin is 10 %, 25 % is asked for and rule 10 lets it. The budget is a quarter of open notional.
"""

import math

import pytest

from models.margin.limits import Limits
from models.margin.types import EngineState, Served

NOW = (0.50, 0.10, 0.50, 0.10)
HIGH = (0.50, 0.25, 0.50, 0.25)
QUARTER = Limits(impact_budget=0.25, publish_step=0.0, up_limit_1h=9.0, up_limit_24h=9.0)


def rise(answer, candidate, market, served, t0, long, short=(), limits=QUARTER, rates=NOW, **seen):
    return answer(
        candidate(HIGH),
        now_s=t0 + 60,
        state=served(rates),
        seen=market(t0 + 60, positions=(long, short), **seen),
        limits=limits,
    )


@pytest.fixture
def long_rate(answer, candidate, market, served, t0):
    """The long maintenance rate that a book of long positions leaves."""

    def make(*book, limits=QUARTER):
        return rise(answer, candidate, market, served, t0, tuple(book), limits=limits).served_rates[1]

    return make


def test_a_rise_within_the_budget_is_served_whole(long_rate) -> None:
    assert long_rate((0.15, 1.0), (0.40, 3.0)) == 0.25  # exactly a quarter
    assert long_rate((0.40, 3.0)) == 0.25
    assert long_rate() == 0.25


def test_beyond_it_the_rise_stops_at_the_position_that_breaks_it(long_rate) -> None:
    assert long_rate((0.15, math.nextafter(1.0, 2)), (0.40, 3.0)) == 0.15
    assert long_rate((0.12, 1.0), (0.15, 1.0), (0.20, 1.0), (0.40, 3.0)) == 0.15
    assert long_rate((0.40, 3.0), (0.20, 1.0), (0.15, 1.0), (0.12, 1.0)) == 0.15  # in any order


def test_a_position_is_liquidatable_where_its_equity_lies_below_the_rate(long_rate) -> None:
    assert long_rate((0.25, 9.0), (0.40, 1.0)) == 0.25  # not below what is asked for
    assert long_rate((math.nextafter(0.25, 0), 9.0), (0.40, 1.0)) == math.nextafter(0.25, 0)
    # Whoever lies below what is in force is liquidatable already.
    assert long_rate((math.nextafter(0.10, 0), 9.0), (0.40, 1.0)) == 0.25
    assert long_rate((-0.5, 9.0), (0.40, 1.0)) == 0.25
    assert long_rate((0.05, 9.0), (0.15, 2.5)) == 0.25  # and uses up no budget


def test_a_position_that_is_larger_than_the_budget_holds_nothing_back_for_ever(
    step, candidate, market, served, t0
) -> None:
    state, path = served(NOW), []
    book = ((0.15, 9.0), (0.22, 9.0))
    for minute in range(1, 5):
        now_s = t0 + 60 * minute
        seen = market(now_s, positions=(book, ()))
        decision, state = step(
            candidate(HIGH, made_at_s=now_s), now_s=now_s, state=state, seen=seen, limits=QUARTER
        )
        path.append(decision.served_rates[1])
    assert path == [0.15, 0.22, 0.25, 0.25]


def test_a_position_within_a_publish_step_stages_nothing(long_rate) -> None:
    published = Limits(impact_budget=0.25, publish_step=0.25, up_limit_1h=9.0, up_limit_24h=9.0)
    assert long_rate((0.125, 9.0), limits=published) == 0.25
    assert long_rate((math.nextafter(0.125, 1), 9.0), limits=published) == math.nextafter(0.125, 1)
    # It uses up the budget all the same, and the next position stages the rise.
    assert long_rate((0.11, 9.0), (0.20, 9.0), limits=published) == 0.20


def test_the_trace_and_each_side_has_its_own_budget(answer, candidate, market, served, t0) -> None:
    decision = rise(
        answer,
        candidate,
        market,
        served,
        t0,
        ((0.30, 9.0),),
        ((0.15, 9.0),),
        limits=Limits(publish_step=0.0, up_limit_1h=9.0, up_limit_24h=9.0),
    )
    assert decision.served_rates == (0.50, 0.25, 0.50, 0.15)
    [trace] = decision.traces
    assert (trace.rule, trace.side, trace.kind, trace.before, trace.after) == (
        18,
        "short",
        "maintenance",
        0.25,
        0.15,
    )
    assert trace.why == "staged: more than 5% of open notional would fall short"


def test_a_fall_and_the_first_decision_meet_no_budget(answer, candidate, market, served, t0) -> None:
    book = ((0.15, 9.0),), ((0.15, 9.0),)
    first = answer(candidate(HIGH), seen=market(positions=book), limits=QUARTER)
    assert first.served_rates == HIGH
    higher = served((0.50, 0.30, 0.50, 0.25))
    now_s = t0 + 3600
    fall = answer(
        candidate(HIGH, made_at_s=now_s),
        now_s=now_s,
        state=higher,
        seen=market(now_s, positions=book),
        limits=Limits(release_ratio=0.0),
    )
    assert fall.served_rates == HIGH


def test_initial_margin_makes_nobody_liquidatable(answer, candidate, market, served, t0) -> None:
    asks = candidate((0.60, 0.10, 0.60, 0.10))
    seen = market(t0 + 60, positions=(((0.55, 9.0),), ((0.55, 9.0),)))
    assert answer(asks, now_s=t0 + 60, state=served(NOW), seen=seen).served_rates[0] == 0.60


@pytest.mark.parametrize(
    "junk",
    [
        (0.15,),
        (0.15, 9.0, 1.0),
        (math.nan, 9.0),
        (0.15, math.nan),
        (0.15, math.inf),
        (0.15, 0.0),
        (0.15, -9.0),
        ("x", 9.0),
        (0.15, None),
        None,
        0.15,
        "ab",
        [0.15, 9.0],
        (0.15, True),
        (0.15, 1e308),  # sums of such are no number
    ],
)
def test_what_is_no_position_is_left_out(long_rate, junk) -> None:
    assert long_rate(junk) == 0.25
    assert long_rate(junk, (0.15, 9.0)) == 0.15


@pytest.mark.parametrize(
    "junk",
    [
        None,
        (),
        (((0.15, 9.0),),),
        [((0.15, 9.0),), ()],
        "ab",
        1.0,
        (None, None),
        (1.0, "ab"),
        ([(0.15, 9.0)], ()),
        (((0.15, 9.0),), (), ()),
    ],
)
def test_books_that_are_none_do_nothing(answer, candidate, market, served, t0, junk) -> None:
    seen = market(t0 + 60, positions=junk)
    decision = answer(candidate(HIGH), now_s=t0 + 60, state=served(NOW), seen=seen, limits=QUARTER)
    assert decision.served_rates == HIGH


def test_a_negative_notional_adds_nothing_to_the_budget(long_rate) -> None:
    assert long_rate((0.12, -0.9), (0.15, 1.0), (0.40, 2.5)) == 0.15


def test_a_side_that_stays_does_not_end_the_other_sides_check(answer, candidate, market, served, t0) -> None:
    asks = candidate((0.50, 0.10, 0.50, 0.25))
    seen = market(t0 + 60, positions=(((0.05, 1.0),), ((0.15, 9.0),)))
    decision = answer(asks, now_s=t0 + 60, state=served(NOW), seen=seen, limits=QUARTER)
    assert decision.served_rates == (0.50, 0.10, 0.50, 0.15)


def test_a_position_at_what_is_asked_for_leaves_no_trace(answer, candidate, market, served, t0) -> None:
    assert rise(answer, candidate, market, served, t0, ((0.25, 9.0), (0.40, 1.0))).traces == ()


def test_no_budget_at_all_still_moves_from_position_to_position(long_rate) -> None:
    none = Limits(impact_budget=0.0, publish_step=0.0, up_limit_1h=9.0, up_limit_24h=9.0)
    assert long_rate((0.15, 1e-9), limits=none) == 0.15
    assert long_rate((0.10, 1e-9), (0.30, 9.0), limits=none) == 0.25
    assert long_rate((0.10, 1e-9), (0.20, 1e-9), limits=none) == 0.20


def test_the_budget_is_that_of_one_decision(step, candidate, market, t0) -> None:
    """Four equal positions, a budget of one: a position a decision."""
    state = EngineState(served=(Served(t0, NOW, None),), rates=NOW, rung="champion", mode="fresh")
    book, path = ((0.12, 1.0), (0.15, 1.0), (0.18, 1.0), (0.21, 1.0)), []
    for minute in range(1, 6):
        now_s = t0 + 60 * minute
        asks = candidate(HIGH, made_at_s=now_s)
        seen = market(now_s, positions=(book, ()))
        decision, state = step(asks, now_s=now_s, state=state, seen=seen, limits=QUARTER)
        path.append(decision.served_rates[1])
    assert path == [0.15, 0.18, 0.21, 0.25, 0.25]
