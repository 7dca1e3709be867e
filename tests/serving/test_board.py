"""What readers get: one version, complete, encoded once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.board import Board, utc_text
from serving.errors import UnknownSymbolError


def values(symbol: str, rate: float) -> list[dict[str, Any]]:
    return [
        {"symbol": symbol, "side": side, "kind": kind, "served_rate": rate}
        for side in ("long", "short")
        for kind in ("initial", "maintenance")
    ]


@pytest.fixture
def board() -> Board:
    return Board().with_answers(7, {"A": values("A", 0.1), "BTC/USD": values("BTC/USD", 0.2)})


def test_all_by_default(board: Board) -> None:
    content = json.loads(board.text())
    assert content["version"] == 7
    assert content["multipliers"] == values("A", 0.1) + values("BTC/USD", 0.2)
    assert json.loads(board.select()) == content
    assert json.loads(Board().text()) == {"version": 0, "multipliers": []}


def test_some_symbols_one_side_one_kind(board: Board) -> None:
    assert json.loads(board.text(["BTC/USD"]))["multipliers"] == values("BTC/USD", 0.2)
    (found,) = json.loads(board.select(["A"], "short", "initial"))["multipliers"]
    assert (found["symbol"], found["side"], found["kind"]) == ("A", "short", "initial")
    assert len(json.loads(board.select(None, "long"))["multipliers"]) == 4
    assert len(json.loads(board.select(None, None, "maintenance"))["multipliers"]) == 4


def test_an_unknown_symbol_is_named(board: Board) -> None:
    for ask in (lambda: board.text(["X"]), lambda: board.select(["A", "X"], "long")):
        with pytest.raises(UnknownSymbolError) as caught:
            ask()
        assert caught.value.body["error"]["value"] == "X"
        assert "A, BTC/USD" in caught.value.body["error"]["remedy"]


def test_a_published_version_is_never_changed(board: Board) -> None:
    before = board.text()
    after = board.with_answers(8, {"A": values("A", 0.5)})
    assert board.text() == before
    assert json.loads(after.text())["version"] == 8
    assert json.loads(after.text(["A"]))["multipliers"][0]["served_rate"] == 0.5
    assert after.text(["BTC/USD"]).partition(b",")[2] == board.text(["BTC/USD"]).partition(b",")[2]


def test_what_is_not_json_is_not_published() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Board().with_answers(1, {"A": values("A", float("nan"))})


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(None, None), (0, "1970-01-01T00:00:00Z"), (1708300800.25, "2024-02-19T00:00:00.250Z")],
)
def test_times_are_utc_text(time_s: float | None, text: str | None) -> None:
    assert utc_text(time_s) == text
