"""Override events in the store: appended one after the other, never changed (triggers refuse it)."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from serving.audit.chain import canonical
from serving.overrides.book import Event
from serving.store.tables import OverrideEvent, Publication

_COLUMNS = (
    OverrideEvent.seq,
    OverrideEvent.override,
    OverrideEvent.event,
    OverrideEvent.identity,
    OverrideEvent.made_at,
    OverrideEvent.content,
    OverrideEvent.previous_hash,
    OverrideEvent.hash,
)


def read_events(connection: Connection, after: int = 0) -> list[Event]:
    """The events after number ``after``, in order."""
    query = select(*_COLUMNS).where(OverrideEvent.seq > after).order_by(OverrideEvent.seq)
    return [Event(*row) for row in connection.execute(query)]


def lock_events(connection: Connection) -> None:
    """Let nobody else append until this transaction ends, so that what was checked still holds when it is
    stored. SQLite has locked the whole file at the transaction's begin."""
    connection.execute(select(Publication.id).with_for_update())


def append_event(connection: Connection, event: Event) -> None:
    """Store an event; ``lock_events`` comes first."""
    connection.execute(
        insert(OverrideEvent).values(
            seq=event.seq,
            override=event.order,
            event=event.event,
            identity=event.by,
            made_at=event.at_s,
            content=canonical(dict(event.content)),
            previous_hash=event.previous_hash,
            hash=event.hash,
        )
    )
