"""Decisions in the store: the decision, the state it leaves and the answer it publishes, all or none of
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from serving.store.tables import Contract, DecisionRow, Publication

#: What asked for a decision: its bar, another contract's bar while its own is missing, time passing, a new
#: model, or the start of a server that had no decision yet.
TRIGGERS = ("bar", "gap", "tick", "model", "start")


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


def read_contracts(connection: Connection) -> list[StoredContract]:
    """Every contract, the leader first."""
    columns = (
        Contract.symbol,
        Contract.seq,
        Contract.decided_close,
        Contract.state,
        Contract.memory,
        Contract.published,
    )
    return [StoredContract(*row) for row in connection.execute(select(*columns).order_by(Contract.position))]


def save_decisions(connection: Connection, decisions: Sequence[NewDecision]) -> int:
    """Store decisions with the states that they leave; returns the number of the publication they make.

    Raises ``SecondDeciderError`` where a contract's newest decision is not the one before this.
    """
    for d in decisions:
        done = connection.execute(
            update(Contract)
            .where(Contract.symbol == d.symbol, Contract.seq == d.seq - 1)
            .values(
                seq=d.seq,
                state=d.state,
                memory=d.memory,
                published=d.published,
                decided_close=(d.decision_time if d.trigger in ("bar", "start") else Contract.decided_close),
            )
        )
        if done.rowcount != 1:
            raise SecondDeciderError(
                f"decision {d.seq} of {d.symbol} does not follow the newest in the store; another "
                f"process decides on this database: stop one of them"
            )
    connection.execute(
        insert(DecisionRow).values(
            {
                name: bindparam(name)
                for name in (
                    *("symbol", "seq", "decision_time", "made_at", "trigger"),
                    *("rung", "mode", "model_version", "record"),
                )
            }
        ),
        [
            {
                "symbol": d.symbol,
                "seq": d.seq,
                "decision_time": d.decision_time,
                "made_at": d.made_at,
                "trigger": d.trigger,
                "rung": d.rung,
                "mode": d.mode,
                "model_version": d.model_version,
                "record": d.record,
            }
            for d in decisions
        ],
    )
    connection.execute(update(Publication).values(version=Publication.version + 1))
    return publication(connection)


def publication(connection: Connection) -> int:
    """The number of the newest publication."""
    return int(connection.scalars(select(Publication.version)).one())
