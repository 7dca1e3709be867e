"""Trade archives as Binance publishes them: ``aggTrades`` and ``trades``, CSV, plain or zipped, of spot and
of USD-margined futures.

With a header line or without; times in milliseconds or, in newer spot files, in microseconds since 1970 UTC.
The columns are, those of spot with one more at the end (``is_best_match``):

    aggTrades   id, price, size, first trade id, last trade id, time, buyer is maker
    trades      id, price, size, quote, time, buyer is maker

Where the buyer is the maker, the aggressor sold. A row of aggTrades stands for ``last - first + 1`` trades.
Coin-margined futures count size in contracts and are refused. A zipped file is unpacked as it is read.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from features.sources.trades_pieces import Piece, TradeChoice
from features.sources.trades_times import FileTimes
from features.trades.arrays import Array, Trades
from features.trades.checks import TradeError

_AGGREGATED = ("id", "price", "size", "first_id", "last_id", "time", "buyer_is_maker", "best_match")
_SINGLE = ("id", "price", "size", "quote", "time", "buyer_is_maker", "best_match")
#: Names in header lines, without underscores and capitals.
_NAMED = {
    **{"aggtradeid": "id", "id": "id", "tradeid": "id", "price": "price", "quantity": "size", "qty": "size"},
    **{"quoteqty": "quote", "firsttradeid": "first_id", "lasttradeid": "last_id", "transacttime": "time"},
    **{"time": "time", "isbuyermaker": "buyer_is_maker", "isbestmatch": "best_match"},
}
_TYPES = {
    **dict.fromkeys(("id", "first_id", "last_id", "time"), pa.int64()),
    **dict.fromkeys(("price", "size", "quote"), pa.float64()),
    "buyer_is_maker": pa.bool_(),
}
_BLOCK_BYTES = 1 << 20
_NAME = re.compile(r"^(?P<symbol>[A-Z0-9_]+)-(aggTrades|trades)\b.*\.(csv|zip)$", re.IGNORECASE)
_COIN_MARGINED = re.compile(r"USD_(PERP|\d{6})$")
_ROW = re.compile(
    r"(?:column #(?P<column>\d+): )?(?:CSV parse error: )?Row #(?P<row>\d+): (?P<what>.*)", re.S
)
# Of the published quote against price * size, which it is but for rounding.
_QUOTE_TOLERANCE = 0.01


def symbol_of(path: Path) -> str | None:
    """The symbol in an archive's own name, ``BTCUSDT-aggTrades-2024-01.zip`` say; None where there is
    none."""
    match = _NAME.match(path.name)
    return None if match is None else match["symbol"].upper()


def read_archive(path: Path, choice: TradeChoice) -> Iterator[Piece]:
    """See ``features.sources.trades.read_trades``."""
    where, symbol = str(path), symbol_of(path)
    if symbol is not None and _COIN_MARGINED.search(symbol):
        _refuse_coin_margined(where)
    try:
        with _opened(path) as (stream, _):
            line = stream.readline(4096).decode("utf-8", errors="replace").strip()
        names, headed = _layout(line, where)
        with _opened(path) as (stream, size):
            yield from _pieces(stream, size, names, headed, where, choice)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise TradeError(
            where, f"the file is not a whole zip archive ({error})", "download it again"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The CSV inside, and its size in bytes."""
    if path.suffix.lower() != ".zip":
        with path.open("rb") as stream:
            yield stream, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        inside = [i for i in archive.infolist() if i.filename.lower().endswith(".csv")]
        if len(inside) != 1:
            raise TradeError(
                str(path), f"the archive holds {len(inside)} CSV files, not one", "download it again"
            )
        with archive.open(inside[0]) as stream:
            yield stream, inside[0].file_size


def _layout(line: str, where: str) -> tuple[tuple[str, ...], bool]:
    """The columns, and whether the first line is a header."""
    cells = [c.strip() for c in line.split(",")]
    if line == "":
        raise TradeError(where, "the file has no trades", "leave it out")
    headed = not cells[0][:1].isdigit()
    if not headed:
        # Seven columns are either; only one of them has the side where the other has the time.
        side_at_5 = len(cells) == 7 and cells[5].lower() in {"true", "false"}
        found = _SINGLE[: len(cells)] if len(cells) == 6 or side_at_5 else _AGGREGATED[: len(cells)]
        if 6 <= len(cells) <= 8:
            return found, False
    else:
        plain = [c.lower().replace("_", "") for c in cells]
        if "baseqty" in plain:
            _refuse_coin_margined(where)
        found = tuple(_NAMED.get(c, "?") for c in plain)
        if found in (_AGGREGATED, _AGGREGATED[:-1], _SINGLE, _SINGLE[:-1]):
            return found, True
    raise TradeError(
        where,
        f"the first line is {line[:120]!r}",
        "give archives of aggTrades or trades as they were published",
    )


def _refuse_coin_margined(where: str) -> NoReturn:
    raise TradeError(
        where,
        "it is of coin-margined futures, whose sizes count contracts",
        "give trades of spot or USD-margined futures, or convert sizes to base currency into parquet",
    )


def _pieces(
    stream: IO[bytes], size: int, names: tuple[str, ...], headed: bool, where: str, choice: TradeChoice
) -> Iterator[Piece]:
    columns = [n for n in names if n != "best_match"]
    times, first_row = FileTimes(where, "time", choice.time_unit), 0
    try:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=list(names), skip_rows=int(headed)
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={n: _TYPES[n] for n in columns},
                include_columns=columns,
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
                null_values=[],
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield Piece(
                    where,
                    first_row,
                    _trades(batch, times, first_row, where),
                    min(1.0, stream.tell() / max(1, size)),
                )
                first_row += batch.num_rows
    except pa.ArrowInvalid as error:
        _explain(error, names, headed, where)


def _trades(batch: pa.RecordBatch, times: FileTimes, first_row: int, where: str) -> Trades:
    c = {name: batch.column(name) for name in batch.schema.names}
    price, size = c["price"].to_numpy(), c["size"].to_numpy()
    count = None
    if "first_id" in c:
        count = c["last_id"].to_numpy() - c["first_id"].to_numpy() + 1
        bad = count < 1
        if bad.any():
            row = int(bad.argmax())
            raise TradeError(
                where, "the last trade id is below the first", "download it again",
                row=first_row + row, column="last_trade_id", value=c["last_id"][row].as_py(),
                count=int(bad.sum()),
            )  # fmt: skip
    else:
        _check_quote(c["quote"].to_numpy(), price * size, first_row, where)
    return Trades(
        times.nanoseconds(c["time"].to_numpy(), first_row),
        price,
        size,
        ~c["buyer_is_maker"].to_numpy(zero_copy_only=False),
        c["id"].to_numpy(),
        count,
    )


def _check_quote(quote: Array, product: Array, first_row: int, where: str) -> None:
    bad = np.abs(quote - product) > _QUOTE_TOLERANCE * np.maximum(np.abs(product), 1.0)
    if bad.any():
        row = int(bad.argmax())
        raise TradeError(
            where,
            f"the quote quantity is not price times size, {product[row]:g}",
            "give trades of spot or USD-margined futures; coin-margined ones count contracts",
            row=first_row + row,
            column="quote_qty",
            value=float(quote[row]),
            count=int(bad.sum()),
        )


def _explain(error: pa.ArrowInvalid, names: tuple[str, ...], headed: bool, where: str) -> NoReturn:
    """A parse error of Arrow's as one of ours."""
    match = _ROW.search(str(error))
    if match is None:
        raise TradeError(where, f"the file is not CSV of trades ({error})", "download it again") from error
    column = names[int(match["column"])] if match["column"] else None
    value = re.search(r"invalid value '(.*)'", match["what"])
    raise TradeError(
        where,
        "not a number or a truth value" if column else match["what"].splitlines()[0],
        "download it again, or repair the row from its source",
        row=int(match["row"]) - 1 - int(headed),
        column=column,
        value=repr(value[1]) if value else None,
    ) from error
