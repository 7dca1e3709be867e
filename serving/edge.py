"""The outermost layer that is ours: tokens, the body limit, and one JSON shape for every refusal.

An ASGI middleware around BentoML's application, because BentoML answers 404 and 405 in plain text, validation
errors, timeouts and its own exceptions each in another form, and reads a body of any size. Every response of
status 400 and above leaves here in the shape of ``serving.errors.error_body``.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic import SecretStr, ValidationError

from serving.errors import RefusedError, error_body
from serving.overrides.app import IDENTITY
from serving.settings import ServingSettings

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: How long a body may take to come, and an answer to be made.
BODY_S, ANSWER_S = 10.0, 15.0
READING = frozenset({"GET", "HEAD", "OPTIONS"})
#: A probe carries no token.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz"})
INGEST_PATHS = frozenset({"/v1/bars", "/v1/trades", "/v1/book", "/v1/positions"})
#: Giving orders takes an override token; reading them any.
OVERRIDE_PATH = "/v1/overrides"
ENDPOINTS = (
    "POST /v1/bars, /v1/trades, /v1/book, /v1/positions, /v1/multipliers, /v1/forecast, /v1/overrides, "
    "/v1/overrides/ID/confirm, /v1/overrides/ID/end; "
    "GET /v1/overrides, /live/multipliers, /live/multipliers/SYMBOL, /live/status, /livez, /readyz, /metrics"
)
_REMEDIES = {
    "finite_number": "send a finite number",
    "float_type": "send a JSON number, not a text or a truth value",
    "missing": "add the field",
    "extra_forbidden": "remove the field",
    "json_invalid": "send one JSON object, UTF-8",
    "model_type": "send one JSON object",
    "model_attributes_type": "send one JSON object",
    "too_short": "give at least one",
    "string_too_short": "write at least one character",
    "string_too_long": "write it shorter",
    "literal_error": "send one of the values that the message names",
    "timezone_aware": "add the time zone: 2026-03-10T12:00:00Z",
}


class RefusalError(Exception):
    """A refusal of the edge itself: status and body."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}
        super().__init__(body["error"]["message"])


class Edge:
    """The middleware; ``settings`` give tokens and the body limit."""

    def __init__(
        self, app: App, settings: ServingSettings, body_s: float = BODY_S, answer_s: float = ANSWER_S
    ) -> None:
        self.app, self.limit = app, settings.body_limit_bytes
        self.body_s, self.answer_s = body_s, answer_s
        self.ingest = [_secret(t) for t in settings.ingest_tokens]
        self.override = {who: _secret(t) for who, t in settings.override_tokens.items()}
        self.read = [_secret(t) for t in settings.read_tokens] + self.ingest + list(self.override.values())
        self.guarded = self.asks_for_tokens(settings)

    @staticmethod
    def asks_for_tokens(settings: ServingSettings) -> bool:
        """Whether requests need one; without any, this machine is answered as it is."""
        return bool(settings.read_tokens or settings.ingest_tokens or settings.override_tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        try:
            headers = {k.lower(): v for k, v in scope["headers"]}
            self._admit(scope, headers)
            body = await asyncio.wait_for(self._body(scope, headers, receive), self.body_s)
        except TimeoutError:
            refusal = error_body(
                "request_timeout",
                f"the body did not come within {self.body_s:g} s",
                "send it without a pause, or in several requests",
                field="body",
            )
            await _respond(send, 408, refusal, {"connection": "close"})
            return
        except RefusalError as refusal:
            await _respond(send, refusal.status, refusal.body, refusal.headers)
            return
        await self._pass(scope, body, receive, send)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        path = scope["path"]
        if path in OPEN_PATHS:
            return
        if not self.guarded:
            if not _local(scope.get("client")):
                # The settings refuse this too, but a server may be started with another host than they name.
                raise RefusalError(
                    403,
                    error_body(
                        "forbidden",
                        "requests from other machines need tokens, and none are set",
                        "set read_tokens, ingest_tokens and override_tokens in [serving]",
                    ),
                )
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        token = token.strip() if scheme.lower() == b"bearer" else b""
        if not _among(token, self.read):
            raise RefusalError(
                401,
                error_body(
                    "unauthorized",
                    "no valid token came with the request",
                    "send the header Authorization: Bearer TOKEN",
                    field="authorization",
                ),
                {"www-authenticate": "Bearer"},
            )
        if path in INGEST_PATHS and not _among(token, self.ingest):
            raise RefusalError(
                403,
                error_body(
                    "forbidden",
                    "the token may not ingest",
                    "use an ingest token",
                    field="authorization",
                ),
            )
        # As in _among, all are compared.
        owners = [who for who, secret in self.override.items() if _among(token, [secret])]
        if owners:
            scope[IDENTITY] = owners[0]
        elif path.startswith(OVERRIDE_PATH) and scope["method"] not in READING:
            raise RefusalError(
                403,
                error_body(
                    "forbidden",
                    "the token may not give orders" if self.override else "nobody may give orders here",
                    "use an override token" if self.override else "set override_tokens in [serving]",
                    field="authorization",
                ),
            )

    async def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        if scope["method"] in READING:
            return b""
        kind = headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            # BentoML would take forms, and fetch what they link to.
            raise RefusalError(
                415,
                error_body(
                    "unsupported_media_type",
                    "the body is not declared as JSON",
                    "send Content-Type: application/json",
                    field="content-type",
                    value=kind.decode("latin-1"),
                ),
            )
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self.limit:
            raise self._too_large(int(declared[:20]))
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b""
            part = message.get("body", b"")
            size += len(part)
            # Counted as it comes: a chunked body declares no length.
            if size > self.limit:
                raise self._too_large(size)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self, size: int) -> RefusalError:
        return RefusalError(
            413,
            error_body(
                "too_large",
                f"the body is larger than {self.limit} bytes",
                "send the rows in several requests",
                field="body",
                value=size,
            ),
            # What follows in the stream is not read; the connection cannot be used again.
            {"connection": "close"},
        )

    async def _pass(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Call the application with the body read; hold a refusal back until it has our shape."""
        sent, started = False, {"status": 0, "late": 0}
        parts: list[bytes] = []
        allow: list[str] = []

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def hold(message: Message) -> None:
            if started["late"]:
                return  # the client was told already
            if message["type"] == "http.response.start":
                started["status"] = message["status"]
                allow.extend(v.decode("latin-1") for k, v in message["headers"] if k.lower() == b"allow")
            if started["status"] < 400:
                await send(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        try:
            await self._in_time(asyncio.ensure_future(self.app(scope, replay, hold)), started)
        except Exception:
            if 0 < started["status"] < 400:
                raise  # half an answer is out; the server closes the connection
            logging.getLogger(__name__).exception("%s %s failed", scope["method"], scope["path"])
            started["status"] = 500
        if started["late"]:
            refusal = error_body(
                "too_slow",
                f"the answer was not ready within {self.answer_s:g} s",
                "send less in one request, or try again: repeats are harmless",
            )
            await _respond(send, 503, refusal, {})
        elif started["status"] >= 400:
            answer = _in_shape(started["status"], b"".join(parts), scope, body)
            await _respond(send, *answer, {"allow": ", ".join(allow)} if allow else {})

    async def _in_time(self, answer: asyncio.Future[None], started: dict[str, int]) -> None:
        """Wait for the answer; where nothing of it is out in time, mark it late and wait no longer."""
        try:
            await asyncio.wait({answer}, timeout=self.answer_s)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if not answer.done() and not started["status"]:
            started["late"] = 1
            # A thread at work ends by itself; it is not waited for.
            answer.cancel()
        else:
            await answer


def _in_shape(status: int, answer: bytes, scope: Scope, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and body of a refusal, whatever form it came in."""
    try:
        content = json.loads(answer)
    except ValueError:
        content = None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict):
        inner = content.get("error")
        if isinstance(inner, dict) and {"code", "message", "remedy"} <= set(inner):
            return status, content
        if isinstance(inner, str) and inner.startswith('{"error"'):
            return status, dict(json.loads(inner))
        if isinstance(content.get("detail"), list) and content["detail"]:
            return 400, _invalid(content["detail"][0], body)
    path = scope["path"]
    if status == 404:
        return 404, error_body(
            "not_found", f"there is nothing at {path}", f"use {ENDPOINTS}", field="path", value=path
        )
    if status == 405:
        method = scope["method"]
        return 405, error_body(
            "method_not_allowed",
            f"{path} does not take {method}",
            f"use {ENDPOINTS}",
            field="method",
            value=method,
        )
    if status == 503:
        return 503, error_body("not_ready", "the server cannot answer yet", "try again in a second")
    if status >= 500:
        return status, error_body("internal", "the server failed at this request", "see the server's log")
    return status, error_body("bad_request", "the request was refused", f"use {ENDPOINTS}")


def _invalid(detail: dict[str, Any], body: bytes) -> dict[str, Any]:
    """A pydantic error in our shape, with the value that it is about, found in the request."""
    place = [str(p) for p in detail.get("loc", ())]
    kind = str(detail.get("type", ""))
    found: object = None
    if kind != "json_invalid":
        try:
            found = json.loads(body)
            for step in detail.get("loc", ()):
                found = found[step]  # type: ignore[index] # whatever has no such step is shown as nothing
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            found = None
    # Bars and bins are rows; trades and snapshots are columns in blocks: book.0.bid_price.7.
    at = {"bars": 1, "long": 1, "short": 1, "trades": 3, "book": 3}.get(place[0]) if place else None
    row = detail["loc"][at] if at is not None and len(place) > at else None
    row = row if isinstance(row, int) else None
    field = ".".join(place) or "body"
    return error_body(
        "invalid_json" if kind == "json_invalid" else "invalid_input",
        f"{field}: {detail.get('msg', 'is not valid')}",
        _REMEDIES.get(kind, "correct the value; the endpoint's schema is at /docs.json"),
        field=field,
        value=found,
        row=row,
    )


async def _respond(send: Send, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
    content = json.dumps(body, allow_nan=False).encode()
    lines = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    encoded = [(k.encode(), v.encode("latin-1")) for k, v in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


def _secret(token: SecretStr) -> bytes:
    return token.get_secret_value().encode()


def _among(token: bytes, secrets: list[bytes]) -> bool:
    # All are compared, each in constant time, so that the time tells nothing.
    return sum(hmac.compare_digest(token, s) for s in secrets) > 0


def _local(client: object) -> bool:
    if not isinstance(client, list | tuple) or not client:
        return True  # a socket file of this machine
    try:
        return ipaddress.ip_address(str(client[0])).is_loopback
    except ValueError:
        return False


class ClientMistakes(logging.Filter):
    """Drops the log records of requests that were refused for their own fault: they were answered."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, ValidationError | RefusedError)
