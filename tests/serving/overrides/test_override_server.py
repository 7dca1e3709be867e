"""A real server with orders: over HTTP, from the command line, and after it was killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.bars import Market
from serving.cli import main

ANA, BEN = "ana-ana-ana-ana-ana", "ben-ben-ben-ben-ben"


@pytest.fixture(scope="module")
def killable(
    make_server: Callable[..., Any],
    folder: Path,
    market: Market,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A server on which an override takes two persons, ana and ben."""
    made = make_server(
        "--history",
        str(folder),
        "--until",
        market.times[-25].isoformat(),
        "--database",
        f"sqlite:///{tmp_path_factory.mktemp('orders') / 'orders.db'}",
        FOREMARGIN_SERVING__OVERRIDE_TOKENS=f'{{"ana": "{ANA}", "ben": "{BEN}"}}',
        FOREMARGIN_SERVING__TWO_PERSON="true",
    )
    made.start()
    yield made
    made.end()


def obeyed(url: str, symbol: str) -> list[str]:
    answer = httpx.get(f"{url}/live/multipliers/{symbol}", headers={"Authorization": f"Bearer {ANA}"})
    return [o["id"] for o in answer.json()["multipliers"][0]["overrides"]]


def test_orders_by_hand_through_a_kill(
    killable: Any, eventually: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    url = killable.url

    def override(*words: str, token: str = ANA) -> tuple[int, str]:
        code = main(["override", *words, "--url", url, "--token", token])
        told = capsys.readouterr()
        return code, told.out + told.err

    floor = ("set", "floor", "--multiplier", "4", "--symbol", "ALPHA", "--reason", "thin book", "--for", "6h")
    code, out = override(*floor)
    assert (code, "pending" in out, "floor 4.0" in out, "set by ana" in out) == (0, True, True, True)
    code, out = override("confirm", "o1")
    assert (code, "ana set it, and cannot be the second person" in out) == (3, True)
    assert obeyed(url, "ALPHA") == []
    assert override("confirm", "o1", token=BEN)[0] == 0
    eventually(lambda: obeyed(url, "ALPHA") == ["o1"])
    assert obeyed(url, "BETA") == []
    assert override("set", "kill", "--reason", "the model is wrong", "--for", "1h")[0] == 0
    eventually(lambda: obeyed(url, "BETA") == ["o3"])

    killable.end(signal.SIGKILL)
    killable.start()
    assert (obeyed(url, "ALPHA"), obeyed(url, "BETA")) == (["o1", "o3"], ["o3"])
    code, out = override("end", "o3", "--reason", "the model is back")
    assert (code, "ending" in out) == (0, True)
    assert override("confirm", "o3", token=BEN)[0] == 0
    eventually(lambda: (obeyed(url, "ALPHA"), obeyed(url, "BETA")) == (["o1"], []))
    assert override("end", "o1", "--reason", "the book is back")[0] == 0
    eventually(lambda: obeyed(url, "ALPHA") == [])

    assert "no orders" in override("list")[1]
    code, out = override("list", "--ended")
    assert code == 0
    assert all(words in out for words in ("ended by ben", "end asked by ana", "the model is wrong"))
    status = httpx.get(f"{url}/live/status", headers={"Authorization": f"Bearer {ANA}"}).json()
    assert status["overrides"] == {"kill_switch": False, "defects": []}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["set", "floor", "--reason", "x", "--for", "1h"], 3, "a finite number above 0 for a floor"),
        (["set", "cap", "--multiplier", "11", "--reason", "x", "--for", "1h"], 3, "at most cap_multiplier"),
        (["set", "freeze", "--reason", "x", "--for", "8d"], 3, "the longest an order may last is 604800 s"),
        (["set", "freeze", "--reason", "x", "--until", "2020-01-01"], 3, "give a time in the future"),
        (["set", "freeze", "--reason", "x"], 3, "give expires_at or lasts_s"),
        (["set", "freeze", "--reason", "x", "--for", "1h", "--symbol", "X"], 3, "name one of: ALPHA, BETA"),
        (["set", "melt", "--reason", "x", "--for", "1h"], 3, "'freeze', 'floor', 'cap', 'rung' or 'kill'"),
        (["set", "freeze", "--reason", "x", "--for", "1h", "--by", "ben"], 3, "not the identity"),
        (["set", "freeze", "--reason", "x", "--for", "soon"], 2, "duration 'soon' is not understood"),
        (["set", "freeze", "--reason", "x", "--until", "soon"], 2, "time 'soon' is not understood"),
        (["set", "cap", "--multiplier", "nan", "--reason", "x", "--for", "1h"], 2, "--multiplier is nan"),
        (["confirm", "o99"], 3, "no order 'o99' here"),
        (["end", "../o1", "--reason", "x"], 3, "there is nothing at"),
    ],
)  # fmt: skip
def test_what_the_command_line_refuses(
    killable: Any, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    assert main(["override", *words, "--url", killable.url, "--token", ANA]) == code
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["override", "list", "--url", "http://127.0.0.1:9"]) == 3
    assert "does not answer" in capsys.readouterr().err
