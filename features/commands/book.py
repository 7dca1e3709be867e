"""Files of order-book snapshots into book columns of bars, alone or beside the bars themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from features.durations import format_duration
from features.sources.books import Counts, read_book_columns, tapes_in
from features.sources.join import with_tables
from features.sources.parquet import read_folder, write_bars, write_folder


def make_book_columns(
    files: Sequence[Path],
    interval: pd.Timedelta,
    out: Path,
    *,
    symbol: str | None = None,
    market: str | None = None,
    bars: Path | None = None,
) -> list[str]:
    """Write ``SYMBOL.parquet`` into ``out`` and say of each what was counted.

    Args:
        files: snapshots, oldest first, see ``features.sources.books``.
        interval: the bar length.
        out: the folder.
        symbol: which tape, and its name where the files hold none; None takes every symbol of the files.
        market: which tape, where the files hold the same symbol of several markets.
        bars: a folder of bars of that interval, whose columns are written beside those of the book; None
            writes the book columns alone.

    All is read before any is written. Raises ``BarError``, and ``ValueError`` where no tape is as told.
    """
    tapes = _tapes(files, symbol, market)
    read = {name: read_book_columns(files, interval, tape) for name, tape in tapes.items()}
    tables = {name: table for name, (table, _) in read.items()}
    if bars is not None:
        write_folder(with_tables(read_folder(bars, interval), tables), out)
    else:
        out.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            write_bars(table, out / f"{name}.parquet")
    return [_told(out / f"{name}.parquet", table, interval, counts) for name, (table, counts) in read.items()]


def _tapes(files: Sequence[Path], symbol: str | None, market: str | None) -> dict[str, dict[str, str]]:
    """The tapes to read, by the symbol to write."""
    held = {tuple(sorted(tape.items())): tape for path in files for tape in tapes_in(path)}
    told = {k: v for k, v in (("symbol", symbol), ("market", market)) if v is not None}
    chosen = [t for t in held.values() if all(t.get(k, v) == v for k, v in told.items())]
    names = [tape.get("symbol", symbol) for tape in chosen]
    if not chosen or None in names or len(set(names)) < len(names):
        raise ValueError(
            f"the files hold the tapes {list(held.values())[:20]}, of which {len(chosen)} are {told}; give "
            f"--symbol, and --market where a symbol is in several, so that each symbol has one"
        )
    return {str(name): tape for name, tape in zip(names, chosen, strict=True)}


def _told(path: Path, table: pd.DataFrame, interval: pd.Timedelta, counts: Counts) -> str:
    first, last = table["open_time"].iloc[0], table["open_time"].iloc[-1]
    kinds = ", ".join(
        f"{getattr(counts, name):,} {name.replace('_', '-')}"
        for name in ("locked", "crossed", "one_sided", "empty")
    )
    longest = f", the longest {format_duration(counts.longest_hole.floor('s'))}" if counts.holes else ""
    return (
        f"{path}: {len(table):,} bars of {format_duration(interval)}, {first:%Y-%m-%d %H:%M:%S} to "
        f"{last:%Y-%m-%d %H:%M:%S} UTC, from {counts.snapshots:,} snapshots ({kinds}); "
        f"{counts.holes:,} holes{longest}"
    )
