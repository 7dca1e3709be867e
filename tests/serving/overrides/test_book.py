"""What events make of an order, and what is said of events that were altered."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from serving.audit.chain import genesis, link
from serving.overrides.book import DOMAIN, Book, Event

END_S = 1000.0


def content(**changes: Any) -> dict[str, Any]:
    plain = {"kind": "freeze", "reason": "r", "expires_s": END_S, "multiplier": None, "rung": None}
    return {"symbol": None, "needs_second": False, **plain, **changes}


def grown(*steps: tuple[Any, ...]) -> tuple[Book, list[Event]]:
    """A book after ``(event, by, at_s, content, order)``; None for the order sets a new one."""
    book, events = Book(), []
    for event, by, at_s, told, order in steps:
        events.append(book.next_event(event, by, at_s, told, order))
        book = book.after(events[-1:])
    return book, events


def test_an_order_stands_until_it_expires() -> None:
    book, _ = grown(("set", "ana", 10.0, content(), None))
    (order,) = book.orders.values()
    assert (order.id, order.symbol, order.override.reason) == ("o1", None, "r")
    assert order.state(math.nextafter(END_S, 0)) == "standing"
    assert order.state(END_S) == "expired"
    assert book.in_force("A", 999.0).orders == (order.override,)
    assert book.in_force("A", END_S).orders == ()


def test_a_pending_order_has_no_effect_until_it_is_confirmed() -> None:
    steps = [("set", "ana", 10.0, content(needs_second=True), None)]
    book, _ = grown(*steps)
    assert book.orders["o1"].state(20.0) == "pending"
    assert book.in_force("A", 20.0).orders == ()
    book, _ = grown(*steps, ("confirmed", "ben", 20.0, {}, "o1"))
    assert book.orders["o1"].state(20.0) == "standing"
    assert len(book.in_force("A", 20.0).orders) == 1


def test_an_order_whose_end_was_asked_for_stands_until_the_end() -> None:
    steps = [
        ("set", "ana", 10.0, content(kind="kill"), None),
        ("end asked", "ana", 20.0, {"reason": "x"}, "o1"),
    ]
    book, _ = grown(*steps)
    assert book.orders["o1"].state(30.0) == "ending"
    assert len(book.in_force("A", 30.0).orders) == 1
    book, _ = grown(*steps, ("ended", "ben", 30.0, {"reason": "x"}, "o1"))
    assert book.orders["o1"].state(30.0) == "ended"
    assert book.orders["o1"].state(END_S + 1) == "ended", "how it ended stays true after its time"
    assert book.in_force("A", 30.0).orders == ()


def test_what_was_seen_to_expire_does_not_come_back_with_the_clock() -> None:
    book, _ = grown(("set", "ana", 10.0, content(), None), ("expired", "server", END_S, {}, "o1"))
    assert book.orders["o1"].state(500.0) == "expired"


def test_an_order_concerns_its_symbol_or_all() -> None:
    book, _ = grown(
        ("set", "ana", 1.0, content(symbol="A"), None),
        ("set", "ana", 2.0, content(), None),
        ("set", "ana", 3.0, content(symbol="B"), None),
    )
    assert [o.id for o in book.in_force("A", 5.0).orders] == ["o1", "o2"]
    assert [o.id for o in book.in_force("B", 5.0).orders] == ["o2", "o3"]
    assert [o.id for o in book.in_force("NEW", 5.0).orders] == ["o2"]
    assert book.orders["o1"].concerns(None), "a global order meets one for a symbol"


def test_expiries_are_told_in_time_and_noticed_once() -> None:
    steps = [
        ("set", "ana", 1.0, content(expires_s=50.0), None),
        ("set", "ana", 2.0, content(expires_s=40.0, needs_second=True), None),
        ("set", "ana", 3.0, content(expires_s=30.0), None),
        ("ended", "ana", 4.0, {"reason": "x"}, "o3"),
    ]
    book, _ = grown(*steps)
    assert book.next_expiry_s(10.0) == 40.0
    assert book.next_expiry_s(40.0) == 50.0
    assert book.next_expiry_s(50.0) == math.inf
    assert [o.id for o in book.unnoticed(45.0)] == ["o2"]
    book, _ = grown(*steps, ("expired", "server", 45.0, {}, "o2"))
    assert book.unnoticed(45.0) == []
    assert [o.id for o in book.unnoticed(60.0)] == ["o1"]


def test_each_event_is_a_link() -> None:
    book, events = grown(("set", "ana", 1.5, content(), None), ("ended", "ben", 2.5, {"reason": "x"}, "o1"))
    told = {"seq": 1, "order": "o1", "event": "set", "by": "ana", "at_s": 1.5, "content": content()}
    assert events[0].previous_hash == genesis(DOMAIN)
    assert events[0].hash == link(DOMAIN, genesis(DOMAIN), told)
    assert events[1].previous_hash == events[0].hash
    assert (book.newest, book.head, book.defects) == (2, events[1].hash, ())


@pytest.mark.parametrize(
    "change",
    [
        {"by": "eve"},
        {"at_s": 1.0000000000000002},
        {"event": "confirmed"},
        {"order": "o9"},
        {"content": content(expires_s=2000.0)},
        {"content": content(needs_second=True)},
        {"hash": "0" * 64},
    ],
)
def test_an_altered_event_is_named(change: dict[str, Any]) -> None:
    _, events = grown(("set", "ana", 1.0, content(), None), ("set", "ana", 2.0, content(), None))
    altered = Book().after([replace(events[0], **change), events[1]])
    assert "override event 1 was altered: its hash is another" in altered.defects


def test_a_missing_event_is_named() -> None:
    _, events = grown(*[("set", "ana", float(i), content(), None) for i in range(4)])
    assert Book().after([events[0], events[3]]).defects == ("override events 2 to 3 are missing",)
    assert Book().after(events[1:]).defects == ("override events 1 to 1 are missing",)


@pytest.mark.parametrize(
    ("event", "order", "told"),
    [
        ("melted", None, content()),
        ("set", None, {}),
        ("set", None, content(kind="melt")),
        ("set", None, content(expires_s="tomorrow")),
        ("set", "o1", content()),
        ("ended", "o7", {"reason": "x"}),
    ],
)
def test_an_event_that_makes_no_sense_is_passed_over_and_told(event: Any, order: Any, told: Any) -> None:
    good, _ = grown(("set", "ana", 1.0, content(), None))
    strange = good.next_event(event, "eve", 2.0, told, order)
    after = good.after([strange])
    assert dict(after.orders) == dict(good.orders)
    assert len(after.defects) == 1
    assert "override event 2 cannot be read" in after.defects[0]
    assert after.newest == 2


def test_an_event_that_cannot_be_hashed_is_told() -> None:
    good, _ = grown(("set", "ana", 1.0, content(), None))
    strange = Event(2, "o1", "ended", "ana", math.nan, {"reason": "x"}, good.head, "0" * 64)
    assert "override event 2 cannot be hashed" in good.after([strange]).defects[0]
