"""A real server over HTTP: its endpoints, what it refuses, and what a kill during a replay leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, text

from features.bars import Market

Tail = list[list[dict[str, Any]]]


@pytest.fixture(scope="module")
def http(server: Any) -> Any:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def state(http: httpx.Client) -> tuple[bytes, Any]:
    status = http.get("/live/status").json()
    return http.get("/live/multipliers").content, (status["version"], status["newest_bar_close"])


def settled(http: httpx.Client) -> tuple[bytes, Any]:
    """The state once the newest close has been decided: a POST answers before that on a busy machine."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = state(http)
        if json.loads(found[0])["multipliers"][0]["decision_time"] == found[1][1] and state(http) == found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"the close {found[1][1]} was not decided within 30 s")


def bar(tail: Tail, **changes: Any) -> dict[str, Any]:
    return tail[-1][0] | changes


def test_without_a_model_it_is_ready_and_answers_bounded_from_the_rules_rung(
    http: httpx.Client, market: Market
) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics"):
        assert http.get(path).status_code == 200
    content = http.get("/live/multipliers").json()
    assert [v["symbol"] for v in content["multipliers"][::4]] == list(market.symbols)
    for value in content["multipliers"]:
        assert value["rung"] == "rules"
        assert 0.6 <= value["multiplier"] <= 10
        assert 0 < value["served_rate"] <= 1
        assert {t["horizon"] for t in value["tail"]} == {"1h", "4h"}
    assert http.post("/v1/multipliers", json={}).json() == content
    one = http.get(f"/live/multipliers/{market.symbols[1]}").json()
    assert one["multipliers"] == content["multipliers"][4:]
    some = http.post("/v1/multipliers", json={"symbols": [market.symbols[1]], "side": "short"}).json()
    assert some["multipliers"] == content["multipliers"][6:]


def test_the_page_of_the_api_lists_its_endpoints(http: httpx.Client) -> None:
    assert {"/v1/bars", "/v1/multipliers", "/v1/forecast", "/v1/positions"} <= set(
        http.get("/docs.json").json()["paths"]
    )


def test_bars_become_decisions_and_repeats_change_nothing(
    http: httpx.Client, tail: Tail, eventually: Callable[..., None]
) -> None:
    before = http.get("/live/status").json()["version"]
    taken = http.post("/v1/bars", json={"bars": tail[0]}).json()
    assert (taken["accepted"], taken["repeats"]) == (2, 0)
    eventually(lambda: http.get("/live/status").json()["version"] == before + 1)
    decided = http.get("/live/multipliers").json()["multipliers"][0]
    assert decided["decision_time"] == http.get("/live/status").json()["newest_bar_close"]
    after = state(http)
    again = http.post("/v1/bars", json={"bars": tail[0]}).json()
    assert (again["accepted"], again["repeats"]) == (0, 2)
    assert state(http) == after


def test_a_forecast_from_the_bars_of_the_request(http: httpx.Client, market: Market) -> None:
    before = settled(http)
    table = market.bars(market.symbols[0]).tail(400)
    table["open_time"] = [t.isoformat() for t in table["open_time"]]
    bars = [{"symbol": "NEW", **row} for row in table.to_dict("records")]
    content = http.post("/v1/forecast", json={"bars": bars}).json()
    assert [(f["symbol"], f["side"], f["rung"]) for f in content["forecasts"]] == [
        ("NEW", "long", "rules"),
        ("NEW", "short", "rules"),
    ]
    for forecast in content["forecasts"]:
        assert len(forecast["tail"]) == 4
        assert all(0 < t["var"] <= t["es"] for t in forecast["tail"])
    assert state(http) == before


BAD_BARS: list[tuple[str, Any, int, str | None]] = [
    ("nan", {"open": float("nan")}, 400, "bars.0.open"),
    ("infinity", {"open": float("inf")}, 400, "bars.0.open"),
    ("text for a number", {"open": "1"}, 400, "bars.0.open"),
    ("truth for a number", {"open": True}, 400, "bars.0.open"),
    ("null", {"close": None}, 400, "bars.0.close"),
    ("huge integer", {"close": 10**400}, 400, "bars.0.close"),
    ("no zone", {"open_time": "2030-01-01T00:00:00"}, 400, "bars.0.open_time"),
    ("number for a time", {"open_time": 5}, 400, "bars.0.open_time"),
    ("far time", {"open_time": "9999-12-31T23:00:00Z"}, 422, "bars.0.open_time"),
    ("unknown field", {"colour": 1}, 400, "bars.0.colour"),
    ("bad symbol", {"symbol": "A B"}, 400, "bars.0.symbol"),
    ("escaped symbol", {"symbol": "A%20B"}, 400, "bars.0.symbol"),
    ("symbol of other letters", {"symbol": "\u65e5\u672c"}, 400, "bars.0.symbol"),
    ("symbol with a zero byte", {"symbol": "A\0"}, 400, "bars.0.symbol"),
    ("symbol that ends in a line", {"symbol": "A\n"}, 400, "bars.0.symbol"),
    ("long symbol", {"symbol": "A" * 65}, 400, "bars.0.symbol"),
    ("no symbol", {"symbol": ""}, 400, "bars.0.symbol"),
    ("year 1", {"open_time": "0001-01-01T00:00:00Z"}, 422, "bars.0.open_time"),
    ("before year 1", {"open_time": "0001-01-01T00:00:00+14:00"}, 422, "bars.0.open_time"),
    ("year 10000", {"open_time": "10000-01-01T00:00:00Z"}, 400, "bars.0.open_time"),
    ("no such day", {"open_time": "2024-02-30T00:00:00Z"}, 400, "bars.0.open_time"),
    ("list for a number", {"close": [[]]}, 400, "bars.0.close"),
    ("deep list for a number", {"close": json.loads("[" * 190 + "]" * 190)}, 400, "bars.0.close"),
    ("negative price", {"low": -1.0}, 422, "bars.0.low"),
    ("high below low", {"high": 1e-9}, 422, "bars.0.high"),
    ("negative volume", {"volume": -1.0}, 422, "bars.0.volume"),
    ("off the grid", {"open_time": "2030-01-01T00:00:01Z"}, 422, "bars.0.open_time"),
]


@pytest.mark.parametrize("path", ["/v1/bars", "/v1/forecast"])
@pytest.mark.parametrize(
    ("changes", "status", "field"), [case[1:] for case in BAD_BARS], ids=[case[0] for case in BAD_BARS]
)
def test_bad_bars_are_refused_in_one_shape_and_change_nothing(
    http: httpx.Client, tail: Tail, path: str, changes: Any, status: int, field: str
) -> None:
    before = settled(http)
    body = json.dumps({"bars": [bar(tail, **changes)]})
    answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert_refused(answer, status)
    assert answer.json()["error"]["field"] == field
    assert answer.json()["error"]["row"] == 0
    assert state(http) == before


def test_a_forecast_on_too_much_is_refused_before_the_work(http: httpx.Client, tail: Tail) -> None:
    before = settled(http)
    answer = http.post("/v1/forecast", json={"bars": [bar(tail, symbol=f"S{i}") for i in range(257)]})
    assert_refused(answer, 422)
    assert answer.json()["error"]["field"] == "bars.256.symbol"
    # Hours since 1970 are few enough for one symbol, and too many for ten.
    old = bar(tail, open_time="1970-01-01T00:00:00Z")
    answer = http.post("/v1/forecast", json={"bars": [old] + [bar(tail, symbol=f"S{i}") for i in range(9)]})
    assert_refused(answer, 422)
    assert answer.json()["error"]["field"] == "bars.1.open_time"
    assert state(http) == before


def assert_refused(answer: httpx.Response, status: int | None = None) -> None:
    assert 400 <= answer.status_code < 500
    assert status in (None, answer.status_code), answer.text
    error = answer.json()["error"]
    assert {"code", "message", "field", "value", "remedy"} <= set(error)
    assert error["remedy"]


def test_positions_are_taken_and_a_bad_bin_is_named(http: httpx.Client) -> None:
    before = settled(http)
    body = {"symbol": "ALPHA", "long": [[0.08, 1000.0], [-0.5, 5]], "short": []}
    answer = http.post("/v1/positions", json=body)
    assert answer.status_code == 200
    content = answer.json()
    assert content["long"] == {"bins": 2, "notional": 1005.0}
    assert content["short"] == {"bins": 0, "notional": 0}
    assert content["valid_until"].endswith("Z")
    assert http.get("/live/status").json()["positions"] == {"counting": 1, "too_old": 0}
    for bad, status in (([0.1, -3.0], 422), ([None, 1.0], 400)):
        refused = http.post("/v1/positions", json=body | {"short": [[0.1, 1.0], bad]})
        assert_refused(refused, status)
        error = refused.json()["error"]
        assert error["row"] == 1
        assert error["field"].startswith("short.1.")
        assert error["value"] == (-3.0 if status == 422 else None)
    assert state(http) == before


BAD_BODIES: list[tuple[str, str, bytes, int]] = [
    ("not JSON", "/v1/bars", b"{", 400),
    ("not UTF-8", "/v1/bars", b"\xff\xff", 400),
    ("half a surrogate", "/v1/multipliers", b'{"symbols": ["\\ud800"]}', 400),
    ("a key twice", "/v1/bars", b'{"bars": [], "bars": 5}', 400),
    ("UTF-16", "/v1/bars", '{"bars": []}'.encode("utf-16"), 400),
    ("nothing", "/v1/bars", b"", 400),
    ("a list", "/v1/bars", b"[]", 400),
    ("null", "/v1/multipliers", b"null", 400),
    ("deep nesting", "/v1/bars", b"[" * 100_000, 400),
    ("empty list of bars", "/v1/bars", b'{"bars": []}', 400),
    ("empty list of symbols", "/v1/multipliers", b'{"symbols": []}', 400),
    ("unknown symbol", "/v1/multipliers", b'{"symbols": ["NOPE"]}', 404),
    ("a symbol twice", "/v1/multipliers", b'{"symbols": ["ALPHA", "ALPHA"]}', 422),
    ("wrong side", "/v1/multipliers", b'{"side": "up"}', 400),
    ("wrong type", "/v1/multipliers", b'{"symbols": 5}', 400),
    ("unknown key", "/v1/multipliers", b'{"symbol": "ALPHA"}', 400),
    ("positions of one side", "/v1/positions", b'{"symbol": "ALPHA", "long": []}', 400),
    ("a bin of one", "/v1/positions", b'{"symbol": "ALPHA", "long": [[0.1]], "short": []}', 400),
    ("a bin of three", "/v1/positions", b'{"symbol": "ALPHA", "long": [[0.1, 1, 2]], "short": []}', 400),
    ("NaN of equity", "/v1/positions", b'{"symbol": "ALPHA", "long": [[NaN, 1]], "short": []}', 400),
    ("text of notional", "/v1/positions", b'{"symbol": "ALPHA", "long": [], "short": [[0.1, "1"]]}', 400),
    ("no notional", "/v1/positions", b'{"symbol": "ALPHA", "long": [[0.1, 0]], "short": []}', 422),
    ("positions of nobody", "/v1/positions", b'{"symbol": "NOPE", "long": [], "short": []}', 404),
    ("10 MB", "/v1/bars", b'{"bars": "' + b"a" * 10_485_760 + b'"}', 413),
    ("10 MB, elsewhere", "/nowhere", b"a" * 10_485_760, 413),
]


@pytest.mark.parametrize(
    ("path", "body", "status"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES]
)
def test_bad_bodies_are_refused_in_one_shape_and_change_nothing(
    http: httpx.Client, path: str, body: bytes, status: int
) -> None:
    before = settled(http)
    try:
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    except httpx.WriteError:
        # The server answered and closed while a body over the limit was still being sent.
        assert len(body) > 4 * 1024 * 1024
    else:
        assert_refused(answer, status)
    assert state(http) == before


def test_a_body_without_a_declared_length_is_counted(http: httpx.Client) -> None:
    try:
        answer = http.post(
            "/v1/bars",
            content=(b"a" * 65536 for _ in range(160)),
            headers={"Content-Type": "application/json"},
        )
    except httpx.WriteError:
        return
    assert_refused(answer, 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/live/multipliers/NOPE", 404),
        ("GET", "/live/multipliers/", 404),
        ("GET", "/v1/bars", 405),
        ("PUT", "/v1/multipliers", 405),
        ("DELETE", "/live/multipliers", 405),
        ("POST", "/live/status", 405),
        ("OPTIONS", "/v1/bars", 405),
    ],
)
def test_wrong_places_and_methods(http: httpx.Client, method: str, path: str, status: int) -> None:
    assert_refused(http.request(method, path, headers={"Content-Type": "application/json"}), status)


def test_a_contradicting_bar_refuses_its_whole_batch(http: httpx.Client, tail: Tail) -> None:
    http.post("/v1/bars", json={"bars": tail[0]})
    before = settled(http)
    changed = tail[0][1] | {"close": tail[0][1]["low"]}
    answer = http.post("/v1/bars", json={"bars": [bar(tail, symbol="FRESH"), changed]})
    assert_refused(answer, 409)
    error = answer.json()["error"]
    assert (error["field"], error["row"], error["value"]) == ("bars.1.close", 1, changed["close"])
    assert state(http) == before
    assert_refused(http.get("/live/multipliers/FRESH"), 404)


def decisions(database: Path) -> list[tuple[Any, ...]]:
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT symbol, seq, trigger, decision_time, record FROM decisions ORDER BY symbol, seq")
        ).all()
    engine.dispose()
    return [tuple(row) for row in rows]


def alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


READER = {"Authorization": "Bearer read-read-read-read"}
FEEDER = {"Authorization": "Bearer ingest-ingest-ingest"}
TOKENS = {
    "FOREMARGIN_SERVING__READ_TOKENS": '["read-read-read-read"]',
    "FOREMARGIN_SERVING__INGEST_TOKENS": '["ingest-ingest-ingest"]',
}


@pytest.fixture(scope="module")
def history(folder: Path, market: Market) -> tuple[str, ...]:
    return ("--history", str(folder), "--until", market.times[-25].isoformat())


@pytest.fixture(scope="module")
def uninterrupted(
    make_server: Callable[..., Any],
    history: tuple[str, ...],
    tail: Tail,
    tmp_path_factory: pytest.TempPathFactory,
    eventually: Callable[..., None],
) -> Any:
    """A server with tokens that was fed eight closes; it and its database."""
    database = tmp_path_factory.mktemp("whole") / "whole.db"
    made = make_server(*history, "--database", f"sqlite:///{database}", **TOKENS)
    made.start()
    with httpx.Client(base_url=made.url, headers=FEEDER) as client:
        for bars in tail[:8]:
            assert client.post("/v1/bars", json={"bars": bars}).status_code == 200
        eventually(lambda: client.get("/live/status").json()["pending_closes"] == 0)
    yield made, database
    made.end()


def test_with_tokens_nothing_is_open_but_the_probes(uninterrupted: Any, tail: Tail) -> None:
    url = uninterrupted[0].url
    assert alive(url)
    for path in ("/live/status", "/live/multipliers", "/metrics", "/docs.json"):
        assert_refused(httpx.get(url + path), 401)
        assert httpx.get(url + path, headers=READER).status_code == 200
    assert_refused(httpx.post(f"{url}/v1/bars", json={"bars": tail[0]}, headers=READER), 403)
    positions = {"symbol": "ALPHA", "long": [[0.1, 1000.0]], "short": []}
    assert_refused(httpx.post(f"{url}/v1/positions", json=positions, headers=READER), 403)


def test_killed_twice_in_a_replay_it_goes_on_as_if_nothing_had_been(
    uninterrupted: Any,
    make_server: Callable[..., Any],
    history: tuple[str, ...],
    tail: Tail,
    tmp_path: Path,
    eventually: Callable[..., None],
) -> None:
    database = tmp_path / "killed.db"
    killed = make_server(*history, "--database", f"sqlite:///{database}")
    url = killed.url

    def feed(steps: Tail) -> None:
        for bars in steps:
            assert httpx.post(f"{url}/v1/bars", json={"bars": bars}).status_code == 200

    def assert_bounded() -> None:
        values = httpx.get(f"{url}/live/multipliers").json()["multipliers"]
        assert len(values) == 8
        for value in values:
            assert 0.6 <= value["multiplier"] <= 10
            assert value["rung"] == "rules"

    killed.start()
    feed(tail[:3])
    # The supervisor alone: its worker has to notice, and give up port and store.
    killed.process.kill()
    killed.process.wait()
    eventually(lambda: not alive(url))
    killed.start()
    assert_bounded()
    feed(tail[:6])
    # The worker alone: its supervisor starts another.
    (worker,) = psutil.Process(killed.process.pid).children()
    worker.kill()
    worker.wait()
    eventually(lambda: alive(url))
    assert_bounded()
    feed(tail[:8])
    eventually(lambda: httpx.get(f"{url}/live/status").json()["pending_closes"] == 0)

    whole, whole_database = uninterrupted
    answered = httpx.get(f"{whole.url}/live/multipliers", headers=READER).json()
    assert httpx.get(f"{url}/live/multipliers").json() == answered
    killed.end()
    assert decisions(database) == decisions(whole_database)
