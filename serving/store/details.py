"""What trades and books say of a bar beyond the bar contract, in the store: one row a bar and kind.

A row has its values as bytes and the number of its layout, which says the columns; a version of this program
that computes other columns adds another layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select

from serving.store.tables import BarDetail, DetailLayout


def save_details(
    connection: Connection,
    source: str,
    interval_s: int,
    kind: str,
    symbol: str,
    closes_s: NDArray[np.int64],
    columns: Mapping[str, NDArray[np.float64]],
) -> None:
    """Store the values of each bar by column (closes ascending), in the place of those that are there."""
    if not len(closes_s):
        return
    opened = (closes_s - interval_s).tolist()
    connection.execute(
        delete(BarDetail).where(
            BarDetail.source == source,
            BarDetail.interval_s == interval_s,
            BarDetail.symbol == symbol,
            BarDetail.kind == kind,
            BarDetail.open_time.between(opened[0], opened[-1]),
        )
    )
    layout = _layout(connection, list(columns))
    values = np.stack([columns[name] for name in columns], axis=1).astype("<f8")
    connection.execute(
        insert(BarDetail),
        [
            {
                "source": source,
                "interval_s": interval_s,
                "symbol": symbol,
                "open_time": open_s,
                "kind": kind,
                "layout": layout,
                "content": row.tobytes(),
            }
            for open_s, row in zip(opened, values, strict=True)
        ],
    )


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
