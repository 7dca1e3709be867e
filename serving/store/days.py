"""Closed days in the store, and the day that is open."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from serving.audit.days import ORDERS, DayRoot, Head, close_day
from serving.store.tables import ClosedDay, Contract, OverrideEvent, Publication

_COLUMNS = (ClosedDay.day, ClosedDay.root, ClosedDay.leaves, ClosedDay.previous_hash, ClosedDay.hash)


def open_day(connection: Connection, day: str) -> None:
    """Prepare for decisions that were made on ``day``: close the day before it where that is still open.

    Decisions of a day that is closed are counted to the one that is open. Where the clock was ahead and came
    back, the day that it came back to is opened, unless it is closed.
    """
    opened = connection.scalars(select(Publication.day)).one()
    if opened == day:
        return
    closed = newest_day(connection)
    if closed is not None and day <= closed.day:
        return
    if opened is not None and opened < day:
        previous = None if closed is None else closed.hash
        made = close_day(opened, current_heads(connection), previous)
        connection.execute(insert(ClosedDay).values(**vars(made)))
    connection.execute(update(Publication).values(day=day))


def current_heads(connection: Connection) -> list[Head]:
    """The newest decision of each contract that has one with a hash, and the newest event of the orders."""
    found = connection.execute(
        select(Contract.symbol, Contract.seq, Contract.head).where(Contract.head.is_not(None))
    )
    heads = [Head(symbol, seq, str(head)) for symbol, seq, head in found]
    newest = connection.execute(
        select(OverrideEvent.seq, OverrideEvent.hash).order_by(OverrideEvent.seq.desc()).limit(1)
    ).one_or_none()
    return heads if newest is None else [*heads, Head(ORDERS, *newest)]


def newest_day(connection: Connection) -> DayRoot | None:
    """The newest closed day."""
    found = connection.execute(select(*_COLUMNS).order_by(ClosedDay.day.desc()).limit(1)).one_or_none()
    return None if found is None else DayRoot(*found)


def read_days(connection: Connection) -> list[DayRoot]:
    """Every closed day, oldest first."""
    return [DayRoot(*row) for row in connection.execute(select(*_COLUMNS).order_by(ClosedDay.day))]
