"""Files of order-book snapshots into book columns of bars, alone or beside the bars themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from features.atomic import written_whole
from features.books.bars import HOLE, Closed
from features.commands.replacing import refuse_existing
from features.durations import format_duration
from features.sources.books import Counts, book_columns, joined, read_book_columns, tapes_in
from features.sources.join import with_tables
from features.sources.parquet import read_folder, write_folder

#: Rows of a row group, and as many are held before they are written.
_GROUP = 50_000


def make_book_columns(
    files: Sequence[Path],
    interval: pd.Timedelta,
    out: Path,
    *,
    symbol: str | None = None,
    market: str | None = None,
    hole: pd.Timedelta = HOLE,
    bars: Path | None = None,
    replace: bool = False,
) -> list[str]:
    """Write ``SYMBOL.parquet`` into ``out`` and say of each what was counted.

    Args:
        files: snapshots, oldest first, see ``features.sources.books``.
        interval: the bar length.
        out: the folder.
        symbol: which tape, and its name where the files hold none; None takes every symbol of the files.
        market: which tape, where the files hold the same symbol of several markets.
        hole: how long a book stands when no other follows.
        bars: a folder of bars of that interval, all of which are written with the columns beside them; None
            writes the book columns alone, piece by piece: memory does not grow with the files.
        replace: whether files that are there may be replaced.

    All files are written or none. Raises ``BarError``, and ``ValueError`` where no tape is as told or a file
    is there already.
    """
    tapes = _tapes(files, symbol, market)
    if bars is not None:
        return _beside_bars(files, interval, out, tapes, hole, bars, replace)
    paths = {name: out / f"{name}.parquet" for name in tapes}
    refuse_existing(paths.values(), replace)
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    try:
        # The files take their places together, when the last of them is whole.
        with ExitStack() as drafts:
            for name, tape in tapes.items():
                draft = drafts.enter_context(written_whole(paths[name]))
                lines.append(_written(draft, paths[name], files, interval, tape, Counts(hole)))
    except BaseException:
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
    return lines


def _beside_bars(
    files: Sequence[Path],
    interval: pd.Timedelta,
    out: Path,
    tapes: dict[str, dict[str, str]],
    hole: pd.Timedelta,
    bars: Path,
    replace: bool,
) -> list[str]:
    beneath = read_folder(bars, interval)
    refuse_existing((out / f"{name}.parquet" for name in beneath.symbols), replace)
    read = {name: read_book_columns(files, interval, tape, hole) for name, tape in tapes.items()}
    write_folder(with_tables(beneath, {name: table for name, (table, _) in read.items()}), out)
    lines = []
    for name, (table, counts) in read.items():
        first, last = table["open_time"].iloc[0], table["open_time"].iloc[-1]
        lines.append(_told(out / f"{name}.parquet", first, last, len(table), interval, counts))
    return lines


def _tapes(files: Sequence[Path], symbol: str | None, market: str | None) -> dict[str, dict[str, str]]:
    """The tapes to read, by the symbol to write."""
    held = {tuple(sorted(tape.items())): tape for path in files for tape in tapes_in(path)}
    told = {k: v for k, v in (("symbol", symbol), ("market", market)) if v is not None}
    chosen = [t for t in held.values() if all(t.get(k, v) == v for k, v in told.items())]
    names = [tape.get("symbol", symbol) for tape in chosen]
    if None in names:
        raise ValueError(f"{files[0]} does not say its symbol (no such column); give --symbol")
    if not chosen or len(set(names)) < len(names):
        raise ValueError(
            f"the files hold the tapes {list(held.values())[:20]}, of which {len(chosen)} are asked for; "
            f"give --symbol, and --market where a symbol is in several, so that each symbol has one"
        )
    return {str(name): tape for name, tape in zip(names, chosen, strict=True)}


def _written(
    draft: Path,
    path: Path,
    files: Sequence[Path],
    interval: pd.Timedelta,
    tape: dict[str, str],
    counts: Counts,
) -> str:
    """Write the columns of one tape in row groups, and tell of them as of ``path``."""
    bars, edges = 0, []
    writer: pq.ParquetWriter | None = None
    with ExitStack() as file:
        for group in _groups(_watched(files, interval, tape, counts)):
            table = _arrow(group)
            writer = writer or file.enter_context(pq.ParquetWriter(draft, table.schema))
            writer.write_table(table)
            bars += len(table)
            edges += [pd.Timestamp(group["open_time_ns"][0]), pd.Timestamp(group["open_time_ns"][-1])]
    return _told(path, edges[0], edges[-1], bars, interval, counts)


def _watched(
    files: Sequence[Path], interval: pd.Timedelta, tape: dict[str, str], counts: Counts
) -> Iterator[Closed]:
    """``book_columns``, with a bar on a terminal."""
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
    quiet = not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("reading snapshots", total=float(rows))
        for closed in book_columns(files, interval, tape, counts):
            progress.update(task, completed=counts.snapshots)
            yield closed


def _groups(pieces: Iterator[Closed]) -> Iterator[Closed]:
    """The pieces joined to ``_GROUP`` rows or some more; the last may have fewer."""
    held: list[Closed] = []
    for piece in pieces:
        if len(piece["open_time_ns"]):
            held.append(piece)
        if sum(len(p["open_time_ns"]) for p in held) >= _GROUP:
            yield joined(held)
            held = []
    if held:
        yield joined(held)


def _arrow(closed: Closed) -> pa.Table:
    times = pa.array(closed["open_time_ns"], pa.timestamp("ns", tz="UTC"))
    columns = {name: values for name, values in closed.items() if name != "open_time_ns"}
    return pa.table({"open_time": times, **columns})


def _told(
    path: Path,
    first: pd.Timestamp,
    last: pd.Timestamp,
    bars: int,
    interval: pd.Timedelta,
    counts: Counts,
) -> str:
    kinds = ", ".join(
        f"{getattr(counts, name):,} {name.replace('_', '-')}"
        for name in ("locked", "crossed", "one_sided", "empty")
    )
    longest = f", the longest {format_duration(counts.longest_hole.floor('s'))}" if counts.holes else ""
    return (
        f"{path}: {bars:,} bars of {format_duration(interval)}, {first:%Y-%m-%d %H:%M:%S} to "
        f"{last:%Y-%m-%d %H:%M:%S} UTC, from {counts.snapshots:,} snapshots ({kinds}); "
        f"{counts.holes:,} holes{longest}"
    )
