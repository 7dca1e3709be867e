"""Trades and snapshots of the book as clients send them, and the checks before they are taken.

Columns, not rows: a list a field, all of one length, one block a symbol. Rows may be out of order; time
stamps are whole microseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field

from features.bars import BarError
from features.books.checks import check_books
from features.books.snapshots import SIDES, Books
from features.trades.arrays import Trades
from features.trades.checks import check_values
from serving.errors import InvalidInputError
from serving.kinds import LEVELS
from serving.requests import Number, Symbol
from serving.store.tapes import Rows
from serving.tape import NS_A_US

#: A whole number that an int64 holds.
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
#: More levels of a side are refused; the best ``serving.kinds.LEVELS`` are used.
MOST_LEVELS = 1000
_FORBID = ConfigDict(extra="forbid", frozen=True)

#: 2009-01-01 and 2100-01-01: a time outside is in another unit, or of another era.
FIRST_US, LAST_US = 1_230_768_000_000_000, 4_102_444_800_000_000
_UNITS = (("seconds", 1_000_000), ("milliseconds", 1_000))


class TradesIn(BaseModel):
    """Trades of one symbol."""

    model_config = _FORBID

    symbol: Symbol
    id: Annotated[list[Whole], FailFast()] = Field(description="the venue's trade ids, each once")
    time_us: Annotated[list[Whole], FailFast()] = Field(description="microseconds since 1970 UTC")
    price: Annotated[list[Number], FailFast()] = Field(description="quote currency")
    size: Annotated[list[Number], FailFast()] = Field(description="base currency")
    side: Annotated[list[Literal["buy", "sell"]], FailFast()] = Field(
        description="of the aggressor: buy where the taker bought"
    )


class TradesRequest(BaseModel):
    """``POST /v1/trades``: new trades, one block a symbol."""

    model_config = _FORBID

    trades: list[TradesIn]
    complete_until_us: Whole | None = Field(
        None,
        description="every trade from before this time was sent, with this request or earlier",
    )


class BookIn(BaseModel):
    """Snapshots of the book of one symbol. Levels are listed best first; a side may have none."""

    model_config = _FORBID

    symbol: Symbol
    id: Annotated[list[Whole], FailFast()] = Field(
        default=[], description="the venue's update ids, each once; without them a time has one snapshot"
    )
    time_us: Annotated[list[Whole], FailFast()] = Field(description="microseconds since 1970 UTC")
    bid_price: Annotated[list[Annotated[list[Number], FailFast()]], FailFast()]
    bid_size: Annotated[list[Annotated[list[Number], FailFast()]], FailFast()]
    ask_price: Annotated[list[Annotated[list[Number], FailFast()]], FailFast()]
    ask_size: Annotated[list[Annotated[list[Number], FailFast()]], FailFast()]


class BookRequest(BaseModel):
    """``POST /v1/book``: new snapshots, one block a symbol."""

    model_config = _FORBID

    book: list[BookIn]
    complete_until_us: Whole | None = Field(
        None, description="every snapshot from before this time was sent, with this request or earlier"
    )


#: Fields of a request by what they are called in arrays.
_BOOK_FIELDS = dict(zip(SIDES, ("bid_price", "bid_size", "ask_price", "ask_size"), strict=True))


def as_sent(column: str, value: object) -> tuple[str, object]:
    """A column of arrays and a value of it, as a request has them."""
    if column == "buy":
        return "side", "buy" if value else "sell"
    return _BOOK_FIELDS.get(column, column), value


def checked_trades(request: TradesRequest) -> dict[str, Rows]:
    """The trades by symbol. Raises ``InvalidInputError`` with block, field, row, value and remedy."""
    _refuse_repeated_blocks("trades", [block.symbol for block in request.trades])
    return {block.symbol: _checked_trades(at, block) for at, block in enumerate(request.trades) if block.id}


def checked_book(request: BookRequest) -> dict[str, Rows]:
    """The snapshots by symbol. Raises as ``checked_trades``."""
    _refuse_repeated_blocks("book", [block.symbol for block in request.book])
    return {block.symbol: _checked_book(at, block) for at, block in enumerate(request.book) if block.time_us}


class _Refuse:
    """Refuses rows of one block in one form."""

    def __init__(self, kind: str, at: int, symbol: str) -> None:
        self._place, self._symbol = f"{kind}.{at}", symbol

    def __call__(self, path: str, rule: str, remedy: str, value: object, row: int | None = None) -> None:
        which = self._symbol if row is None else f"row {row} of {self._symbol}"
        raise InvalidInputError(
            f"{which}: {rule}", remedy, field=f"{self._place}.{path}", value=value, row=row
        )

    def where(
        self, broken: NDArray[np.bool_], field: str, values: NDArray[Any], rule: str, remedy: str
    ) -> None:
        """Refuse the first row that is broken, if any is."""
        if broken.any():
            row = int(np.argmax(broken))
            self(f"{field}.{row}", rule, remedy, values[row].item(), row)

    def lengths(self, lengths: Mapping[str, int], first: str) -> None:
        for field, length in lengths.items():
            if length != lengths[first]:
                self(
                    field,
                    f"{field} has {length} values and {first} has {lengths[first]}",
                    "give one value a row in every field",
                    length,
                )

    def times(self, time_us: NDArray[np.int64]) -> None:
        broken = (time_us < FIRST_US) | (time_us >= LAST_US)
        if broken.any():
            value = int(time_us[np.argmax(broken)])
            unit = next(
                (name for name, factor in _UNITS if FIRST_US <= value * factor < LAST_US),
                "nanoseconds" if FIRST_US <= value // NS_A_US < LAST_US else None,
            )
            self.where(
                broken,
                "time_us",
                time_us,
                "the time is not between 2009 and 2100 in microseconds"
                + (f"; it looks like {unit}" if unit else ""),
                "send whole microseconds since 1970 UTC",
            )

    def repeated(self, field: str, keys: NDArray[np.int64], remedy: str) -> None:
        order = np.argsort(keys, kind="stable")
        twice = np.zeros(len(keys), dtype=bool)
        twice[order[1:]] = keys[order[1:]] == keys[order[:-1]]
        self.where(twice, field, keys, f"the {field} is there twice in one request", remedy)


def _checked_trades(at: int, block: TradesIn) -> Rows:
    refuse = _Refuse("trades", at, block.symbol)
    refuse.lengths({f: len(getattr(block, f)) for f in ("id", "time_us", "price", "size", "side")}, "id")
    id, time_us = np.array(block.id, dtype="int64"), np.array(block.time_us, dtype="int64")
    price, size = np.array(block.price, dtype="float64"), np.array(block.size, dtype="float64")
    buy = np.array([side == "buy" for side in block.side], dtype=bool)
    refuse.times(time_us)
    refuse.repeated("id", id, "send each trade once")
    try:
        check_values(Trades(time_us * NS_A_US, price, size, buy, id=id), block.symbol)
    except BarError as error:
        refuse(f"{error.column}.{error.row}", error.rule, error.remedy, _plain(error.value), error.row)
    return {"id": id, "time_us": time_us, "price": price, "size": size, "buy": buy}


def _checked_book(at: int, block: BookIn) -> Rows:
    refuse = _Refuse("book", at, block.symbol)
    fields = ("time_us", *_BOOK_FIELDS.values(), *(("id",) if block.id else ()))
    refuse.lengths({f: len(getattr(block, f)) for f in fields}, "time_us")
    time_us = np.array(block.time_us, dtype="int64")
    refuse.times(time_us)
    id = np.array(block.id or block.time_us, dtype="int64")
    if block.id:
        refuse.repeated("id", id, "send each snapshot once")
    else:
        refuse.repeated("time_us", id, "send one snapshot a time, or give ids")
    levels = {name: _levels(refuse, field, getattr(block, field)) for name, field in _BOOK_FIELDS.items()}
    for side in ("bid", "ask"):
        counts = [
            np.array([len(row) for row in getattr(block, f"{side}_{part}")]) for part in ("price", "size")
        ]
        refuse.where(
            counts[0] != counts[1],
            f"{side}_size",
            counts[1],
            f"{side}_size has another number of levels than {side}_price",
            "give a size for each price",
        )
    order = np.lexsort((id, time_us))
    widest = max(a.shape[1] for a in levels.values())
    books = Books(time_us[order] * NS_A_US, *(_padded(levels[name], widest)[order] for name in SIDES))
    try:
        books = check_books(books, block.symbol, rows=order).with_levels(LEVELS)
    except BarError as error:
        assert error.row is not None and error.column is not None
        name, _, level = error.column.rpartition("_")
        refuse(f"{_BOOK_FIELDS[name]}.{error.row}.{level}", error.rule, error.remedy, error.value, error.row)
    # As they were sent, so that a later complaint names the row that the client knows.
    sent = books.rows(np.argsort(order, kind="stable"))
    return {"id": id, "time_us": time_us, **{name: getattr(sent, name) for name in SIDES}}


def _plain(value: object) -> object:
    """A numpy number as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _levels(refuse: _Refuse, field: str, rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """(row, level), NaN beyond the levels of a row."""
    counts = np.array([len(row) for row in rows])
    refuse.where(
        counts > MOST_LEVELS,
        field,
        counts,
        f"a side has more than {MOST_LEVELS} levels",
        "send the best ones",
    )
    widest = max(1, int(counts.max()))
    values = np.full((len(rows), widest), np.nan)
    values[np.arange(widest) < counts[:, np.newaxis]] = [price for row in rows for price in row]
    return values


def _padded(values: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    return np.pad(values, ((0, 0), (0, levels - values.shape[1])), constant_values=np.nan)


def _refuse_repeated_blocks(kind: str, symbols: Sequence[str]) -> None:
    seen: set[str] = set()
    for at, symbol in enumerate(symbols):
        if symbol in seen:
            raise InvalidInputError(
                f"{symbol} has two blocks",
                "give the rows of a symbol in one block",
                field=f"{kind}.{at}.symbol",
                value=symbol,
            )
        seen.add(symbol)
