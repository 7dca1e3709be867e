"""A folder of bars: one parquet file a symbol, named ``SYMBOL.parquet``, with the columns of
``features.bars``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from features.atomic import written_whole
from features.bars import BarError, Market, check_bars, check_open_time
from features.durations import format_duration
from features.sources.merge import merge_bars
from features.sources.steps import common_interval

#: Symbols are put in the order of their turnover over the first days that the files have in common. Later
#: days are not looked at, so that a backtest's leader was the leader as one could know it then.
RANKED_OVER = pd.Timedelta(days=30)


def read_folder(
    folder: str | Path, interval: pd.Timedelta | None = None, symbols: Sequence[str] | None = None
) -> Market:
    """Read and check every file of the folder.

    Args:
        folder: holds ``SYMBOL.parquet`` files.
        interval: the bar length; None infers it as the smallest step between open times.
        symbols: which files to read, the leader first; None reads all of them, largest turnover first.

    Raises:
        BarError: naming file and rule, where a bar table breaks one or its steps contradict ``interval``.
        ValueError: where the folder has no bar files, or none for a symbol asked for.
    """
    folder = Path(folder)
    paths = {p.stem: p for p in sorted(folder.glob("*.parquet"))}
    if not paths:
        raise ValueError(
            f"{folder} holds no bar files (SYMBOL.parquet); give the folder that `simulate` or `import` wrote"
        )
    absent = [s for s in symbols or () if s not in paths]
    if absent:
        raise ValueError(f"{folder} has no files for {absent}; it has {list(paths)}")
    chosen = {s: paths[s] for s in (symbols or paths)}
    raw = {str(path): _read_table(path) for path in chosen.values()}
    interval = common_interval(raw, interval)
    bars = {s: check_bars(raw[str(path)], interval, str(path)) for s, path in chosen.items()}
    order = symbols or by_turnover(bars)
    return Market.from_bars({s: bars[s] for s in order}, interval)


def write_folder(market: Market, folder: str | Path) -> list[Path]:
    """Write each symbol's bars to ``SYMBOL.parquet``, each file whole or not at all. Returns the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [write_bars(market.bars(symbol), folder / f"{symbol}.parquet") for symbol in market.symbols]


def write_bars(bars: pd.DataFrame, path: Path) -> Path:
    """Write one bar table atomically."""
    with written_whole(path) as draft:
        bars.to_parquet(draft, index=False)
    return path


def add_bars(bars: pd.DataFrame, interval: pd.Timedelta, path: Path) -> pd.DataFrame:
    """These bars with those that the file, where there is one, already holds; nothing is written. Raises
    ``BarError`` where the two contradict each other."""
    if not path.exists():
        return bars
    held = _read_table(path)
    step = common_interval({str(path): held}, None if len(held) > 1 else interval)
    if step != interval:
        raise BarError(
            str(path),
            f"it holds bars of {format_duration(step)}, and these are of {format_duration(interval)}",
            "keep each interval in a folder of its own",
        )
    return merge_bars({str(path): check_bars(held, interval, str(path)), "the new bars": bars})


def by_turnover(bars: Mapping[str, pd.DataFrame]) -> list[str]:
    """Symbols by quote turnover (``quote_volume``, else volume * close) over the first 30 days that all have,
    largest first; equal ones by name."""
    start = max(table["open_time"].iloc[0] for table in bars.values())

    def turnover(table: pd.DataFrame) -> float:
        first = table[table["open_time"].between(start, start + RANKED_OVER, inclusive="left")]
        quote = first["quote_volume"] if "quote_volume" in first else first["volume"] * first["close"]
        return float(quote.sum())

    traded = {symbol: turnover(table) for symbol, table in bars.items()}
    return sorted(bars, key=lambda s: (-traded[s], s))


def _read_table(path: Path) -> pd.DataFrame:
    """An unchecked table that has open times with a time zone, at least."""
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise BarError(
            str(path), f"the file cannot be read as parquet ({reason})", "write it again from its source"
        ) from error
    check_open_time(table, str(path))
    return table
