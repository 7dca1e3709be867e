"""What readers get names its decision, to ask for it, and the hash, to hold on to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from serving.audit.version import engine_version
from serving.board import identified
from serving.store.trail import read_decisions, read_trail


def test_answers_carry_decision_and_hash_also_after_a_restart(
    bench: Callable[..., Any], sqlite: Engine, tail: list[Any]
) -> None:
    made = bench(sqlite)
    for bars in tail[:3]:
        made.feed(bars)
    trail = read_trail(sqlite)
    for board in (made.loop.board, bench(sqlite, history=False).loop.board):
        told = {(v["symbol"], v["decision"], v["hash"]) for values in board.values.values() for v in values}
        assert told == {(s, f"{s}/{c.seq}", c.head) for s, c in trail.contracts.items()}
        assert [v["hash"] for v in json.loads(board.text(["ALPHA"]))["multipliers"]] == [
            trail.contracts["ALPHA"].head
        ] * 4


def test_each_record_names_the_engine_that_decided(
    bench: Callable[..., Any], sqlite: Engine, tail: list[Any]
) -> None:
    bench(sqlite).feed(tail[0])
    records = [json.loads(row.record) for row in read_decisions(sqlite, read_trail(sqlite).last_id)]
    assert {r["engine"] for r in records} == {engine_version()}
    assert len(engine_version()) == 16


def test_the_answers_that_were_given_are_left_as_they_were() -> None:
    answers = [{"served_rate": 0.1}]
    assert identified(answers, "BTC/USD", 7, None) == [
        {"served_rate": 0.1, "decision": "BTC/USD/7", "hash": None}
    ]
    assert answers == [{"served_rate": 0.1}]
