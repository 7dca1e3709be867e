"""Rules 1, 5, 6 and 9: which rungs may answer."""

import math

import pytest

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import Candidates, EngineState, Overrides, Served

GOOD = (0.20, 0.10, 0.20, 0.10)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ((0.2, math.nan, 0.2, 0.1), "requirement of long maintenance is nan"),
        ((0.2, 0.1, math.inf, 0.1), "requirement of short initial is inf"),
        ((0.0, 0.1, 0.2, 0.1), "requirement of long initial is 0.0"),
        ((0.2, 0.1, 0.2, -0.1), "requirement of short maintenance is -0.1"),
        ((0.2, 0.1, 0.2, None), "requirement of short maintenance is None"),
        ((0.2, 0.1, 0.2, True), "requirement of short maintenance is True"),
        ((0.2, 0.1, 0.2, 10**400), "requirement of short maintenance is 1000"),
        ((0.2, 0.1, 0.2), "requirement has to be 4 numbers"),
        ([0.2, 0.1, 0.2, 0.1], "requirement has to be 4 numbers"),
        (None, "requirement has to be 4 numbers"),
        ("0.2", "requirement has to be 4 numbers"),
    ],
)
def test_rule_1_a_requirement_that_is_not_four_positive_numbers_goes_to_the_next_rung(
    answer, candidate, bad, why
) -> None:
    decision = answer(candidate(bad), candidate((0.30, 0.15, 0.30, 0.15), "rules"))
    assert decision.rung == "rules"
    assert decision.served_rates == (0.30, 0.15, 0.30, 0.15)
    [trace] = [t for t in decision.traces if t.rule == 1]
    assert trace.why.startswith(f"champion refused: {why}")


@pytest.mark.parametrize(
    "change",
    [
        {"var": (0.1, 0.1, 0.1, math.nan)},
        {"var": None},
        {"made_at_s": math.nan},
        {"valid_until_s": math.inf},
        {"made_at_s": 1.7e12},  # milliseconds
        {"rung": "last_good"},
    ],
)
def test_rule_1_a_candidate_without_var_or_times_in_seconds_is_refused(market, candidate, change) -> None:
    bad = candidate(GOOD, **change)
    decision, _ = decide(
        Candidates(champion=bad), market(), Limits(), Overrides(), EngineState(), market().last_close_s
    )
    assert decision.rung == "static"
    assert decision.traces[0].rule == 1


def test_rule_1_an_unknown_symbol_is_served_the_cap(answer, market, candidate) -> None:
    decision = answer(candidate(GOOD), seen=market(known_symbol=False))
    assert decision.rung == "cap"
    assert decision.served_rates == (1.0, 0.5, 1.0, 0.5)
    assert decision.multipliers == (10.0, 10.0, 10.0, 10.0)


@pytest.mark.parametrize(
    "base",
    [
        (math.nan, 0.05, 0.1, 0.05),
        (0.1, 0.0, 0.1, 0.05),
        (0.05, 0.10, 0.1, 0.05),
        (1.1, 0.05, 0.1, 0.05),
        (0.1, 0.05),
        None,
    ],
)
def test_rule_1_bad_base_rates_fall_back_to_the_last_usable_ones_and_without_any_to_the_cap(
    answer, market, candidate, served, base
) -> None:
    first = answer(candidate(GOOD), seen=market(base_rates=base))
    assert first.rung == "cap"
    assert first.served_rates == (1.0, 1.0, 1.0, 1.0)
    assert first.multipliers == (10.0, 10.0, 10.0, 10.0)
    later = answer(candidate(GOOD), seen=market(base_rates=base), state=served(GOOD))
    assert later.rung == "champion"
    assert later.base_rates == (0.10, 0.05, 0.10, 0.05)
    assert later.served_rates == GOOD


def test_rule_1_a_base_rate_may_be_all_of_the_notional(answer, market, candidate) -> None:
    decision = answer(candidate(GOOD), seen=market(base_rates=(1.0, 1.0, 1.0, 1.0)))
    assert decision.rung == "champion"
    assert decision.base_rates == (1.0, 1.0, 1.0, 1.0)


def test_rule_1_an_invented_base_is_not_remembered(market) -> None:
    seen = market(base_rates=None)
    _, state = decide(Candidates(), seen, Limits(), Overrides(), EngineState(), seen.last_close_s)
    assert state.base_rates is None


@pytest.mark.parametrize(("age_s", "rung"), [(7200.0, "champion"), (7201.0, "static")])
def test_rule_5_a_forecast_expires_after_two_bars(answer, candidate, t0, age_s, rung) -> None:
    # The bars go on, the forecast does not.
    assert answer(candidate(GOOD), now_s=t0 + age_s).rung == rung


@pytest.mark.parametrize(("age_s", "rung"), [(900.0, "champion"), (901.0, "static")])
def test_rule_5_or_after_fifteen_minutes_if_that_is_longer(
    answer, market, candidate, t0, age_s, rung
) -> None:
    assert answer(candidate(GOOD), now_s=t0 + age_s, seen=market(t0 + age_s, interval_s=60.0)).rung == rung


def test_rule_5_its_own_expiry_counts_if_earlier_and_not_if_later(answer, candidate, t0) -> None:
    early = candidate(GOOD, valid_until_s=t0 + 60)
    assert answer(early, now_s=t0 + 60).rung == "champion"
    late = answer(early, now_s=t0 + 61)
    assert late.rung == "static"
    assert late.traces[0].why == "champion refused: it expired 1 s ago"
    assert answer(candidate(GOOD, valid_until_s=t0 + 1e6), now_s=t0 + 7201).rung == "static"


def test_rule_5_a_clock_behind_the_bars_makes_no_forecast_younger(answer, market, candidate, t0) -> None:
    assert answer(candidate(GOOD), now_s=t0, seen=market(t0 + 7201)).rung == "static"


def test_rule_5_a_forecast_from_the_future_is_refused(answer, candidate, t0) -> None:
    decision = answer(candidate(GOOD, made_at_s=t0 + 7201), now_s=t0)
    assert decision.rung == "static"
    assert decision.traces[0].why == "champion refused: it was made 7201 s ahead of the clock"
    assert answer(candidate(GOOD, made_at_s=t0 + 7200), now_s=t0).rung == "champion"


@pytest.mark.parametrize(
    ("age_bars", "mode", "rung"),
    [
        (0.0, "fresh", "champion"),
        (1.0, "fresh", "champion"),
        (1.1, "fresh", "champion"),  # the next bar is on its way
        (1.11, "degraded", "champion"),
        (2.1, "degraded", "champion"),
        (2.11, "stale", "rules"),
        (6.1, "stale", "rules"),
        (6.11, "dead", "static"),
        (1e6, "dead", "static"),
    ],
)
def test_rule_6_the_age_of_the_newest_bar_sets_mode_and_rung(
    answer, market, candidate, t0, age_bars, mode, rung
) -> None:
    # The forecasts are recent, so that rule 6 alone decides. Ages are whole seconds, exact in floating point.
    now_s = t0 + round(age_bars * 3600)
    rules = candidate(GOOD, "rules", made_at_s=now_s)
    decision = answer(candidate(GOOD, made_at_s=now_s), rules, now_s=now_s, seen=market(t0))
    assert (decision.mode, decision.rung) == (mode, rung)


@pytest.mark.parametrize(
    "change",
    [
        {"last_close_s": None},
        {"last_close_s": math.nan},
        {"last_close_s": 1.7e12},
        {"interval_s": 0.0},
        {"interval_s": math.nan},
        {"interval_s": None},
        {"interval_s": 1e9},
    ],
)
def test_rule_6_a_feed_that_cannot_be_dated_is_dead(answer, market, candidate, change) -> None:
    decision = answer(candidate(GOOD), candidate(GOOD, "rules"), seen=market(**change))
    assert (decision.mode, decision.rung) == ("dead", "static")


@pytest.mark.parametrize("mode_at", [("degraded", 1.5), ("stale", 4.0), ("dead", 10.0)])
def test_rule_6_nothing_falls_unless_the_feed_is_fresh(
    answer, market, candidate, served, t0, mode_at
) -> None:
    mode, bars = mode_at
    now_s = t0 + bars * 3600
    high = (0.9, 0.5, 0.9, 0.5)
    low = candidate((0.1, 0.05, 0.1, 0.05), made_at_s=now_s)
    decision = answer(low, now_s=now_s, seen=market(t0), state=served(high, now_s - 1800))
    assert (decision.mode, decision.served_rates) == (mode, high)


@pytest.mark.parametrize(
    ("bars", "rung"),
    [(500, "champion"), (499, "rules"), (250, "rules"), (249, "static"), (0, "static"), (None, "static")],
)
def test_rule_9_warm_up_is_for_the_rules_rung_then_static(answer, market, candidate, bars, rung) -> None:
    assert answer(candidate(GOOD), candidate(GOOD, "rules"), seen=market(bars=bars)).rung == rung


def test_a_silent_feed_keeps_its_rules_forecast_until_it_is_dead(answer, market, candidate, t0) -> None:
    rules = candidate(GOOD, "rules", valid_until_s=t0 + 1e6)
    for bars, rung in ((5.9, "rules"), (6.0, "rules"), (6.2, "static")):
        assert answer(rules, now_s=t0 + bars * 3600, seen=market(t0)).rung == rung


def test_traces_name_the_rule_and_say_why(answer, market, candidate, served, t0) -> None:
    late = answer(candidate(GOOD), now_s=t0 + 7260, seen=market(t0 + 7260))
    assert [(t.rule, t.why) for t in late.traces] == [
        (5, "champion refused: it expired 60 s ago"),
        (0, "static answers; no forecast by last_good, rules"),
    ]
    stale = answer(candidate(GOOD, made_at_s=t0 + 9000), now_s=t0 + 9000, seen=market(t0))
    assert [(t.rule, t.why) for t in stale.traces][:2] == [
        (6, "the feed is stale: the newest bar is 2.50 bars old"),
        (6, "champion refused: the feed is stale"),
    ]
    few = answer(candidate(GOOD), candidate(GOOD, "rules"), seen=market(bars=7))
    assert [(t.rule, t.why) for t in few.traces][:2] == [
        (9, "champion refused: 7 bars of history, a model needs 500"),
        (9, "rules refused: 7 bars of history, the rules rung needs 250"),
    ]
    bad = market(base_rates="none")
    assert answer(seen=bad).traces[0].why == "base rates 'none' are not usable; there are none to stand in"
    assert answer(seen=bad, state=served(GOOD)).traces[0].why.endswith("; the last usable ones stand in")


def test_rule_1_five_values_and_a_rung_in_the_wrong_place_are_refused(answer, market, candidate) -> None:
    five = candidate((*GOOD, 0.1))
    assert answer(five).traces[0].why.startswith("champion refused: requirement has to be 4 numbers")
    given = Candidates(rules=candidate(GOOD, "champion"))
    decision, _ = decide(given, market(), Limits(), Overrides(), EngineState(), market().last_close_s)
    assert decision.traces[0].why == "rules refused: it says it is the 'champion' rung"


@pytest.mark.parametrize(
    ("base", "usable"),
    [
        ((0.10, 0.05, 0.04, 0.05), False),
        ((0.04, 0.05, 0.10, 0.05), False),
        ((0.05, 0.05, 0.05, 0.05), True),
        ((0.04, 0.02, 0.20, 0.15), True),  # a side is compared with itself alone
        ((0.20, 0.15, 0.04, 0.02), True),
        ((0.30, 0.08, 0.10, 0.09), True),
        ((0.20, 0.10, 0.50, 0.20), True),
        ((0.20, 0.10, 0.10, 0.20), False),
    ],
)
def test_rule_1_the_base_rates_of_each_side_are_in_order(answer, market, candidate, base, usable) -> None:
    assert (answer(candidate(GOOD), seen=market(base_rates=base)).rung == "champion") == usable


@pytest.mark.parametrize(
    ("ahead_s", "mode"), [(0, "fresh"), (360, "fresh"), (361, "degraded"), (7200, "degraded")]
)
def test_rule_6_a_bar_ahead_of_the_clock_degrades(answer, market, candidate, t0, ahead_s, mode) -> None:
    decision = answer(candidate(GOOD, made_at_s=t0 + ahead_s), seen=market(t0 + ahead_s))
    assert (decision.mode, decision.rung) == (mode, "champion")
    if ahead_s == 7200:
        assert decision.traces[0].why == (
            "the feed is degraded: the newest bar is 2.00 bars ahead of the clock"
        )


@pytest.mark.parametrize(
    ("age_s", "mode", "why"),
    [
        (0, "degraded", "the clock jumped back by 60 s"),
        (5000, "degraded", "the clock jumped back by 60 s"),
        (9000, "stale", "the newest bar is 2.50 bars old"),
        (36000, "dead", "the newest bar is 10.00 bars old"),
    ],
)
def test_rule_6_of_a_clock_and_a_feed_the_worse_counts(
    answer, market, candidate, served, t0, age_s, mode, why
) -> None:
    state = served(GOOD, t0 + 60)
    decision = answer(candidate(GOOD), now_s=t0, state=state, seen=market(t0 - age_s))
    assert (decision.mode, decision.traces[0].why) == (mode, f"the feed is {mode}: {why}")


def test_rule_9_a_number_of_bars_that_is_none_is_0(answer, market, candidate) -> None:
    none, one = (Limits(model_warm_up_bars=n, rules_warm_up_bars=n) for n in (0, 1))
    assert answer(candidate(GOOD), seen=market(bars=None), limits=none).rung == "champion"
    assert answer(candidate(GOOD), seen=market(bars=None), limits=one).rung == "static"


def test_a_clock_that_jumps_back_takes_the_whole_memory_along(step, candidate, t0) -> None:
    state = None
    for second in (0, 900, 1800):
        now_s = t0 + second
        _, state = step(candidate(GOOD, made_at_s=now_s), now_s=now_s, state=state)
    _, state = step(candidate(GOOD, made_at_s=t0 + 1800), now_s=t0 + 1300, state=state)
    assert [s.time_s - t0 for s in state.served] == [-500, 400, 1300, 1300]
    assert [o.time_s - t0 for o in state.open] == [-500, 400, 1300]


def test_without_a_clock_time_stands_where_it_was_last(answer, candidate, market, t0) -> None:
    served = (Served(t0 - 900, GOOD, None), Served(t0, GOOD, None))
    state = EngineState(served=served, rates=GOOD, rung="champion", mode="fresh")
    assert answer(candidate(GOOD), now_s=None, state=state, seen=market(t0)).decided_at_s == t0
    assert answer(candidate(GOOD), now_s=None, seen=market(t0)).decided_at_s == 0.0


@pytest.mark.parametrize(
    ("interval_s", "mode"),
    [
        (86400.0, "fresh"),
        (math.nextafter(86400.0, 1e6), "dead"),
        (0.5, "fresh"),
        (-60.0, "dead"),
        (0.0, "dead"),
    ],
)
def test_rule_6_a_bar_lasts_a_day_at_most(answer, market, candidate, interval_s, mode) -> None:
    assert answer(candidate(GOOD), seen=market(interval_s=interval_s)).mode == mode
