"""Decisions as they stand in the store, read for an audit: their records as the very text that is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, Text, cast, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from serving.audit.days import DayRoot, day_of
from serving.audit.seal import Columns
from serving.overrides.book import Event
from serving.store.days import read_days
from serving.store.engine import StoreError
from serving.store.tables import ClosedDay, Contract, DecisionRow, OverrideEvent, Publication

#: Rows read at once: a record is tens of kilobytes, and no reading transaction may last.
_ROWS = 200
_COLUMNS: tuple[Any, ...] = (
    *(DecisionRow.id, DecisionRow.symbol, DecisionRow.seq, DecisionRow.decision_time, DecisionRow.made_at),
    *(DecisionRow.trigger, DecisionRow.rung, DecisionRow.mode, DecisionRow.model_version),
    cast(DecisionRow.record, Text),
    *(DecisionRow.previous_hash, DecisionRow.record_hash, DecisionRow.hash),
)
_EVENTS: Select[*tuple[Any, ...]] = select(
    *(OverrideEvent.seq, OverrideEvent.override, OverrideEvent.event, OverrideEvent.identity),
    *(OverrideEvent.made_at, cast(OverrideEvent.content, Text)),
    *(OverrideEvent.previous_hash, OverrideEvent.hash),
).order_by(OverrideEvent.seq)


@dataclass(frozen=True)
class StoredDecision:
    """A row of the trail. Hashes are None in decisions that are older than the chain; where somebody wrote
    into the file, any field may hold anything."""

    id: int
    columns: Columns
    record: str
    previous_hash: str | None
    record_hash: str | None
    hash: str | None

    @property
    def name(self) -> str:
        """``SYMBOL/SEQ``."""
        return f"{self.columns.symbol}/{self.columns.seq}"


@dataclass(frozen=True)
class StandingContract:
    """What a contract says of its newest decision: number, hash, the state it left and what it published; the
    last two are text where that is no JSON any more."""

    symbol: str
    seq: int
    head: str | None
    state: Any
    published: Any


@dataclass(frozen=True)
class Trail:
    """One moment of the store: contracts by symbol, closed days oldest first, the day that is open, the
    number of the last row (rows that come later are no part of it), and the events of all orders."""

    contracts: dict[str, StandingContract]
    days: tuple[DayRoot, ...]
    open_day: str | None
    last_id: int
    orders: tuple[Event, ...] = ()


def read_trail(engine: Engine) -> Trail:
    """What stands now. Raises ``StoreError`` where the store is older than the audit trail or cannot be
    read."""
    try:
        tables = inspect(engine)
        if not all(tables.has_table(t.__tablename__) for t in (ClosedDay, OverrideEvent)):
            raise StoreError(
                f"the store {engine.url.render_as_string()} has no audit trail: it was written by an older "
                f"version; start the server of this one on it once, which adds what is missing"
            )
        with engine.begin() as connection:
            contracts = connection.execute(
                select(
                    *(Contract.symbol, Contract.seq, Contract.head),
                    *(cast(Contract.state, Text), cast(Contract.published, Text)),
                )
            )
            return Trail(
                {row[0]: StandingContract(*row[:3], *map(_content, row[3:])) for row in contracts},
                tuple(read_days(connection)),
                connection.scalars(select(Publication.day)).one(),
                connection.scalar(select(func.max(DecisionRow.id))) or 0,
                tuple(_event(row) for row in connection.execute(_EVENTS)),
            )
    except SQLAlchemyError as error:
        raise unreadable(engine, error) from error


def read_decisions(engine: Engine, last_id: int, symbol: str | None = None) -> Iterator[StoredDecision]:
    """Every decision up to row ``last_id`` in the order of their storing; those of one contract where
    ``symbol`` is given. Raises ``StoreError`` where they cannot be read."""
    after = 0
    while after < last_id:
        query = select(*_COLUMNS).where(DecisionRow.id > after, DecisionRow.id <= last_id)
        if symbol is not None:
            query = query.where(DecisionRow.symbol == symbol)
        found = _rows(engine, query.order_by(DecisionRow.id).limit(_ROWS))
        yield from found
        if len(found) < _ROWS:
            return
        after = found[-1].id


def read_decisions_after(engine: Engine, last_id: int, after: Mapping[str, int]) -> Iterator[StoredDecision]:
    """The decisions up to row ``last_id`` of each of these contracts beyond a number, contract by contract.
    Raises ``StoreError`` where they cannot be read."""
    for symbol, number in after.items():
        reached = number
        while True:
            query = (
                select(*_COLUMNS)
                .where(DecisionRow.symbol == symbol, DecisionRow.seq > reached, DecisionRow.id <= last_id)
                .order_by(DecisionRow.seq)
                .limit(_ROWS)
            )
            found = _rows(engine, query)
            yield from found
            if len(found) < _ROWS:
                break
            reached = found[-1].columns.seq


def find_decision(connection: Connection, symbol: str, seq: int) -> StoredDecision | None:
    """A decision of a contract by its number, None where there is none."""
    return _one(connection, select(*_COLUMNS).where(DecisionRow.symbol == symbol, DecisionRow.seq == seq))


def find_row(connection: Connection, row_id: int) -> StoredDecision | None:
    """A decision by the number of its row."""
    return _one(connection, select(*_COLUMNS).where(DecisionRow.id == row_id))


def in_force(connection: Connection, symbol: str, time_s: float) -> StoredDecision | None:
    """The newest decision of a contract that was made at or before a time (s since 1970 UTC)."""
    return _one(
        connection,
        select(*_COLUMNS)
        .where(DecisionRow.symbol == symbol, DecisionRow.made_at <= time_s)
        .order_by(DecisionRow.seq.desc())
        .limit(1),
    )


def unreadable(engine: Engine, error: SQLAlchemyError) -> StoreError:
    """The error in words."""
    words = getattr(error, "orig", None) or error
    return StoreError(
        f"the store {engine.url.render_as_string()} cannot be read ({words}); check that the URL is "
        f"right and that the database is whole, or audit a copy of it"
    )


def made_on(decision: StoredDecision) -> str | None:
    """The day (UTC) on which a decision says that it was made; None where that is no time."""
    try:
        return day_of(decision.columns.made_at)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _rows(engine: Engine, query: Select[*tuple[Any, ...]]) -> list[StoredDecision]:
    try:
        with engine.begin() as connection:
            return [_decision(row) for row in connection.execute(query)]
    except SQLAlchemyError as error:
        raise unreadable(engine, error) from error


def _one(connection: Connection, query: Select[*tuple[Any, ...]]) -> StoredDecision | None:
    found = connection.execute(query).one_or_none()
    return None if found is None else _decision(found)


def _event(row: Row[*tuple[Any, ...]]) -> Event:
    seq, order, event, by, at_s, content, previous_hash, own = row
    return Event(seq, order, event, by, at_s, _content(content), previous_hash, own)


def _content(text: Any) -> Any:
    """What a text says; the text where it is no JSON."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return text


def _decision(row: Row[*tuple[Any, ...]]) -> StoredDecision:
    row_id, *columns, record, previous_hash, record_hash, own = row
    return StoredDecision(row_id, Columns(*columns), record, previous_hash, record_hash, own)
