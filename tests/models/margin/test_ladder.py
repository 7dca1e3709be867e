"""Each of the five rungs, and the steps between them."""

import pytest

from models.margin.engine import decide
from models.margin.types import Candidates, Overrides

GOOD = (0.20, 0.10, 0.20, 0.10)
HIGHER = (0.30, 0.15, 0.30, 0.15)


def test_champion(answer, candidate) -> None:
    decision = answer(candidate(GOOD), candidate(HIGHER, "last_good"), candidate(HIGHER, "rules"))
    assert decision.rung == "champion"
    assert decision.served_rates == decision.required_rates == GOOD
    assert decision.multipliers == (2.0, 2.0, 2.0, 2.0)
    assert decision.model_version == "v1"
    assert decision.traces == ()


def test_last_good_moves_upwards_only(answer, candidate, served, t0) -> None:
    now_s = t0 + 3600
    last_good = candidate((0.22, 0.05, 0.22, 0.12), "last_good")
    decision = answer(last_good, now_s=now_s, state=served(GOOD))
    assert decision.rung == "last_good"
    assert decision.required_rates == (0.22, 0.05, 0.22, 0.12)
    assert decision.served_rates == (0.22, 0.10, 0.22, 0.12)
    assert [(t.rule, t.side, t.kind, t.before, t.after, t.why) for t in decision.traces] == [
        (0, "long", "maintenance", 0.05, 0.10, "a last good model lowers nothing"),
        (0, None, None, None, None, "last_good answers; no forecast by champion"),
    ]


def test_last_good_ends_with_its_forecast(answer, candidate, served, t0) -> None:
    decision = answer(candidate(GOOD, "last_good"), now_s=t0 + 7201, state=served(GOOD))
    assert decision.rung == "static"


def test_rules(answer, candidate) -> None:
    decision = answer(candidate(GOOD, "rules", model_version=""))
    assert decision.rung == "rules"
    assert decision.served_rates == GOOD
    assert [(t.rule, t.why) for t in decision.traces] == [
        (0, "rules answers; no forecast by champion, last_good")
    ]


def test_static_is_base_times_stress_factor(answer) -> None:
    decision = answer()
    assert decision.rung == "static"
    assert decision.served_rates == (0.20, 0.10, 0.20, 0.10)
    assert decision.multipliers == (2.0, 2.0, 2.0, 2.0)
    assert decision.var is None


def test_cap_is_the_most_that_rule_3_allows(answer, market) -> None:
    decision = answer(seen=market(known_symbol=False))
    assert decision.rung == "cap"
    assert decision.served_rates == (1.0, 0.5, 1.0, 0.5)
    assert decision.traces[-1].why == "cap answers; no forecast by champion, last_good, rules"


@pytest.mark.parametrize("rung", ["last_good", "rules"])
def test_a_step_down_the_ladder_lowers_nothing_and_the_next_decision_may(
    candidate, served, market, steps_alone, t0, rung
) -> None:
    low = (0.10, 0.05, 0.10, 0.05)
    bad = candidate((float("nan"),) * 4, made_at_s=t0 + 3600)
    spare = candidate(low, rung, made_at_s=t0 + 3600)
    given = Candidates(champion=bad, **{rung: spare})
    first, state = decide(given, market(t0 + 3600), steps_alone, Overrides(), served(GOOD), t0 + 3600)
    assert (first.rung, first.served_rates) == (rung, GOOD)
    second, _ = decide(given, market(t0 + 7200), steps_alone, Overrides(), state, t0 + 7200)
    # last_good never falls; the rules rung falls by 5 % an hour.
    expected = {"last_good": GOOD, "rules": (0.19, 0.095, 0.19, 0.095)}[rung]
    assert second.served_rates == pytest.approx(expected, rel=1e-12)


def test_a_step_up_the_ladder_follows_the_better_rung(answer, candidate, served, steps_alone, t0) -> None:
    state = served(GOOD, rung="static")
    low = candidate((0.1, 0.05, 0.1, 0.05), made_at_s=t0 + 3600)
    decision = answer(low, now_s=t0 + 3600, state=state, limits=steps_alone)
    assert decision.rung == "champion"
    assert decision.served_rates == pytest.approx((0.19, 0.095, 0.19, 0.095), rel=1e-12)


def test_validity_of_the_answer(answer, candidate, market, t0) -> None:
    assert answer(candidate(GOOD), now_s=t0 + 600).valid_until_s == t0 + 7200
    assert answer(candidate(GOOD, "rules"), now_s=t0 + 600).valid_until_s == t0 + 600 + 7200
    assert answer(now_s=t0, seen=market(interval_s=60.0)).valid_until_s == t0 + 900
    assert answer(now_s=t0, seen=market(interval_s=None)).valid_until_s == t0 + 900
