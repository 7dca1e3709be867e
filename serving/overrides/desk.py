"""Takes orders, confirmations and ends: checked and stored in one transaction, then in the book.

``book`` is what the loop decides by and readers see; it is replaced, never changed. A method that raises has
stored nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from models.margin.limits import Limits
from models.margin.overrides import Overrides
from serving.board import utc_text
from serving.errors import OverrideConflictError, UnknownOverrideError
from serving.overrides.book import SERVER, Book, Event, EventKind, Order
from serving.overrides.checks import checked, expiry_s, refuse_contradictions, refuse_unknown_symbol
from serving.overrides.requests import SetRequest
from serving.store.decisions import contract_symbols
from serving.store.overrides import append_event, lock_events, read_events

logger = logging.getLogger(__name__)

#: Of the orders that are over, the newest so many are listed.
MOST_OVER = 100


@dataclass
class _Turn:
    """One transaction that appends events, and the book as it will be after it."""

    connection: Connection
    book: Book

    def append(
        self, event: EventKind, by: str, at_s: float, content: Mapping[str, Any], order: str | None = None
    ) -> Order:
        """Store an event; the order that it leaves."""
        made = self.book.next_event(event, by, at_s, content, order)
        append_event(self.connection, made)
        self.book = self.book.after([made])
        logger.info("override %s %s by %s: %s", made.order, event, by, dict(content))
        return self.book.orders[made.order]


class OverrideDesk:
    """The orders of one store. Any thread may call it."""

    def __init__(self, engine: Engine, limits: Limits, *, two_person: bool, longest_s: float) -> None:
        self._engine, self._limits = engine, limits
        self._two_person, self._longest_s = two_person, longest_s
        self._lock = threading.Lock()
        self.book = Book()

    def refresh(self) -> None:
        """Take in what was stored since, by whomever."""
        with self._lock:
            with self._engine.begin() as connection:
                book = self._read(connection)
            self.book = book

    def set(self, request: SetRequest, by: str, now_s: float) -> dict[str, Any]:
        """Take an order; it stands at once, or is pending where it needs a second person. A kill switch
        needs none to be set: it must work for whoever sees that the model is wrong, and ends in rates that
        floor and cap bound all the same. To end it, and believe the model again, takes two.

        Raises ``InvalidInputError`` or ``UnknownSymbolError``.
        """
        end_s = expiry_s(request, now_s, self._longest_s)
        with self._turn() as turn:
            override = checked(request, f"o{turn.book.newest + 1}", end_s)
            refuse_unknown_symbol(request.symbol, contract_symbols(turn.connection))
            others = turn.book.open_orders(now_s)
            refuse_contradictions(override, request.symbol, self._limits, others)
            content = {
                "symbol": request.symbol,
                "kind": override.kind,
                "reason": override.reason,
                "expires_s": override.expires_s,
                "multiplier": override.multiplier,
                "rung": override.rung,
                "needs_second": self._two_person and override.kind != "kill",
            }
            return order_json(turn.append("set", by, now_s, content), now_s)

    def confirm(self, order_id: str, by: str, now_s: float) -> dict[str, Any]:
        """Agree, as a second person, to an order that is pending, or to its end that was asked for.

        Raises ``UnknownOverrideError``, ``OverrideConflictError``, or what ``set`` raises where the limits
        have become narrower since.
        """
        with self._turn() as turn:
            order = _known(turn.book, order_id)
            state = order.state(now_s)
            if state == "pending":
                _refuse_the_same(order.events[0], by)
                others = [o for o in turn.book.open_orders(now_s) if o.id != order.id]
                refuse_contradictions(order.override, order.symbol, self._limits, others)
                after = turn.append("confirmed", by, now_s, {}, order.id)
            elif state == "ending":
                asked = order.found("end asked")
                assert asked is not None
                _refuse_the_same(asked, by)
                after = turn.append("ended", by, now_s, asked.content, order.id)
            else:
                raise OverrideConflictError(
                    f"order {order.id} is {state}; there is nothing to confirm",
                    "confirm orders that are pending or ending; GET /v1/overrides lists them",
                    field="id",
                    value=order.id,
                )
            return order_json(after, now_s)

    def end(self, order_id: str, by: str, reason: str, now_s: float) -> dict[str, Any]:
        """End an order, or withdraw a pending one. With two persons, the end of a kill switch waits for the
        second. Raises ``UnknownOverrideError`` or ``OverrideConflictError``."""
        with self._turn() as turn:
            order = _known(turn.book, order_id)
            state = order.state(now_s)
            if order.is_over(now_s):
                raise OverrideConflictError(
                    f"order {order.id} is {state} already",
                    "nothing is left to do; GET /v1/overrides lists what stands",
                    field="id",
                    value=order.id,
                )
            if state == "ending":
                asked = order.found("end asked")
                assert asked is not None
                raise OverrideConflictError(
                    f"{asked.by} asked for the end of {order.id} already",
                    f"let another person than {asked.by} confirm it: POST /v1/overrides/{order.id}/confirm",
                    field="id",
                    value=order.id,
                )
            waits = self._two_person and order.override.kind == "kill"
            kind: EventKind = "end asked" if waits else "ended"
            return order_json(turn.append(kind, by, now_s, {"reason": reason}, order.id), now_s)

    def note_expired(self, now_s: float) -> int:
        """Write down which orders' time is up; returns how many. Their effect ended by itself."""
        if not self.book.unnoticed(now_s):
            return 0
        with self._turn() as turn:
            expired = turn.book.unnoticed(now_s)
            for order in expired:
                turn.append("expired", SERVER, now_s, {}, order.id)
        return len(expired)

    def in_force(self, symbol: str, now_s: float) -> Overrides:
        """The orders that a decision on this contract obeys."""
        return self.book.in_force(symbol, now_s)

    def listing(self, now_s: float) -> dict[str, Any]:
        """Every order that stands or waits, and the newest of those that are over."""
        book = self.book
        by_state: dict[str, list[dict[str, Any]]] = {"standing": [], "pending": [], "ended": []}
        for order in reversed(list(book.orders.values())):
            state = order.state(now_s)
            group = {"ending": "standing", "expired": "ended"}.get(state, state)
            by_state[group].append(order_json(order, now_s))
        over = len(by_state["ended"])
        by_state["ended"] = by_state["ended"][:MOST_OVER]
        return {"newest_event": book.newest, "head": book.head, **by_state, "ended_in_all": over}

    def status(self, now_s: float) -> dict[str, Any]:
        """How many orders there are of each state, and what is wrong with the chain."""
        book = self.book
        states: Counter[str] = Counter(o.state(now_s) for o in book.open_orders(now_s))
        killed = any(o.override.kind == "kill" and o.in_force(now_s) for o in book.orders.values())
        return {**states, "kill_switch": killed, "defects": list(book.defects)}

    @contextmanager
    def _turn(self) -> Iterator[_Turn]:
        """One writer at a time, in this process and beside it. The book is seen when it is stored."""
        with self._lock:
            with self._engine.begin() as connection:
                lock_events(connection)
                turn = _Turn(connection, self._read(connection))
                yield turn
            self.book = turn.book

    def _read(self, connection: Connection) -> Book:
        known = self.book
        book = known.after(read_events(connection, known.newest))
        for defect in book.defects[len(known.defects) :]:
            logger.critical("%s", defect)
        return book


def order_json(order: Order, now_s: float) -> dict[str, Any]:
    """An order as answers show it; ``history`` is its events, oldest first."""
    override = order.override
    return {
        "id": order.id,
        "state": order.state(now_s),
        "symbol": order.symbol,
        "kind": override.kind,
        "multiplier": override.multiplier,
        "rung": override.rung,
        "reason": override.reason,
        "expires_at": utc_text(override.expires_s),
        "needs_second": order.needs_second,
        "history": [
            {
                "number": e.seq,
                "event": e.event,
                "by": e.by,
                "at": utc_text(e.at_s),
                "reason": e.content.get("reason"),
                "hash": e.hash,
            }
            for e in order.events
        ],
    }


def _known(book: Book, order_id: str) -> Order:
    if order_id not in book.orders:
        some = ", ".join(list(book.orders)[-10:]) or "none yet"
        raise UnknownOverrideError(
            f"no order {order_id!r} here", f"name one of: {some}", field="id", value=order_id
        )
    return book.orders[order_id]


def _refuse_the_same(first: Event, by: str) -> None:
    # Whoever writes the same name in other letters is the same person.
    if by.casefold() == first.by.casefold():
        asked = "set it" if first.event == "set" else "asked for its end"
        raise OverrideConflictError(
            f"{first.by} {asked}, and cannot be the second person who confirms it",
            f"let another person than {first.by} confirm {first.order}",
            field="by",
            value=by,
        )
