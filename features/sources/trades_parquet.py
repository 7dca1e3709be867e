"""Trades from parquet: ``timestamp, price, size, side`` and, if given, ``trade_id, symbol, market``.

``timestamp`` is UTC (or whole numbers since 1970 in one unit), ``side`` is ``buy`` or ``sell`` of the
aggressor. Further columns are not read. Row groups are read batch by batch, never a whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.sources.trades_pieces import Piece, TradeChoice
from features.sources.trades_times import FileTimes, check_time_type, timestamp_nanoseconds
from features.trades.arrays import Trades
from features.trades.checks import TradeError

BATCH = 1 << 17
#: Pages are read through a buffer of this size, so that a row group of any length needs no more memory.
_BUFFER_BYTES = 1 << 20
_BUYS, _SELLS = {"buy", "b"}, {"sell", "s"}


def read_parquet(path: Path, choice: TradeChoice) -> Iterator[Piece]:
    """See ``features.sources.trades.read_trades``."""
    where = str(path)
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise TradeError(
            where, f"the file cannot be read as parquet ({reason})", "write it again from its source"
        ) from error
    with file:
        yield from _pieces(file, where, choice)


def _pieces(file: pq.ParquetFile, where: str, choice: TradeChoice) -> Iterator[Piece]:
    schema = file.schema_arrow
    _check_columns(schema, where, choice)
    columns = _wanted(choice) + [c for c in ("trade_id", "symbol", "market") if c in schema.names]
    times, chosen = FileTimes(where, "timestamp", choice.time_unit), _Chosen(where, choice)
    first_row, total = 0, file.metadata.num_rows
    for batch in file.iter_batches(BATCH, columns=columns, use_threads=False):
        here = {name: batch.column(name) for name in columns}
        for name in ("timestamp", "price", "size", "trade_id"):
            if name in here and here[name].null_count:
                row = int(np.asarray(here[name].is_null()).argmax())
                raise TradeError(
                    where, f"{name} is missing", "get the file again from its source, or leave the row out",
                    row=first_row + row, column=name, value=None, count=here[name].null_count,
                )  # fmt: skip
        stamps = here["timestamp"]
        if pa.types.is_timestamp(stamps.type):
            time_ns = timestamp_nanoseconds(stamps, where, "timestamp", first_row)
        else:
            time_ns = times.nanoseconds(stamps.cast(pa.int64()).to_numpy(), first_row)
        keep = chosen.rows(here, first_row)
        rows = np.flatnonzero(keep)
        trades = Trades(
            time_ns[rows],
            here["price"].cast(pa.float64()).to_numpy(zero_copy_only=False)[rows],
            here["size"].cast(pa.float64()).to_numpy(zero_copy_only=False)[rows],
            keep[rows]
            if choice.side_column is None
            else _bought(here[choice.side_column], where, choice.side_column, first_row)[rows],
            here["trade_id"].cast(pa.int64()).to_numpy(zero_copy_only=False)[rows]
            if "trade_id" in here
            else None,
        )
        first_row += batch.num_rows
        yield Piece(where, rows + (first_row - batch.num_rows), trades, first_row / max(1, total))
    chosen.finish()


def _wanted(choice: TradeChoice) -> list[str]:
    side = [] if choice.side_column is None else [choice.side_column]
    return ["timestamp", "price", "size", *side]


def _check_columns(schema: pa.Schema, where: str, choice: TradeChoice) -> None:
    missing = [c for c in _wanted(choice) if c not in schema.names]
    if missing:
        sides = [c for c in schema.names if "side" in c.lower()]
        raise TradeError(
            where,
            f"columns {missing} are missing",
            "a trade file has timestamp, price, size and side"
            + (f"; name the column of the side, one of {sides}" if missing == [choice.side_column] and sides
               else ""),
        )  # fmt: skip
    check_time_type(schema.field("timestamp").type, where, "timestamp")
    for name in ("price", "size"):
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
            raise TradeError(where, f"column {name} is {kind}, not numbers", "give plain numbers")
    if "trade_id" in schema.names and not pa.types.is_integer(schema.field("trade_id").type):
        kind = schema.field("trade_id").type
        raise TradeError(
            where, f"column trade_id is {kind}, not whole numbers", "give int64 ids, or leave the column out"
        )


def _labels(column: pa.Array) -> tuple[NDArray[Any], list[str | None]]:
    """Codes and labels of a column of words; code -1 is a missing one."""
    encoded = column if isinstance(column, pa.DictionaryArray) else pc.dictionary_encode(column)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, [None if v is None else str(v) for v in encoded.dictionary.to_pylist()]


def _bought(column: pa.Array, where: str, name: str, first_row: int) -> NDArray[np.bool_]:
    codes, labels = _labels(column)
    words = [(label or "").strip().lower() for label in labels]
    known = np.array([w in _BUYS | _SELLS for w in words] + [False])
    bad = ~known[codes]
    if bad.any():
        row = int(bad.argmax())
        raise TradeError(
            where,
            "the side is neither buy nor sell",
            "write buy or sell, the side of the aggressor (taker)",
            row=first_row + row,
            column=name,
            value=repr(labels[codes[row]] if codes[row] >= 0 else None),
            count=int(bad.sum()),
        )
    bought: NDArray[np.bool_] = np.array([w in _BUYS for w in words] + [False])[codes]
    return bought


class _Chosen:
    """The rows of the symbol and market asked for."""

    def __init__(self, where: str, choice: TradeChoice) -> None:
        self._where, self._choice = where, choice
        self._seen: dict[str, set[str | None]] = {"symbol": set(), "market": set()}
        self._found = False

    def rows(self, columns: dict[str, pa.Array], first_row: int) -> NDArray[np.bool_]:
        """Raises ``TradeError`` where the symbol is of several markets and none was chosen."""
        keep = np.ones(len(columns["price"]), dtype=bool)
        for name, wanted in (("symbol", self._choice.symbol), ("market", self._choice.market)):
            if name not in columns:
                continue
            codes, labels = _labels(columns[name])
            here = codes[keep]
            self._seen[name] |= {labels[c] if c >= 0 else None for c in np.unique(here).tolist()}
            if wanted is not None:
                keep &= np.array([label == wanted for label in labels] + [False])[codes]
            elif len(self._seen[name]) > 1:
                row = int(np.flatnonzero(keep)[int((here != here[0]).argmax())])
                code = codes[row]
                raise TradeError(
                    self._where,
                    f"{self._choice.symbol} trades in several markets: {sorted(map(str, self._seen[name]))}",
                    "choose one market",
                    row=first_row + row,
                    column=name,
                    value=labels[code] if code >= 0 else None,
                )
        self._found |= bool(keep.any())
        return keep

    def finish(self) -> None:
        """Raises ``TradeError`` where the file has symbols and markets, and not the ones asked for."""
        if self._found:
            return
        for name, wanted in (("symbol", self._choice.symbol), ("market", self._choice.market)):
            if self._seen[name] and wanted is not None and wanted not in self._seen[name]:
                raise TradeError(
                    self._where,
                    f"it has no trades with {name} {wanted}",
                    f"choose one of {sorted(map(str, self._seen[name]))[:20]}",
                )
