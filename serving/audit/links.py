"""One contract's chain, row by row: is each the one that was stored, and does it follow the one before?

Where a row's hash does not fit, what was stored is looked for: the record's own words, the hash of the row
before, the row's place in the count. The one that makes the hash fit again names the column that was altered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from serving.audit.chain import canonical, digest, genesis, is_hash
from serving.audit.defects import Defect, Part
from serving.audit.seal import Columns, domain, hash_of
from serving.store.decisions import TRIGGERS
from serving.store.trail import StoredDecision

_FROM_RECORD = {
    "decision_time": "bar_close_s",
    "made_at": "decided_at_s",
    "rung": "rung",
    "mode": "mode",
    "model_version": "model_version",
}


@dataclass(frozen=True)
class Restored:
    """The one column of a row with which its hash fits: what it says, and what it was."""

    name: str
    says: Any
    was: Any


@dataclass
class Chain:
    """How far a contract's chain was followed.

    Attributes:
        symbol, symbols: the contract, and all that there are.
        seq: number of the newest row.
        before: how many rows are older than the chain.
        stored, right: the hash of the newest row as stored, and as it should be; None before the chain began.
    """

    symbol: str
    symbols: Collection[str] = ()
    seq: int = 0
    before: int = 0
    stored: str | None = None
    right: str | None = None

    def follow(self, row: StoredDecision, decision: Mapping[str, Any] | None) -> Iterator[Defect]:
        """What is wrong with the next row. ``decision`` is what its record says was decided, None where it
        cannot be read."""
        columns = row.columns
        own = _hash(columns, row.previous_hash, row.record_hash)
        expected = self._expected()
        restored = None
        if row.hash is not None and own != row.hash:
            restored = self._restored(row, decision, expected)
        if restored is not None and restored.name == "symbol":
            yield Defect(self.symbol, columns.seq, "columns altered", _says(restored))
            return
        seq = restored.was if restored is not None and restored.name == "seq" else columns.seq
        if not isinstance(seq, int) or seq <= self.seq:
            words = f"row {row.id} has the number {seq!r} after {self.seq}"
            yield Defect(self.symbol, self.seq + 1, "out of order", words)
            return
        gap = seq > self.seq + 1
        if gap:
            yield Defect(self.symbol, self.seq + 1, "row missing", _missing(self.seq + 1, seq - 1))
        self.seq = seq
        follows = gap or row.previous_hash in expected
        yield from self._hashed(row, own, restored, expected if not follows else ())
        if decision is not None and (restored is None or restored.name not in _FROM_RECORD):
            for other in _differences(columns, decision):
                words = f"{other.name} is {other.says!r}, the record has {other.was!r}"
                yield self._defect("columns differ from record", words)

    def finish(self, seq: int, head: str | None) -> Iterator[Defect]:
        """What is wrong between the last row and what the contract says of its newest decision."""
        if seq > self.seq:
            words = f"{_missing(self.seq + 1, seq)}, at the end"
            yield Defect(self.symbol, self.seq + 1, "row missing", words)
        elif seq < self.seq:
            words = f"it counts {seq} decisions and has {self.seq}"
            yield Defect(self.symbol, None, "contract altered", words)
        elif head not in (self.stored, self.right):
            words = f"its head is {_short(head)}, its newest decision's hash {_short(self.stored)}"
            yield Defect(self.symbol, None, "contract altered", words)

    def _hashed(
        self, row: StoredDecision, own: str | None, restored: Restored | None, broken: tuple[str, ...]
    ) -> Iterator[Defect]:
        """What the row's hashes say; ``broken`` is what it should follow where it does not."""
        hashes = {"previous_hash": row.previous_hash, "record_hash": row.record_hash, "hash": row.hash}
        lacking = [name for name, value in hashes.items() if value is None]
        if len(lacking) == len(hashes) and self.stored is None:
            self.before += 1
            return
        self.stored = self.right = row.hash
        if lacking:
            yield self._defect("hash missing", f"{', '.join(lacking)} of a row in the chain")
        elif restored is not None:
            name = restored.name
            yield self._defect("hash altered" if name in hashes else "columns altered", _says(restored))
            if not _is_record(row) and name != "record_hash":
                yield self._defect("record altered", _altered_text(row))
        elif own != row.hash:
            # The row after knows which hash stood here.
            self.right = own
            whole = _is_record(row)
            words = (
                f"hash {_short(row.hash)} does not fit the row, whose columns and record give {_short(own)}"
            )
            yield self._defect(
                "hash altered" if whole else "record altered",
                words if whole else f"{_altered_text(row)}; {words}",
            )
        else:
            if not _is_record(row):
                yield self._defect("record altered", _altered_text(row))
            if broken:
                yield self._defect(
                    "link broken",
                    f"it follows {_short(row.previous_hash)}, and the decision before it has "
                    f"{_short(broken[0])}: one of the two was put in another's place",
                )

    def _restored(
        self, row: StoredDecision, decision: Mapping[str, Any] | None, expected: tuple[str, ...]
    ) -> Restored | None:
        columns, previous, record = row.columns, row.previous_hash, row.record_hash
        for right in expected:
            if right != previous and _hash(columns, right, record) == row.hash:
                return Restored("previous_hash", _short(previous), _short(right))
        there = _digest(row.record)
        if there != record and _hash(columns, previous, there) == row.hash:
            return Restored("record_hash", _short(record), _short(there))
        tried: list[Restored] = [
            *(() if decision is None else _differences(columns, decision)),
            *(Restored("trigger", columns.trigger, t) for t in TRIGGERS),
            Restored("seq", columns.seq, self.seq + 1),
            *(Restored("symbol", columns.symbol, s) for s in self.symbols),
        ]
        for one in tried:
            if _hash(replace(columns, **{one.name: one.was}), previous, record) == row.hash:
                return one
        return None

    def _expected(self) -> tuple[str, ...]:
        """What the next row may follow, the likelier first."""
        if self.stored is None and self.right is None:
            return (genesis(domain(self.symbol)),)
        return tuple(h for h in dict.fromkeys((self.right, self.stored)) if h is not None)

    def _defect(self, part: Part, what: str) -> Defect:
        return Defect(self.symbol, self.seq, part, what)


def _differences(columns: Columns, decision: Mapping[str, Any]) -> Iterator[Restored]:
    """Where a column says other than the record."""
    for name, key in _FROM_RECORD.items():
        says, told = getattr(columns, name), decision.get(key)
        stored_as = {"decision_time": int, "made_at": float}.get(name)
        if stored_as is not None and isinstance(told, int | float) and math.isfinite(told):
            told = stored_as(told)
        if type(says) is not type(told) or says != told:
            yield Restored(name, says, told)


def _says(restored: Restored) -> str:
    return f"{restored.name} is {restored.says!r}, was {restored.was!r}"


def _missing(first: int, last: int) -> str:
    return f"{first} is not there" if first == last else f"{first} to {last} are not there"


def _hash(columns: Columns, previous: str | None, record: str | None) -> str | None:
    """The hash of a row, None where its values are none that a decision could have."""
    if not is_hash(record) or previous is None or record is None:
        return None
    try:
        return hash_of(columns, previous, record)
    except (ValueError, TypeError):
        return None


def _digest(text: Any) -> str | None:
    try:
        return digest(text)
    except (AttributeError, UnicodeEncodeError):
        return None


def _is_record(row: StoredDecision) -> bool:
    return _digest(row.record) == row.record_hash


def _altered_text(row: StoredDecision) -> str:
    try:
        same = digest(canonical(json.loads(row.record))) == row.record_hash
    except (ValueError, TypeError, RecursionError):
        return "it is not JSON any more"
    if same:
        return "its text was written anew, with the same content"
    return f"its SHA-256 is {_short(_digest(row.record))}, was {_short(row.record_hash)}"


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) else repr(value)
