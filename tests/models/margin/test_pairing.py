"""Rule 16: whole or not at all."""

import pytest

from models.margin.limits import Limits

OLD = (0.20, 0.10, 0.13, 0.13)
CROSSED = (0.30, 0.15, 0.15, 0.16)  # the short's initial lies below its maintenance


def test_the_old_decision_stands_as_a_whole_until_it_expires(
    answer, candidate, served, steps_alone, t0
) -> None:
    crossed = candidate(CROSSED, made_at_s=t0 + 3600)
    rules = candidate((0.24, 0.12, 0.24, 0.12), "rules", made_at_s=t0 + 3600)
    state = served(OLD, rung="last_good", model_version="v0")
    decision = answer(crossed, rules, now_s=t0 + 3600, state=state, limits=steps_alone)
    assert decision.served_rates == OLD
    assert (decision.rung, decision.model_version) == ("last_good", "v0")
    assert decision.valid_until_s == t0 + 7200  # not extended
    why = [t.why for t in decision.traces if t.rule == 16]
    assert len(why) == 4
    assert "champion puts short initial" in why[0]


def test_then_the_next_rung_answers_as_a_whole(answer, candidate, served, steps_alone, t0) -> None:
    now_s = t0 + 7201
    crossed = candidate(CROSSED, made_at_s=now_s)
    rules = candidate((0.24, 0.12, 0.24, 0.12), "rules", made_at_s=now_s)
    decision = answer(crossed, rules, now_s=now_s, state=served(OLD), limits=steps_alone)
    # The last value does not fall to 0.12: the answer stepped down the ladder.
    assert (decision.rung, decision.served_rates) == ("rules", (0.24, 0.12, 0.24, 0.13))


def test_without_an_old_decision_the_next_rung_answers(answer, candidate) -> None:
    decision = answer(candidate(CROSSED), candidate(CROSSED, "last_good"), candidate(CROSSED, "rules"))
    assert decision.rung == "static"
    assert [t.why.split(" refused")[0] for t in decision.traces if t.rule == 16] == [
        "champion",
        "last_good",
        "rules",
    ]


def test_a_rung_that_is_refused_meets_no_later_rule(answer, candidate) -> None:
    decision = answer(candidate((0.001, 0.002, 9.0, 9.1)))
    assert [t.rule for t in decision.traces] == [16, 0]


def test_the_words_name_side_and_rates(answer, candidate) -> None:
    long = answer(candidate((0.10, 0.20, 0.30, 0.10))).traces[0]
    assert long.why == "champion refused: champion puts long initial 0.1 below maintenance 0.2"
    short = answer(candidate((0.40, 0.20, 0.30, 0.50))).traces[0]
    assert short.why == "champion refused: champion puts short initial 0.3 below maintenance 0.5"


def test_the_old_decision_stands_in_its_last_second(answer, candidate, served, t0) -> None:
    crossed = candidate(CROSSED, made_at_s=t0 + 7200)
    for now_s, rung in ((t0 + 7200, "champion"), (t0 + 7200.5, "static")):
        decision = answer(
            crossed, now_s=now_s, state=served(OLD), limits=Limits(up_limit_1h=0.6, up_limit_24h=0.6)
        )
        assert decision.rung == rung


def test_a_crossed_rules_forecast_does_not_part_the_pair_of_the_model(answer, candidate, served, t0) -> None:
    # Rule 10 holds nothing below the rules engine's need: 0.18 for maintenance must lift initial too.
    rules = candidate((0.10, 0.18, 0.10, 0.05), "rules")
    model = candidate((0.80, 0.40, 0.80, 0.40))
    # Or rule 4 would hold the short at twice 10 % and 5 %.
    wide = Limits(band_low=0.001, band_high=1000.0, up_limit_1h=0.25, up_limit_24h=0.60)
    decision = answer(model, rules, now_s=t0 + 60, state=served((0.11, 0.10, 0.20, 0.10)), limits=wide)
    assert decision.rung == "champion"
    assert decision.served_rates == pytest.approx((0.18, 0.18, 0.25, 0.125), rel=1e-12)


def test_what_is_checked_is_the_clamped_whole(answer, candidate, served, steps_alone, t0) -> None:
    # The requirement is crossed on the short side; the steps of rule 10 leave 0.19 and 0.125, in order.
    state = served((0.20, 0.10, 0.20, 0.10))
    decision = answer(candidate(CROSSED), now_s=t0 + 3600, state=state, limits=steps_alone)
    assert decision.rung == "champion"
    assert decision.served_rates == pytest.approx((0.25, 0.125, 0.19, 0.125), rel=1e-12)


def test_a_crossed_memory_is_not_served_on(answer, candidate, served, t0) -> None:
    """No decision writes such a memory; a hand that does must not break the next answer."""
    decision = answer(
        candidate((0.20, 0.10, 0.20, 0.10)), now_s=t0 + 60, state=served((0.10, 0.30, 0.20, 0.10))
    )
    assert decision.rung == "cap"
    assert decision.served_rates == (1.0, 0.5, 1.0, 0.5)
