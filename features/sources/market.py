"""One market from all that is known of it: bars, finer bars beneath them, book columns and series beside
them, each in a folder or file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from features.bars import BarError, Market
from features.durations import format_duration
from features.sources.alignment import refuse_misaligned
from features.sources.as_of import with_context
from features.sources.context_files import find_context
from features.sources.join import with_tables
from features.sources.parquet import read_folder


@dataclass(frozen=True)
class MarketSource:
    """Where a market is read from, so that another process can read the same one.

    Attributes:
        folder: of bars, ``SYMBOL.parquet`` each.
        interval: the bar length; None infers it.
        symbols: which, the leader first; None: all of the folder, largest turnover first.
        finer: folders of bars of finer intervals, each its own, which divides that of the bars.
        book: a folder of book columns at the interval of the bars (``python -m features book``).
        context: files of series, or folders of them (``features.sources.context_files``).
        since: bars that closed before it are left out; None: none.
    """

    folder: Path
    interval: pd.Timedelta | None = None
    symbols: tuple[str, ...] | None = None
    finer: tuple[Path, ...] = ()
    book: Path | None = None
    context: tuple[Path, ...] = ()
    since: pd.Timestamp | None = None

    def absolute(self) -> MarketSource:
        """The same from any working directory."""
        return replace(
            self,
            folder=self.folder.absolute(),
            finer=tuple(path.absolute() for path in self.finer),
            book=None if self.book is None else self.book.absolute(),
            context=tuple(path.absolute() for path in self.context),
        )


def read_market(source: MarketSource) -> Market:
    """Read and check all of it. What is not given is absent; what a symbol lacks of what is given is NaN.

    Raises:
        BarError: naming file, row, value and remedy, where a table breaks a rule.
        ValueError: where a folder holds nothing of the market, finer bars do not fit in, are given twice or
            are of other prices or times, a column is there already, or no bar closed since.
    """
    market = read_folder(source.folder, source.interval, source.symbols)
    if source.since is not None:
        last = market.times[-1]
        market = market.since(source.since)
        if len(market.times) == 0:
            raise ValueError(
                f"no bar of {source.folder} closed since {source.since}; the last one did at {last}; choose "
                f"an earlier time"
            )
    market = _with_finer(market, source.finer)
    bare = market.reading(["close"])
    if source.book is not None:
        market = _beside(market, _with_book(bare, source.book), str(source.book))
    if source.context:
        series = with_context(bare, find_context(source.context))
        market = _beside(market, series, " and ".join(map(str, source.context)))
    return market


def _beside(market: Market, found: Market, where: str) -> Market:
    """The market with the columns found, none of which it may have already."""
    columns = {name: frame for name, frame in found.columns.items() if name != "close"}
    twice = sorted(columns.keys() & market.columns.keys())
    if twice:
        raise ValueError(f"{where} and the bars both hold {twice[:5]}; leave one of them out")
    return market.with_columns(columns)


def _with_finer(market: Market, folders: Sequence[Path]) -> Market:
    given: dict[pd.Timedelta, tuple[Path, Market]] = {}
    for folder in folders:
        fine = read_folder(folder, symbols=_held(folder, market))
        if fine.interval in given:
            raise ValueError(
                f"{given[fine.interval][0]} and {folder} both hold bars of {format_duration(fine.interval)}; "
                f"put the symbols of one interval into one folder"
            )
        given[fine.interval] = folder, fine
    # The coarsest first: bars that are there are not made of finer ones, which may cover less.
    for interval in sorted(given, reverse=True):
        folder, fine = given[interval]
        try:
            market = market.with_finer(fine)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        refuse_misaligned(market, market.finer[interval], str(folder))
    return market


def _with_book(market: Market, folder: Path) -> Market:
    paths = {symbol: folder / f"{symbol}.parquet" for symbol in _held(folder, market)}
    tables = {}
    for symbol, path in paths.items():
        try:
            table = pd.read_parquet(path)
        except (OSError, pa.ArrowInvalid) as error:
            reason = str(error).splitlines()[0]
            raise BarError(
                str(path), f"the file cannot be read as parquet ({reason})", "write it again from its source"
            ) from error
        tables[symbol] = table
    return with_tables(market, tables, {symbol: str(path) for symbol, path in paths.items()})


def _held(folder: Path, market: Market) -> list[str]:
    """The symbols of the market that the folder has a file of. Raises ``ValueError`` where there is none."""
    there = {path.stem for path in folder.glob("*.parquet")}
    if not there & set(market.symbols):
        raise ValueError(
            f"{folder} holds {f'files of {sorted(there)[:5]}' if there else 'no parquet files'}, and the "
            f"market is of {list(market.symbols)[:5]}; give a folder of the same symbols"
        )
    return [symbol for symbol in market.symbols if symbol in there]
