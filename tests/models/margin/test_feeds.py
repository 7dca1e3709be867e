"""Rule 7: several sources of one contract. Its own close is 100; limits are binary fractions, to be exact."""

import math

import pytest

from models.margin.limits import Limits

GOOD = (0.20, 0.10, 0.20, 0.10)
EXACT = Limits(feeds_degraded_ratio=0.25, feeds_refused_ratio=0.5)


@pytest.mark.parametrize(
    ("others", "mode", "rung"),
    [
        ((), "fresh", "champion"),
        ((100.0, 100.0), "fresh", "champion"),
        ((100.0, 125.0), "fresh", "champion"),  # exactly a quarter above the median
        ((100.0, math.nextafter(125.0, 200)), "degraded", "champion"),
        ((100.0, 75.0), "fresh", "champion"),
        ((100.0, math.nextafter(75.0, 0)), "degraded", "champion"),
        ((100.0, 150.0), "degraded", "champion"),
        ((100.0, math.nextafter(150.0, 200)), "degraded", "rules"),
        ((100.0, 50.0), "degraded", "champion"),
        ((100.0, 49.99), "degraded", "rules"),
        ((300.0,), "degraded", "champion"),  # two: the median is 200, each a half away
        ((300.1,), "degraded", "rules"),
    ],
)
def test_how_far_a_source_lies_from_the_median(answer, candidate, market, others, mode, rung) -> None:
    given = candidate(GOOD), candidate(GOOD, "last_good"), candidate(GOOD, "rules")
    decision = answer(*given, seen=market(other_closes=others), limits=EXACT)
    assert (decision.mode, decision.rung) == (mode, rung)


def test_the_defaults_are_two_and_six_percent(answer, candidate, market) -> None:
    given = candidate(GOOD), candidate(GOOD, "rules")
    modes = []
    for other in (101.9, 102.1, 105.9, 106.1):
        decision = answer(*given, seen=market(other_closes=(100.0, other)))
        modes.append((decision.mode, decision.rung))
    assert modes == [
        ("fresh", "champion"),
        ("degraded", "champion"),
        ("degraded", "champion"),
        ("degraded", "rules"),
    ]


def test_nothing_falls_while_the_sources_disagree_and_the_trace_says_why(
    answer, candidate, market, served, t0
) -> None:
    now_s = t0 + 3600
    low = candidate((0.10, 0.05, 0.10, 0.05), made_at_s=now_s)
    seen = market(now_s, other_closes=(100.0, 104.0))
    decision = answer(low, now_s=now_s, seen=seen, state=served(GOOD))
    assert decision.served_rates == GOOD
    why = "sources lie up to 4.00% from their median of 100"
    assert [(t.rule, t.why) for t in decision.traces] == [
        (7, why),
        *[(10, f"does not fall: {why}")] * 4,
    ]


def test_a_model_that_is_refused_says_why(answer, candidate, market) -> None:
    decision = answer(candidate(GOOD), seen=market(other_closes=(100.0, 165.0)), limits=EXACT)
    assert [t.why for t in decision.traces if t.rule == 7] == [
        "sources lie up to 65.00% from their median of 100",
        "champion refused: sources lie up to 65.00% from their median of 100",
    ]


def test_a_print_of_one_source_alone_is_no_breach(answer, candidate, market, served, t0) -> None:
    now_s = t0 + 60
    asks = candidate((0.24, 0.12, 0.24, 0.12), made_at_s=now_s), candidate((0.80, 0.40, 0.80, 0.40), "rules")
    own = market(now_s, close=65.0)
    assert answer(asks[0], now_s=now_s, seen=own, state=served(GOOD)).served_rates == asks[0].requirement
    high = candidate((0.80, 0.40, 0.80, 0.40), made_at_s=now_s)
    alone = answer(high, now_s=now_s, seen=own, state=served(GOOD))
    assert alone.served_rates == high.requirement  # 43 % of loss so far: at once
    three = market(now_s, close=65.0, other_closes=(100.0, 99.5))
    lone = answer(high, now_s=now_s, seen=three, state=served(GOOD))
    # 99.5 is within the VaR, and no model is believed while the sources lie so far apart.
    assert lone.rung == "static"
    assert lone.served_rates == GOOD


def test_the_median_is_remembered(step, candidate, market) -> None:
    _, state = step(candidate(GOOD), seen=market(other_closes=(101.0, 101.5)))
    assert state.open[0].close == 101.0
    _, state = step(candidate(GOOD), seen=market(other_closes=(101.0,)))
    assert state.open[0].close == 100.5
    _, state = step(candidate(GOOD), seen=market(other_closes=(99.0, 101.0, 98.0)))
    assert state.open[0].close == 99.5
    _, state = step(candidate(GOOD), seen=market(other_closes=(99.0, 101.0, 101.5, 98.5)))
    assert state.open[0].close == 100.0
    _, state = step(candidate(GOOD), seen=market(close=0.5, other_closes=(0.505, 0.51)))
    assert state.open[0].close == 0.505


@pytest.mark.parametrize("junk", [math.nan, math.inf, 0.0, -5.0, None, "100", True, (100.0,)])
def test_a_source_that_says_no_price_is_left_out(step, candidate, market, junk) -> None:
    decision, state = step(candidate(GOOD), seen=market(other_closes=(junk,)))
    assert (decision.mode, state.open[0].close) == ("fresh", 100.0)
    decision, state = step(candidate(GOOD), seen=market(other_closes=(junk, 101.0, 101.5)))
    assert (decision.mode, state.open[0].close) == ("fresh", 101.0)


@pytest.mark.parametrize("junk", [None, [100.0, 300.0], "ab", 5.0, math.nan])
def test_sources_that_are_no_tuple_are_left_out(answer, candidate, market, junk) -> None:
    assert answer(candidate(GOOD), seen=market(other_closes=junk)).traces == ()


def test_the_other_sources_stand_in_for_a_price_that_is_missing(step, candidate, market) -> None:
    _, state = step(candidate(GOOD), seen=market(close=None, other_closes=(99.0, 101.0)))
    assert state.open[0].close == 100.0
    _, state = step(candidate(GOOD), seen=market(close=None, other_closes=(99.0,)))
    assert state.open == ()  # one source alone is not compared with anything


def test_a_worse_mode_stays(answer, candidate, market, t0) -> None:
    seen = market(t0, other_closes=(100.0, 104.0))
    for hours, mode in ((4, "stale"), (9, "dead")):
        now_s = t0 + hours * 3600
        assert answer(candidate(GOOD, "rules", made_at_s=now_s), now_s=now_s, seen=seen).mode == mode


def test_prices_of_any_size_have_a_median(step, candidate, market) -> None:
    huge, tiny = 1.7e308, 5e-324
    _, state = step(candidate(GOOD), seen=market(close=huge, other_closes=(huge,)))
    assert state.open[0].close == huge
    _, state = step(candidate(GOOD), seen=market(close=tiny, other_closes=(tiny,)))
    assert state.open[0].close == tiny
    decision, _ = step(candidate(GOOD), seen=market(close=tiny, other_closes=(huge, huge)))
    assert decision.rung == "static"
