"""Which series from elsewhere (``features.sources.context``) is in which file, told by the file's columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.bars import BarError
from features.sources.context import Context, read_context

#: What a file of each series has at least.
SERIES: Mapping[str, frozenset[str]] = {
    "funding": frozenset({"symbol", "funding_time", "funding_rate", "funding_interval_hours"}),
    "index": frozenset({"open_time", "open", "high", "low", "close"}),
    "open_interest": frozenset({"symbol", "time", "open_interest"}),
    "liquidations": frozenset({"symbol", "time", "side", "size", "price"}),
}


def find_context(paths: Iterable[Path]) -> Context:
    """Read and check the series in these files, and in the parquet files of those that are folders; one file
    a series.

    Raises:
        BarError: for a file that holds none of the series, or whose table breaks a rule.
        ValueError: where a folder has no parquet files, or two files hold the same series.
    """
    found: dict[str, Path] = {}
    for path in paths:
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"{path} holds no parquet files; give a file of a series, or a folder of them")
        for file in files:
            series = series_in(file)
            if series in found:
                raise ValueError(
                    f"{found[series]} and {file} both hold {series}; join them, or give one of them"
                )
            found[series] = file
    return read_context(**found)


def series_in(file: Path) -> str:
    """One of ``SERIES``. Raises ``BarError`` where the columns are of none."""
    try:
        names = set(pq.read_schema(file).names)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise BarError(
            str(file), f"the file cannot be read as parquet ({reason})", "write it again from its source"
        ) from error
    for series, columns in SERIES.items():
        # An index has no volume; what has one is a bar file in the wrong place.
        if columns <= names and not (series == "index" and "volume" in names):
            return series
    forms = "; ".join(f"{series}: {sorted(columns)}" for series, columns in SERIES.items())
    raise BarError(
        str(file), f"columns {sorted(names)} are of no series that is known", f"a file has one of ({forms})"
    )
