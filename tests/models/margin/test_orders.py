"""Rule 17: what people ordered. Base rates are 10 % and 5 %, so the static rung is 20 % and 10 %."""

import pytest

from models.margin.limits import Limits
from models.margin.overrides import Override, OverrideError, Overrides

NOW = (0.24, 0.12, 0.24, 0.12)
HIGH = (0.90, 0.45, 0.90, 0.45)
LOW = (0.10, 0.05, 0.10, 0.05)
HOUR = 3600.0


@pytest.fixture
def orders(t0):
    """Orders that stand at ``t0`` and for an hour, from their kinds: ``("floor", 2.0)``, ``("kill",)``."""

    def make(*given, expires_s=t0 + HOUR):
        return Overrides(
            tuple(
                Override(
                    f"{kind}-{i}",
                    kind,
                    "as the desk asks",
                    expires_s,
                    multiplier=rest[0] if kind in ("floor", "cap") else None,
                    rung=rest[0] if kind == "rung" else None,
                )
                for i, (kind, *rest) in enumerate(given)
            )
        )

    return make


def whys(decision) -> list[tuple[str | None, str | None, str]]:
    return [(t.side, t.kind, t.why) for t in decision.traces if t.rule == 17]


@pytest.mark.parametrize(("late_s", "stands"), [(-1, True), (0, False), (1, False)])
def test_an_order_stands_until_it_expires(answer, candidate, orders, t0, late_s, stands) -> None:
    decision = answer(candidate(LOW), now_s=t0, overrides=orders(("floor", 4.0), expires_s=t0 - late_s))
    assert decision.served_rates == ((0.40, 0.20, 0.40, 0.20) if stands else LOW)


def test_a_freeze_keeps_what_is_in_force(answer, candidate, served, orders, t0) -> None:
    for asks in (HIGH, LOW):
        given = candidate(asks, made_at_s=t0 + HOUR - 1)
        decision = answer(given, now_s=t0 + HOUR - 1, state=served(NOW), overrides=orders(("freeze",)))
        assert (decision.rung, decision.served_rates) == ("champion", NOW)
        assert whys(decision) == [
            (side, kind, "frozen by freeze-0: as the desk asks")
            for side in ("long", "short")
            for kind in ("initial", "maintenance")
        ]


def test_a_contract_that_has_no_rate_cannot_be_frozen(answer, candidate, orders) -> None:
    decision = answer(candidate(HIGH), overrides=orders(("freeze",)))
    assert (decision.served_rates, decision.traces) == (HIGH, ())


def test_a_freeze_holds_even_over_the_circuit_breaker(answer, candidate, market, served, orders, t0) -> None:
    seen = market(t0 + 60, last_return=-0.5, extreme_losses=(0.1, 0.1))
    frozen = orders(("freeze",))
    decision = answer(candidate(HIGH), now_s=t0 + 60, state=served(NOW), seen=seen, overrides=frozen)
    assert decision.served_rates == NOW


def test_floor_and_cap_are_multiples_of_the_base(answer, candidate, orders) -> None:
    mixed = (0.90, 0.05, 0.10, 0.05)
    decision = answer(candidate(mixed), overrides=orders(("floor", 2.0), ("cap", 4.0)))
    assert decision.served_rates == (0.40, 0.10, 0.20, 0.10)
    assert whys(decision) == [
        ("long", "maintenance", "floor of 2 times the base rate by floor-0: as the desk asks"),
        ("short", "initial", "floor of 2 times the base rate by floor-0: as the desk asks"),
        ("short", "maintenance", "floor of 2 times the base rate by floor-0: as the desk asks"),
        ("long", "initial", "cap of 4 times the base rate by cap-1: as the desk asks"),
    ]
    inside = answer(candidate((0.40, 0.20, 0.20, 0.10)), overrides=orders(("floor", 2.0), ("cap", 4.0)))
    assert inside.traces == ()


def test_of_several_the_tightest_counts_and_a_cap_wins_over_a_floor(answer, candidate, orders) -> None:
    many = orders(("floor", 1.5), ("floor", 3.0), ("cap", 8.0), ("cap", 5.0), ("floor", 2.0))
    assert answer(candidate(LOW), overrides=many).served_rates == pytest.approx((0.30, 0.15, 0.30, 0.15))
    assert answer(candidate(HIGH), overrides=many).served_rates == (0.50, 0.25, 0.50, 0.25)
    crossed = orders(("floor", 4.0), ("cap", 2.0))
    assert answer(candidate(LOW), overrides=crossed).served_rates == (0.20, 0.10, 0.20, 0.10)


def test_a_cap_lowers_at_once_and_a_floor_raises_at_once(answer, candidate, served, orders, t0) -> None:
    capped = answer(candidate(NOW), now_s=t0 + 1, state=served(HIGH), overrides=orders(("cap", 1.0)))
    assert capped.served_rates == LOW
    raised = answer(candidate(NOW), now_s=t0 + 1, state=served(LOW), overrides=orders(("floor", 8.0)))
    assert raised.served_rates == (0.80, 0.40, 0.80, 0.40)


def test_floor_and_cap_bound_a_freeze(answer, candidate, served, orders, t0) -> None:
    both = orders(("freeze",), ("floor", 3.0))
    decision = answer(candidate(HIGH), now_s=t0 + 1, state=served(NOW), overrides=both)
    assert decision.served_rates == pytest.approx((0.30, 0.15, 0.30, 0.15))


def test_rules_2_and_3_bound_every_order(answer, candidate, orders) -> None:
    low = answer(candidate(NOW), overrides=orders(("cap", 0.1)))
    assert low.served_rates == pytest.approx((0.06, 0.03, 0.06, 0.03))
    high = answer(candidate(NOW), overrides=orders(("floor", 900.0)))
    assert high.served_rates == (1.0, 0.5, 1.0, 0.5)


@pytest.mark.parametrize("rung", ["last_good", "rules", "static", "cap"])
def test_a_forced_rung_strikes_what_is_better(answer, candidate, orders, rung) -> None:
    given = candidate(NOW), candidate(NOW, "last_good"), candidate(NOW, "rules")
    decision = answer(*given, overrides=orders(("rung", rung)))
    assert decision.rung == rung
    struck = ["champion", "last_good", "rules", "static"]
    struck = struck[: struck.index(rung)] if rung in struck else struck
    assert whys(decision) == [(None, None, f"{', '.join(struck)} refused: override rung-0: as the desk asks")]


def test_a_forced_rung_that_is_absent_leaves_the_next_one(answer, candidate, orders) -> None:
    assert answer(candidate(NOW), overrides=orders(("rung", "last_good"))).rung == "static"


def test_a_forced_rung_keeps_to_the_path(answer, candidate, served, orders, t0) -> None:
    forced = orders(("rung", "static"))
    decision = answer(candidate(NOW), now_s=t0 + 60, state=served(LOW), overrides=forced)
    assert decision.served_rates == pytest.approx((0.125, 0.0625, 0.125, 0.0625))
    # And lowers nothing at the step down the ladder.
    decision = answer(candidate(HIGH), now_s=t0 + HOUR - 1, state=served(HIGH), overrides=forced)
    assert decision.served_rates == HIGH


def test_of_two_forced_rungs_the_lower_counts(answer, candidate, orders) -> None:
    given = candidate(NOW), candidate(NOW, "rules")
    assert answer(*given, overrides=orders(("rung", "static"), ("rung", "rules"))).rung == "static"


@pytest.mark.parametrize("in_force", [HIGH, LOW], ids=["down", "up"])
def test_the_kill_switch_serves_the_static_rates_at_once(
    answer, candidate, served, orders, t0, in_force
) -> None:
    given = candidate(HIGH), candidate(HIGH, "last_good"), candidate(HIGH, "rules")
    decision = answer(*given, now_s=t0 + 1, state=served(in_force), overrides=orders(("kill",)))
    assert (decision.rung, decision.served_rates) == ("static", (0.20, 0.10, 0.20, 0.10))
    assert decision.model_version == ""
    assert whys(decision) == [
        (None, None, "champion, last_good, rules refused: kill switch kill-0: as the desk asks"),
        *[
            (side, kind, "kill switch kill-0: as the desk asks")
            for side in ("long", "short")
            for kind in ("initial", "maintenance")
        ],
    ]


def test_the_kill_switch_wins_over_every_other_order_and_the_path(
    answer, candidate, market, served, orders, t0
) -> None:
    seen = market(t0 + 60, last_return=-0.5, extreme_losses=(0.1, 0.1), stressed_rates=(0.9, 0.4, 0.9, 0.4))
    others = orders(("freeze",), ("floor", 6.0), ("cap", 1.0), ("rung", "rules"), ("kill",))
    decision = answer(
        candidate(HIGH), now_s=t0 + 60, state=served(HIGH, mode="dead"), seen=seen, overrides=others
    )
    assert (decision.rung, decision.served_rates) == ("static", (0.20, 0.10, 0.20, 0.10))


def test_a_rung_forced_below_static_stays_under_the_kill_switch(answer, candidate, orders) -> None:
    decision = answer(candidate(NOW), overrides=orders(("rung", "cap"), ("kill",)))
    assert (decision.rung, decision.served_rates) == ("cap", (1.0, 0.5, 1.0, 0.5))


def test_the_static_rung_is_never_below_the_floor(answer, market, orders) -> None:
    # Half of a long-run VaR of 60 % and 30 % is more than twice the base rate.
    seen = market(long_run_var=(0.60, 0.30, 0.20, 0.10))
    decision = answer(seen=seen, overrides=orders(("kill",)))
    assert decision.required_rates == decision.served_rates == (0.30, 0.15, 0.20, 0.10)
    assert [t for t in decision.traces if t.rule == 2] == []


def test_the_kill_switch_keeps_to_floor_and_cap(answer, orders) -> None:
    capped = Limits(cap_rate=0.15)
    assert answer(overrides=orders(("kill",)), limits=capped).served_rates == (0.15, 0.10, 0.15, 0.10)


def test_without_a_base_rate_the_kill_switch_leaves_the_cap(answer, market, orders) -> None:
    decision = answer(seen=market(base_rates=None), overrides=orders(("kill",)))
    assert (decision.rung, decision.served_rates) == ("cap", (1.0,) * 4)


def test_when_the_kill_switch_ends_the_path_goes_on_from_the_static_rates(
    step, candidate, served, orders, t0
) -> None:
    _, state = step(candidate(HIGH), now_s=t0 + 60, state=served(HIGH), overrides=orders(("kill",)))
    decision, _ = step(candidate(HIGH), now_s=t0 + 120, state=state)
    assert decision.served_rates == pytest.approx((0.25, 0.125, 0.25, 0.125))
    assert decision.rung == "champion"


@pytest.mark.parametrize("multiplier", [1e-9, 1e300, 5e-324])
def test_no_multiplier_leaves_the_bounds(answer, candidate, orders, multiplier) -> None:
    try:
        given = orders(("floor", multiplier), ("cap", multiplier))
    except OverrideError:
        return  # refused when made
    for limits in (Limits(), Limits(floor_of_base=0.0, floor_scale=0.0)):
        decision = answer(candidate(NOW), overrides=given, limits=limits)
        assert all(0 < r <= 1 for r in decision.served_rates)


def test_of_several_orders_of_a_kind_the_first_is_named(answer, candidate, served, orders, t0) -> None:
    frozen = answer(candidate(HIGH), state=served(NOW), overrides=orders(("freeze",), ("freeze",)))
    assert whys(frozen)[0][2] == "frozen by freeze-0: as the desk asks"
    killed = Overrides((Override("a", "kill", "first", t0 + 60), Override("b", "kill", "second", t0 + 60)))
    assert whys(answer(overrides=killed))[-1][2] == "kill switch a: first"
    twice = Overrides((Override("a", "freeze", "first", t0 + 60), Override("b", "freeze", "second", t0 + 60)))
    decision = answer(candidate(HIGH), state=served(NOW), overrides=twice)
    assert whys(decision)[-1][2] == "frozen by a: first"
