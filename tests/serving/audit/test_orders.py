"""Orders in the trail: their chain is checked, and the days bind it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.audit.days import ORDERS
from serving.overrides.book import Book
from serving.store.decisions import NewDecision, save_decisions
from serving.store.overrides import append_event

CONTENT = {
    "kind": "freeze",
    "symbol": None,
    "reason": "a test",
    "expires_s": 4e9,
    "multiplier": None,
    "rung": None,
    "needs_second": False,
}


@pytest.fixture
def ordered(hand: Any) -> Any:
    """A hand on a store in which an order was set and ended, and the days after both are closed."""
    with hand.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER override_events_no_update")
        connection.exec_driver_sql("DROP TRIGGER override_events_no_delete")
    ((seq, newest_s),) = hand.read("SELECT max(seq), max(made_at) FROM decisions WHERE symbol = 'BETA'")
    book = Book()
    for i, (kind, order) in enumerate((("set", None), ("ended", "o1")), start=1):
        event = book.next_event(kind, "ann", newest_s + i, CONTENT if i == 1 else {"reason": "over"}, order)
        book = book.after([event])
        with hand.engine.begin() as connection:
            append_event(connection, event)
            made_at = newest_s + i * 86400.0
            known = {"bar_close_s": None, "decided_at_s": made_at, "rung": "cap", "mode": "dead"}
            record = {"decision": {**known, "model_version": ""}}
            late = NewDecision("BETA", seq + i, "tick", None, made_at, "cap", "dead", "", record, {}, {}, {})
            save_decisions(connection, [late])
    return hand


def test_the_days_bind_the_newest_event(ordered: Any) -> None:
    rows = ordered.read("SELECT leaves FROM day_roots ORDER BY day")
    heads = [{h["symbol"]: h["seq"] for h in json.loads(leaves)}.get(ORDERS) for (leaves,) in rows]
    assert heads[-2:] == [1, 2]
    found = ordered.verify(recompute=False)
    assert (found.defects, found.orders) == ([], 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE override_events SET identity = 'bob' WHERE seq = 1", "override event 1 was altered"),
        (
            "UPDATE override_events SET content = replace(content, 'test', 'jest') WHERE seq = 1",
            "1 was altered",
        ),
        ("UPDATE override_events SET content = substr(content, 2) WHERE seq = 1", "1 was altered"),
        ("UPDATE override_events SET seq = 'x' WHERE seq = 2", "do not count from 1 on"),
        ("DELETE FROM override_events WHERE seq = 1", "1 to 1 are missing"),
    ],
)
def test_an_order_that_was_changed_is_found(ordered: Any, change: str, words: str) -> None:
    ordered.write(change)
    found = ordered.verify(recompute=False)
    first = found.defects[0]
    assert (first.place, first.part) == (ORDERS, "order altered")
    assert any(words in d.what for d in found.defects)


def test_an_event_that_was_cut_off_is_missed_by_the_day(ordered: Any) -> None:
    ordered.write("DELETE FROM override_events WHERE seq = 2")
    (defect,) = ordered.verify(recompute=False).defects
    assert (defect.place, defect.part) == (f"{ORDERS}/2", "not in the day's root")
