"""Only what came after a closed day: its heads are where the chains begin."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from serving.cli import main


@pytest.fixture
def audit(hand: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*options: str) -> tuple[int, str]:
        ((day,),) = hand.read("SELECT day FROM day_roots")
        code = main(["audit", "verify", "--since", day, *options, "--database", hand.url])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def first(hand: Any) -> int:
    """The number of BETA's first decision after the closed day; there is at least one."""
    ((leaves,),) = hand.read("SELECT leaves FROM day_roots")
    number: int = next(h["seq"] for h in json.loads(leaves) if h["symbol"] == "BETA") + 1
    assert hand.read("SELECT 1 FROM decisions WHERE symbol = 'BETA' AND seq = :s", s=number)
    return number


def test_only_newer_decisions_are_read(audit: Any, hand: Any, first: int) -> None:
    code, out = audit()
    ((rows,),) = hand.read("SELECT count(*) FROM decisions WHERE seq >= :s", s=first)
    assert code == 0
    assert out.startswith("what came after 2")
    assert f"{rows} decision" in out
    assert "good: every hash" in out
    # What is older is taken as it is.
    hand.write("UPDATE decisions SET mode = 'dead' WHERE seq = 2")
    hand.write("DELETE FROM decisions WHERE seq = 3")
    assert audit()[0] == 0
    assert audit("--symbol", "BETA")[0] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "UPDATE decisions SET mode = 'stale' WHERE symbol = 'BETA' AND seq = {}",
            "BETA/{}: columns altered",
        ),
        ("DELETE FROM decisions WHERE symbol = 'BETA' AND seq = {}", "BETA/{}: row missing"),
        ("UPDATE day_roots SET leaves = replace(leaves, 'BETA', 'ZETA')", "days: day altered"),
    ],
)
def test_changes_of_what_is_newer_are_found(
    audit: Any, hand: Any, first: int, change: str, words: str
) -> None:
    hand.write(change.format(first))
    code, out = audit("--no-recompute")
    assert code == 1
    assert words.format(first) in out


def test_a_start_that_is_not_the_contract_s_is_a_broken_link(audit: Any, hand: Any, first: int) -> None:
    ((own,),) = hand.read("SELECT hash FROM decisions WHERE symbol = 'BETA' AND seq = :s", s=first - 1)
    hand.write("UPDATE day_roots SET leaves = replace(leaves, :own, :other)", own=own, other="0" * 64)
    code, out = audit()
    assert code == 1
    assert f"BETA/{first}: link broken" in out
