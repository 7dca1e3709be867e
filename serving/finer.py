"""What is known beneath and beside the decision grid: finer bars, and columns from trades and books.

``FinerGrid`` keeps both in windows of their own, fills them from the store, from finer bars that were posted
and from the desk, and lays them under the decision grid's market as a champion's features want it. It belongs
to the loop's thread but for ``offer``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine

from features.bars import Market
from features.columns import BOOK_COLUMNS, TRADE_COLUMNS
from features.resample import merged
from serving.desk import Made, TapeDesk
from serving.inputs import COLUMNS_DAYS, Asked
from serving.settings import ServingSettings
from serving.store.bars import SymbolBars, newest_close, read_bars
from serving.store.details import forget_details, read_details
from serving.window import MarketWindow

#: Columns that trades and books give a bar.
COLUMNS = tuple(c.name for c in (*TRADE_COLUMNS, *BOOK_COLUMNS))


class FinerGrid:
    """``bars`` is the finer window, ``beside`` the columns on the decision grid."""

    def __init__(self, engine: Engine, settings: ServingSettings, desk: TapeDesk) -> None:
        assert settings.finer_interval_s is not None, "there is no finer interval"
        self._engine, self._settings, self._desk = engine, settings, desk
        self._tolerance_s = settings.trade_tolerance_s
        fine_s, interval_s = settings.finer_interval_s, settings.interval_s
        self.bars = MarketWindow(fine_s, settings.finer_history_days * 86400 // fine_s, COLUMNS)
        self.beside = MarketWindow(interval_s, COLUMNS_DAYS * 86400 // interval_s, COLUMNS)
        self._posted: list[Mapping[str, SymbolBars]] = []
        self._lock = threading.Lock()

    def offer(self, new: Mapping[str, SymbolBars]) -> None:
        """Finer bars that were posted and stored."""
        with self._lock:
            self._posted.append(new)

    def load(self, connection: Connection, symbols: Iterable[str]) -> None:
        """Fill both windows from the store, which forgets the columns that are older than they."""
        source = self._settings.source
        for window in (self.bars, self.beside):
            newest_s = newest_close(connection, source, window.interval_s)
            since_s = 0 if newest_s is None else newest_s - (window.bars - 1) * window.interval_s
            forget_details(connection, source, window.interval_s, since_s)
            for symbol in symbols:
                window.add_symbols([symbol])
                if window is self.bars:
                    found = read_bars(connection, source, window.interval_s, symbol, since_s)
                    window.fill(symbol, found.closes_s, found.values)
                closes_s, values = read_details(
                    connection, source, window.interval_s, symbol, since_s, COLUMNS
                )
                columns = dict(zip(COLUMNS, values.T, strict=True))
                known = {c: v for c, v in columns.items() if np.isfinite(v).any()}
                window.fill_extra(symbol, closes_s, known)

    def gather(self, now_s: float | None, *, passed: bool) -> dict[str, SymbolBars]:
        """Take in what was posted and what can be settled by now (see ``TapeDesk.settle``); returns the bars
        of the decision interval that were made of trades and have to be decided on."""
        with self._lock:
            posted, self._posted = self._posted, []
        for new in posted:
            for symbol, bars in new.items():
                self._put(symbol, bars)
        decisions: dict[str, SymbolBars] = {}
        for made in self._desk.settle(now_s, passed=passed):
            if made.interval_s == self.bars.interval_s:
                if made.bars is not None:
                    self._put(made.symbol, made.bars)
                self._fill(self.bars, made)
            else:
                self._fill(self.beside, made)
                if made.bars is not None:
                    decisions[made.symbol] = made.bars
        return decisions

    def awaited_until_s(self, close_s: int, symbols: Iterable[str]) -> float | None:
        """Up to when the decisions of a close wait for what is finer; None where nothing is expected."""
        if self._desk.behind(close_s) or any(self._bar_expected(s, close_s) for s in symbols):
            return close_s + self._tolerance_s
        return None

    def laid_under(self, market: Market, asked: Asked) -> Market:
        """The market of the decision grid with what is asked for and can be made; a contract of which nothing
        is known has NaN."""
        symbols, rows = market.symbols, len(market.times)
        first_s, interval_s = int(market.times[0].timestamp()), self._settings.interval_s
        beside = [c for c in asked.columns if c in self.beside.columns and c not in market]
        found = self.beside.frames(first_s, rows, beside, symbols)
        market = market.with_columns({n: f for n, f in found.items() if np.isfinite(f.to_numpy()).any()})
        finer = {}
        for resolution, names in asked.finer.items():
            step_s = int(resolution.total_seconds())
            if step_s % self.bars.interval_s or interval_s % step_s or step_s >= interval_s:
                continue
            k = interval_s // self.bars.interval_s
            # A merged bar needs its close to know whether it is whole.
            known = [c for c in dict.fromkeys(("close", *names)) if c in self.bars.columns]
            columns = self.bars.frames(first_s - interval_s + self.bars.interval_s, rows * k, known, symbols)
            if step_s > self.bars.interval_s:
                columns = merged(columns, pd.Timedelta(seconds=self.bars.interval_s), resolution)
            finer[resolution] = Market(resolution, columns)
        return replace(market, finer=finer)

    def known_until(self, symbol: str, close_s: int) -> int | None:
        """The newest finer close of a symbol up to a close; None where there is none."""
        if symbol not in self.bars.symbols:
            return None
        newest = self.bars.newest_close(symbol, close_s)
        return None if newest is None else newest[0]

    def _bar_expected(self, symbol: str, close_s: int) -> bool:
        """Whether a symbol had finer bars since the decision before, and not the last one before this."""
        until_s = self.known_until(symbol, close_s)
        return until_s is not None and close_s - self._settings.interval_s <= until_s < close_s

    def _put(self, symbol: str, bars: SymbolBars) -> None:
        self.bars.add_symbols([symbol])
        for close_s, values in zip(bars.closes_s.tolist(), bars.values, strict=True):
            self.bars.put(symbol, close_s, values)

    def _fill(self, window: MarketWindow, made: Made) -> None:
        window.add_symbols([made.symbol])
        window.fill_extra(made.symbol, made.closes_s, made.details)
