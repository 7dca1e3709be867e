"""What trades and books say of a bar beyond the bar contract, in the store: one row a bar and kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select

from serving.store.tables import BarDetail


def save_details(
    connection: Connection,
    source: str,
    interval_s: int,
    kind: str,
    symbol: str,
    closes_s: NDArray[np.int64],
    columns: Mapping[str, NDArray[np.float64]],
) -> None:
    """Store the values of each bar by column, in the place of those that are there. NaN becomes null."""
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
    values = {name: column.tolist() for name, column in columns.items()}
    connection.execute(
        insert(BarDetail),
        [
            {
                "source": source,
                "interval_s": interval_s,
                "symbol": symbol,
                "open_time": open_s,
                "kind": kind,
                # NaN is no JSON, and the only number that differs from itself.
                "content": {name: v[row] if v[row] == v[row] else None for name, v in values.items()},
            }
            for row, open_s in enumerate(opened)
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
        select(BarDetail.open_time, BarDetail.content).where(
            BarDetail.source == source,
            BarDetail.interval_s == interval_s,
            BarDetail.symbol == symbol,
            BarDetail.open_time >= since_close_s - interval_s,
        )
    ).all()
    opened = np.unique(np.array([row[0] for row in found], dtype="int64"))
    row_of = {open_s: row for row, open_s in enumerate(opened.tolist())}
    place = {name: at for at, name in enumerate(columns)}
    values = np.full((len(opened), len(columns)), np.nan)
    for open_s, content in found:
        for name, value in content.items():
            if value is not None and name in place:
                values[row_of[open_s], place[name]] = value
    return opened + interval_s, values
