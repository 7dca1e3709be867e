"""New trades and snapshots of the book: checked, stored once each, handed to the desk. All of a request or
nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy.exc import OperationalError

from serving.clock import Clock, WallClock
from serving.desk import SymbolContradictionError, TapeDesk
from serving.errors import (
    ContradictingRowError,
    InvalidInputError,
    NotConfiguredError,
    StoreBusyError,
    UnknownSymbolError,
)
from serving.ingest import CLOCK_SKEW_S, FARTHEST_AHEAD_S
from serving.settings import ServingSettings
from serving.store.tapes import Rows
from serving.tape import US_A_S
from serving.tape_requests import BookRequest, TradesRequest, as_sent, checked_book, checked_trades


@dataclass(frozen=True)
class TapeIngest:
    """``POST /v1/trades`` and ``POST /v1/book``. ``wake`` lets the decision loop look."""

    desk: TapeDesk | None
    settings: ServingSettings
    clock: Clock
    wake: Callable[[], None]
    wall: Clock = field(default_factory=WallClock)

    def take_trades(self, request: TradesRequest) -> dict[str, Any]:
        """Store the trades; returns how many were new (``accepted``), known already (``repeats``) and too
        late for their bar (``late``, left out).

        Raises ``NotConfiguredError``, ``InvalidInputError``, ``UnknownSymbolError``,
        ``ContradictingRowError`` or ``StoreBusyError``; then nothing was stored.
        """
        symbols = [block.symbol for block in request.trades]
        return self._take("trades", symbols, lambda: checked_trades(request), request.complete_until_us)

    def take_book(self, request: BookRequest) -> dict[str, Any]:
        """Store the snapshots; as ``take_trades``."""
        symbols = [block.symbol for block in request.book]
        return self._take("book", symbols, lambda: checked_book(request), request.complete_until_us)

    def status(self) -> dict[str, Any]:
        """Counts and how far the tapes are, by kind; empty where none are kept."""
        return {} if self.desk is None else self.desk.status()

    def _take(
        self,
        kind: str,
        symbols: Sequence[str],
        check: Callable[[], Mapping[str, Rows]],
        complete_until_us: int | None,
    ) -> dict[str, Any]:
        if self.desk is None:
            raise NotConfiguredError(
                f"this server makes no bars of {kind}: it has no finer interval",
                "set finer_interval_s in [serving], 60 say, and start it again",
            )
        self._refuse_unknown(kind, symbols)
        batches = check()
        now_us = self._refuse_the_future(kind, symbols, batches)
        if complete_until_us is not None and complete_until_us > now_us:
            raise InvalidInputError(
                f"complete_until_us is {(complete_until_us - now_us) / US_A_S:.1f} s ahead",
                "say what is complete by now, in microseconds since 1970 UTC",
                field="complete_until_us",
                value=complete_until_us,
            )
        try:
            counts, ripe = self.desk.take(kind, batches, complete_until_us)
        except SymbolContradictionError as found:
            error = found.error
            name, value = as_sent(error.column, error.sent)
            _, taken = as_sent(error.column, error.taken)
            raise ContradictingRowError(
                f"row {error.row} of {found.symbol} was taken before with {name} = {taken}",
                "leave the row out; nothing of the request was stored",
                field=f"{kind}.{symbols.index(found.symbol)}.{name}.{error.row}",
                value=value,
                row=error.row,
            ) from found
        except OperationalError as error:
            raise StoreBusyError(
                f"the store did not take the {kind} in time",
                "send the same request again: repeats are harmless",
            ) from error
        if ripe:
            self.wake()
        return dict(counts)

    def _refuse_unknown(self, kind: str, symbols: Sequence[str]) -> None:
        listed = self.settings.symbols
        for at, symbol in enumerate(symbols):
            if listed and symbol not in listed:
                raise UnknownSymbolError(
                    f"{symbol} is not among the listed contracts",
                    f"send one of {list(listed)[:10]}, or add it to [serving] symbols",
                    field=f"{kind}.{at}.symbol",
                    value=symbol,
                )

    def _refuse_the_future(self, kind: str, symbols: Sequence[str], batches: Mapping[str, Rows]) -> int:
        """Returns the newest time that is allowed."""
        alone = self.clock.runs_alone
        now_s = self.clock.now_s(None) if alone else self.wall.now_s(None)
        allowed_us = round((now_s + (CLOCK_SKEW_S if alone else FARTHEST_AHEAD_S)) * US_A_S)
        for symbol, rows in batches.items():
            times = rows["time_us"]
            ahead = times > allowed_us
            if ahead.any():
                row = int(np.argmax(ahead))
                value = int(times[row])
                told = pd.Timestamp(value, unit="us", tz="UTC").isoformat()
                raise InvalidInputError(
                    f"row {row} of {symbol}: its time is {told}, {value / US_A_S - now_s:.1f} s from now",
                    "set the clock that stamps the rows, and send microseconds since 1970 UTC",
                    field=f"{kind}.{symbols.index(symbol)}.time_us.{row}",
                    value=value,
                    row=row,
                )
        return allowed_us
