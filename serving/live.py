"""``GET /live/...``: what was last published, and how the server does. Mounted beside BentoML's API methods,
which are POST only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.board import Board
from serving.errors import RefusedError


def live_app(board: Callable[[], Board], status: Callable[[], dict[str, Any]]) -> Starlette:
    """The application for the mount at ``/live``."""

    async def multipliers(_: Request) -> Response:
        return Response(board().text(), media_type="application/json")

    async def one(request: Request) -> Response:
        return Response(board().text([request.path_params["symbol"]]), media_type="application/json")

    async def tell(_: Request) -> Response:
        return JSONResponse(status())

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse(error.body, status_code=error.status)

    return Starlette(
        routes=[
            Route("/multipliers", multipliers),
            # Symbols may contain a slash: BTC/USDT.
            Route("/multipliers/{symbol:path}", one),
            Route("/status", tell),
        ],
        exception_handlers={RefusedError: refused},
    )
