"""Open positions that the venue tells, for the impact budget (rule 18).

A side is a list of bins: equity over notional, a fraction, and the notional of all positions there, in one
currency for both sides. A contract's newest list replaces the former. It goes into the contract's decisions,
and so into their records, until it is older than ``valid_s``: positions that nobody keeps up to date must not
hold back a rise.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from models.margin.types import SIDES, Positions
from serving.board import utc_text
from serving.errors import InvalidInputError, StoreBusyError, UnknownSymbolError
from serving.requests import PositionsRequest
from serving.store.decisions import contract_symbols
from serving.store.positions import read_positions, save_positions

#: More bins of a side are refused: each is in the record of every decision.
MOST_BINS = 200

Books = tuple[Positions, Positions]
NO_POSITIONS: Books = ((), ())


@dataclass(frozen=True)
class Told:
    """When positions came, and the bins of longs and shorts."""

    at_s: float
    books: Books


class PositionDesk:
    """The positions of one store. Any thread may call it."""

    def __init__(self, engine: Engine, valid_s: float) -> None:
        self._engine, self._valid_s = engine, valid_s
        self._lock = threading.Lock()
        self._told: dict[str, Told] = {}

    def load(self) -> None:
        """Take up what the store has."""
        with self._engine.begin() as connection:
            stored = read_positions(connection)
        self._told = {s: Told(at_s, (_bins(long), _bins(short))) for s, (at_s, long, short) in stored.items()}

    def take(self, request: PositionsRequest, now_s: float) -> dict[str, Any]:
        """Store a contract's positions; returns how many bins and how much notional each side has, and until
        when they count.

        Raises ``InvalidInputError``, ``UnknownSymbolError`` or ``StoreBusyError``; then the former stand.
        """
        books = (_bins(request.long), _bins(request.short))
        totals = {side: _checked(side, book) for side, book in zip(SIDES, books, strict=True)}
        try:
            with self._lock:
                with self._engine.begin() as connection:
                    _refuse_unknown(request.symbol, contract_symbols(connection))
                    save_positions(connection, request.symbol, now_s, *books)
                self._told[request.symbol] = Told(now_s, books)
        except OperationalError as error:
            raise StoreBusyError(
                "the store did not take the positions in time",
                "send the same request again: it replaces what is there",
            ) from error
        return {
            "symbol": request.symbol,
            **{
                side: {"bins": len(book), "notional": totals[side]}
                for side, book in zip(SIDES, books, strict=True)
            },
            "valid_until": utc_text(now_s + self._valid_s),
        }

    def standing(self, symbol: str, now_s: float) -> Books:
        """What is open in a contract, long and short; empty where nothing was told, or too long ago."""
        told = self._told.get(symbol)
        return NO_POSITIONS if told is None or now_s - told.at_s > self._valid_s else told.books

    def status(self, now_s: float) -> dict[str, int]:
        """How many contracts have positions that count, and how many have some that are too old."""
        told = list(self._told.values())
        old = sum(now_s - t.at_s > self._valid_s for t in told)
        return {"counting": len(told) - old, "too_old": old}


def _bins(values: Sequence[Sequence[float]]) -> Positions:
    return tuple((float(equity), float(notional)) for equity, notional in values)


def _refuse_unknown(symbol: str, known: Sequence[str]) -> None:
    if symbol not in known:
        raise UnknownSymbolError(
            f"no contract {symbol!r} here",
            f"name one of: {', '.join(known[:10]) or 'none yet'}; "
            f"a contract is known once it has bars, or is in [serving] symbols",
            field="symbol",
            value=symbol,
        )


def _checked(side: str, book: Positions) -> float:
    """The notional of a side."""
    if len(book) > MOST_BINS:
        raise InvalidInputError(
            f"{side} has {len(book)} bins, and at most {MOST_BINS} are taken",
            "aggregate positions of nearly the same equity ratio into one bin",
            field=side,
            value=len(book),
        )
    for row, (_, notional) in enumerate(book):
        if notional <= 0:
            raise InvalidInputError(
                f"row {row} of {side}: the notional is not above 0",
                "leave closed positions out, and give the notional of both sides as a positive number",
                field=f"{side}.{row}.1",
                value=notional,
                row=row,
            )
    total = sum(notional for _, notional in book)
    if not math.isfinite(total):
        raise InvalidInputError(
            f"the notional of {side} adds up to more than a number can hold",
            "give notional in a larger unit, millions say, for both sides",
            field=side,
        )
    return total
