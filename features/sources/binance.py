"""Kline archives as Binance publishes them: CSV, plain or zipped, of spot and of USD-margined futures.

Twelve columns (see ``COLUMNS``), with a header line or without; times in milliseconds or, in newer spot
files, in microseconds since 1970 UTC. ``volume`` is in base, ``quote_volume`` in quote currency, and the
taker-buy columns are the order flow. Coin-margined futures count volume in contracts; the check of the mean
price refuses them.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import pandas as pd

from features.bars import BAR_COLUMNS, BarError, check_bars
from features.sources.merge import merge_bars
from features.sources.steps import common_interval

COLUMNS = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time"),
    *("quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)

# From 1973 to 5138, both: so the magnitude of a time tells its unit.
_UNITS = {"ms": (10**11, 10**14), "us": (10**14, 10**17)}

_NAME = re.compile(r"^(?P<symbol>[A-Z0-9_]+)-\d+[smhdw]\b.*\.(csv|zip)$", re.IGNORECASE)


def symbol_of(path: Path) -> str:
    """The symbol in an archive's own name, ``BTCUSDT-1h-2024-01.zip`` say. Raises ``ValueError`` where there
    is none."""
    match = _NAME.match(path.name)
    if match is None:
        raise ValueError(
            f"{path}: the name does not tell the symbol (BTCUSDT-1h-2024-01.zip does); give the symbol"
        )
    return match["symbol"].upper()


def archive_files(paths: Iterable[Path]) -> list[Path]:
    """The files given, and every ``.csv`` and ``.zip`` in the folders given, by name."""
    files: list[Path] = []
    for path in paths:
        inside = (
            sorted(p for p in path.iterdir() if p.suffix in {".csv", ".zip"}) if path.is_dir() else [path]
        )
        if not inside:
            raise ValueError(f"{path} holds no .csv and no .zip files; give the archives or their folder")
        files.extend(inside)
    return files


def read_klines(
    paths: Sequence[Path], interval: pd.Timedelta | None = None
) -> tuple[pd.DataFrame, pd.Timedelta]:
    """Read the archives of one symbol into one checked bar table (see ``check_bars``), and its interval.

    Args:
        paths: files in any order; they may overlap where they agree.
        interval: the bar length; None infers it as the smallest step between open times.

    Raises:
        BarError: naming file, row and rule; where a file is not such an archive; where two contradict each
            other; and where the steps contradict ``interval``.
    """
    if not paths:
        raise ValueError("no archive files given; give at least one")
    raw = {str(path): _read_archive(Path(path)) for path in paths}
    interval = common_interval(raw, interval)
    return merge_bars({w: check_bars(t, interval, w) for w, t in raw.items()}), interval


def _read_archive(path: Path) -> pd.DataFrame:
    """One file as an unchecked bar table."""
    where = str(path)
    if not path.exists():
        raise BarError(where, "the file does not exist", "give archives that were downloaded")
    if path.suffix.lower() != ".zip":
        with path.open("rb") as stream:
            return _parse(stream, where)
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n.lower().endswith(".csv")]
            if len(inside) != 1:
                raise BarError(
                    where, f"the archive holds {len(inside)} CSV files, not one", "download it again"
                )
            with archive.open(inside[0]) as stream:
                return _parse(stream, where)
    except (zipfile.BadZipFile, EOFError) as error:
        raise BarError(
            where, f"the file is not a whole zip archive ({error})", "download it again"
        ) from error


def _parse(stream: IO[bytes], where: str) -> pd.DataFrame:
    try:
        # Text first: with or without a header is seen in the first cell alone.
        cells = pd.read_csv(stream, header=None, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise BarError(
            where, f"the file is not CSV of {len(COLUMNS)} columns ({error})", "download it again"
        ) from error
    if cells.shape[1] != len(COLUMNS):
        raise BarError(
            where, f"the file has {cells.shape[1]} columns, not {len(COLUMNS)}", "give kline archives"
        )
    headed = not str(cells.iloc[0, 0])[:1].isdigit()
    if headed:
        names = tuple(str(c).strip() for c in cells.iloc[0])
        if names != COLUMNS:
            raise BarError(where, f"the header is {list(names)}", f"give kline archives: {list(COLUMNS)}")
        cells = cells.iloc[1:].reset_index(drop=True)
    if cells.empty:
        raise BarError(where, "the file has no bars", "leave it out")
    cells.columns = pd.Index(COLUMNS)
    numbers = {c: _numbers(cells[c], where) for c in COLUMNS[1:] if c not in {"close_time", "ignore"}}
    numbers["trades"] = numbers.pop("count")
    table = pd.DataFrame({"open_time": _times(cells["open_time"], where), **numbers})
    return table[list(BAR_COLUMNS)]


def _numbers(cells: pd.Series[str], where: str) -> pd.Series[float]:
    values = pd.to_numeric(cells, errors="coerce")
    broken = values.isna().to_numpy()
    if broken.any():
        row = int(broken.argmax())
        raise BarError(
            where,
            "not a number",
            "repair the row from its source, or leave it out",
            row=row,
            column=str(cells.name),
            value=repr(cells.iloc[row]),
            count=int(broken.sum()),
        )
    return values.astype("float64")


def _times(cells: pd.Series[str], where: str) -> pd.Series[pd.Timestamp]:
    """Open times; the whole file is in the unit that its first row's magnitude shows."""
    numbers = _numbers(cells, where)
    stamps = numbers.to_numpy().astype("int64")
    unit = next((u for u, (least, bound) in _UNITS.items() if least <= stamps[0] < bound), "")
    least, bound = _UNITS.get(unit, (0, 0))
    outside = (stamps < least) | (stamps >= bound) | (numbers.to_numpy() != stamps)
    if outside.any():
        row = int(outside.argmax())
        raise BarError(
            where,
            f"not a time in {unit}, as the first row is" if row else "not a time in ms or us since 1970",
            "give the archive as it was published: milliseconds or microseconds since 1970, one unit a file",
            row=row,
            column="open_time",
            value=cells.iloc[row],
            count=int(outside.sum()),
        )
    nanoseconds = stamps * (10**6 if unit == "ms" else 10**3)
    return pd.Series(pd.DatetimeIndex(nanoseconds.astype("datetime64[ns]"), tz="UTC"))
