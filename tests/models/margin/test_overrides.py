"""Orders as values: an impossible one cannot be made."""

import math

import pytest

from models.margin.overrides import FORCED_RUNGS, Override, OverrideError, Overrides

GIVEN = {"id": "o1", "kind": "freeze", "reason": "exchange incident", "expires_s": 1000.0}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "thaw"}, "kind"),
        ({"kind": None}, "kind"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"reason": "  "}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": None}, "reason"),
        ({"expires_s": math.nan}, "expires_s"),
        ({"expires_s": math.inf}, "expires_s"),
        ({"expires_s": None}, "expires_s"),
        ({"expires_s": "1000"}, "expires_s"),
        ({"multiplier": 2.0}, "multiplier"),
        ({"rung": "static"}, "rung"),
        ({"kind": "floor"}, "multiplier"),
        ({"kind": "cap", "multiplier": 0.0}, "multiplier"),
        ({"kind": "cap", "multiplier": -1.0}, "multiplier"),
        ({"kind": "cap", "multiplier": math.nan}, "multiplier"),
        ({"kind": "cap", "multiplier": math.inf}, "multiplier"),
        ({"kind": "cap", "multiplier": True}, "multiplier"),
        ({"kind": "cap", "multiplier": 2.0, "rung": "static"}, "rung"),
        ({"kind": "rung"}, "rung"),
        ({"kind": "rung", "rung": "champion"}, "rung"),
        ({"kind": "rung", "rung": "best"}, "rung"),
        ({"kind": "rung", "rung": "static", "multiplier": 2.0}, "multiplier"),
        ({"kind": "kill", "rung": "static"}, "rung"),
        ({"kind": "kill", "multiplier": 1.0}, "multiplier"),
    ],
)
def test_an_impossible_order_names_field_value_and_bound(change, field) -> None:
    given = GIVEN | change
    with pytest.raises(OverrideError) as caught:
        Override(**given)
    message = str(caught.value)
    assert field in message
    assert repr(given.get(field)) in message
    assert "must be" in message


@pytest.mark.parametrize("rung", FORCED_RUNGS)
def test_orders_that_can_be_made(rung) -> None:
    assert Override(**GIVEN).multiplier is None
    assert Override(**GIVEN | {"kind": "rung", "rung": rung}).rung == rung
    for kind in ("floor", "cap"):
        assert Override(**GIVEN | {"kind": kind, "multiplier": 1}).multiplier == 1
    assert Override(**GIVEN | {"kind": "kill"}).kind == "kill"


def test_orders_of_a_kind_stand_until_they_expire() -> None:
    freeze, kill = Override(**GIVEN), Override(**GIVEN | {"id": "o2", "kind": "kill", "expires_s": 2000.0})
    orders = Overrides((freeze, kill))
    assert orders.standing("freeze", math.nextafter(1000.0, 0)) == (freeze,)
    assert orders.standing("freeze", 1000.0) == ()
    assert orders.standing("kill", 1000.0) == (kill,)
    assert orders.standing("cap", 0.0) == ()
