"""What of a decision its hash covers: every column of its row but the row's number, and its record's hash.

The record (inputs, forecast, rules) is large and stays out of the link; its SHA-256 goes in. So a chain can
be checked without the records, and a record by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.audit.chain import CanonicalText, digest, genesis, link


@dataclass(frozen=True)
class Columns:
    """The columns of a decision's row that stand beside its record (``serving.store.tables.DecisionRow``)."""

    symbol: str
    seq: int
    decision_time: int | None
    made_at: float
    trigger: str
    rung: str
    mode: str
    model_version: str


@dataclass(frozen=True)
class Seal:
    """``previous_hash`` is the hash of the contract's decision before, its genesis for the first that has
    one; ``record_hash`` the SHA-256 of the record's text; ``hash`` binds both and the columns."""

    previous_hash: str
    record_hash: str
    hash: str


def domain(symbol: str) -> str:
    """The domain of a contract's chain."""
    return f"foremargin.decision/1 {symbol}"


def seal(columns: Columns, record: CanonicalText, previous: str | None) -> Seal:
    """Bind a decision to the one with the hash ``previous``; None begins the contract's chain."""
    before = genesis(domain(columns.symbol)) if previous is None else previous
    record_hash = digest(record)
    return Seal(before, record_hash, hash_of(columns, before, record_hash))


def hash_of(columns: Columns, previous_hash: str, record_hash: str) -> str:
    """The hash of a decision. Raises what ``serving.audit.chain.link`` raises."""
    # Written out, not vars(): a field that is added to the class must not change the hashes that stand.
    content = {
        "symbol": columns.symbol,
        "seq": columns.seq,
        "decision_time": columns.decision_time,
        "made_at": columns.made_at,
        "trigger": columns.trigger,
        "rung": columns.rung,
        "mode": columns.mode,
        "model_version": columns.model_version,
        "record_sha256": record_hash,
    }
    return link(domain(columns.symbol), previous_hash, content)


def is_sealed(
    columns: Columns, record: str, previous_hash: str | None, record_hash: str | None, own: str | None
) -> bool:
    """Whether row and record are those that were hashed."""
    if previous_hash is None or record_hash is None:
        return False
    try:
        return digest(record) == record_hash and hash_of(columns, previous_hash, record_hash) == own
    except (ValueError, TypeError):
        return False
