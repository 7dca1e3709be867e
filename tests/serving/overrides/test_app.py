"""The endpoints behind the edge: who may give orders, whose they are, and the one shape of a refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.routing import Mount

from serving.edge import Edge
from serving.overrides.app import override_app
from serving.overrides.desk import OverrideDesk
from serving.overrides.requests import SetRequest
from serving.settings import ServingSettings
from serving.store.engine import store_engine
from serving.store.migrate import migrate

READ, INGEST, ANA, BEN = "r" * 20, "i" * 20, "a" * 20, "b" * 20
NOW_S = 1_700_000_000.0
FREEZE = {"kind": "freeze", "reason": "a test", "lasts_s": 60}


class Client:
    """Asks an ASGI application from this machine, one request after the other."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path, **given)

        return asyncio.run(ask())

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.request("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self.request("POST", path, **given)


class AtOneTime:
    """A desk at a time that stands still; ``fails`` is raised instead of an answer."""

    def __init__(self, desk: OverrideDesk) -> None:
        self.desk, self.fails = desk, None

    def set_override(self, request: SetRequest, by: str) -> dict[str, Any]:
        if self.fails is not None:
            raise self.fails
        return self.desk.set(request, by, NOW_S)

    def confirm_override(self, order_id: str, by: str) -> dict[str, Any]:
        return self.desk.confirm(order_id, by, NOW_S)

    def end_override(self, order_id: str, by: str, reason: str) -> dict[str, Any]:
        return self.desk.end(order_id, by, reason, NOW_S)

    def overrides(self) -> dict[str, Any]:
        return self.desk.listing(NOW_S)


def client_of(orders: AtOneTime, settings: ServingSettings) -> Client:
    app = override_app(orders, with_tokens=Edge.asks_for_tokens(settings))
    return Client(Edge(Starlette(routes=[Mount("/v1", app)]), settings))


@pytest.fixture
def served(sqlite: Engine, make_desk: Callable[..., OverrideDesk]) -> Callable[..., Any]:
    """Makes a client of the endpoints behind an edge with these settings, and what it talks to."""

    def make(**settings: Any) -> tuple[Client, AtOneTime]:
        chosen = ServingSettings(**settings)
        orders = AtOneTime(make_desk(sqlite, two_person=chosen.two_person))
        return client_of(orders, chosen), orders

    return make


TOKENS = {
    "read_tokens": (READ,),
    "ingest_tokens": (INGEST,),
    "override_tokens": {"ana": ANA, "ben": BEN},
    "two_person": True,
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refusal(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert {"code", "message", "field", "value", "remedy"} <= set(error)
    assert error["remedy"]
    return error


def test_without_tokens_the_request_says_whose_an_order_is(served: Any) -> None:
    client, _ = served()
    error = refusal(client.post("/v1/overrides", json=FREEZE), 422)
    assert (error["field"], "override_tokens" in error["remedy"]) == ("by", True)
    taken = client.post("/v1/overrides", json={**FREEZE, "by": "ana"}).json()["override"]
    assert taken["history"][0]["by"] == "ana"
    assert refusal(client.post("/v1/overrides/o1/end", json={"reason": "x"}), 422)["field"] == "by"
    ended = client.post("/v1/overrides/o1/end", json={"reason": "x", "by": "ben"}).json()["override"]
    assert ended["state"] == "ended"
    assert client.get("/v1/overrides").json()["ended"] == [ended]


@pytest.mark.parametrize("name", ["server", "Server"])
def test_nobody_is_the_server(served: Any, name: str) -> None:
    client, orders = served()
    assert refusal(client.post("/v1/overrides", json={**FREEZE, "by": name}), 422)["value"] == name
    assert orders.desk.book.newest == 0


def test_with_tokens_they_say_whose_an_order_is(served: Any) -> None:
    client, _ = served(**TOKENS)
    taken = client.post("/v1/overrides", json=FREEZE, headers=bearer(ANA)).json()["override"]
    assert (taken["state"], taken["history"][0]["by"]) == ("pending", "ana")
    error = refusal(client.post("/v1/overrides/o1/confirm", headers=bearer(ANA)), 409)
    assert (error["code"], error["field"], error["value"]) == ("override_conflict", "by", "ana")
    error = refusal(client.post("/v1/overrides/o1/confirm", json={"by": "ben"}, headers=bearer(ANA)), 422)
    assert (error["field"], error["value"]) == ("by", "ben"), "a token speaks for one person only"
    done = client.post("/v1/overrides/o1/confirm", json={"by": "ben"}, headers=bearer(BEN)).json()
    assert done["override"]["state"] == "standing"


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("wrong", 401), (READ, 403), (INGEST, 403), (ANA, 200)]
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/overrides", FREEZE),
        ("/v1/overrides/o1/confirm", {}),
        ("/v1/overrides/o1/end", {"reason": "x"}),
    ],
)
def test_only_override_tokens_give_orders(
    served: Any, path: str, body: dict[str, Any], token: str | None, status: int
) -> None:
    client, orders = served(**TOKENS)
    orders.desk.set(SetRequest(**FREEZE), "ben", NOW_S)
    answer = client.post(path, json=body, headers={} if token is None else bearer(token))
    assert answer.status_code == status, answer.text
    if status != 200:
        refusal(answer, status)
        assert orders.desk.book.newest == 1


@pytest.mark.parametrize("token", [READ, INGEST, ANA])
def test_every_token_reads_the_list(served: Any, token: str) -> None:
    client, _ = served(**TOKENS)
    assert client.get("/v1/overrides", headers=bearer(token)).json()["standing"] == []
    refusal(client.get("/v1/overrides"), 401)


def test_where_nobody_has_an_override_token_nobody_gives_orders(served: Any) -> None:
    client, orders = served(read_tokens=(READ,), ingest_tokens=(INGEST,))
    error = refusal(client.post("/v1/overrides", json={**FREEZE, "by": "ana"}, headers=bearer(INGEST)), 403)
    assert "override_tokens" in error["remedy"]
    assert orders.desk.book.newest == 0


def test_the_application_trusts_no_request_that_the_edge_did_not_sign(sqlite: Engine, make_desk: Any) -> None:
    orders = AtOneTime(make_desk(sqlite))
    client = Client(Starlette(routes=[Mount("/v1", override_app(orders, with_tokens=True))]))
    assert client.post("/v1/overrides", json={**FREEZE, "by": "ana"}).status_code == 403
    assert orders.desk.book.newest == 0


BAD: list[tuple[str, Any, int, str]] = [
    ("unknown key", {**FREEZE, "colour": 1}, 400, "colour"),
    ("no kind", {"reason": "x", "lasts_s": 60}, 400, "kind"),
    ("unknown kind", {**FREEZE, "kind": "melt"}, 400, "kind"),
    ("no reason", {"kind": "freeze", "lasts_s": 60}, 400, "reason"),
    ("empty reason", {**FREEZE, "reason": " \n"}, 400, "reason"),
    ("long reason", {**FREEZE, "reason": "x" * 501}, 400, "reason"),
    ("no end", {"kind": "freeze", "reason": "x"}, 422, "expires_at"),
    ("two ends", {**FREEZE, "expires_at": "2030-01-01T00:00:00Z"}, 422, "expires_at"),
    ("end in the past", {**FREEZE, "lasts_s": None, "expires_at": "2020-01-01T00:00:00Z"}, 422, "expires_at"),
    ("no zone", {**FREEZE, "lasts_s": None, "expires_at": "2030-01-01T00:00:00"}, 400, "expires_at"),
    ("number for a time", {**FREEZE, "lasts_s": None, "expires_at": 5}, 400, "expires_at"),
    ("year 1", {**FREEZE, "lasts_s": None, "expires_at": "0001-01-01T00:00:00+14:00"}, 422, "expires_at"),
    ("year 9999", {**FREEZE, "lasts_s": None, "expires_at": "9999-12-31T23:59:59-14:00"}, 422, "expires_at"),
    ("no duration", {**FREEZE, "lasts_s": 0}, 422, "lasts_s"),
    ("too long", {**FREEZE, "lasts_s": 86401}, 422, "lasts_s"),
    ("NaN", {**FREEZE, "lasts_s": float("nan")}, 400, "lasts_s"),
    ("huge", {**FREEZE, "lasts_s": 10**400}, 400, "lasts_s"),
    ("text for a number", {**FREEZE, "lasts_s": "60"}, 400, "lasts_s"),
    ("truth for a number", {**FREEZE, "kind": "floor", "multiplier": True}, 400, "multiplier"),
    ("no multiplier", {**FREEZE, "kind": "floor"}, 422, "multiplier"),
    ("infinite", {**FREEZE, "kind": "floor", "multiplier": float("inf")}, 400, "multiplier"),
    ("negative", {**FREEZE, "kind": "cap", "multiplier": -1}, 422, "multiplier"),
    ("floor above cap_multiplier", {**FREEZE, "kind": "floor", "multiplier": 11}, 422, "multiplier"),
    ("cap below floor_of_base", {**FREEZE, "kind": "cap", "multiplier": 0.5}, 422, "multiplier"),
    ("cap below a floor", {**FREEZE, "kind": "cap", "multiplier": 2}, 422, "multiplier"),
    ("multiplier of a kill", {**FREEZE, "kind": "kill", "multiplier": 2}, 422, "multiplier"),
    ("no rung", {**FREEZE, "kind": "rung"}, 422, "rung"),
    ("unknown rung", {**FREEZE, "kind": "rung", "rung": "champion"}, 400, "rung"),
    ("unknown symbol", {**FREEZE, "symbol": "X"}, 404, "symbol"),
    ("bad symbol", {**FREEZE, "symbol": "A B"}, 400, "symbol"),
    ("bad name", {**FREEZE, "by": "a b"}, 400, "by"),
    ("name that ends in a line", {**FREEZE, "by": "ana\n"}, 400, "by"),
    ("a list", [], 400, "body"),
    ("null", None, 400, "body"),
]  # fmt: skip


@pytest.fixture(scope="module")
def standing(
    tmp_path_factory: pytest.TempPathFactory, make_desk: Callable[..., OverrideDesk]
) -> Iterator[tuple[Client, AtOneTime]]:
    """A client, and a desk on which a floor stands; for requests that change nothing."""
    engine = store_engine(f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}")
    migrate(engine)
    orders = AtOneTime(make_desk(engine))
    orders.desk.set(SetRequest(kind="floor", multiplier=3.0, reason="x", lasts_s=60.0), "ana", NOW_S)
    yield client_of(orders, ServingSettings()), orders
    engine.dispose()


@pytest.mark.parametrize(
    ("body", "status", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_bad_orders_are_refused_in_one_shape_and_change_nothing(
    standing: tuple[Client, AtOneTime], body: Any, status: int, field: str
) -> None:
    client, orders = standing
    before = orders.desk.book
    content = json.dumps({"by": "ana", **body} if isinstance(body, dict) else body)
    answer = client.post("/v1/overrides", content=content, headers={"Content-Type": "application/json"})
    assert refusal(answer, status)["field"] == field
    orders.desk.refresh()
    assert orders.desk.book == before


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/v1/overrides/o9/confirm", {"by": "ana"}, 404, "id"),
        ("/v1/overrides/o9/end", {"by": "ana", "reason": "x"}, 404, "id"),
        ("/v1/overrides/o1/end", {"by": "ana"}, 400, "reason"),
        ("/v1/overrides/o1/end", {"by": "ana", "reason": "x", "when": 1}, 400, "when"),
        ("/v1/overrides/o1/confirm", {"by": 5}, 400, "by"),
        ("/v1/overrides/o1/confirm", {"by": "ana"}, 409, "id"),
        ("/v1/overrides/o1/melt", {}, 404, "path"),
        ("/v1/overrides/o1", {}, 404, "path"),
    ],
)
def test_bad_confirmations_and_ends_are_refused(
    standing: tuple[Client, AtOneTime], path: str, body: dict[str, Any], status: int, field: str
) -> None:
    client, orders = standing
    assert refusal(client.post(path, json=body), status)["field"] == field
    assert orders.desk.book.newest == 1


def test_another_method_is_told_which_are_taken(served: Any) -> None:
    client, _ = served()
    answer = client.request("DELETE", "/v1/overrides")
    refusal(answer, 405)
    assert {m.strip() for m in answer.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}


def test_a_store_that_does_not_answer_is_told(served: Any) -> None:
    client, orders = served()
    orders.fails = OperationalError("INSERT", {}, Exception("locked"))
    error = refusal(client.post("/v1/overrides", json={**FREEZE, "by": "ana"}), 503)
    assert error["code"] == "store_busy"
