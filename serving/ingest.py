"""New bars: checked, stored once each, handed to the decision loop. All of a batch or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from features.durations import format_duration, parse_duration
from serving.clock import Clock, WallClock
from serving.errors import ContradictingBarError, InvalidInputError, StoreBusyError, UnknownSymbolError
from serving.requests import BarIn, BarsRequest, checked_bars
from serving.settings import ServingSettings
from serving.store.bars import ContradictionError, SymbolBars, add_bars
from serving.store.decisions import list_contracts

#: A bar may come this much before its close by our clock: clocks differ.
CLOCK_SKEW_S = 1.0
#: Where the bars are the clock, one with a wrong year would stop it for all that follow. Recorded bars are of
#: the past; a simulated market may run ahead.
FARTHEST_AHEAD_S = 366 * 86400.0


@dataclass(frozen=True)
class Ingest:
    """``POST /v1/bars``. ``offer`` takes what was new and returns how many closes wait for their
    decisions."""

    engine: Engine
    settings: ServingSettings
    clock: Clock
    offer: Callable[[Mapping[str, SymbolBars]], int]
    offer_finer: Callable[[Mapping[str, SymbolBars]], None] = lambda _: None
    #: Takes what was new of a source that is listed in ``other_sources``.
    offer_beside: Callable[[str, Mapping[str, SymbolBars]], None] = lambda *_: None
    wall: Clock = field(default_factory=WallClock)

    def take(self, request: BarsRequest) -> dict[str, Any]:
        """Store the bars; returns how many were new (``accepted``), known already (``repeats``) and left out
        because the server had made another bar of trades before (``late``).

        Raises ``InvalidInputError``, ``UnknownSymbolError``, ``ContradictingBarError`` or ``StoreBusyError``;
        then nothing was stored.
        """
        s = self.settings
        interval = self._interval(request.interval)
        interval_s = int(interval.total_seconds())
        self._refuse_unknown(request.bars)
        batch = checked_bars(request.bars, interval)
        self._refuse_the_future(request.bars, interval_s)
        source = request.source or s.source
        decided = interval == s.interval
        try:
            with self.engine.begin() as connection:
                added = add_bars(connection, source, interval_s, batch)
                if source == s.source and decided:
                    list_contracts(connection, list(batch))
        except ContradictionError as error:
            raise _contradiction(error, request.bars) from error
        except OperationalError as error:
            raise StoreBusyError(
                "the store did not take the bars in time", "send the same batch again: repeats are harmless"
            ) from error
        own = added.new if source == s.source else {}
        if not decided and own:
            self.offer_finer(own)
        if decided and source in s.other_sources and added.new:
            self.offer_beside(source, added.new)
        waiting = self.offer(own if decided else {})
        return {
            "accepted": sum(len(b.closes_s) for b in added.new.values()),
            "repeats": added.repeats,
            "late": added.late,
            "pending_closes": waiting,
        }

    def _interval(self, asked: str | None) -> pd.Timedelta:
        """The interval of the bars of a request."""
        s = self.settings
        if asked is None:
            return s.interval
        known = [i for i in (s.interval, s.finer_interval) if i is not None]
        try:
            interval = parse_duration(asked)
        except ValueError:
            interval = None
        if interval not in known:
            raise InvalidInputError(
                f"bars of {asked} are not taken here",
                f"send bars of {' or '.join(format_duration(i) for i in known)}; [serving] interval_s and "
                f"finer_interval_s say which",
                field="interval",
                value=asked,
            )
        return interval

    def _refuse_unknown(self, bars: list[BarIn]) -> None:
        listed = self.settings.symbols
        for row, bar in enumerate(bars):
            if listed and bar.symbol not in listed:
                raise UnknownSymbolError(
                    f"row {row}: {bar.symbol} is not among the listed contracts",
                    f"send one of {list(listed)[:10]}, or add it to [serving] symbols",
                    field=f"bars.{row}.symbol",
                    value=bar.symbol,
                    row=row,
                )

    def _refuse_the_future(self, bars: list[BarIn], interval_s: int) -> None:
        allowed_s = CLOCK_SKEW_S if self.clock.runs_alone else FARTHEST_AHEAD_S
        now_s = self.clock.now_s(None) if self.clock.runs_alone else self.wall.now_s(None)
        for row, bar in enumerate(bars):
            ahead_s = bar.open_time.timestamp() + interval_s - now_s
            if ahead_s > allowed_s:
                raise InvalidInputError(
                    f"row {row} ({bar.symbol}): the bar closes {ahead_s:.0f} s from now",
                    "send a bar when it has closed; for recorded bars start the server with --clock bars",
                    field=f"bars.{row}.open_time",
                    value=bar.open_time.isoformat(),
                    row=row,
                )


def _contradiction(error: ContradictionError, bars: list[BarIn]) -> ContradictingBarError:
    opened = pd.Timestamp(error.open_time_s, unit="s", tz="UTC")
    row = next(i for i, b in enumerate(bars) if b.symbol == error.symbol and b.open_time == opened)
    return ContradictingBarError(
        f"row {row}: the bar {error.symbol} {opened.isoformat()} is stored with "
        f"{error.column} = {error.stored}",
        "leave the bar out, or send a correction as another source; nothing of the batch was stored",
        field=f"bars.{row}.{error.column}",
        value=error.sent,
        row=row,
    )
