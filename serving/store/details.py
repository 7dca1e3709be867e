"""What trades and books say of a bar beyond the bar contract, in the store: one row a bar and kind.

A row has its values as bytes and the number of its layout, which says the columns; a version of this program
that computes other columns adds another layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, insert, select

from serving.store.tables import BarDetail, DetailLayout


@dataclass(frozen=True)
class Details:
    """Columns of some bars of one symbol: closes (whole seconds, ascending), values by column (NaN where
    unknown)."""

    symbol: str
    kind: str
    closes_s: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]


def save_details(connection: Connection, source: str, interval_s: int, details: Iterable[Details]) -> None:
    """Store the columns of bars, in the place of those of the same kind that are there."""
    layouts: dict[tuple[str, ...], int] = {}
    rows = []
    for d in details:
        if not len(d.closes_s):
            continue
        names = tuple(d.columns)
        if names not in layouts:
            layouts[names] = _layout(connection, list(names))
        values = np.stack([d.columns[n] for n in names], axis=1).astype("<f8")
        rows += [
            {
                "source": source,
                "interval_s": interval_s,
                "symbol": d.symbol,
                "open_time": open_s,
                "kind": d.kind,
                "layout": layouts[names],
                "content": own.tobytes(),
            }
            for open_s, own in zip((d.closes_s - interval_s).tolist(), values, strict=True)
        ]
    if rows:
        key = ("source", "interval_s", "symbol", "open_time", "kind")
        # Many rows by one statement: this is done for all symbols at each close.
        connection.execute(
            delete(BarDetail).where(*(getattr(BarDetail, n) == bindparam(f"own_{n}") for n in key)),
            [{f"own_{n}": row[n] for n in key} for row in rows],
        )
        connection.execute(insert(BarDetail), rows)


def read_details(
    connection: Connection,
    source: str,
    interval_s: int,
    symbol: str,
    since_close_s: int,
    columns: Sequence[str],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Closes (ascending) and values (close, column) of one symbol's bars that closed at or after
    ``since_close_s``; NaN where nothing is known. A stored column that is not asked for is left out."""
    found = connection.execute(
        select(BarDetail.open_time, BarDetail.layout, BarDetail.content).where(
            BarDetail.source == source,
            BarDetail.interval_s == interval_s,
            BarDetail.symbol == symbol,
            BarDetail.open_time >= since_close_s - interval_s,
        )
    ).all()
    opened = np.array([row[0] for row in found], dtype="int64")
    layouts = np.array([row[1] for row in found], dtype="int64")
    distinct = np.unique(opened)
    values = np.full((len(distinct), len(columns)), np.nan)
    for layout, names in _layouts(connection).items():
        here = np.flatnonzero(layouts == layout).tolist()
        if not here:
            continue
        stored = np.frombuffer(b"".join(found[i][2] for i in here), "<f8").reshape(len(here), len(names))
        rows = np.searchsorted(distinct, opened[here])
        for at, name in enumerate(names):
            if name in columns:
                values[rows, columns.index(name)] = stored[:, at]
    return distinct + interval_s, values


def forget_details(connection: Connection, source: str, interval_s: int, before_close_s: int) -> None:
    """Leave out what is older; it can be made again from trades and books."""
    connection.execute(
        delete(BarDetail).where(
            BarDetail.source == source,
            BarDetail.interval_s == interval_s,
            BarDetail.open_time < before_close_s - interval_s,
        )
    )


def _layouts(connection: Connection) -> dict[int, list[str]]:
    return {row[0]: row[1] for row in connection.execute(select(DetailLayout.id, DetailLayout.columns))}


def _layout(connection: Connection, names: list[str]) -> int:
    """The number of these columns, a new one where they were never stored."""
    for number, there in _layouts(connection).items():
        if there == names:
            return number
    made = connection.execute(insert(DetailLayout).values(columns=names))
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])
