"""Snapshots of order books from parquet files, read piece by piece.

Columns: ``timestamp`` (UTC), ``bid_px_i, bid_sz_i, ask_px_i, ask_sz_i`` for i = 0, 1, ... (best first; best
quotes are one level), and, where a file holds several tapes, ``symbol`` and ``market``. Other columns are
passed over. A level that is not there is null, or has size 0. Within a tape the rows are in order of time.

A file may be larger than memory: one batch of rows is held at a time, and of the file as much as its own row
groups ask for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.bars import BarError
from features.books.bars import HOLE, BookBars, Closed, book_table
from features.books.checks import FIRST_NS, LAST_NS, check_books
from features.books.measures import Kinds
from features.books.snapshots import SIDES, Books, Whole
from features.columns import BOOK_LEVELS

#: Rows held at a time: 40 columns of them are some 5 MB.
BATCH_ROWS = 16_384
#: Columns that tell tapes in one file apart.
TAPE_COLUMNS = ("symbol", "market")

_UTC = {"UTC", "Etc/UTC", "+00:00", "Z"}
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass
class Counts:
    """What was read of a tape: snapshots by kind, and the holes between them longer than ``hole``."""

    hole: pd.Timedelta = HOLE
    snapshots: int = 0
    locked: int = 0
    crossed: int = 0
    one_sided: int = 0
    empty: int = 0
    holes: int = 0
    longest_hole: pd.Timedelta = field(default_factory=lambda: pd.Timedelta(0))

    def add(self, books: Books, after_ns: int | None) -> None:
        kinds = Kinds.of(books)
        self.snapshots += len(books)
        for name in ("locked", "crossed", "one_sided", "empty"):
            setattr(self, name, getattr(self, name) + int(getattr(kinds, name).sum()))
        steps = np.diff(books.time_ns, prepend=books.time_ns[:1] if after_ns is None else after_ns)
        self.holes += int((steps > self.hole.value).sum())
        longest = pd.Timedelta(int(steps.max(initial=0)), unit="ns")
        if longest > self.hole:
            self.longest_hole = max(self.longest_hole, longest)


def tapes_in(path: Path) -> list[dict[str, str]]:
    """The tapes in a file: what ``symbol`` and ``market`` of each are; one without either where the file has
    no such column. Raises ``BarError`` where the file cannot be read, or a row does not say its tape."""
    file = _open(path)
    names = [c for c in TAPE_COLUMNS if c in file.schema_arrow.names]
    found: dict[tuple[str, ...], None] = {}
    for batch in file.iter_batches(BATCH_ROWS, columns=names) if names else ():
        for row in pa.Table.from_batches([batch]).group_by(names).aggregate([]).to_pylist():
            for name in names:
                if row[name] is None:
                    raise BarError(
                        str(path),
                        f"{name} is missing in some rows",
                        "name the tape of every row",
                        column=name,
                    )
            found.setdefault(tuple(str(row[name]) for name in names))
    return [dict(zip(names, values, strict=True)) for values in found] if names else [{}]


def read_books(
    path: Path, tape: Mapping[str, str] | None = None, after_ns: int | None = None, rows: int = BATCH_ROWS
) -> Iterator[Books]:
    """The checked snapshots of one tape, some ``rows`` at a time.

    Args:
        path: the file.
        tape: the ``symbol`` and ``market`` to read, one of ``tapes_in``; None where the file holds one.
        after_ns: the time of the last snapshot before this file, where there is one.

    Raises:
        BarError: naming file, row, column, value, rule and remedy, see the module and ``check_books``; where
            the file holds several tapes and ``tape`` does not say which.
    """
    where, file = str(path), _open(path)
    levels = _levels(file.schema_arrow, where)
    unit = _time_unit(file.schema_arrow, where)
    tapes = tapes_in(path)
    chosen = [t for t in tapes if tape is None or all(t.get(k) == v for k, v in tape.items() if k in t)]
    if len(chosen) != 1:
        raise BarError(
            where,
            f"the file holds {len(chosen)} tapes that are {dict(tape or {})}, and {tapes[:20]} in all",
            "say which one: its symbol, and its market where that differs",
        )
    columns = ["timestamp", *(f"{side}_{i}" for i in range(levels) for side in SIDES), *chosen[0]]
    first = 0
    for batch in file.iter_batches(rows, columns=columns):
        mask = np.ones(len(batch), dtype=bool)
        for name, value in chosen[0].items():
            mask &= np.asarray(pc.equal(batch[name].cast(pa.string()), value).fill_null(False))
        numbers = first + np.flatnonzero(mask)
        first += len(batch)
        if not len(numbers):
            continue
        table = batch.filter(pa.array(mask))
        time_ns = _nanoseconds(table["timestamp"], unit, where, numbers)
        sides = (np.stack([_numbers(table[f"{side}_{i}"]) for i in range(levels)], axis=1) for side in SIDES)
        books = check_books(Books(time_ns, *sides), where, rows=numbers, after_ns=after_ns)
        after_ns = int(books.time_ns[-1])
        yield books


def book_columns(
    paths: Sequence[Path], interval: pd.Timedelta, tape: Mapping[str, str] | None, counts: Counts
) -> Iterator[Closed]:
    """The rows of one tape as ``features.books`` closes them, piece by piece.

    Args:
        paths: files of the tape, oldest first.
        interval: the bar length.
        tape: which one, where the files hold several.
        counts: goes on counting what is read; its ``hole`` is that of ``BookBars``.

    The newest bar is given last, as far as it is known. Raises ``BarError`` as ``read_books`` does, and where
    there are no snapshots.
    """
    if not paths:
        raise ValueError("no files of snapshots given; give at least one")
    levels = min(BOOK_LEVELS[-1], *(_levels(_open(p).schema_arrow, str(p)) for p in paths))
    bars, after_ns = BookBars(interval, levels, counts.hole), None
    for path in paths:
        for books in read_books(path, tape, after_ns):
            counts.add(books, after_ns)
            after_ns = int(books.time_ns[-1])
            yield bars.add(books)
    if after_ns is None:
        raise BarError(str(paths[0]), "the files hold no snapshots", "leave them out")
    yield bars.finish()


def read_book_columns(
    paths: Sequence[Path],
    interval: pd.Timedelta,
    tape: Mapping[str, str] | None = None,
    hole: pd.Timedelta = HOLE,
) -> tuple[pd.DataFrame, Counts]:
    """All of ``book_columns`` as one table with ``open_time``, and what was counted."""
    counts = Counts(hole)
    return book_table(joined(list(book_columns(paths, interval, tape, counts)))), counts


def joined(pieces: Sequence[Closed]) -> Closed:
    """Closed rows, one piece after the other."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise BarError(
            str(path), f"the file cannot be read as parquet ({reason})", "write it again from its source"
        ) from error


def _levels(schema: pa.Schema, where: str) -> int:
    """How many levels the file has."""
    names = set(schema.names)
    given = {side: {int(m[1]) for n in names if (m := re.fullmatch(rf"{side}_(\d+)", n))} for side in SIDES}
    levels = len(given[SIDES[0]])
    for side in SIDES:
        if not levels or given[side] != set(range(levels)):
            raise BarError(
                where,
                f"its columns {side}_i have i = {sorted(given[side])}, not 0 to {max(levels, 1) - 1}",
                "give bid_px_i, bid_sz_i, ask_px_i and ask_sz_i for the same levels i, best first from 0",
            )
        for i in range(levels):
            kind = schema.field(f"{side}_{i}").type
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
                raise BarError(where, f"column {side}_{i} is {kind}, not numeric", "give plain numbers")
    return levels


def _time_unit(schema: pa.Schema, where: str) -> str:
    """The unit of ``timestamp``."""
    if "timestamp" not in schema.names:
        raise BarError(where, "column timestamp is missing", "name the times of the snapshots so")
    kind = schema.field("timestamp").type
    if not pa.types.is_timestamp(kind):
        raise BarError(
            where,
            f"column timestamp is {kind}, which does not tell its unit",
            "write timestamps: pd.to_datetime(numbers, unit='ms', utc=True)",
        )
    if kind.tz not in _UTC:
        raise BarError(
            where,
            f"the time zone of column timestamp is {kind.tz}, not UTC",
            "give UTC times: table['timestamp'].dt.tz_localize(zone).dt.tz_convert('UTC')",
        )
    return str(kind.unit)


def _nanoseconds(times: pa.Array, unit: str, where: str, rows: Whole) -> Whole:
    """Nanoseconds since 1970. A time that is impossible is refused here, in its own unit: in nanoseconds it
    may not exist."""
    numbers = np.asarray(times.cast(pa.int64()).fill_null(np.iinfo("int64").min))
    size = _NS[unit]
    broken = (numbers < FIRST_NS // size) | (numbers >= LAST_NS // size)
    if broken.any():
        first = int(broken.argmax())
        missing = not times[first].is_valid
        raise BarError(
            where,
            "the time is missing" if missing else "the time is not between 2009 and 2100",
            "check the unit of the times: seconds, milliseconds, microseconds or nanoseconds",
            row=int(rows[first]),
            column="timestamp",
            value=None if missing else f"{numbers[first]} {unit} since 1970",
            count=int(broken.sum()),
        )
    return numbers * size


def _numbers(values: pa.Array) -> np.ndarray:
    """float64, NaN where null."""
    return np.asarray(values.cast(pa.float64()).fill_null(np.nan))
