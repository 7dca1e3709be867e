"""Rule 8: uncertainty costs margin. The surcharge is a half at no confidence."""

import math

import pytest

from models.margin.limits import Limits

ASKS = (0.20, 0.10, 0.40, 0.08)


@pytest.mark.parametrize("rung", ["champion", "last_good"])
@pytest.mark.parametrize(
    ("confidence", "factor"),
    [(1.0, 1.0), (0.75, 1.125), (0.5, 1.25), (0.0, 1.5), (1, 1.0), (0, 1.5), (7.0, 1.0), (-7.0, 1.5)],
)
def test_a_model_pays_for_its_doubt(answer, candidate, rung, confidence, factor) -> None:
    decision = answer(candidate(ASKS, rung, confidence=confidence))
    assert decision.served_rates == pytest.approx([factor * a for a in ASKS], rel=1e-15)
    assert decision.required_rates == ASKS


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, None, "high", (1.0,), False])
def test_a_confidence_that_is_no_number_is_none(answer, candidate, junk) -> None:
    decision = answer(candidate(ASKS, confidence=junk))
    assert decision.served_rates == pytest.approx([1.5 * a for a in ASKS], rel=1e-15)


def test_the_trace_says_how_much_and_why(answer, candidate) -> None:
    decision = answer(candidate(ASKS, confidence=0.75))
    assert len(decision.traces) == 4
    trace = decision.traces[2]
    assert (trace.rule, trace.side, trace.kind, trace.before) == (8, "short", "initial", 0.40)
    assert trace.after == pytest.approx(0.45, rel=1e-15)
    assert trace.why == "12.5% more, since the forecast's confidence is 0.75"


def test_a_doubt_below_rounding_leaves_no_trace(answer, candidate) -> None:
    assert answer(candidate(ASKS, confidence=math.nextafter(1.0, 0))).traces == ()
    assert answer(candidate(ASKS, confidence=0.0), limits=Limits(uncertainty_surcharge=0.0)).traces == ()


def test_the_rules_rung_has_no_such_doubt(answer, candidate) -> None:
    assert answer(candidate(ASKS, "rules", confidence=0.0)).served_rates == ASKS


def test_the_surcharge_comes_on_top_of_the_band(answer, candidate) -> None:
    given = candidate((0.90, 0.10, 0.20, 0.10), confidence=0.0), candidate((0.20, 0.10, 0.20, 0.10), "rules")
    assert answer(*given).served_rates == pytest.approx((0.60, 0.15, 0.30, 0.15), rel=1e-15)


def test_the_surcharge_keeps_to_the_steps(answer, candidate, served, t0) -> None:
    doubtful = candidate((0.20, 0.10, 0.20, 0.10), confidence=0.0)
    decision = answer(doubtful, now_s=t0 + 60, state=served((0.20, 0.10, 0.20, 0.10)))
    assert decision.served_rates == pytest.approx((0.25, 0.125, 0.25, 0.125), rel=1e-12)


def test_a_huge_requirement_does_not_become_infinite(answer, candidate) -> None:
    decision = answer(candidate((1.5e308, 1.5e308, 0.2, 0.1), confidence=0.0))
    assert decision.served_rates == pytest.approx((1.0, 0.5, 0.3, 0.15), rel=1e-15)
    assert all(math.isfinite(t.before) and math.isfinite(t.after) for t in decision.traces)
