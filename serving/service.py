"""The BentoML service: ``bentoml serve serving.service:Foremargin``, or ``python -m serving serve``.

One worker, because BentoML's workers are processes, and the decisions, the answers and the lease live in one.
POST endpoints are API methods; ``GET /live/...`` and ``/v1/overrides`` are mounted; ``serving.edge`` is
around all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import anyio
import bentoml
from starlette.responses import Response

from models.settings import MarginSettings
from serving.edge import ANSWER_S, BODY_S, ClientMistakes, Edge
from serving.live import live_app
from serving.overrides.app import override_app
from serving.requests import (
    BarsRequest,
    ForecastRequest,
    MultipliersRequest,
    PositionsRequest,
    refuse_repeated_symbols,
)
from serving.runtime import Runtime
from serving.settings import ServingSettings
from serving.tape_requests import BookRequest, TradesRequest

runtime = Runtime(ServingSettings(), MarginSettings())
logging.getLogger("bentoml._internal.server.http_app").addFilter(ClientMistakes())
#: BentoML's own limit, behind those of the edge; a short one keeps fewer timers for the garbage collector.
TIMEOUT_S = BODY_S + ANSWER_S + 5


@bentoml.service(
    name="foremargin",
    workers=1,
    traffic={"timeout": TIMEOUT_S},
    logging={"access": {"enabled": False}},
    # Threads of numerical libraries would fight over the cores with the thread that answers.
    envs=[{"name": n, "value": "1"} for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")],
)
class Foremargin:
    """Forward-looking margin multipliers, bounded by rules."""

    def __init__(self) -> None:
        # Batches are checked and stored one after the other; their order is the feed's.
        self._one_batch = anyio.CapacityLimiter(1)
        self._forecasts = anyio.CapacityLimiter(1)

    @bentoml.on_startup  # type: ignore[untyped-decorator] # bentoml has no types
    def open(self) -> None:
        """Open the store and start deciding."""
        runtime.open()
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), name="parent", daemon=True).start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Finish the decisions in hand."""
        runtime.close()

    async def __is_ready__(self) -> bool:
        return runtime.ready

    @bentoml.api(route="/v1/bars")  # type: ignore[untyped-decorator]
    async def bars(self, request: BarsRequest, /) -> dict[str, Any]:
        """Take new bars. A bar that is stored already is counted as a repeat; one that contradicts, or breaks
        a rule, refuses the whole batch."""
        return await anyio.to_thread.run_sync(runtime.take_bars, request, limiter=self._one_batch)

    @bentoml.api(route="/v1/trades")  # type: ignore[untyped-decorator]
    async def trades(self, request: TradesRequest, /) -> dict[str, Any]:
        """Take new trades, of which finer bars are made. A trade that was taken already is counted as a
        repeat, one that comes too late for its bar as late; one that contradicts, or breaks a rule, refuses
        the whole request."""
        return await anyio.to_thread.run_sync(runtime.take_trades, request, limiter=self._one_batch)

    @bentoml.api(route="/v1/book")  # type: ignore[untyped-decorator]
    async def book(self, request: BookRequest, /) -> dict[str, Any]:
        """Take new snapshots of order books; repeats and late ones as of trades. Crossed, locked, empty and
        one-sided books are taken as they are."""
        return await anyio.to_thread.run_sync(runtime.take_book, request, limiter=self._one_batch)

    @bentoml.api(route="/v1/positions")  # type: ignore[untyped-decorator]
    async def positions(self, request: PositionsRequest, /) -> dict[str, Any]:
        """Take what is open in one contract, in place of what was told before; it counts for an hour
        (``positions_valid_s``)."""
        return await anyio.to_thread.run_sync(runtime.take_positions, request, limiter=self._one_batch)

    @bentoml.api(route="/v1/multipliers")  # type: ignore[untyped-decorator]
    async def multipliers(self, request: MultipliersRequest, /) -> dict[str, Any]:
        """The margin in force: everything, or some symbols, one side, one kind."""
        if request.symbols is not None:
            refuse_repeated_symbols(request.symbols)
        body = runtime.board.select(request.symbols, request.side, request.kind)
        # The text was made when it was published; encoding it again at every read would be the endpoint's
        # cost.
        return Response(body, media_type="application/json")  # type: ignore[return-value]

    @bentoml.api(route="/v1/forecast")  # type: ignore[untyped-decorator]
    async def forecast(self, request: ForecastRequest, /) -> dict[str, Any]:
        """VaR and ES by horizon and side from the bars of the request; nothing is stored."""
        return await anyio.to_thread.run_sync(runtime.forecast, request, limiter=self._forecasts)


Foremargin.mount_asgi_app(  # type: ignore[attr-defined] # the decorator made a Service of it
    live_app(lambda: runtime.board, runtime.status), path="/live"
)
Foremargin.mount_asgi_app(  # type: ignore[attr-defined]
    override_app(runtime, with_tokens=Edge.asks_for_tokens(runtime.settings)), path="/v1"
)
Foremargin.add_asgi_middleware(Edge, settings=runtime.settings)  # type: ignore[attr-defined]


def _end_with_parent(parent: int) -> None:
    """End this worker when the process that started it is gone: a server that was killed leaves no second
    decider behind that holds its port and its store."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
