"""``python -m serving audit`` as it is typed: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serving.audit.chain import digest
from serving.audit.days import DayRoot
from serving.cli import main
from serving.store.decisions import NewDecision, save_decisions

ROOT = Path(__file__).resolve().parents[3]
OTHER = "0" * 64


@pytest.fixture
def audit(hand: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a verb on the store of ``hand``: exit code, stdout, stderr."""

    def run(*arguments: str, database: bool = True) -> tuple[int, str, str]:
        named = ["--database", hand.url] if database else []
        code = main(["audit", *arguments, *named])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def day_of(hand: Any) -> DayRoot:
    (row,) = hand.read("SELECT day, root, leaves, previous_hash, hash FROM day_roots")
    return DayRoot(*row)


def test_a_good_trail(audit: Any, hand: Any) -> None:
    code, out, err = audit("verify")
    rows = hand.read("SELECT count(*) FROM decisions")[0][0]
    assert code == 0
    assert f"{rows} decisions of 2 contracts, 1 closed day, 0 events of orders\n" in out
    assert f"{rows} decisions came out the same when decided again, to the bit\n" in out
    assert out.endswith("good: every hash and every link holds\n")
    assert "100%" in err
    assert "nothing was decided again" in audit("verify", "--no-recompute")[1]


def test_an_altered_trail(audit: Any, hand: Any) -> None:
    hand.write("UPDATE decisions SET mode = 'dead' WHERE symbol = 'BETA' AND seq = 7")
    code, out, _ = audit("verify")
    assert code == 1
    assert "BETA/7: columns altered: mode is 'dead', was 'fresh'\n" in out
    assert out.endswith("BROKEN: 1 defect\n")
    assert audit("verify", "--symbol", "ALPHA")[0] == 0


def test_decisions_from_before_the_chain_are_never_passed_in_silence(audit: Any, hand: Any) -> None:
    hand.write("UPDATE decisions SET hash = NULL, record_hash = NULL, previous_hash = NULL")
    hand.write("UPDATE contracts SET head = NULL")
    hand.write("DELETE FROM day_roots")
    code, out, _ = audit("verify")
    assert code == 0
    assert re.search(r"\d+ decisions before the chain began: they have no hash", out)


def test_a_published_root(audit: Any, hand: Any) -> None:
    day = day_of(hand)
    code, out, _ = audit("verify", "--root", day.root, "--day", day.day)
    assert (code, f"the root published for {day.day} is this one" in out) == (0, True)
    code, out, _ = audit("verify", "--root", OTHER, "--day", day.day, "--no-recompute")
    assert (code, f"days: root differs: of {day.day}" in out) == (1, True)


def test_a_late_decision_is_named(audit: Any, hand: Any) -> None:
    ((seq, record),) = hand.read(
        "SELECT seq, record FROM decisions WHERE symbol = 'BETA' ORDER BY seq DESC LIMIT 1"
    )
    made_at = json.loads(record)["decision"]["decided_at_s"] - 7 * 86400
    late = NewDecision("BETA", seq + 1, "tick", None, made_at, "cap", "dead", "", {}, {}, {}, {"answers": []})
    with hand.engine.begin() as connection:
        save_decisions(connection, [late])
    _, out, _ = audit("verify", "--no-recompute")
    words = "1 decision counted to a later day than made on: a clock went back, or rows were put in later"
    assert f"{words}: BETA/{seq + 1}\n" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "--root", OTHER], "--root and --day go together"),
        (["verify", "--day", "2024-01-01"], "--root and --day go together"),
        (["verify", "--root", "abc", "--day", "2024-01-01"], "64 hexadecimal digits"),
        (["verify", "--root", OTHER, "--day", "soon"], "not understood"),
        (["verify", "--root", OTHER, "--day", "2024-01-01T10:00"], "time of day"),
        (["verify", "--root", OTHER, "--day", "2099-01-01"], "not closed here"),
        (["verify", "--symbol", "X"], "choose one of: ALPHA, BETA"),
        (["explain", "X"], "nothing was decided on 'X'"),
        (["explain", "ALPHA/999"], "there is no decision ALPHA/999"),
        (["explain", "999999"], "there is no row 999999"),
        (["explain", "ALPHA", "--at", "1999-01-01"], "nothing was decided on 'ALPHA' by 1999-01-01"),
        (["explain", "ALPHA", "--side", "up"], "choose one of ['long', 'short']"),
        (["root", "--day", "2099-01-01"], "not closed here"),
        (["prove", "X", "--day", "{day}"], "'X' has no decision under the root"),
        (["export", "out.csv"], "FILE.parquet"),
        (["export", "out.parquet", "--symbol", "X"], "choose one of: ALPHA, BETA"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    audit: Any, hand: Any, arguments: list[str], words: str
) -> None:
    code, out, err = audit(*(a.format(day=day_of(hand).day) for a in arguments))
    assert (code, out) == (2, "")
    assert words in err.splitlines()[-1]


def test_a_store_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], hand: Any) -> None:
    for verb in (["verify"], ["root"], ["explain", "A/1"], ["export", str(tmp_path / "x.parquet")]):
        assert main(["audit", *verb, "--database", f"sqlite:///{tmp_path / 'none.db'}"]) == 2
        assert "there is no store at" in capsys.readouterr().err
    hand.engine.dispose()
    file = Path(hand.engine.url.database)
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    assert main(["audit", "verify", "--database", hand.url]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_decision_is_explained_by_id_row_symbol_and_time(audit: Any, hand: Any) -> None:
    ((row_id, made_at),) = hand.read("SELECT id, made_at FROM decisions WHERE symbol = 'ALPHA' AND seq = 6")
    code, by_id, _ = audit("explain", "ALPHA/6")
    assert code == 0
    assert by_id.startswith("ALPHA/6: decided ")
    assert "compared with ALPHA/5" in by_id
    assert "Rule by rule" in by_id
    assert audit("explain", str(row_id))[1] == by_id
    at = datetime.fromtimestamp(made_at + 0.5, UTC).isoformat()
    assert audit("explain", "ALPHA", "--at", at)[1] == by_id
    newest = hand.read("SELECT max(seq) FROM decisions WHERE symbol = 'ALPHA'")[0][0]
    assert audit("explain", "ALPHA")[1].startswith(f"ALPHA/{newest}: ")
    only = audit("explain", "ALPHA/6", "--side", "short", "--kind", "initial")[1]
    assert "short initial" in only
    assert "long" not in only
    assert "the first decision of the contract" in audit("explain", "ALPHA/1")[1]


def test_roots_proofs_and_their_check(audit: Any, hand: Any, tmp_path: Path) -> None:
    day = day_of(hand)
    assert audit("root")[1] == f"{day.day} {day.root} {day.hash} 2\n" == audit("root", "--day", day.day)[1]
    file = tmp_path / "proof.json"
    assert audit("prove", "BETA", "--day", day.day, "--out", str(file))[0] == 0
    assert json.loads(audit("prove", "BETA", "--day", day.day)[1]) == json.loads(file.read_text())
    code, out, _ = audit("check", str(file), "--root", day.root, database=False)
    head = next(h for h in day.heads if h.symbol == "BETA")
    assert (code, out) == (0, f"BETA/{head.seq} with hash {head.hash} is under the root\n")
    code, out, _ = audit("check", str(file), "--root", OTHER, database=False)
    assert (code, out.startswith("NOT under the root")) == (1, True)
    file.write_text(file.read_text().replace(f'"seq": {head.seq}', f'"seq": {head.seq - 1}'))
    assert audit("check", str(file), "--root", day.root, database=False)[0] == 1
    for text in ("{}", "no json"):
        file.write_text(text)
        assert audit("check", str(file), "--root", day.root, database=False)[0] == 2


def by_hand(export: Path) -> subprocess.CompletedProcess[str]:
    """The script of the page, on an export."""
    page = (ROOT / "docs" / "audit.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return subprocess.run(
        [sys.executable, "-", str(export)],
        input=script, capture_output=True, text=True, check=False, cwd=export.parent, timeout=60,
    )  # fmt: skip


def test_the_export_is_whole_and_the_script_of_the_page_verifies_it(
    audit: Any, hand: Any, tmp_path: Path
) -> None:
    out, days = tmp_path / "decisions.parquet", tmp_path / "days.parquet"
    code, said, _ = audit("export", str(out), "--days", str(days))
    rows = hand.read("SELECT symbol, seq, made_at, record, hash FROM decisions ORDER BY id")
    assert (code, f"{len(rows)} decisions" in said) == (0, True)
    table = pq.read_table(out).to_pylist()
    assert [(r["symbol"], r["seq"], r["made_at"], r["record"], r["hash"]) for r in table] == [
        tuple(r) for r in rows
    ]
    first = json.loads(table[5]["record"])["decision"]["values"][2]
    assert table[5]["short_initial_served_rate"] == first["served_rate"]
    assert digest(table[5]["record"]) == table[5]["record_hash"]
    assert pq.read_table(days).to_pylist() == [vars(day_of(hand))]
    told = by_hand(out)
    assert (told.stdout, told.stderr, told.returncode) == ("2 contracts, every link holds\n", "", 0)
    one = tmp_path / "one.parquet"
    assert audit("export", str(one), "--symbol", "BETA")[0] == 0
    assert {r["symbol"] for r in pq.read_table(one).to_pylist()} == {"BETA"}


@pytest.mark.parametrize(
    "change",
    [
        "made_at = made_at + 1",
        "record = replace(record, '\"served_rate\":0.0', '\"served_rate\":0.1')",
        "decision_time = NULL",
        "trigger = 'gap'",
    ],
)
def test_the_script_of_the_page_finds_changes(audit: Any, hand: Any, tmp_path: Path, change: str) -> None:
    assert hand.write(f"UPDATE decisions SET {change} WHERE symbol = 'BETA' AND seq = 9") == 1
    out = tmp_path / "decisions.parquet"
    assert audit("export", str(out))[0] == 0
    told = by_hand(out)
    assert (told.stderr, told.returncode) == ("ALTERED: BETA/9\n", 1)


def test_an_export_that_fails_leaves_what_was_there(audit: Any, hand: Any, tmp_path: Path) -> None:
    out = tmp_path / "decisions.parquet"
    out.write_text("old")
    hand.write("UPDATE decisions SET seq = 'nine' WHERE symbol = 'BETA' AND seq = 9")
    code, _, err = audit("export", str(out))
    assert code == 2
    assert "a row holds what no decision does" in err
    assert out.read_text() == "old"
    assert list(tmp_path.glob(".decisions*")) == []
