"""Decisions in the store: the decision, the state it leaves and the answer it publishes, all or none of
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from serving.audit.chain import canonical
from serving.audit.days import day_of
from serving.audit.seal import Columns, seal
from serving.store.days import open_day
from serving.store.tables import Contract, DecisionRow, Publication

#: What asked for a decision: its bar, another contract's bar while its own is missing, time passing, a new
#: model, an override that began or ended, or the start of a server that had no decision yet.
TRIGGERS = ("bar", "gap", "tick", "model", "override", "start")


class SecondDeciderError(RuntimeError):
    """Somebody else decided the contract in between: its number in the store is not the one remembered
    here."""


@dataclass(frozen=True)
class NewDecision:
    """A decision as it goes into the store. ``state``, ``memory`` and ``published`` replace the
    contract's."""

    symbol: str
    seq: int
    trigger: str
    decision_time: int | None
    made_at: float
    rung: str
    mode: str
    model_version: str
    record: dict[str, Any]
    state: dict[str, Any]
    memory: dict[str, Any]
    published: dict[str, Any]


@dataclass(frozen=True)
class StoredContract:
    """What the store knows of a contract; ``state``, ``memory`` and ``published`` are None before its first
    decision."""

    symbol: str
    seq: int
    decided_close: int | None
    state: dict[str, Any] | None
    memory: dict[str, Any] | None
    published: dict[str, Any] | None
    #: Hash of the newest decision; None where it is older than the chain.
    head: str | None = None


@dataclass(frozen=True)
class Saved:
    """The number of the publication that decisions made, and the hash of each contract's newest decision."""

    version: int
    hashes: Mapping[str, str]


def list_contracts(connection: Connection, symbols: Sequence[str]) -> None:
    """Make sure that each symbol has its contract; new ones are put behind those that stand, in this
    order."""
    known = set(connection.scalars(select(Contract.symbol)))
    position = connection.scalar(select(func.max(Contract.position)))
    start = 0 if position is None else position + 1
    fresh = [s for s in symbols if s not in known]
    if fresh:
        connection.execute(
            insert(Contract), [{"symbol": s, "position": start + i, "seq": 0} for i, s in enumerate(fresh)]
        )


def contract_symbols(connection: Connection) -> list[str]:
    """Every contract's symbol, the leader first."""
    return list(connection.scalars(select(Contract.symbol).order_by(Contract.position)))


def read_contracts(connection: Connection) -> list[StoredContract]:
    """Every contract, the leader first."""
    columns = (
        Contract.symbol,
        Contract.seq,
        Contract.decided_close,
        Contract.state,
        Contract.memory,
        Contract.published,
        Contract.head,
    )
    return [StoredContract(*row) for row in connection.execute(select(*columns).order_by(Contract.position))]


def save_decisions(connection: Connection, decisions: Sequence[NewDecision]) -> Saved:
    """Store decisions with the states that they leave, each chained to its contract's decision before. The
    first that is made on a later day closes the day before it.

    Raises ``SecondDeciderError`` where a contract's newest decision is not the one before this.
    """
    hashes: dict[str, str] = {}
    for day, made in groupby(sorted(decisions, key=_day), _day):
        open_day(connection, day)
        hashes |= _append(connection, list(made))
    connection.execute(update(Publication).values(version=Publication.version + 1))
    return Saved(publication(connection), hashes)


def _append(connection: Connection, decisions: Sequence[NewDecision]) -> dict[str, str]:
    """Store decisions and states; the hashes by symbol."""
    found = connection.execute(select(Contract.symbol, Contract.head))
    heads = {symbol: head for symbol, head in found}  # noqa: C416 - rows are typed as tuples when unpacked
    rows, hashes = [], {}
    for d in decisions:
        # As the store gives it back: a whole number of seconds is a float too.
        made_at = float(d.made_at)
        columns = Columns(
            d.symbol, d.seq, d.decision_time, made_at, d.trigger, d.rung, d.mode, d.model_version
        )
        record = canonical(d.record)
        sealed = seal(columns, record, heads.get(d.symbol))
        done = connection.execute(
            update(Contract)
            .where(Contract.symbol == d.symbol, Contract.seq == d.seq - 1)
            .values(
                seq=d.seq,
                state=d.state,
                memory=d.memory,
                published=d.published,
                decided_close=(d.decision_time if d.trigger in ("bar", "start") else Contract.decided_close),
                head=sealed.hash,
            )
        )
        if done.rowcount != 1:
            raise SecondDeciderError(
                f"decision {d.seq} of {d.symbol} does not follow the newest in the store; another "
                f"process decides on this database: stop one of them"
            )
        heads[d.symbol] = hashes[d.symbol] = sealed.hash
        rows.append({**vars(columns), "record": record, **vars(sealed)})
    connection.execute(insert(DecisionRow).values({name: bindparam(name) for name in rows[0]}), rows)
    return hashes


def _day(decision: NewDecision) -> str:
    return day_of(decision.made_at)


def publication(connection: Connection) -> int:
    """The number of the newest publication."""
    return int(connection.scalars(select(Publication.version)).one())
