"""``/v1/overrides``: set, list, confirm, end. Mounted beside BentoML's API methods, which are POST only and
have no parameters in their paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import anyio
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.errors import ForbiddenError, InvalidInputError, RefusedError, StoreBusyError
from serving.overrides.book import SERVER
from serving.overrides.requests import ConfirmRequest, EndRequest, SetRequest

#: Where ``serving.edge`` puts the identity of the token that came with a request.
IDENTITY = "foremargin.identity"

_Body = TypeVar("_Body", SetRequest, ConfirmRequest, EndRequest)


class Orders(Protocol):
    """What takes orders; ``serving.runtime.Runtime`` is one."""

    def set_override(self, request: SetRequest, by: str) -> dict[str, Any]: ...

    def confirm_override(self, order_id: str, by: str) -> dict[str, Any]: ...

    def end_override(self, order_id: str, by: str, reason: str) -> dict[str, Any]: ...

    def overrides(self) -> dict[str, Any]: ...


def override_app(orders: Orders, *, with_tokens: bool) -> Starlette:
    """The application for the mount at ``/v1``. ``with_tokens``: whether identities come from tokens; else
    requests name them."""

    async def book(request: Request) -> Response:
        # One route, so that a refused method is told both that are taken.
        if request.method != "POST":
            return JSONResponse(orders.overrides())
        body = await _body(request, SetRequest)
        by = _who(request, body.by)
        return await _answer(orders.set_override, body, by)

    async def confirm(request: Request) -> Response:
        body = await _body(request, ConfirmRequest)
        by = _who(request, body.by)
        return await _answer(orders.confirm_override, request.path_params["id"], by)

    async def end(request: Request) -> Response:
        body = await _body(request, EndRequest)
        by = _who(request, body.by)
        return await _answer(orders.end_override, request.path_params["id"], by, body.reason)

    def _who(request: Request, named: str | None) -> str:
        identity: str | None = request.scope.get(IDENTITY)
        if with_tokens:
            if identity is None:
                raise ForbiddenError(
                    "the token gives no orders", "use an override token", field="authorization"
                )
            if named not in (None, identity):
                raise InvalidInputError(
                    f"by is not the identity of the token, which is {identity}",
                    "leave by out, or send your own token",
                    field="by",
                    value=named,
                )
            return identity
        if named is None:
            raise InvalidInputError(
                "by is missing: an order must say whose it is",
                "add by, your name, or set override_tokens in [serving], which say it",
                field="by",
            )
        if named.casefold() == SERVER:
            raise InvalidInputError(
                f"by is {named}, which stands for the server itself", "give a person", field="by", value=named
            )
        return named

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse(error.body, status_code=error.status)

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, ValidationError)
        # The edge puts it into the shape of every refusal.
        detail = error.errors(include_context=False, include_input=False, include_url=False)
        return JSONResponse({"detail": detail}, status_code=400)

    def busy(_: Request, _error: Exception) -> Response:
        told = StoreBusyError(
            "the store did not take the order in time", "look at GET /v1/overrides, and send it again"
        )
        return JSONResponse(told.body, status_code=told.status)

    return Starlette(
        routes=[
            Route("/overrides", book, methods=["GET", "POST"]),
            Route("/overrides/{id}/confirm", confirm, methods=["POST"]),
            Route("/overrides/{id}/end", end, methods=["POST"]),
        ],
        exception_handlers={RefusedError: refused, ValidationError: invalid, OperationalError: busy},
    )


async def _body(request: Request, kind: type[_Body]) -> _Body:
    # A confirmation with a token needs no body.
    return kind.model_validate_json(await request.body() or b"{}")


async def _answer(ask: Callable[..., dict[str, Any]], *arguments: Any) -> Response:
    found = await anyio.to_thread.run_sync(lambda: ask(*arguments))
    return JSONResponse({"override": found})
