"""Rule 4: a model outside half to twice what the rules engine requires takes the nearer edge, and is struck
in time. The rules engine requires 20 % and 10 %, so the band is 10 % to 40 % and 5 % to 20 %.
"""

import math

import pytest

from models.margin.limits import Limits

NEED = (0.20, 0.10, 0.20, 0.10)
ABOVE = (0.90, 0.10, 0.20, 0.10)
HOUR = 3600.0


def alerts(decision) -> list[str]:
    return [t.why for t in decision.traces if t.rule == 4]


def test_the_edges_lie_inside(answer, candidate) -> None:
    edges = (0.40, 0.20, 0.10, 0.05)
    decision = answer(candidate(edges), candidate(NEED, "rules"))
    assert (decision.served_rates, decision.traces) == (edges, ())


@pytest.mark.parametrize(
    ("asks", "edge", "factor"),
    [
        (math.nextafter(0.40, 1), 0.40, "2"),
        (math.nextafter(0.10, 0), 0.10, "0.5"),
        (9.0, 0.40, "2"),
        (1e-9, 0.10, "0.5"),
    ],
)
def test_one_bit_beyond_takes_the_nearer_edge_with_an_alert(answer, candidate, asks, edge, factor) -> None:
    decision = answer(candidate((0.20, 0.10, asks, 0.06)), candidate(NEED, "rules"))
    assert decision.served_rates == (0.20, 0.10, edge, 0.06)
    assert decision.required_rates[2] == asks
    [trace] = decision.traces
    assert (trace.rule, trace.side, trace.kind, trace.before, trace.after) == (
        4,
        "short",
        "initial",
        asks,
        edge,
    )
    assert trace.why == f"ALERT: held at {factor} times what the rules engine requires"


def test_without_a_rules_engine_that_stands_there_is_no_band(answer, candidate) -> None:
    assert answer(candidate(ABOVE)).served_rates == ABOVE
    broken = candidate((math.nan, 0.1, 0.2, 0.1), "rules")
    assert answer(candidate(ABOVE), broken).served_rates == ABOVE


def test_the_rules_rung_is_not_held_to_itself(answer, candidate) -> None:
    decision = answer(candidate(ABOVE, "rules"))
    assert decision.served_rates == ABOVE
    assert alerts(decision) == []


def test_on_the_third_bar_in_a_row_the_next_rung_answers(step, candidate, t0) -> None:
    state, seen = None, []
    for hour in range(5):
        now_s = t0 + HOUR * hour
        given = candidate(ABOVE, made_at_s=now_s), candidate(NEED, "rules", made_at_s=now_s)
        decision, state = step(*given, now_s=now_s, state=state)
        seen.append((decision.rung, state.out_of_band))
    assert seen == [
        ("champion", (1, t0)),
        ("champion", (2, t0 + HOUR)),
        ("rules", (3, t0 + 2 * HOUR)),
        ("rules", (4, t0 + 3 * HOUR)),
        ("rules", (5, t0 + 4 * HOUR)),
    ]
    assert alerts(decision) == [
        "champion refused: ALERT: far outside the band against the rules engine on 5 bars in a row"
    ]
    # It comes back with the first forecast inside the band.
    now_s = t0 + 5 * HOUR
    given = candidate(NEED, made_at_s=now_s), candidate(NEED, "rules", made_at_s=now_s)
    decision, state = step(*given, now_s=now_s, state=state)
    assert (decision.rung, state.out_of_band[0]) == ("champion", 0)
    # And begins to count at one again.
    now_s = t0 + 6 * HOUR
    given = candidate(ABOVE, made_at_s=now_s), candidate(NEED, "rules", made_at_s=now_s)
    _, state = step(*given, now_s=now_s, state=state)
    assert state.out_of_band == (1, now_s)


def test_bars_are_counted_and_not_decisions(step, candidate, market, t0) -> None:
    state = None
    for minute in range(20):
        now_s = t0 + 60 * minute
        given = candidate(ABOVE), candidate(NEED, "rules")
        decision, state = step(*given, now_s=now_s, state=state, seen=market(t0))
    assert (decision.rung, state.out_of_band) == ("champion", (1, t0))


def test_a_bar_that_cannot_be_dated_counts_by_the_clock(step, candidate, market, served, t0) -> None:
    # Without a bar the feed is dead and no model stands: nothing is judged, and nothing is forgotten.
    state = served(NEED, out_of_band=(2, t0))
    given = candidate(ABOVE, made_at_s=t0 + 60), candidate(NEED, "rules", made_at_s=t0 + 60)
    decision, after = step(*given, now_s=t0 + 60, state=state, seen=market(last_close_s=None))
    assert (decision.rung, after.out_of_band) == ("static", (2, t0))


def test_the_number_of_strikes_is_a_limit(answer, candidate) -> None:
    given = candidate(ABOVE), candidate(NEED, "rules")
    assert answer(*given, limits=Limits(band_strikes=1)).rung == "rules"
    assert answer(*given, limits=Limits(band_strikes=2)).rung == "champion"


def test_the_last_good_model_is_judged_too(step, candidate, served, t0) -> None:
    given = candidate(ABOVE, "last_good"), candidate(NEED, "rules")
    decision, state = step(*given, now_s=t0 + 60, state=served((0.30, 0.10, 0.20, 0.10), rung="last_good"))
    assert (decision.rung, state.out_of_band) == ("last_good", (1, t0 + 60))
    assert decision.rules(0) == ("band against the rules engine", "step limits")
    struck = served(NEED, out_of_band=(2, t0))
    assert step(*given, now_s=t0 + 60, state=struck)[0].rung == "rules"


def test_a_last_good_model_inside_the_band_forgives_the_champion_nothing(step, candidate, served, t0) -> None:
    given = candidate(NEED, "last_good"), candidate(NEED, "rules")
    _, state = step(*given, now_s=t0 + 60, state=served(NEED, out_of_band=(2, t0)))
    assert state.out_of_band == (2, t0)


@pytest.mark.parametrize("asks", [NEED, (0.50, 0.30, 0.20, 0.10)], ids=["inside", "above"])
def test_the_band_lowers_nothing_that_last_good_keeps_up(answer, candidate, served, t0, asks) -> None:
    in_force = (0.90, 0.45, 0.20, 0.10)
    now_s = t0 + HOUR
    given = candidate(asks, "last_good", made_at_s=now_s), candidate(NEED, "rules", made_at_s=now_s)
    decision = answer(*given, now_s=now_s, state=served(in_force, rung="last_good"))
    assert (decision.rung, decision.served_rates) == ("last_good", in_force)


def test_a_struck_champion_leaves_the_count_to_the_last_good_model(step, candidate, served, t0) -> None:
    given = candidate(ABOVE), candidate(NEED, "last_good"), candidate(NEED, "rules")
    decision, state = step(*given, now_s=t0 + 60, state=served(NEED, out_of_band=(2, t0)))
    assert (decision.rung, state.out_of_band) == ("last_good", (3, t0 + 60))


def test_outside_but_not_far_takes_the_edge_forever_and_counts_nothing(step, candidate, t0) -> None:
    state = None
    outside = (math.nextafter(0.40, 1), 0.10, 0.20, 0.10)
    for hour in range(10):
        now_s = t0 + HOUR * hour
        given = candidate(outside, made_at_s=now_s), candidate(NEED, "rules", made_at_s=now_s)
        decision, state = step(*given, now_s=now_s, state=state)
        assert (decision.rung, decision.served_rates[0], state.out_of_band[0]) == ("champion", 0.40, 0)


@pytest.mark.parametrize(("factor", "counts"), [(1.0, 1), (1.24, 1), (1.26, 0), (2.0, 0)])
def test_how_far_out_counts_is_a_limit(step, candidate, factor, counts) -> None:
    # The edge is 0.40, and 0.50 lies 1.25 times beyond.
    limits = Limits(band_strike_factor=factor)
    _, state = step(candidate((0.50, 0.10, 0.20, 0.10)), candidate(NEED, "rules"), limits=limits)
    assert state.out_of_band[0] == counts
    _, state = step(candidate((0.08, 0.08, 0.20, 0.10)), candidate(NEED, "rules"), limits=limits)
    assert state.out_of_band[0] == counts  # the edge is 0.10, and 0.08 lies 1.25 times below


@pytest.mark.parametrize(
    ("asks", "count"),
    [
        (0.80, 0),  # twice the upper edge
        (math.nextafter(0.80, 1), 1),
        (0.05, 0),  # half the lower edge
        (math.nextafter(0.05, 0), 1),
    ],
)
def test_only_what_lies_far_outside_is_a_strike(step, candidate, asks, count) -> None:
    decision, state = step(candidate((asks, 0.05, 0.20, 0.10)), candidate(NEED, "rules"))
    assert state.out_of_band[0] == count
    assert len(alerts(decision)) == 1


def test_a_champion_near_the_band_begins_anew_and_a_last_good_model_does_not(
    step, candidate, served, t0
) -> None:
    near, state = (0.50, 0.10, 0.20, 0.10), served(NEED, out_of_band=(2, t0 - HOUR))
    _, after = step(candidate(near), candidate(NEED, "rules"), now_s=t0 + 60, state=state)
    assert after.out_of_band == (0, t0 - HOUR)
    _, after = step(candidate(near, "last_good"), candidate(NEED, "rules"), now_s=t0 + 60, state=state)
    assert after.out_of_band == (2, t0 - HOUR)


def test_a_bar_that_was_forgiven_counts_if_the_model_leaves_the_band_on_it(
    step, candidate, served, t0
) -> None:
    state = served(NEED, out_of_band=(0, t0 + 60))
    _, after = step(candidate(ABOVE), candidate(NEED, "rules"), now_s=t0 + 60, state=state)
    assert after.out_of_band == (1, t0 + 60)


def test_a_bar_older_than_the_last_one_counted_is_not_another_bar(step, candidate, served, t0) -> None:
    state = served(NEED, out_of_band=(1, t0 + HOUR))
    _, after = step(candidate(ABOVE), candidate(NEED, "rules"), now_s=t0 + 60, state=state)
    assert after.out_of_band == (1, t0 + 60)


def test_values_on_the_edges_beside_one_outside_are_not_held(answer, candidate) -> None:
    decision = answer(candidate((0.50, 0.20, 0.10, 0.05)), candidate(NEED, "rules"))
    assert [(t.side, t.kind) for t in decision.traces] == [("long", "initial")]
    decision = answer(candidate((0.40, 0.20, 0.50, 0.05)), candidate(NEED, "rules"))
    assert [(t.side, t.kind) for t in decision.traces] == [("short", "initial")]
