"""Decisions and closed days as parquet, for whoever wants to check or study them without the store.

One row a decision: the columns that its hash covers as they were hashed (times in seconds since 1970 UTC),
the three hashes, the record's text to the byte, and of each of the four values the rates (fractions of
notional) and the multiplier. One row a closed day: root, heads as JSON, hash of the day before, its own hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.atomic import written_whole
from models.margin.types import VALUES
from serving.audit.days import DayRoot
from serving.store.trail import StoredDecision

_ROWS = 2000
_RATES = ("base_rate", "required_rate", "served_rate", "multiplier")

DECISIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("symbol",)),
        ("seq", pa.int64()),
        ("decision_time", pa.int64()),
        ("made_at", pa.float64()),
        *((name, pa.string()) for name in ("trigger", "rung", "mode", "model_version")),
        *((name, pa.string()) for name in ("previous_hash", "record_hash", "hash", "record")),
        *((f"{side}_{kind}_{rate}", pa.float64()) for side, kind in VALUES for rate in _RATES),
    ]
)
DAYS = pa.schema([(name, pa.string()) for name in ("day", "root", "leaves", "previous_hash", "hash")])


def export_decisions(rows: Iterable[StoredDecision], out: Path) -> int:
    """Write decisions as they come; how many. Raises ``ValueError`` where one holds what no decision does."""
    waiting, written = iter(rows), 0
    with written_whole(out) as draft, pq.ParquetWriter(draft, DECISIONS, compression="zstd") as writer:
        while chunk := list(islice(waiting, _ROWS)):
            try:
                table = pa.Table.from_pylist([_flat(row) for row in chunk], DECISIONS)
            except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
                raise ValueError(
                    f"between {chunk[0].name} and {chunk[-1].name} a row holds what no decision does "
                    f"({error}); `audit verify` says which"
                ) from error
            writer.write_table(table)
            written += len(chunk)
    return written


def export_days(days: Sequence[DayRoot], out: Path) -> int:
    """Write closed days; how many."""
    with written_whole(out) as draft:
        pq.write_table(pa.Table.from_pylist([vars(d) for d in days], DAYS), draft)
    return len(days)


def _flat(row: StoredDecision) -> dict[str, Any]:
    hashes = {"previous_hash": row.previous_hash, "record_hash": row.record_hash, "hash": row.hash}
    return {**vars(row.columns), **hashes, "record": row.record, **dict(_rates(row.record))}


def _rates(record: str) -> Iterator[tuple[str, float]]:
    """The rates of a record, by column; none of one that is laid out otherwise."""
    try:
        for value in json.loads(record)["decision"]["values"]:
            for rate in _RATES:
                yield f"{value['side']}_{value['kind']}_{rate}", float(value[rate])
    except (ValueError, TypeError, KeyError):
        return
