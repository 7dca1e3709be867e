"""Trades and snapshots on their way into bars, in the store: accepted batches, and how far each symbol is.

A batch is a header of JSON (names, types and shapes of its arrays) and their bytes, compressed. Nothing that
is read from it runs as code.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, insert, select

from serving.store.tables import TapeBatch, TapeState

#: Arrays of one length by name; ``time_us`` is one of them.
Rows = Mapping[str, NDArray[Any]]

#: Types that a batch may hold: little-endian int64 and float64, and truth values.
_TYPES = ("<i8", "<f8", "|b1")
_HEADER_BYTES = 4


def packed(rows: Rows) -> bytes:
    """The arrays as bytes. Raises ``ValueError`` for a type that is not stored."""
    arrays = {name: np.ascontiguousarray(a) for name, a in rows.items()}
    strange = {name: a.dtype.str for name, a in arrays.items() if a.dtype.str not in _TYPES}
    if strange:
        raise ValueError(f"arrays are of types {strange}; store {_TYPES} only")
    header = json.dumps([[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()]).encode()
    body = b"".join(a.tobytes() for a in arrays.values())
    # The fastest level: it halves ids and times, and costs less than writing them.
    return zlib.compress(len(header).to_bytes(_HEADER_BYTES, "little") + header + body, 1)


def unpacked(content: bytes) -> dict[str, NDArray[Any]]:
    """What ``packed`` packed; arrays of their own. Raises ``ValueError`` where the bytes are no batch."""
    try:
        data = zlib.decompress(content)
        at = _HEADER_BYTES + int.from_bytes(data[:_HEADER_BYTES], "little")
        rows = {}
        for name, kind, shape in json.loads(data[_HEADER_BYTES:at]):
            if kind not in _TYPES:
                raise ValueError(f"type {kind} is not known")
            array = np.frombuffer(data, kind, int(np.prod(shape)), at).reshape(shape).copy()
            rows[name] = array
            at += array.nbytes
    except (zlib.error, TypeError, KeyError) as error:
        raise ValueError(f"the batch cannot be read ({error}); the store is damaged") from error
    return rows


def add_batches(connection: Connection, kind: str, batches: Mapping[str, Rows]) -> None:
    """Store one batch a symbol."""
    if batches:
        connection.execute(
            insert(TapeBatch),
            [
                {
                    "kind": kind,
                    "symbol": symbol,
                    "last_us": int(rows["time_us"].max()),
                    "content": packed(rows),
                }
                for symbol, rows in batches.items()
            ],
        )


def read_batches(connection: Connection, kind: str) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """Every batch that is still there with its symbol, in the order of their arrival."""
    found = connection.execute(
        select(TapeBatch.symbol, TapeBatch.content).where(TapeBatch.kind == kind).order_by(TapeBatch.id)
    )
    for symbol, content in found:
        yield symbol, unpacked(content)


def drop_batches(connection: Connection, before_us: Mapping[tuple[str, str], int]) -> None:
    """Forget the batches of each kind and symbol that are older as a whole."""
    if before_us:
        connection.execute(
            delete(TapeBatch).where(
                TapeBatch.kind == bindparam("own_kind"),
                TapeBatch.symbol == bindparam("own_symbol"),
                TapeBatch.last_us < bindparam("before_us"),
            ),
            [
                {"own_kind": kind, "own_symbol": symbol, "before_us": time_us}
                for (kind, symbol), time_us in before_us.items()
            ],
        )


def save_tapes(connection: Connection, states: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """Put the state of each kind and symbol in the place of the one before."""
    if states:
        connection.execute(
            delete(TapeState).where(
                TapeState.kind == bindparam("own_kind"), TapeState.symbol == bindparam("own_symbol")
            ),
            [{"own_kind": kind, "own_symbol": symbol} for kind, symbol in states],
        )
        connection.execute(
            insert(TapeState),
            [{"kind": kind, "symbol": symbol, "state": state} for (kind, symbol), state in states.items()],
        )


def read_tapes(connection: Connection, kind: str) -> dict[str, dict[str, Any]]:
    """The state of every tape of a kind, by symbol."""
    found = connection.execute(select(TapeState.symbol, TapeState.state).where(TapeState.kind == kind))
    return {row[0]: row[1] for row in found}
