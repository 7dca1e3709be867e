"""The running server without its HTTP: store, champion, decision loop, ingest, answers."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pandas as pd

from models.settings import MarginSettings
from serving.board import Board
from serving.champion import Champion, ChampionWatch, RegistryLike
from serving.clock import clock_named
from serving.desk import TapeDesk
from serving.errors import NotReadyError
from serving.finer import FinerGrid
from serving.forecast import forecast_from
from serving.ingest import Ingest
from serving.loop import DecisionLoop
from serving.outlook import Needs
from serving.overrides.desk import OverrideDesk
from serving.overrides.requests import SetRequest
from serving.positions import PositionDesk
from serving.requests import BarsRequest, ForecastRequest, PositionsRequest
from serving.settings import ServingSettings
from serving.store.engine import store_engine
from serving.store.lease import sole_decider
from serving.store.migrate import migrate
from serving.tape_ingest import TapeIngest
from serving.tape_requests import BookRequest, TradesRequest

logger = logging.getLogger(__name__)


def default_registry() -> RegistryLike:
    """The registry that the environment names. MLflow is loaded here, in the champion's thread, not
    before."""
    from models.registry import Registry

    return Registry()


class Runtime:
    """Opened once; closed at the end. Only ``opened`` ones answer."""

    def __init__(
        self,
        settings: ServingSettings,
        margin: MarginSettings,
        registry: Callable[[], RegistryLike] = default_registry,
    ) -> None:
        self.settings, self.margin = settings, margin
        self._registry = registry
        self._open = ExitStack()
        self._loop: DecisionLoop | None = None
        self._watch: ChampionWatch | None = None
        self._orders: OverrideDesk | None = None
        self._positions: PositionDesk | None = None
        self._ingest: Ingest | None = None
        self._tapes: TapeIngest | None = None

    def open(self) -> None:
        """Migrate and lock the store, publish what it last published, start deciding.

        Raises ``serving.store.engine.StoreError`` where the store cannot be used.
        """
        s = self.settings
        engine = store_engine(s.database)
        self._open.callback(engine.dispose)
        migrate(engine)
        self._open.enter_context(sole_decider(engine))
        clock = clock_named(s.clock)
        watch = ChampionWatch(
            self._registry,
            s.model_folder,
            s.interval,
            poll_s=s.model_poll_s,
            on_change=self._champion_changed,
            finer_history=None if s.finer_interval_s is None else pd.Timedelta(days=s.finer_history_days),
        )
        desk = finer = None
        if s.finer_interval_s is not None:
            desk = TapeDesk(engine, s)
            desk.load()
            finer = FinerGrid(engine, s, desk)
        orders = OverrideDesk(
            engine, self.margin.limits, two_person=s.two_person, longest_s=s.override_longest_s
        )
        orders.refresh()
        positions = PositionDesk(engine, s.positions_valid_s)
        positions.load()
        loop = DecisionLoop(engine, s, self.margin, clock, watch, finer, orders, positions)
        loop.publish_stored()
        self._watch, self._loop, self._orders, self._positions = watch, loop, orders, positions
        self._ingest = Ingest(engine, s, clock, loop.offer, offer_beside=loop.offer_beside)
        if finer is not None:
            self._ingest = replace(self._ingest, offer_finer=finer.offer)
        self._tapes = TapeIngest(desk, s, clock, loop.wake)
        loop.start()
        self._open.callback(loop.stop)
        watch.start()
        self._open.callback(watch.stop)
        _settle_memory()

    def close(self) -> None:
        """End the threads after what they have in hand, and release the store."""
        self._open.close()

    @property
    def board(self) -> Board:
        return Board() if self._loop is None else self._loop.board

    @property
    def ready(self) -> bool:
        return self._loop is not None and self._loop.ready

    def take_bars(self, request: BarsRequest) -> dict[str, Any]:
        """See ``serving.ingest``."""
        assert self._ingest is not None, "open the runtime first"
        return self._ingest.take(request)

    def take_trades(self, request: TradesRequest) -> dict[str, Any]:
        """See ``serving.tape_ingest``."""
        assert self._tapes is not None, "open the runtime first"
        return self._tapes.take_trades(request)

    def take_book(self, request: BookRequest) -> dict[str, Any]:
        """See ``serving.tape_ingest``."""
        assert self._tapes is not None, "open the runtime first"
        return self._tapes.take_book(request)

    def take_positions(self, request: PositionsRequest) -> dict[str, Any]:
        """See ``serving.positions``."""
        assert self._positions is not None, "open the runtime first"
        return self._positions.take(request, self._present_s())

    def set_override(self, request: SetRequest, by: str) -> dict[str, Any]:
        """See ``serving.overrides.desk``, also of the next two."""
        return self._ordered(lambda desk, now_s: desk.set(request, by, now_s))

    def confirm_override(self, order_id: str, by: str) -> dict[str, Any]:
        return self._ordered(lambda desk, now_s: desk.confirm(order_id, by, now_s))

    def end_override(self, order_id: str, by: str, reason: str) -> dict[str, Any]:
        return self._ordered(lambda desk, now_s: desk.end(order_id, by, reason, now_s))

    def _ordered(self, give: Callable[[OverrideDesk, float], dict[str, Any]]) -> dict[str, Any]:
        """Give an order, and let the loop look at it at once."""
        assert self._orders is not None, "open the runtime first"
        assert self._loop is not None, "open the runtime first"
        taken = give(self._orders, self._present_s())
        self._loop.wake()
        return taken

    def _present_s(self) -> float:
        """What time it is. Raises ``NotReadyError`` where no bar says it yet."""
        now_s = None if self._loop is None else self._loop.now_s()
        if now_s is None:
            raise NotReadyError(
                "the bars are the clock, and there is no bar yet", "send bars, or start with --clock wall"
            )
        return now_s

    def overrides(self) -> dict[str, Any]:
        """Every order, by what has become of it."""
        assert self._orders is not None, "open the runtime first"
        return self._orders.listing(self._now_s)

    @property
    def _now_s(self) -> float:
        # Before the first bar that is the clock there are no orders.
        return (None if self._loop is None else self._loop.now_s()) or 0.0

    def forecast(self, request: ForecastRequest) -> dict[str, Any]:
        """See ``serving.forecast``."""
        champion, loop = self._champion, self._loop
        return forecast_from(
            request.bars,
            self.settings.interval,
            Needs.of(self.margin),
            champion,
            None if champion is None or loop is None else loop.calibration_of(champion),
        )

    @property
    def _champion(self) -> Champion | None:
        return None if self._watch is None else self._watch.current

    def status(self) -> dict[str, Any]:
        """How the server does: loop, champion, clock."""
        loop = {} if self._loop is None else self._loop.status()
        champion = None if self._watch is None else dict(self._watch.status())
        return {
            **loop,
            "champion": champion,
            "clock": self.settings.clock,
            "interval_s": self.settings.interval_s,
            "finer_interval_s": self.settings.finer_interval_s,
            "tapes": {} if self._tapes is None else self._tapes.status(),
            "source": self.settings.source,
            "overrides": {} if self._orders is None else self._orders.status(self._now_s),
            "positions": {} if self._positions is None else self._positions.status(self._now_s),
        }

    def _champion_changed(self) -> None:
        if self._loop is not None:
            self._loop.wake()
        _settle_memory()


def _settle_memory() -> None:
    """Keep what was loaded out of the garbage collector's sight; its long pauses are the tail of the
    latency."""
    gc.collect()
    gc.freeze()
