"""The replay against a server that a test plays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from serving.cli import main
from serving.replay import Feed, ReplayError, beneath, closes, multiplier_table, parse_speed, why
from serving.times import parse_time


def feed_of(answers: list[Any], pauses: list[float] | None = None) -> tuple[Feed, list[httpx.Request]]:
    """A feed into a server that gives these answers in turn; an exception is raised instead."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        status, content = found
        return httpx.Response(status, json=content)

    client = httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))
    return Feed(client, (pauses if pauses is not None else []).append), asked


def taken(accepted: int, pending: int = 0) -> tuple[int, dict[str, int]]:
    return 200, {"accepted": accepted, "repeats": 0, "pending_closes": pending}


def test_closes_come_in_order_with_all_symbols_of_one_close(market: Market) -> None:
    start, end = market.times[10], market.times[20]
    steps = list(closes(market, start, end))
    assert [c for c, _ in steps] == list(market.times[11:21])
    for close, bars in steps:
        assert [b["symbol"] for b in bars] == list(market.symbols)
        assert {b["open_time"] for b in bars} == {(close - market.interval).isoformat()}
    first = steps[0][1][0]
    assert first["close"] == market.close.iloc[11, 0]
    json.dumps(steps[0][1], allow_nan=False)


def test_finer_bars_go_with_the_close_that_they_lie_beneath(market: Market) -> None:
    start, end = market.times[11], market.times[19]
    # As if the hours lay beneath bars of four.
    found = list(beneath(market, 4 * market.interval, start, end))
    assert [close for close, _ in found] == [t.ceil("4h") for t in market.times[12:20:4]]
    assert [bar for _, bars in found for bar in bars] == [
        bar for _, bars in closes(market, start, end) for bar in bars
    ]


def test_a_missing_bar_is_not_sent(market: Market) -> None:
    holed = Market(market.interval, {c: f.iloc[:3].copy() for c, f in market.columns.items()})
    for frame in holed.columns.values():
        frame.iloc[1, 0] = np.nan
        frame.iloc[2, :] = np.nan
    steps = list(closes(holed, market.times[0] - market.interval, None))
    assert [[b["symbol"] for b in bars] for _, bars in steps] == [list(market.symbols), [market.symbols[1]]]


def test_the_feed_counts_and_waits_while_much_is_pending() -> None:
    pauses: list[float] = []
    answers = [taken(2), taken(2, pending=9), (200, {"pending_closes": 9}), (200, {"pending_closes": 8})]
    feed, asked = feed_of(answers, pauses)
    feed.send([{"symbol": "A"}])
    feed.send([{"symbol": "A"}])
    assert feed.accepted == 4
    assert [r.url.path for r in asked] == ["/v1/bars", "/v1/bars", "/live/status", "/live/status"]
    assert len(pauses) == 1


def test_the_feed_outlives_a_restart_of_the_server() -> None:
    pauses: list[float] = []
    feed, asked = feed_of([httpx.ConnectError("refused"), (503, {}), taken(1)], pauses)
    feed.send([{"symbol": "A"}])
    assert (feed.accepted, len(asked), pauses) == (1, 3, [1.0, 1.0])


def test_a_server_that_stays_away_ends_the_replay() -> None:
    feed, asked = feed_of([httpx.ConnectError("refused")] * 60)
    with pytest.raises(ReplayError, match="start it with"):
        feed.send([{"symbol": "A"}])
    assert len(asked) == 60


def test_a_refusal_ends_the_replay_in_the_servers_words() -> None:
    refusal = {"error": {"message": "row 0: wrong", "remedy": "repair it"}}
    feed, _ = feed_of([(409, refusal)])
    with pytest.raises(ReplayError, match=r"\(409\): row 0: wrong; repair it"):
        feed.send([{"symbol": "A"}])
    feed, _ = feed_of([(500, [])])
    with pytest.raises(ReplayError, match="answered 500"):
        feed.send([{"symbol": "A"}])


@pytest.mark.parametrize(("text", "speed"), [("max", None), ("3600x", 3600.0), ("1.5", 1.5)])
def test_speeds(text: str, speed: float | None) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "fast", "0x", "-1x", "nan"])
def test_speeds_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse_speed(text)


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert parse_time("2025-09-01") == pd.Timestamp("2025-09-01", tz="UTC")
    assert parse_time("2025-09-01T02:00+02:00") == pd.Timestamp("2025-09-01", tz="UTC")
    with pytest.raises(ValueError, match="not understood"):
        parse_time("soon")


def test_the_table_names_the_likeliest_regime() -> None:
    value = {"symbol": "A", "side": "long", "kind": "initial", "rung": "champion", "rules": ["absolute cap"]}
    rates = {"required_rate": 0.1, "served_rate": 0.2, "multiplier": 2.0}
    table = multiplier_table([{**value, **rates, "regime": {"calm": 0.2, "crisis": 0.8}}])
    assert [next(iter(c.cells)) for c in table.columns] == [
        *("A", "long", "initial", "10.00%", "20.00%", "2.00", "crisis", "champion")
    ]


def test_the_largest_multiplier_is_explained() -> None:
    def value(symbol: str, multiplier: float, words: str | None) -> dict[str, Any]:
        told = {"against": "an average hour", "average_rate": 0.012, "reasons": [{"words": words}]}
        return {
            **{"symbol": symbol, "side": "short", "kind": "initial", "required_rate": 0.031},
            **{"multiplier": multiplier, "explanation": None if words is None else told},
        }

    answers = [value("A", 1.1, "calm"), value("B", 1.9, "volatility 1.8 times"), value("C", 3.0, None)]
    assert why(answers) == [
        "Why B short initial requires 3.10%, where an average hour would require 1.20%:",
        "  volatility 1.8 times",
    ]
    assert why(answers[2:]) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "FOLDER", "--from", "2099-01-01"], "no bar that closes after"),
        (["replay", "FOLDER", "--from", "soon"], "not understood"),
        (["replay", "NOWHERE", "--from", "2024-01-01"], "no bar files"),
        (["serve", "--host", "localhost"], "IP address"),
        (["serve", "--host", "0.0.0.0"], "reachable from other machines"),
        (["serve", "--database", "sqlite:////nowhere/at/all.db"], "does not exist"),
        (["serve", "--interval", "45m"], "whole number of 45m bars"),
        (["serve", "--port", "1", "--clock", "sundial"], "'wall' or 'bars'"),
        (["dance"], "No such command"),
        (["serve", "--port", "many"], "parse string as an integer"),
    ],
)
def test_bad_arguments_are_one_line_and_code_2(
    arguments: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"FOLDER": str(folder), "NOWHERE": str(tmp_path)}
    assert main([named.get(a, a) for a in arguments]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words in said
    assert "Traceback" not in said


def test_a_taken_port_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        taken_port.listen()
        port = str(taken_port.getsockname()[1])
        assert main(["serve", "--port", port, "--database", f"sqlite:///{tmp_path}/x.db"]) == 2
    assert f"port {port} cannot be bound" in capsys.readouterr().err
