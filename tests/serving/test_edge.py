"""The edge around applications that answer as BentoML does: one shape for every refusal, tokens, the body
limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
from pydantic import BaseModel, FiniteFloat, ValidationError

from serving.edge import ClientMistakes, Edge
from serving.errors import InvalidInputError, error_body, shown
from serving.settings import ServingSettings

READ, INGEST = "r" * 20, "i" * 20


class Stub:
    """An application that answers with what it is told, and keeps the body that reached it."""

    def __init__(self, status: int = 200, content: bytes = b"{}", headers: tuple[Any, ...] = ()) -> None:
        self.status, self.content, self.headers = status, content, headers
        self.body: bytes | None = None
        self.error: Exception | None = None

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.body = message["body"]
        assert message["more_body"] is False
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        half = len(self.content) // 2
        await send({"type": "http.response.body", "body": self.content[:half], "more_body": True})
        await send({"type": "http.response.body", "body": self.content[half:]})


def ask(
    app: Callable[..., Awaitable[None]],
    path: str = "/v1/bars",
    method: str = "POST",
    parts: tuple[bytes, ...] = (b"{}",),
    headers: dict[str, str] | None = None,
    client: tuple[str, int] | None = ("127.0.0.1", 5),
    settings: ServingSettings | None = None,
    hangs: bool = False,
    **limits: float,
) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON content and headers of the answer."""
    sent: list[dict[str, Any]] = []
    queue = [
        {"type": "http.request", "body": p, "more_body": i + 1 < len(parts)} for i, p in enumerate(parts)
    ]

    async def receive() -> dict[str, Any]:
        if hangs:
            await asyncio.Event().wait()
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
        "client": client,
    }
    asyncio.run(Edge(app, settings or ServingSettings(), **limits)(scope, receive, send))
    body = b"".join(m.get("body", b"") for m in sent)
    found = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], json.loads(body), found


def is_refusal(content: Any) -> bool:
    return set(content) == {"error"} and {"code", "message", "field", "value", "remedy"} <= set(
        content["error"]
    )


def test_an_answer_passes_as_it_is() -> None:
    stub = Stub(content=b'{"x":1}')
    assert ask(stub, parts=(b'{"a"', b":1}"))[:2] == (200, {"x": 1})
    assert stub.body == b'{"a":1}'


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (404, b"Not Found", "not_found"),
        (405, b"Method Not Allowed", "method_not_allowed"),
        (400, b'[{"error": "something"}]', "bad_request"),
        (422, b"", "bad_request"),
        (500, b'{"error": "An unexpected error has occurred"}', "internal"),
        (503, b"Service is not ready", "not_ready"),
        (504, b'{"error": "Not able to process the request"}', "internal"),
    ],
)
def test_every_refusal_gets_the_shape(status: int, content: bytes, code: str) -> None:
    found = ask(Stub(status, content, ((b"Allow", b"POST"),)))
    assert found[0] == status
    assert is_refusal(found[1])
    assert found[1]["error"]["code"] == code
    assert found[2]["allow"] == "POST"
    assert found[2]["content-type"] == "application/json"


def test_our_own_refusal_is_found_in_bentomls_array() -> None:
    refusal = InvalidInputError("row 1: wrong", "repair it", field="bars.1.close", value=2.0, row=1)
    found = ask(Stub(422, json.dumps([{"error": str(refusal)}]).encode()))
    assert found[:2] == (422, refusal.body)


class Body(BaseModel):
    bars: list[dict[str, FiniteFloat]]


def validation(body: bytes) -> bytes:
    try:
        Body.model_validate_json(body)
    except ValidationError as error:
        detail = error.errors(include_context=False, include_input=False)
        return json.dumps({"error": "1 validation error", "detail": detail}).encode()
    raise AssertionError("the body is valid")


@pytest.mark.parametrize(
    ("body", "field", "value", "row"),
    [
        (b'{"bars": [{"x": 1}, {"x": NaN}]}', "bars.1.x", "nan", 1),
        (b'{"bars": [{"x": "a"}]}', "bars.0.x", "a", 0),
        (b'{"bars": 5}', "bars", 5, None),
        (b"{}", "bars", None, None),
        (b"[1]", "body", "[1]", None),
        (b'{"bars": [', "body", None, None),
        (b"\xff\xfe", "body", None, None),
        (b"[" * 5000, "body", None, None),
    ],
)
def test_validation_errors_name_field_value_and_row(
    body: bytes, field: str, value: object, row: int | None
) -> None:
    status, content, _ = ask(Stub(400, validation(body)), parts=(body,))
    assert status == 400
    assert is_refusal(content)
    assert content["error"]["field"] == field
    assert content["error"]["value"] == value
    assert content["error"].get("row") == row


def test_an_application_that_fails_is_a_500_in_the_shape(caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub()
    stub.error = RuntimeError("secret detail")
    status, content, _ = ask(stub)
    assert status == 500
    assert is_refusal(content)
    assert "secret" not in json.dumps(content)
    assert "secret detail" in caplog.text


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    stub = Stub()
    status, content, back = ask(stub, hangs=True, body_s=0.01)
    assert (status, content["error"]["code"]) == (408, "request_timeout")
    assert is_refusal(content)
    assert back["connection"] == "close"
    assert stub.body is None


@pytest.mark.parametrize("stubborn", [True, False])
def test_an_answer_that_does_not_come_is_told_in_the_shape(stubborn: bool) -> None:
    """Stubborn: it ends only after it was cancelled, and answers then, as a thread at work does."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            if stubborn:
                await Stub()(_scope, receive, send)

    status, content, _ = ask(app, answer_s=0.01)
    assert (status, content["error"]["code"]) == (503, "too_slow")
    assert is_refusal(content)


def test_an_answer_that_has_begun_is_let_finish() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"{}"})

    assert ask(app, answer_s=0.01)[:2] == (200, {})


@pytest.mark.parametrize("declared", [True, False])
def test_a_large_body_is_refused_before_it_is_read(declared: bool) -> None:
    stub = Stub()
    settings = ServingSettings(body_limit_bytes=2048)
    headers = {"content-length": "5000"} if declared else {}
    status, content, back = ask(stub, parts=(b"x" * 1000,) * 5, headers=headers, settings=settings)
    assert (status, content["error"]["code"]) == (413, "too_large")
    assert is_refusal(content)
    assert back["connection"] == "close"
    assert stub.body is None
    assert ask(stub, parts=(b"x" * 1024, b"x" * 1024), settings=settings)[0] == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/vnd.bentoml+pickle"]
)
def test_only_json_is_read(kind: str) -> None:
    stub = Stub()
    status, content, _ = ask(stub, headers={"content-type": kind})
    assert (status, content["error"]["field"]) == (415, "content-type")
    assert stub.body is None


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/live/status", None, 401),
        ("/live/status", "Bearer wrong", 401),
        ("/live/status", f"Basic {READ}", 401),
        ("/live/status", f"Bearer {READ}", 200),
        ("/live/status", f"bearer {INGEST}", 200),
        ("/v1/bars", f"Bearer {READ}", 403),
        ("/v1/bars", f"Bearer {INGEST}", 200),
        ("/v1/trades", f"Bearer {READ}", 403),
        ("/v1/book", f"Bearer {READ}", 403),
        ("/v1/trades", f"Bearer {INGEST}", 200),
        ("/v1/multipliers", f"Bearer {READ}", 200),
        ("/metrics", None, 401),
        ("/docs.json", None, 401),
        ("/readyz", None, 200),
        ("/livez", None, 200),
    ],
)
def test_tokens_open_what_they_are_for(path: str, token: str | None, status: int) -> None:
    settings = ServingSettings(read_tokens=(READ,), ingest_tokens=(INGEST,))
    headers = {} if token is None else {"authorization": token}
    found = ask(Stub(), path, headers=headers, settings=settings)
    assert found[0] == status
    if status >= 400:
        assert is_refusal(found[1])
        assert READ not in json.dumps(found[1])


def test_without_tokens_only_this_machine_is_answered() -> None:
    assert ask(Stub(), client=("192.168.1.7", 1))[0] == 403
    assert ask(Stub(), client=("192.168.1.7", 1), path="/readyz")[0] == 200
    for local in (("127.0.0.1", 1), ("::1", 1), None):
        assert ask(Stub(), client=local)[0] == 200


def test_websockets_are_closed_and_the_lifespan_passes() -> None:
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    async def send(message: Any) -> None:
        seen.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    for kind in ("websocket", "lifespan"):
        asyncio.run(Edge(app, ServingSettings())({"type": kind}, receive, send))
    assert seen == [{"type": "websocket.close", "code": 1008}, "lifespan"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (10**5000, "a whole number of 16610 bits"),
        ("x" * 200, "x" * 120 + "..."),
        ([1, 2], "[1, 2]"),
        ({"a": float("inf")}, '{"a": Infinity}'),
    ],
    ids=lambda v: str(type(v).__name__),
)
def test_values_are_shown_short_and_as_json(value: object, wanted: object) -> None:
    assert shown(value) == wanted
    json.dumps(error_body("c", "m", "r", value=value), allow_nan=False)


def test_a_clients_mistake_is_not_an_event_for_the_log() -> None:
    import logging

    def record(error: BaseException | None) -> logging.LogRecord:
        info = None if error is None else (type(error), error, None)
        return logging.LogRecord("n", logging.ERROR, "p", 1, "m", None, info)

    keeps = ClientMistakes().filter
    assert keeps(record(RuntimeError()))
    assert keeps(record(None))
    assert not keeps(record(InvalidInputError("m", "r")))
    assert InvalidInputError.status is HTTPStatus.UNPROCESSABLE_ENTITY
