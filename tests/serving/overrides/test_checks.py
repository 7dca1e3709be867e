"""Orders beside limits, contracts and other orders: each refusal names field, value, bound and remedy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from models.margin.limits import Limits
from models.margin.overrides import Override
from serving.errors import InvalidInputError, UnknownSymbolError
from serving.overrides.book import Event, Order
from serving.overrides.checks import checked, expiry_s, refuse_contradictions, refuse_unknown_symbol
from serving.overrides.requests import SetRequest

Make = Callable[..., SetRequest]


def told(refusal: Callable[[], Any]) -> dict[str, Any]:
    with pytest.raises(InvalidInputError) as caught:
        refusal()
    found: dict[str, Any] = caught.value.body["error"]
    assert found["remedy"]
    return found


def test_an_end_is_a_time_or_a_duration(order: Make, now_s: float) -> None:
    assert expiry_s(order(lasts_s=60.0), now_s, 3600.0) == now_s + 60
    end = datetime.fromtimestamp(now_s + 90, UTC)
    assert expiry_s(order(expires_at=end), now_s, 3600.0) == now_s + 90
    assert expiry_s(order(lasts_s=3600.0), now_s, 3600.0) == now_s + 3600, "the longest itself is allowed"


@pytest.mark.parametrize(
    ("ahead_s", "bound"),
    [
        (0.0, "more than 0 s"),
        (-60.0, "more than 0 s"),
        (-1e300, "more than 0 s"),
        (3600.1, "is 3600 s (until 2023-11-14T23:13:20Z)"),
        (1e308, "is 3600 s"),
    ],
)
def test_an_end_in_the_past_or_too_far_away_is_refused(
    order: Make, now_s: float, ahead_s: float, bound: str
) -> None:
    error = told(lambda: expiry_s(order(lasts_s=ahead_s), now_s, 3600.0))
    assert (error["field"], error["value"]) == ("lasts_s", ahead_s)
    assert bound in error["message"]
    if abs(ahead_s) < 1e6:
        end = datetime.fromtimestamp(now_s + ahead_s, UTC)
        error = told(lambda: expiry_s(order(expires_at=end), now_s, 3600.0))
        assert (error["field"], error["value"]) == ("expires_at", end.isoformat())
        assert bound in error["message"]


def test_an_order_needs_one_end(order: Make, now_s: float) -> None:
    for given in ({"lasts_s": None}, {"lasts_s": 5.0, "expires_at": datetime.now(UTC)}):
        assert told(lambda given=given: expiry_s(order(**given), now_s, 60.0))["field"] == "expires_at"


@pytest.mark.parametrize(
    ("given", "field", "value", "bound"),
    [
        ({"kind": "floor"}, "multiplier", None, "a finite number above 0 for a floor"),
        ({"kind": "cap", "multiplier": 0.0}, "multiplier", 0.0, "a finite number above 0 for a cap"),
        ({"kind": "cap", "multiplier": -2.0}, "multiplier", -2.0, "above 0"),
        ({"kind": "freeze", "multiplier": 2.0}, "multiplier", 2.0, "left out for a freeze"),
        ({"kind": "rung"}, "rung", None, "one of ('last_good', 'rules', 'static', 'cap')"),
        ({"kind": "kill", "rung": "cap"}, "rung", "cap", "left out for a kill"),
    ],
)
def test_what_belongs_to_another_kind_is_refused(
    order: Make, now_s: float, given: dict[str, Any], field: str, value: object, bound: str
) -> None:
    error = told(lambda: checked(order(**given), "o1", now_s))
    assert (error["field"], error["value"]) == (field, value)
    assert bound in error["message"]


def test_an_unknown_symbol_is_refused() -> None:
    refuse_unknown_symbol("A", ["A", "B"])
    refuse_unknown_symbol(None, [])
    with pytest.raises(UnknownSymbolError) as caught:
        refuse_unknown_symbol("X", ["A", "B"])
    error = caught.value.body["error"]
    assert (error["field"], error["value"]) == ("symbol", "X")
    assert "A, B" in error["remedy"]


def bounded(kind: str, multiplier: float) -> Override:
    return Override("o9", kind, "r", 2e9, multiplier)


def standing(kind: str, multiplier: float, symbol: str | None = None) -> Order:
    event = Event(1, "o1", "set", "ana", 0.0, {}, "", "")
    return Order(Override("o1", kind, "r", 2e9, multiplier), symbol, False, (event,))


@pytest.mark.parametrize("kind", ["floor", "cap"])
@pytest.mark.parametrize(
    ("multiplier", "bound"),
    [(10.0000001, "at most cap_multiplier, 10"), (0.5999999, "at least floor_of_base, 0.6")],
)
def test_floor_and_cap_lie_within_the_limits(kind: str, multiplier: float, bound: str) -> None:
    error = told(lambda: refuse_contradictions(bounded(kind, multiplier), None, Limits(), []))
    assert (error["field"], error["value"]) == ("multiplier", multiplier)
    assert bound in error["message"]
    assert "from 0.6 to 10" in error["remedy"]
    for edge in (0.6, 10.0):
        refuse_contradictions(bounded(kind, edge), None, Limits(), [])


@pytest.mark.parametrize(("own", "its"), [(None, None), ("A", None), (None, "A"), ("A", "A")])
def test_a_floor_above_a_cap_is_refused_either_way(own: str | None, its: str | None) -> None:
    error = told(
        lambda: refuse_contradictions(bounded("floor", 3.0), own, Limits(), [standing("cap", 2.0, its)])
    )
    assert (error["field"], error["value"]) == ("multiplier", 3.0)
    assert "it must be at most 2, the cap of o1" in error["message"]
    assert "or end o1 first" in error["remedy"]
    error = told(
        lambda: refuse_contradictions(bounded("cap", 2.0), own, Limits(), [standing("floor", 3.0, its)])
    )
    assert "it must be at least 3, the floor of o1" in error["message"]


def test_what_does_not_meet_does_not_contradict() -> None:
    refuse_contradictions(bounded("floor", 3.0), "A", Limits(), [standing("cap", 2.0, "B")])
    refuse_contradictions(bounded("floor", 3.0), "A", Limits(), [standing("floor", 2.0, "A")])
    refuse_contradictions(bounded("floor", 2.0), "A", Limits(), [standing("cap", 2.0, "A")])
    refuse_contradictions(Override("o9", "kill", "r", 2e9), None, Limits(), [standing("cap", 2.0)])
