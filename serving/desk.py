"""The desk for trades and books: takes batches, remembers them in the store, and makes bars of what is
settled.

A batch is stored before it is acknowledged. The bars that close, how far each tape has come and the end of
the batches that are not needed any more are one transaction, so that whenever a server is killed the next one
goes on with the same bars.

Up to where a tape is settled:

- to ``trade_tolerance_s`` before its own newest row: rows may come that much out of order;
- to where the feed said that it is complete (``complete_until_us``);
- wall clock: to ``trade_tolerance_s`` before now, where the tape has rows from after that;
- event clock (``--clock bars``): to the close of the newest bar, where the tape has rows from its interval.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine

from features.bars import VALUE_COLUMNS
from serving.board import utc_text
from serving.kinds import book_kind, doubtful_sides, trades_kind
from serving.settings import ServingSettings
from serving.store.bars import SymbolBars, add_bars
from serving.store.decisions import list_contracts
from serving.store.details import Details, save_details
from serving.store.tapes import Rows, add_batches, drop_batches, read_batches, read_tapes, save_tapes
from serving.tape import NS_A_US, US_A_S, Closed, Judged, RowContradictionError, Tape

logger = logging.getLogger(__name__)

#: Time is settled in steps of a finer bar, but of a minute at most: rows are kept in memory for two steps.
LONGEST_STEP_S = 60


class SymbolContradictionError(ValueError):
    """A row of a batch differs from the one that was taken; ``error`` says which."""

    def __init__(self, symbol: str, error: RowContradictionError) -> None:
        self.symbol, self.error = symbol, error
        super().__init__(f"{symbol}: {error}")


@dataclass(frozen=True)
class Made:
    """Bars of one symbol and interval that were made and stored: their closes, and columns by name (NaN where
    unknown). Where a bar had been posted it is not in ``bars``, but its columns are in ``details``."""

    symbol: str
    interval_s: int
    bars: SymbolBars | None
    closes_s: NDArray[np.int64]
    details: Mapping[str, NDArray[np.float64]]


class TapeDesk:
    """All tapes of the feed that is decided on. ``take`` is called by requests, ``settle`` by the loop."""

    def __init__(self, engine: Engine, settings: ServingSettings) -> None:
        assert settings.finer_interval_s is not None, "tapes need a finer interval"
        self._engine, self._settings = engine, settings
        intervals_s = (settings.finer_interval_s, settings.interval_s)
        kinds = (trades_kind(*intervals_s), book_kind(*intervals_s))
        self._kinds = {kind.name: kind for kind in kinds}
        self._step_us = min(settings.finer_interval_s, LONGEST_STEP_S) * US_A_S
        self._tolerance_us = round(settings.trade_tolerance_s * US_A_S)
        self._tapes: dict[tuple[str, str], Tape] = {}
        self._complete_us: dict[str, int] = {}
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in self._kinds}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Take up what the store has."""
        with self._lock, self._engine.begin() as connection:
            for name, kind in self._kinds.items():
                batches: dict[str, list[Rows]] = {}
                for symbol, rows in read_batches(connection, name):
                    batches.setdefault(symbol, []).append(rows)
                states = read_tapes(connection, name)
                for symbol in {**states, **batches}:
                    self._tapes[name, symbol] = Tape.resumed(
                        kind, states.get(symbol), batches.get(symbol, [])
                    )

    def take(
        self, kind: str, batches: Mapping[str, Rows], complete_until_us: int | None = None
    ) -> tuple[dict[str, int], bool]:
        """Store what is new of the batches, one a symbol, each with distinct keys; returns counts, and
        whether something can be settled now.

        Raises ``SymbolContradictionError``, and takes nothing, where a row differs from the one taken.
        """
        with self._lock:
            tapes = {s: self._tapes.get((kind, s)) or Tape(self._kinds[kind]) for s in batches}
            judged = {s: _judged(tapes[s], s, rows) for s, rows in batches.items()}
            fresh = {
                s: {name: a[judged[s].fresh] for name, a in rows.items()}
                for s, rows in batches.items()
                if judged[s].fresh.any()
            }
            if fresh:
                with self._engine.begin() as connection:
                    add_batches(connection, kind, fresh)
            for symbol, rows in fresh.items():
                self._tapes[kind, symbol] = tapes[symbol].taking(rows)
            if complete_until_us is not None:
                self._complete_us[kind] = max(complete_until_us, self._complete_us.get(kind, 0))
            counts = {
                "accepted": int(sum(j.fresh.sum() for j in judged.values())),
                "repeats": sum(j.repeats for j in judged.values()),
                "late": sum(j.late for j in judged.values()),
            }
            self._counts[kind].update(counts)
            touched = self._tapes if complete_until_us is not None else [(kind, s) for s in fresh]
            ripe = any(
                self._boundary(*key, None, False) > (self._tapes[key].settled_us or 0) for key in touched
            )
            return counts, ripe

    def settle(self, now_s: float | None, *, passed: bool) -> list[Made]:
        """Make and store the bars that closed. ``now_s`` is the time by the clock, None where it is not known
        yet; ``passed`` says that nothing from before it is expected any more (the event clock)."""
        with self._lock:
            settled = {}
            for key, tape in self._tapes.items():
                after, closed = tape.settled(self._boundary(*key, now_s, passed))
                if after is not tape:
                    settled[key] = after, closed
            if not settled:
                return []
            with self._engine.begin() as connection:
                save_tapes(connection, {key: after.to_json() for key, (after, _) in settled.items()})
                kept = {key: after.keep_us for key, (after, _) in settled.items()}
                drop_batches(connection, {key: k for key, k in kept.items() if k is not None})
                made = [
                    bars
                    for interval_s in (self._settings.finer_interval_s, self._settings.interval_s)
                    if interval_s is not None
                    for bars in self._stored(
                        connection,
                        interval_s,
                        {key: c[interval_s] for key, (_, c) in settled.items() if _some(c[interval_s])},
                    )
                ]
            for key, (after, _) in settled.items():
                _warn(self._tapes[key], after, key[1])
                self._tapes[key] = after
            return made

    def behind(self, close_s: int) -> bool:
        """Whether a tape on which something came since the decision before is not settled up to a close."""
        since_us, close_us = (close_s - self._settings.interval_s) * US_A_S, close_s * US_A_S
        with self._lock:
            return any(
                t.newest_us is not None and t.newest_us >= since_us and (t.settled_us or 0) < close_us
                for t in self._tapes.values()
            )

    def status(self) -> dict[str, Any]:
        """Counts since the start by kind, and how far the tapes are."""
        with self._lock:
            found: dict[str, Any] = {}
            for name in self._kinds:
                tapes = [t for (kind, _), t in self._tapes.items() if kind == name]
                newest = max((t.newest_us for t in tapes if t.newest_us is not None), default=None)
                found[name] = {
                    "symbols": len(tapes),
                    **{c: self._counts[name][c] for c in ("accepted", "repeats", "late")},
                    "unsettled": sum(t.unsettled for t in tapes),
                    "newest": None if newest is None else utc_text(newest / US_A_S),
                }
                if name == "trades":
                    shares = {
                        symbol: doubtful_sides(t.tallied)
                        for (kind, symbol), t in self._tapes.items()
                        if kind == name
                    }
                    found[name]["doubtful_sides"] = {s: x for s, x in shares.items() if x is not None}
                    found[name]["missing_ids"] = sum(t.missing_ids for t in tapes if t.counting)
            return found

    def _boundary(self, kind: str, symbol: str, now_s: float | None, passed: bool) -> int:
        """Up to where the tape can be settled, on the grid of steps."""
        newest_us = self._tapes[kind, symbol].newest_us
        if newest_us is None:
            return 0
        until_us = max(newest_us - self._tolerance_us, self._complete_us.get(kind, 0))
        if now_s is not None:
            now_us = round(now_s * US_A_S)
            if not passed:
                until_us = max(until_us, min(now_us - self._tolerance_us, newest_us))
            elif newest_us >= now_us - self._settings.interval_s * US_A_S:
                # An older tape is filled in after the fact, at its own pace.
                until_us = max(until_us, now_us)
        return until_us // self._step_us * self._step_us

    def _stored(
        self, connection: Connection, interval_s: int, closed: Mapping[tuple[str, str], Closed]
    ) -> list[Made]:
        """Store bars of one interval that closed, by kind and symbol."""
        source = self._settings.source
        closes = {k: c["open_time_ns"] // (NS_A_US * US_A_S) + interval_s for k, c in closed.items()}
        details = {
            key: {n: a for n, a in c.items() if n not in VALUE_COLUMNS and n != "open_time_ns"}
            for key, c in closed.items()
        }
        save_details(
            connection,
            source,
            interval_s,
            (Details(symbol, kind, closes[kind, symbol], d) for (kind, symbol), d in details.items()),
        )
        bars = {
            symbol: SymbolBars(closes[kind, symbol], np.stack([c[n] for n in VALUE_COLUMNS], axis=1))
            for (kind, symbol), c in closed.items()
            if "close" in c
        }
        # Where a bar was posted it stands.
        new = add_bars(connection, source, interval_s, bars, made=True).new if bars else {}
        if interval_s == self._settings.interval_s:
            list_contracts(connection, list(new))
        return [
            Made(symbol, interval_s, new.get(symbol) if kind == "trades" else None, closes[kind, symbol], d)
            for (kind, symbol), d in details.items()
        ]


def _some(closed: Closed) -> bool:
    return len(closed["open_time_ns"]) > 0


def _warn(before: Tape, after: Tape, symbol: str) -> None:
    """Say it once where the sides of a tape turn out to be wrong."""
    share = doubtful_sides(after.tallied)
    if share is not None and doubtful_sides(before.tallied) is None:
        logger.warning(
            "the sides of %s go against %.0f %% of its price changes; send the aggressor's side (buy where "
            "the taker bought), or no feature of order flow can be right",
            symbol,
            100 * share,
        )


def _judged(tape: Tape, symbol: str, rows: Rows) -> Judged:
    try:
        return tape.judge(rows)
    except RowContradictionError as error:
        raise SymbolContradictionError(symbol, error) from error
