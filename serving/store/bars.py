"""Bars in the store: added once each, refused where they contradict what stands, read back as arrays.

A bar is identified by source, interval, symbol and open time. Values are the columns of ``features.bars`` in
their order, float64; a column that a source lacks is null in the store and NaN in memory.

A bar is posted, or made by the server of trades or finer bars. The one that is stored first stands: one made
where a posted one stands is dropped, and one posted where a made one stands came too late (decisions may rest
on what was made), unless it says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, func, insert, select

from features.bars import VALUE_COLUMNS
from serving.store.tables import Bar

_VALUES = tuple(getattr(Bar, c) for c in VALUE_COLUMNS)
#: SQLite takes a bounded number of parameters a statement.
_SYMBOLS_A_QUERY = 500
_ROWS_AN_INSERT = 20_000


class ContradictionError(ValueError):
    """A bar differs from the one of the same identity that is stored. ``row`` counts within its symbol."""

    def __init__(
        self, symbol: str, open_time_s: int, row: int, column: str, stored: float | None, sent: float | None
    ) -> None:
        self.symbol, self.open_time_s, self.row = symbol, open_time_s, row
        self.column, self.stored, self.sent = column, stored, sent
        opened = pd.Timestamp(open_time_s, unit="s", tz="UTC").isoformat()
        super().__init__(
            f"bar {symbol} {opened} is stored with {column} = {stored}, and was sent with {column} = {sent}; "
            f"send a correction as another source, or leave the bar out"
        )


@dataclass(frozen=True)
class SymbolBars:
    """Bars of one symbol: close times (whole seconds, ascending) and values (row, column of
    ``VALUE_COLUMNS``)."""

    closes_s: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Added:
    """What of a batch was new, by symbol, and how many of its bars were stored already: the same, or others
    that the server had made (``late``)."""

    new: Mapping[str, SymbolBars]
    repeats: int
    late: int = 0


def as_arrays(table: pd.DataFrame, interval_s: int) -> SymbolBars:
    """A checked bar table as arrays; columns that it lacks become NaN."""
    closes_s: NDArray[np.int64] = (
        table["open_time"].to_numpy(dtype="datetime64[s]").astype("int64") + interval_s
    )
    return SymbolBars(closes_s, table.reindex(columns=list(VALUE_COLUMNS)).to_numpy(dtype="float64"))


def add_bars(
    connection: Connection,
    source: str,
    interval_s: int,
    bars: Mapping[str, SymbolBars],
    *,
    made: bool = False,
) -> Added:
    """Store the bars that are not there yet. Raises ``ContradictionError``, before anything is written, where
    one that was posted differs from one that was posted."""
    stored = dict(_stored(connection, source, interval_s, bars))
    new: dict[str, SymbolBars] = {}
    repeats = late = 0
    for symbol, batch in bars.items():
        fresh = np.ones(len(batch.closes_s), dtype=bool)
        known = stored.get(symbol, {})
        for row, close_s in enumerate(batch.closes_s.tolist()):
            there = known.get(close_s)
            if there is None:
                continue
            fresh[row] = False
            *values, there_made = there
            try:
                _refuse_difference(symbol, close_s - interval_s, row, tuple(values), batch.values[row])
            except ContradictionError:
                if not (made or there_made):
                    raise
                late += 1
            else:
                repeats += 1
        if fresh.any():
            new[symbol] = SymbolBars(batch.closes_s[fresh], batch.values[fresh])
    for rows in _rows(source, interval_s, new, made):
        connection.execute(insert(Bar), rows)
    return Added(new, repeats, late)


def read_bars(
    connection: Connection, source: str, interval_s: int, symbol: str, since_close_s: int
) -> SymbolBars:
    """The bars of one symbol that closed at or after ``since_close_s``, oldest first."""
    found = connection.execute(
        select(Bar.open_time, *_VALUES)
        .where(_of(source, interval_s), Bar.symbol == symbol, Bar.open_time >= since_close_s - interval_s)
        .order_by(Bar.open_time)
    ).all()
    times = np.array([row[0] for row in found], dtype="int64") + interval_s
    values = np.array([tuple(row[1:]) for row in found], dtype="float64").reshape(-1, len(VALUE_COLUMNS))
    return SymbolBars(times, values)


def read_closes(
    connection: Connection, source: str, interval_s: int, symbol: str, until_close_s: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Close times and close prices of all bars of a symbol that closed by ``until_close_s``, oldest first."""
    found = connection.execute(
        select(Bar.open_time, Bar.close)
        .where(_of(source, interval_s), Bar.symbol == symbol, Bar.open_time <= until_close_s - interval_s)
        .order_by(Bar.open_time)
    ).all()
    times = np.array([row[0] for row in found], dtype="int64") + interval_s
    return times, np.array([row[1] for row in found], dtype="float64")


def newest_close(connection: Connection, source: str, interval_s: int) -> int | None:
    """The newest close of any symbol, None before the first bar."""
    opened = connection.scalar(select(func.max(Bar.open_time)).where(_of(source, interval_s)))
    return None if opened is None else int(opened) + interval_s


def _of(source: str, interval_s: int):  # type: ignore[no-untyped-def]
    return and_(Bar.source == source, Bar.interval_s == interval_s)


def _stored(
    connection: Connection, source: str, interval_s: int, bars: Mapping[str, SymbolBars]
) -> Iterator[tuple[str, dict[int, tuple[Any, ...]]]]:
    """What is stored of each symbol between the first and last close of the batch, by close: values, then
    whether the bar was made."""
    symbols: Sequence[str] = list(bars)
    first = min(int(b.closes_s.min()) for b in bars.values()) - interval_s
    last = max(int(b.closes_s.max()) for b in bars.values()) - interval_s
    for start in range(0, len(symbols), _SYMBOLS_A_QUERY):
        part = symbols[start : start + _SYMBOLS_A_QUERY]
        found: dict[str, dict[int, tuple[Any, ...]]] = {s: {} for s in part}
        for row in connection.execute(
            select(Bar.symbol, Bar.open_time, *_VALUES, Bar.made).where(
                _of(source, interval_s), Bar.symbol.in_(part), Bar.open_time.between(first, last)
            )
        ):
            found[row[0]][row[1] + interval_s] = tuple(row[2:])
        yield from found.items()


def _refuse_difference(
    symbol: str,
    open_time_s: int,
    row: int,
    stored: tuple[float | None, ...],
    sent: NDArray[np.float64],
) -> None:
    for column, there, value in zip(VALUE_COLUMNS, stored, sent.tolist(), strict=True):
        here = None if np.isnan(value) else value
        if there != here:
            raise ContradictionError(symbol, open_time_s, row, column, there, here)


def _rows(
    source: str, interval_s: int, bars: Mapping[str, SymbolBars], made: bool
) -> Iterator[list[dict[str, object]]]:
    rows: list[dict[str, object]] = []
    for symbol, batch in bars.items():
        # null, not NaN: a comparison with NaN would call every repeat a contradiction.
        values = batch.values.astype(object)
        values[np.isnan(batch.values)] = None
        for close_s, row in zip(batch.closes_s.tolist(), values.tolist(), strict=True):
            rows.append(
                {
                    "source": source,
                    "interval_s": interval_s,
                    "symbol": symbol,
                    "open_time": close_s - interval_s,
                    "made": made,
                    **dict(zip(VALUE_COLUMNS, row, strict=True)),
                }
            )
            if len(rows) >= _ROWS_AN_INSERT:
                yield rows
                rows = []
    if rows:
        yield rows
