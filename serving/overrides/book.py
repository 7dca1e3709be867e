"""The book of orders: what the chain of override events says, as plain values.

An event is appended and never changed; an order is what its events make of it. Each event is a link of one
chain of hashes (``serving.audit.chain``) under ``DOMAIN``, so that none can be altered or taken out alone.
Times are seconds since 1970 UTC by the server's clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, get_args

from models.margin.overrides import Override, Overrides
from serving.audit.chain import genesis, link

DOMAIN: Final = "foremargin.override/1"
#: ``set``: an order was given. ``confirmed``: a second person agreed to it. ``end asked``: somebody wants it
#: ended, which waits for a second person. ``ended``: it is over. ``expired``: the server saw that its time
#: was up.
EventKind = Literal["set", "confirmed", "end asked", "ended", "expired"]
EVENTS: Final[tuple[str, ...]] = get_args(EventKind)
#: ``pending``: without effect until a second person confirms it. ``standing``: in force. ``ending``: in force
#: until a second person confirms its end. The last two are over.
OrderState = Literal["pending", "standing", "ending", "ended", "expired"]
#: Who it was where nobody ordered anything.
SERVER: Final = "server"


@dataclass(frozen=True)
class Event:
    """One row of the chain. ``seq`` counts from 1; ``order`` is the order's id; ``content`` is what was
    ordered (``set``), or why (``end asked``, ``ended``)."""

    seq: int
    order: str
    event: str
    by: str
    at_s: float
    content: Mapping[str, Any]
    previous_hash: str
    hash: str

    @property
    def computed_hash(self) -> str:
        """The hash that its other fields lead to."""
        told = {
            "seq": self.seq,
            "order": self.order,
            "event": self.event,
            "by": self.by,
            "at_s": self.at_s,
            "content": self.content,
        }
        return link(DOMAIN, self.previous_hash, told)


@dataclass(frozen=True)
class Order:
    """One order. ``symbol`` is None for a global one; ``needs_second`` says that it is without effect until
    another person than the one who set it confirms it."""

    override: Override
    symbol: str | None
    needs_second: bool
    events: tuple[Event, ...]

    @property
    def id(self) -> str:
        return self.override.id

    def found(self, event: EventKind) -> Event | None:
        """Its event of a kind."""
        return next((e for e in self.events if e.event == event), None)

    def state(self, now_s: float) -> OrderState:
        """What has become of it at a time."""
        if self.found("ended"):
            return "ended"
        # What was seen to expire does not come back when a clock does.
        if self.found("expired") or now_s >= self.override.expires_s:
            return "expired"
        if self.needs_second and not self.found("confirmed"):
            return "pending"
        return "ending" if self.found("end asked") else "standing"

    def in_force(self, now_s: float) -> bool:
        return self.state(now_s) in ("standing", "ending")

    def is_over(self, now_s: float) -> bool:
        return self.state(now_s) in ("ended", "expired")

    def concerns(self, symbol: str | None) -> bool:
        """Whether there is a contract that both this order and one for ``symbol`` (None: global) concern."""
        return self.symbol is None or symbol is None or self.symbol == symbol


@dataclass(frozen=True)
class Book:
    """Every order by its id, oldest first. ``newest`` and ``head`` are number and hash of the last event;
    ``defects`` say in words which events were altered, are missing, or cannot be read."""

    orders: Mapping[str, Order] = field(default_factory=dict)
    newest: int = 0
    head: str = field(default_factory=lambda: genesis(DOMAIN))
    defects: tuple[str, ...] = ()

    @cached_property
    def _unfinished(self) -> tuple[Order, ...]:
        # Every decision asks; of years of orders few are not over.
        return tuple(o for o in self.orders.values() if not o.found("ended") and not o.found("expired"))

    def next_event(
        self, event: EventKind, by: str, at_s: float, content: Mapping[str, Any], order: str | None = None
    ) -> Event:
        """The link after the newest; ``order`` None sets a new order, which is named after its number."""
        seq = self.newest + 1
        draft = Event(seq, f"o{seq}" if order is None else order, event, by, at_s, content, self.head, "")
        return Event(**{**vars(draft), "hash": draft.computed_hash})

    def after(self, events: Iterable[Event]) -> Book:
        """The book with these events, which follow its newest. Raises nothing: a server that cannot read an
        old order must go on deciding."""
        orders, defects, newest, head = dict(self.orders), list(self.defects), self.newest, self.head
        for event in events:
            flaw = _broken(event, newest, head)
            if flaw is not None:
                defects.append(flaw)
            try:
                orders[event.order] = _with(orders.get(event.order), event)
            except (KeyError, TypeError, ValueError) as error:
                words = f"{type(error).__name__}: {error}"
                defects.append(f"override event {event.seq} cannot be read and is passed over ({words})")
            newest, head = event.seq, event.hash
        return Book(orders, newest, head, tuple(defects))

    def in_force(self, symbol: str, now_s: float) -> Overrides:
        """The orders that a decision on this contract obeys, oldest first."""
        return Overrides(
            tuple(o.override for o in self._unfinished if o.concerns(symbol) and o.in_force(now_s))
        )

    def open_orders(self, now_s: float) -> list[Order]:
        """Orders that stand or wait for a second person, oldest first."""
        return [o for o in self._unfinished if not o.is_over(now_s)]

    def unnoticed(self, now_s: float) -> list[Order]:
        """Orders whose time is up, and no event says so yet."""
        return [o for o in self._unfinished if o.is_over(now_s)]

    def next_expiry_s(self, now_s: float) -> float:
        """When the next order expires; infinity where none will."""
        return min((o.override.expires_s for o in self.open_orders(now_s)), default=math.inf)


def _broken(event: Event, newest: int, head: str) -> str | None:
    if event.seq != newest + 1:
        return f"override events {newest + 1} to {event.seq - 1} are missing"
    try:
        right = event.computed_hash
    except (TypeError, ValueError) as error:
        return f"override event {event.seq} cannot be hashed ({error})"
    if event.previous_hash != head:
        return f"override event {event.seq} does not follow the one before it: its previous hash is another"
    return None if event.hash == right else f"override event {event.seq} was altered: its hash is another"


def _with(order: Order | None, event: Event) -> Order:
    """An order after an event. Raises ``KeyError``, ``TypeError`` or ``ValueError`` (``OverrideError`` is
    one) where the event makes no sense."""
    if event.event not in EVENTS:
        raise ValueError(f"event is {event.event!r}, not one of {EVENTS}")
    if event.event != "set":
        if order is None:
            raise ValueError(f"there is no order {event.order!r}")
        return Order(order.override, order.symbol, order.needs_second, (*order.events, event))
    if order is not None:
        raise ValueError(f"there is an order {event.order!r} already")
    told = event.content
    override = Override(
        event.order, told["kind"], told["reason"], told["expires_s"], told["multiplier"], told["rung"]
    )
    return Order(override, told["symbol"], bool(told["needs_second"]), (event,))
