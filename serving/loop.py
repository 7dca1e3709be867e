"""The decision loop: one thread that turns each closed bar into stored and published decisions.

Woken by bars, by a tick (silence of a feed is noticed too), by a new champion and by overrides. Closes are
decided in order of time, each exactly once: what arrived while nobody decided is found in the store at the
start, and a decision and the state that it leaves are stored together. Of more than ``catch_up_bars`` waiting
closes the older ones enter the market's history without decisions.

The champion's calibration goes on with each close that is decided, and is stored with its decisions.

Bars of one close belong into one request. One that comes later than its close's decisions is decided by
itself where it is its contract's newest, else it only completes the history.

Where there are finer bars, trades or books (``serving.finer``), the decisions of a close wait for what of
them belongs to it, up to ``trade_tolerance_s`` after the close by the wall clock; by the clock of the bars
they do not wait: a bar says that its interval is over. The same for other sources (``serving.sources``): a
source that told a contract's close before is waited for. What it tells later changes the answer at the next
tick.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from features.bars import VALUE_COLUMNS
from models.forecast.calibration import CalibrationState
from models.margin.types import Decision, Overrides
from models.settings import MarginSettings
from serving.board import Board, identified, utc_text
from serving.champion import Champion
from serving.clock import Clock
from serving.contract import Contract
from serving.decider import NO_OVERRIDES, Decided, Decider
from serving.finer import FinerGrid
from serving.outlook import Outlook
from serving.overrides.desk import OverrideDesk
from serving.positions import PositionDesk
from serving.settings import ServingSettings
from serving.sources import SourceCloses
from serving.store.bars import SymbolBars, newest_close, read_bars, read_closes
from serving.store.calibrations import read_calibration, save_calibration
from serving.store.decisions import (
    SecondDeciderError,
    list_contracts,
    publication,
    read_contracts,
    save_decisions,
)
from serving.window import MarketWindow

logger = logging.getLogger(__name__)

_CLOSE = VALUE_COLUMNS.index("close")
_RETRY_S = 1.0
#: How often overrides are looked at while a champion is waited for.
_GLANCE_S = 0.2
#: How many contracts a tick looks at before it looks at overrides again.
_TICK_CONTRACTS = 32


class ChampionSource(Protocol):
    """Where the loop finds the model in use; ``champion.ChampionWatch`` is one."""

    current: Champion | None
    asked: threading.Event


class DecisionLoop:
    """Decides on one store. ``board`` is what readers see; it is replaced, never changed.

    Everything but ``offer``, ``board``, ``ready``, ``wake`` and ``status`` belongs to the loop's thread;
    tests call ``load``, ``begin``, ``run_pending`` and ``tick`` themselves instead of ``start``.
    """

    def __init__(
        self,
        engine: Engine,
        settings: ServingSettings,
        margin: MarginSettings,
        clock: Clock,
        champion: ChampionSource,
        finer: FinerGrid | None = None,
        overrides: OverrideDesk | None = None,
        positions: PositionDesk | None = None,
    ) -> None:
        self._engine, self._settings, self._clock, self._champion = engine, settings, clock, champion
        self._finer, self._overrides = finer, overrides
        self._window = MarketWindow(settings.interval_s, settings.window_bars)
        self._sources = (
            SourceCloses(settings.interval_s, settings.window_bars, settings.other_sources)
            if settings.other_sources
            else None
        )
        self._decider = Decider(
            settings.interval_s,
            margin,
            self._window,
            self._closes,
            self._stored_calibration,
            explain=settings.explain,
            finer=finer,
            sources=self._sources,
            positions=positions,
        )
        self._contracts: dict[str, Contract] = {}
        self._outlooks: dict[str, Outlook] = {}
        self._decisions: dict[str, Decision] = {}
        #: The champion at the last decisions, and the one that the outlooks were made with.
        self._version_in_use = ""
        self._looked_with = ""
        self._pending: dict[int, dict[str, NDArray[np.float64]]] = {}
        self._told: list[tuple[str, Mapping[str, SymbolBars]]] = []
        self._lock = threading.Lock()
        self._woken, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._loaded = False
        self._fatal: str | None = None
        self._last_error: str | None = None
        self.board = Board()

    # What other threads may call

    def offer(self, new: Mapping[str, SymbolBars]) -> int:
        """Hand over bars that were just stored; returns how many closes wait for their decisions."""
        with self._lock:
            for symbol, bars in new.items():
                for close_s, values in zip(bars.closes_s.tolist(), bars.values, strict=True):
                    self._pending.setdefault(close_s, {})[symbol] = values
            waiting = len(self._pending)
        self.wake()
        return waiting

    def offer_beside(self, source: str, new: Mapping[str, SymbolBars]) -> None:
        """Hand over bars of another source that were just stored."""
        with self._lock:
            self._told.append((source, new))
        self.wake()

    def wake(self) -> None:
        """Let the loop look now: bars have come, the champion changed, or an order was given."""
        self._woken.set()

    def now_s(self) -> float | None:
        """What time it is here; None where the bars are the clock and there is none yet."""
        newest_s = self._window.newest_s
        if newest_s is None and not self._clock.runs_alone:
            return None
        return self._clock.now_s(newest_s)

    @property
    def ready(self) -> bool:
        """Whether every contract has an answer and the loop can make the next one."""
        alive = self._thread is None or self._thread.is_alive()
        return self._loaded and alive and self._fatal is None

    def calibration_of(self, champion: Champion) -> CalibrationState | None:
        """What the decisions of this champion are calibrated with now; None where they are not."""
        standing = self._decider.calibration.standing
        artifact = champion.artifact
        return standing.state if standing.artifact == artifact.info.fingerprint else artifact.calibration

    def status(self) -> dict[str, Any]:
        """Newest bar, waiting closes, contracts by rung and mode, and what went wrong last."""
        decisions = list(self._decisions.values())
        newest_s = self._window.newest_s
        return {
            "ready": self.ready,
            "version": self.board.version,
            "newest_bar_close": utc_text(newest_s),
            "pending_closes": len(self._pending),
            "contracts": len(self.board.values),
            "rungs": dict(Counter(str(v[0]["rung"]) for v in list(self.board.values.values()))),
            "modes": dict(Counter(d.mode for d in decisions)),
            "clamp_gap": _clamp_gap(decisions),
            "calibration": self._decider.calibration.status(),
            "other_sources": (
                {}
                if self._sources is None
                else {s: utc_text(t) for s, t in self._sources.newest_by_source().items()}
            ),
            "failures": dict(self._decider.failures),
            "last_failure": self._decider.last_failure,
            "last_error": self._fatal or self._last_error,
        }

    # The thread

    def publish_stored(self) -> None:
        """Publish what the store last published, so that a restarted server answers at once."""
        with self._engine.begin() as connection:
            if self._settings.symbols:
                list_contracts(connection, self._settings.symbols)
            rows, version = read_contracts(connection), publication(connection)
        stored = {
            r.symbol: identified(r.published["answers"], r.symbol, r.seq, r.head)
            for r in rows
            if r.published is not None
        }
        self.board = Board().with_answers(version, stored)
        self._loaded = len(stored) == len(rows)

    def start(self) -> None:
        """Start the thread; ``publish_stored`` comes first."""
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the decisions in hand."""
        self._stop.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        steps = [self.load, self.begin, self.follow_overrides, self.renew_expired, self._await_champion]
        while not self._stop.is_set():
            try:
                while steps and not self._stop.is_set():
                    steps[0]()
                    steps.pop(0)
                self._woken.wait(self._rest_s())
                self._woken.clear()
                if self._stop.is_set():
                    return
                self.follow_overrides()
                self.follow_champion()
                self.run_pending()
                self.tick()
                self._last_error = None
            except SecondDeciderError as error:
                self._fatal = str(error)
                logger.critical("%s", error)
                return
            except SQLAlchemyError as error:
                # The state in memory is that of the last commit; the same step is taken again.
                self._tell(f"the store does not answer: {type(error).__name__}: {error}")
                self._stop.wait(_RETRY_S)
            except (Exception, SystemExit) as error:
                # The loop outlives any defect: without it every answer would expire.
                logger.exception("decisions failed")
                self._tell(f"{type(error).__name__}: {error}")
                self._stop.wait(_RETRY_S)

    def _tell(self, error: str) -> None:
        if error != self._last_error:
            logger.error("%s", error)
        self._last_error = error

    def load(self) -> None:
        """Read contracts and bars. What was decided on fills the window; newer bars wait for their
        decisions."""
        s = self._settings
        with self._engine.begin() as connection:
            if s.symbols:
                list_contracts(connection, s.symbols)
            rows = read_contracts(connection)
            newest_s = newest_close(connection, s.source, s.interval_s)
            since_s = 0 if newest_s is None else newest_s - (self._window.bars - 1) * s.interval_s
            bars = {r.symbol: read_bars(connection, s.source, s.interval_s, r.symbol, since_s) for r in rows}
            if self._sources is not None:
                for source, r in product(s.other_sources, rows):
                    found = read_bars(connection, source, s.interval_s, r.symbol, since_s)
                    self._sources.write(source, r.symbol, found.closes_s, found.values[:, _CLOSE])
            if self._finer is not None:
                self._finer.load(connection, [r.symbol for r in rows])
        self._contracts = {r.symbol: Contract.stored(r) for r in rows}
        self._window.add_symbols([r.symbol for r in rows])
        self._version_in_use = max((c.memory.champion for c in self._contracts.values()), default="")
        # Without any decision all bars are history, and the newest close is what is decided first.
        decided = [c.decided_close_s for c in self._contracts.values() if c.decided_close_s is not None]
        reached_s = max(decided, default=newest_s or 0)
        for symbol, found in bars.items():
            own_s = self._contracts[symbol].decided_close_s
            old = found.closes_s <= (reached_s if own_s is None else own_s)
            self._window.fill(symbol, found.closes_s[old], found.values[old])
            with self._lock:
                for close_s, values in zip(found.closes_s[~old].tolist(), found.values[~old], strict=True):
                    self._pending.setdefault(close_s, {})[symbol] = values

    def begin(self) -> None:
        """Give every contract without a decision its first, on the rungs that need no model."""
        fresh = [c for c in self._contracts.values() if c.seq == 0]
        if fresh:
            self._decide(fresh, "start", self._window.newest_s, None)
        self._loaded = True

    def renew_expired(self) -> None:
        """Decide anew at once where an answer expired while nobody decided; a model is not waited for with
        that."""
        now_s = self._clock.now_s(self._window.newest_s)
        ends = [c.state.valid_until_s for c in self._contracts.values()]
        if any(end_s is not None and end_s <= now_s for end_s in ends):
            self.tick()

    def _await_champion(self) -> None:
        ends_s = time.monotonic() + self._settings.model_wait_s
        while (left_s := ends_s - time.monotonic()) > 0 and not self._stop.is_set():
            if self._champion.asked.wait(min(_GLANCE_S, left_s)):
                return
            self.follow_overrides()

    def follow_overrides(self) -> None:
        """Take in the orders that were given, and write down those that expired; decide anew, at once, every
        contract whose last decision obeyed others than those in force."""
        if self._overrides is not None:
            self._overrides.refresh()
            self._obey()

    def _obey(self) -> None:
        if self._overrides is None or not self._contracts:
            return
        newest_s = self._window.newest_s
        now_s = self._clock.now_s(newest_s)
        self._overrides.note_expired(now_s)
        changed = [
            c
            for c in self._contracts.values()
            if c.memory.overrides != tuple(o.id for o in self._in_force(c.symbol, now_s).orders)
        ]
        if changed:
            self._recall(self._champion.current)
            self._keep([self._again(self._contracts[c.symbol], "override", newest_s) for c in changed])

    def _in_force(self, symbol: str, now_s: float) -> Overrides:
        return NO_OVERRIDES if self._overrides is None else self._overrides.in_force(symbol, now_s)

    def follow_champion(self) -> None:
        """Decide every contract anew where the champion is another than at the decisions before."""
        champion = self._champion.current
        version = "" if champion is None else champion.version
        if version == self._version_in_use:
            if version != self._looked_with:
                # It came after a restart's first look; the next decision of each contract looks again.
                self._outlooks.clear()
            return
        newest_s = self._window.newest_s
        if newest_s is not None and self._contracts:
            self._decide(list(self._contracts.values()), "model", newest_s, champion)
        self._version_in_use = version

    def run_pending(self) -> int:
        """Decide the waiting closes, oldest first, but for one that waits for what is finer; returns how many
        were decided."""
        decided = 0
        gathered: tuple[int | None, tuple[str, ...]] | None = None
        while not self._stop.is_set():
            with self._lock:
                close_s, waiting = min(self._pending, default=None), len(self._pending)
                batch = {} if close_s is None else dict(self._pending[close_s])
            # Anew for each close: what lies beneath it is posted before it, maybe while others were decided.
            if gathered != (close_s, tuple(batch)):
                gathered = close_s, tuple(batch)
                self._gather()
                continue
            if close_s is None:
                return decided
            if self._wait_s(close_s, batch) > 0:
                return decided
            decided += self._close(close_s, batch, skip=waiting > self._settings.catch_up_bars)
            # There may be many closes; an order does not wait for the last of them.
            self._obey()
            with self._lock:
                left = self._pending[close_s]
                for symbol in batch:
                    del left[symbol]
                if not left:
                    del self._pending[close_s]
        return decided

    def _gather(self) -> None:
        """Take in what other sources told and what is finer; bars of the decision interval that this made
        wait for their decisions."""
        self._hear()
        if self._finer is None:
            return
        with self._lock:
            newest = [s for s in (self._window.newest_s, *self._pending) if s is not None]
        alone = self._clock.runs_alone
        if alone or newest:
            now_s = self._clock.now_s(max(newest, default=None))
            made = self._finer.gather(now_s, passed=not alone)
        else:
            made = self._finer.gather(None, passed=False)
        if made:
            self.offer(made)

    def _hear(self) -> None:
        """Take in closes of other sources. Where they move the close on which a contract's sources agree, and
        it is its newest, what was foreseen there is foreseen anew."""
        with self._lock:
            told, self._told = self._told, []
        if self._sources is None:
            return
        for source, new in told:
            before = {symbol: self._newest_agreed(symbol) for symbol in new if symbol in self._outlooks}
            for symbol, bars in new.items():
                self._sources.write(source, symbol, bars.closes_s, bars.values[:, _CLOSE])
            for symbol, close in before.items():
                if self._newest_agreed(symbol) != close:
                    del self._outlooks[symbol]

    def _newest_agreed(self, symbol: str) -> float | None:
        newest_s = self._window.newest_s
        newest = None if newest_s is None else self._window.newest_close(symbol, newest_s)
        return None if newest is None else float(self._decider.agreed(symbol, newest[0], 1)[0])

    def _wait_s(self, close_s: int, symbols: Iterable[str]) -> float:
        """How long the decisions of a close wait for what is finer, and for other sources."""
        if not self._clock.runs_alone:
            return 0.0
        until_s = None if self._finer is None else self._finer.awaited_until_s(close_s, symbols)
        if self._sources is not None and any(self._sources.lacks(s, close_s) for s in symbols):
            until_s = close_s + self._settings.trade_tolerance_s
        return 0.0 if until_s is None else until_s - self._clock.now_s(self._window.newest_s)

    def _rest_s(self) -> float:
        """How long the loop sleeps where nobody wakes it."""
        tick_s = self._settings.decision_tick_s
        if self._overrides is not None and self._clock.runs_alone:
            now_s = self._clock.now_s(None)
            tick_s = min(tick_s, max(0.0, self._overrides.book.next_expiry_s(now_s) - now_s))
        with self._lock:
            first = min(self._pending, default=None)
            batch = [] if first is None else list(self._pending[first])
        return tick_s if first is None else min(tick_s, max(0.0, self._wait_s(first, batch)))

    def tick(self) -> None:
        """Look at every contract as time passes without bars. A decision is kept where the answer gets worse
        or better than its rung or mode says, or where it would expire; a fall waits for its bar."""
        newest_s = self._window.newest_s
        if not self._clock.runs_alone or not self._contracts:
            return
        self._recall(self._champion.current)
        margin_s = 3 * self._settings.decision_tick_s
        symbols = list(self._contracts)
        for first in range(0, len(symbols), _TICK_CONTRACTS):
            # A tick may look at many; an order does not wait for the last of them.
            self._obey()
            looked = symbols[first : first + _TICK_CONTRACTS]
            made = [self._again(self._contracts[s], "tick", newest_s) for s in looked]
            kept = [
                d
                for d in made
                if _worth_keeping(self._decisions.get(d.contract.symbol), d.decision, margin_s)
            ]
            if kept:
                self._keep(kept)

    def _close(self, close_s: int, batch: Mapping[str, NDArray[np.float64]], *, skip: bool) -> int:
        """Put one close into the window and decide on it; 1 where it was decided."""
        fresh = [s for s in batch if s not in self._contracts]
        if fresh:
            self._contracts.update({s: Contract(s) for s in fresh})
            self._window.add_symbols(fresh)
        newest_s = self._window.newest_s
        if newest_s is not None and close_s < newest_s:
            self._decider.calibration.forget(close_s)
        for symbol, values in batch.items():
            self._window.put(symbol, close_s, values)
        decide = [self._contracts[s] for s in batch if self._is_newest(s, close_s)]
        if skip or not decide:
            return 0
        made = self._prepare(decide, "bar", close_s, self._champion.current)
        if not self._clock.runs_alone:
            # Time moved on for the others too, and no tick will tell them.
            self._recall(self._champion.current)
            now_s = self._clock.now_s(self._window.newest_s)
            others = [c for c in self._contracts.values() if c.symbol not in batch and _decided_s(c) < now_s]
            made += [self._again(c, "gap", close_s) for c in others]
        self._keep(made)
        return 1

    def _is_newest(self, symbol: str, close_s: int) -> bool:
        """Whether a bar is its contract's newest and not decided on yet."""
        decided_s = self._contracts[symbol].decided_close_s
        newest_s = self._window.newest_s
        newest = None if newest_s is None else self._window.newest_close(symbol, newest_s)
        return newest is not None and newest[0] == close_s and (decided_s is None or close_s > decided_s)

    def _decide(
        self, contracts: list[Contract], trigger: str, until_s: int | None, champion: Champion | None
    ) -> None:
        self._keep(self._prepare(contracts, trigger, until_s, champion))

    def _prepare(
        self, contracts: list[Contract], trigger: str, until_s: int | None, champion: Champion | None
    ) -> list[Decided]:
        """Look and decide; nothing is stored or published yet."""
        self._looked_with = "" if champion is None else champion.version
        outlooks: dict[str, Outlook] = {}
        learned = {c.symbol: c for c in contracts}
        if until_s is not None:
            outlooks, learned = self._decider.look(contracts, until_s, champion)
        self._outlooks.update(outlooks)
        now_s = self._clock.now_s(self._window.newest_s)
        return [
            self._decider.decide(
                c,
                outlooks.get(c.symbol, Outlook()),
                trigger=trigger,
                until_s=until_s,
                now_s=now_s,
                champion="" if champion is None else champion.version,
                overrides=self._in_force(c.symbol, now_s),
            )
            for c in learned.values()
        ]

    def _again(self, contract: Contract, trigger: str, until_s: int | None) -> Decided:
        """Decide on what was foreseen at the contract's own newest bar."""
        now_s = self._clock.now_s(self._window.newest_s)
        return self._decider.decide(
            contract,
            self._outlooks.get(contract.symbol, Outlook()),
            trigger=trigger,
            until_s=until_s,
            now_s=now_s,
            champion=self._version_in_use,
            overrides=self._in_force(contract.symbol, now_s),
        )

    def _recall(self, champion: Champion | None) -> None:
        """After a start: what was foreseen at each contract's own newest bar."""
        newest_s = self._window.newest_s
        missing = [c for c in self._contracts.values() if c.symbol not in self._outlooks]
        if newest_s is None or not missing:
            return
        self._looked_with = "" if champion is None else champion.version
        by_close: dict[int, list[Contract]] = {}
        for contract in missing:
            newest = self._window.newest_close(contract.symbol, newest_s)
            by_close.setdefault(newest_s if newest is None else newest[0], []).append(contract)
        for close_s, contracts in by_close.items():
            outlooks, learned = self._decider.look(contracts, close_s, champion)
            self._outlooks.update(outlooks)
            self._contracts.update(learned)

    def _keep(self, made: list[Decided]) -> None:
        """Store, then remember and publish."""
        calibration = self._decider.calibration
        unsaved = calibration.unsaved
        with self._engine.begin() as connection:
            saved = save_decisions(connection, [d.stored for d in made])
            if unsaved is not None:
                save_calibration(connection, calibration.standing.artifact, unsaved)
        calibration.saved()
        for d in made:
            self._contracts[d.contract.symbol] = d.contract
            self._decisions[d.contract.symbol] = d.decision
        answers = {
            d.contract.symbol: identified(
                d.answers, d.contract.symbol, d.contract.seq, saved.hashes[d.contract.symbol]
            )
            for d in made
        }
        self.board = self.board.with_answers(saved.version, answers)

    def _closes(
        self, symbol: str, until_s: int, source: str | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        s = self._settings
        with self._engine.begin() as connection:
            return read_closes(connection, source or s.source, s.interval_s, symbol, until_s)

    def _stored_calibration(self, artifact: str) -> Mapping[str, Any] | None:
        with self._engine.begin() as connection:
            return read_calibration(connection, artifact)


def _decided_s(contract: Contract) -> float:
    """When the contract was decided last."""
    return contract.state.served[-1].time_s if contract.state.served else -math.inf


def _worth_keeping(before: Decision | None, now: Decision, margin_s: float) -> bool:
    if before is None or (before.rung, before.mode) != (now.rung, now.mode):
        return True
    if any(new > old for old, new in zip(before.served_rates, now.served_rates, strict=True)):
        return True
    expires = before.valid_until_s - now.decided_at_s <= margin_s
    return expires and now.valid_until_s > before.valid_until_s


def _clamp_gap(decisions: list[Decision]) -> float | None:
    """The largest required minus served rate: the margin that the limits hold back."""
    gaps = [r - s for d in decisions for r, s in zip(d.required_rates, d.served_rates, strict=True)]
    return max(gaps, default=None)
