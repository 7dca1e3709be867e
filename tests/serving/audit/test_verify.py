"""Whatever is changed in the store is found, and said where."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.audit.chain import canonical
from serving.audit.days import DayRoot, Head, close_day
from serving.audit.recompute import decide_again
from serving.audit.seal import Columns, seal
from serving.audit.verify import Findings, Published, verify
from serving.store.engine import reading_engine
from serving.store.trail import StandingContract, StoredDecision, Trail, read_decisions, read_trail

ROW = "WHERE symbol = 'ALPHA' AND seq = 5"
OTHER = "0" * 64


def places(found: Findings) -> list[tuple[str, str]]:
    return [(d.place, d.part) for d in found.defects]


def trail_of(hand: Any) -> tuple[Trail, list[StoredDecision]]:
    engine = reading_engine(hand.url)
    trail = read_trail(engine)
    rows = list(read_decisions(engine, trail.last_id))
    engine.dispose()
    return trail, rows


def test_an_untouched_trail_is_good_and_comes_out_the_same(hand_on: Any) -> None:
    found = hand_on.verify()
    assert found.defects == []
    assert (found.contracts, found.days, found.before) == (2, 1, 0)
    assert found.rows == found.recomputed.same == len(hand_on.read("SELECT 1 FROM decisions")) > 48
    assert found.late == found.early == []


def test_each_of_many_changes_is_found_where_it_is(hand_on: Any) -> None:
    assert (
        hand_on.write("UPDATE decisions SET made_at = made_at + 0.001 WHERE symbol = 'ALPHA' AND seq = 3")
        == 1
    )
    hand_on.write("UPDATE decisions SET trigger = 'gap' WHERE symbol = 'BETA' AND seq = 4")
    hand_on.write("UPDATE decisions SET record = '{\"a\":1}' WHERE symbol = 'ALPHA' AND seq = 8")
    hand_on.write("DELETE FROM decisions WHERE symbol = 'BETA' AND seq BETWEEN 10 AND 12")
    hand_on.write("UPDATE decisions SET hash = :h WHERE symbol = 'ALPHA' AND seq = 12", h=OTHER)
    hand_on.write("UPDATE day_roots SET root = :h", h=OTHER)
    found = hand_on.verify()
    assert set(places(found)) == {
        ("ALPHA/3", "columns altered"),
        ("BETA/4", "columns altered"),
        ("ALPHA/8", "record altered"),
        ("ALPHA/8", "cannot be decided again"),
        ("BETA/10", "row missing"),
        ("ALPHA/12", "hash altered"),
        ("days", "day altered"),
    }
    assert "10 to 12 are not there" in next(d.what for d in found.defects if d.place == "BETA/10")


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [
        ("decision_time = 7", "columns altered", "decision_time is 7, was 17"),
        ("decision_time = NULL", "columns altered", "decision_time is None, was 17"),
        ("made_at = made_at + 0.001", "columns altered", "made_at is 17"),
        ("rung = 'cap'", "columns altered", "rung is 'cap', was '"),
        ("mode = 'dead'", "columns altered", "mode is 'dead', was 'fresh'"),
        ("model_version = '7'", "columns altered", "model_version is '7', was '"),
        ("trigger = 'gap'", "columns altered", "trigger is 'gap', was 'bar'"),
        ("trigger = 'whim'", "columns altered", "trigger is 'whim', was 'bar'"),
        ("seq = 500", "columns altered", "seq is 500, was 5"),
        ("seq = 'five'", "columns altered", "seq is 'five', was 5"),
        ("rung = X'FF'", "columns altered", "rung is b'\\xff', was '"),
        (f"record_hash = '{OTHER}'", "hash altered", "record_hash is '0000"),
        ("record_hash = 'nonsense'", "hash altered", "record_hash is 'nonsense', was "),
        (f"previous_hash = '{OTHER}'", "hash altered", "previous_hash is '0000"),
        (f"hash = '{OTHER}'", "hash altered", "hash 000000000000 does not fit the row"),
        ("hash = NULL", "hash missing", "hash of a row in the chain"),
        ("record = '[]'", "record altered", "its SHA-256 is"),
        ("record = '{\"a\":'", "record altered", "not JSON any more"),
        ("record = X'7BFF7D'", "record altered", "not JSON any more"),
        ("record = '{\"a\":1e999}'", "record altered", "not JSON any more"),
        ("record = '{\"a\":NaN}'", "record altered", "not JSON any more"),
        ("record = replace(record, ',\"rung\":', ', \"rung\":')", "record altered", "the same content"),
    ],
)
def test_a_column_that_was_changed_is_named(hand: Any, change: str, part: str, words: str) -> None:
    assert hand.write(f"UPDATE decisions SET {change} {ROW}") == 1
    found = hand.verify()
    first = found.defects[0]
    assert (first.place, first.part) == ("ALPHA/5", part)
    assert words in first.what
    # One place: what follows it still holds.
    assert {d.place for d in found.defects} <= {"ALPHA/5", "ALPHA/6"} or change == "hash = NULL"


def test_a_row_under_another_contract_is_named_and_missed(hand: Any) -> None:
    hand.write(f"UPDATE decisions SET symbol = 'GAMMA' {ROW}")
    found = places(hand.verify())
    assert ("GAMMA/5", "columns altered") in found
    assert ("ALPHA/5", "row missing") in found
    assert ("GAMMA", "contract altered") in found


def test_every_byte_of_every_row_counts(hand: Any) -> None:
    trail, rows = trail_of(hand)
    chance = random.Random(1)
    for _ in range(300):
        at = chance.randrange(len(rows))
        row = rows[at]
        name = chance.choice(
            ["record", "record", "previous_hash", "record_hash", "hash", "rung", "mode", "trigger"]
        )
        text = getattr(row, name, None) or getattr(row.columns, name)
        where = chance.randrange(len(text))
        changed = text[:where] + chr(ord(text[where]) ^ 1 << chance.randrange(7)) + text[where + 1 :]
        if hasattr(row, name):
            altered = replace(row, **{name: changed})
        else:
            altered = replace(row, columns=replace(row.columns, **{name: changed}))
        found = verify(trail, [*rows[:at], altered, *rows[at + 1 :]], recompute=False)
        assert found.defects[0].place == row.name, (name, where, changed[where])


def test_a_byte_changed_in_the_file_is_found(hand: Any) -> None:
    ((record,),) = hand.read(f"SELECT record FROM decisions {ROW}")
    own = json.loads(record)["decision"]["decided_at_s"]
    hand.engine.dispose()
    with Path(hand.engine.url.database).open("r+b") as raw:
        content = raw.read()
        where = content.index(f'"decided_at_s":{own}'.encode()) + len('"decided_at_s":')
        raw.seek(where)
        raw.write(b"2")
    found = hand.verify()
    assert found.broken >= 1
    assert {d.part for d in found.defects} & {"record altered"}


def test_rows_that_are_gone_are_missed(hand: Any) -> None:
    hand.write("DELETE FROM decisions WHERE symbol = 'ALPHA' AND seq = 5")
    newest = hand.read("SELECT max(seq) FROM decisions WHERE symbol = 'BETA'")[0][0]
    hand.write("DELETE FROM decisions WHERE symbol = 'BETA' AND seq = :n", n=newest)
    found = hand.verify()
    assert ("ALPHA/5", "row missing") in places(found)
    assert (f"BETA/{newest}", "row missing") in places(found)
    hand.write("UPDATE contracts SET seq = seq - 1 WHERE symbol = 'BETA'")
    assert ("BETA", "contract altered") in places(hand.verify())


def test_the_first_rows_cannot_pass_for_older_than_the_chain(hand: Any) -> None:
    hand.write("UPDATE decisions SET hash = NULL, record_hash = NULL, previous_hash = NULL WHERE seq < 4")
    found = hand.verify()
    assert found.before == 6
    assert [p for p in places(found) if p[1] == "link broken"] == [
        ("ALPHA/4", "link broken"),
        ("BETA/4", "link broken"),
    ]


def test_two_rows_that_changed_places_are_found(hand: Any) -> None:
    hand.write("UPDATE decisions SET seq = -5 WHERE symbol = 'ALPHA' AND seq = 5")
    hand.write("UPDATE decisions SET seq = 5 WHERE symbol = 'ALPHA' AND seq = 6")
    hand.write("UPDATE decisions SET seq = 6 WHERE symbol = 'ALPHA' AND seq = -5")
    found = hand.verify()
    assert found.broken >= 2
    assert {d.place for d in found.defects if d.part != "state differs"} <= {"ALPHA/5", "ALPHA/6", "ALPHA/7"}


def test_a_row_that_was_put_in_is_found(hand: Any) -> None:
    copied = (
        "symbol, decision_time, made_at, rung, mode, model_version, record, previous_hash, record_hash, hash"
    )
    hand.write(
        f"INSERT INTO decisions (seq, trigger, {copied}) SELECT 1000, 'tick', {copied} FROM decisions {ROW}"
    )
    found = hand.verify()
    assert any(place == "ALPHA" and part == "contract altered" for place, part in places(found))


def rewritten(hand: Any, seq: int) -> None:
    """ALPHA's history from ``seq`` on, written anew with other rates and hashes that fit."""
    fields = "decision_time, made_at, trigger, rung, mode, model_version"
    rows = hand.read(
        f"SELECT seq, record, previous_hash, {fields} FROM decisions WHERE symbol = 'ALPHA' AND seq >= :s "
        f"ORDER BY seq",
        s=seq,
    )
    previous = rows[0][2]
    for number, record, _, *others in rows:
        content = json.loads(record)
        if number == seq:
            content["decision"]["values"][0]["served_rate"] *= 2
        text = canonical(content)
        made = seal(Columns("ALPHA", number, *others), text, previous)
        hand.write(
            "UPDATE decisions SET record = :t, previous_hash = :p, record_hash = :r, hash = :h "
            "WHERE symbol = 'ALPHA' AND seq = :s",
            **{"t": text, "p": made.previous_hash, "r": made.record_hash, "h": made.hash, "s": number},
        )
        previous = made.hash
    hand.write("UPDATE contracts SET head = :h WHERE symbol = 'ALPHA'", h=previous)


def test_history_that_was_written_anew_does_not_fit_the_days_nor_the_engine(hand: Any) -> None:
    ((day, root, day_hash),) = hand.read("SELECT day, root, hash FROM day_roots")
    rewritten(hand, 5)
    found = hand.verify()
    assert ("ALPHA/5", "decided differently") in places(found)
    assert "decision.values[0].served_rate is" in found.defects[0].what
    bound = [d for d in found.defects if d.part == "not in the day's root"]
    assert [d.symbol for d in bound] == ["ALPHA"]
    # Whoever writes the days anew too is found by what was published.
    heads = [
        Head(symbol, seq, own)
        for symbol, seq, own in hand.read("SELECT symbol, seq, hash FROM decisions")
        if (symbol, seq) == ("ALPHA", bound[0].seq) or (symbol, seq) in heads_of(hand)
    ]
    made = close_day(day, heads, None)
    hand.write("UPDATE day_roots SET root = :root, leaves = :leaves, hash = :hash", **only(made))
    assert hand.verify(recompute=False).defects == []
    for published in (root, day_hash):
        told = hand.verify(recompute=False, published=Published(day, published))
        assert places(told) == [("days", "root differs")]


def heads_of(hand: Any) -> set[tuple[str, int]]:
    ((leaves,),) = hand.read("SELECT leaves FROM day_roots")
    return {(item["symbol"], item["seq"]) for item in json.loads(leaves)}


def only(day: DayRoot) -> dict[str, str]:
    return {"root": day.root, "leaves": day.leaves, "hash": day.hash}


def test_a_published_root_is_compared(hand: Any) -> None:
    ((day, root, day_hash),) = hand.read("SELECT day, root, hash FROM day_roots")
    for published in (root, day_hash):
        assert hand.verify(recompute=False, published=Published(day, published)).defects == []
    assert places(hand.verify(recompute=False, published=Published(day, OTHER))) == [("days", "root differs")]
    with pytest.raises(ValueError, match="not closed here"):
        hand.verify(published=Published("2099-01-01", root))
    with pytest.raises(ValueError, match="not closed here"):
        hand.verify(published=Published("1969-01-01", root))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (f"root = '{OTHER}'", "its heads give"),
        (f"hash = '{OTHER}'", "does not fit"),
        (f"previous_hash = '{OTHER}'", "does not follow the day before"),
        ("day = '1999-01-01'", "does not fit"),
        ("leaves = replace(leaves, 'ALPHA', 'OMEGA')", "its heads give"),
        ("leaves = replace(leaves, ',', ', ')", "cannot be read"),
        ("leaves = 'x'", "cannot be read"),
    ],
)
def test_a_day_that_was_changed_is_found(hand: Any, change: str, words: str) -> None:
    hand.write(f"UPDATE day_roots SET {change}")
    found = hand.verify(recompute=False)
    assert found.defects[0].part == "day altered"
    assert words in found.defects[0].what


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('state = replace(state, \'"mode":"fresh"\', \'"mode":"stale"\')', 'state.mode is "stale"'),
        (f"head = '{OTHER}'", "its head is 000"),
        ("published = replace(published, '\"served_rate\":', '\"served_rate\":1')", "the answer in force"),
    ],
)
def test_a_contract_that_was_changed_is_found(hand: Any, change: str, words: str) -> None:
    assert hand.write(f"UPDATE contracts SET {change} WHERE symbol = 'BETA'") == 1
    (defect,) = hand.verify().defects
    assert (defect.place, defect.part) == ("BETA", "contract altered")
    assert words in defect.what


def test_decisions_from_before_the_chain_are_counted_and_still_decided_again(hand: Any) -> None:
    hand.write("UPDATE decisions SET hash = NULL, record_hash = NULL, previous_hash = NULL")
    hand.write("UPDATE contracts SET head = NULL")
    hand.write("DELETE FROM day_roots")
    found = hand.verify()
    assert found.defects == []
    assert found.before == found.rows == found.recomputed.same
    hand.write(
        f"UPDATE decisions SET record = replace(record, '\"served_rate\":', '\"served_rate\":1') {ROW}"
    )
    hand.write("UPDATE decisions SET mode = 'dead' WHERE symbol = 'BETA' AND seq = 9")
    assert places(hand.verify()) == [
        ("ALPHA/5", "decided differently"),
        ("BETA/9", "columns differ from record"),
    ]


def test_one_contract_can_be_checked_alone(hand: Any) -> None:
    hand.write(f"UPDATE decisions SET mode = 'dead' {ROW}")
    assert hand.verify(symbol="BETA").defects == []
    assert places(hand.verify(symbol="ALPHA")) == [("ALPHA/5", "columns altered")]


def test_what_another_version_decided_is_told_apart(hand: Any) -> None:
    def other(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        decision, state = decide_again(inputs)
        decision["values"][0]["served_rate"] *= 1.01
        return decision, state

    def refuse(_: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        raise KeyError("limits")

    for decide in (other, refuse):
        found = hand.verify(decide=decide, version="another")
        assert found.defects == []
        assert found.recomputed.same == 0
        ((_, count),) = found.recomputed.by_others.items()
        assert count == found.rows
        assert found.recomputed.example.startswith("ALPHA/1: ")
    # The same version has no such excuse.
    found = hand.verify(decide=other)
    assert found.broken == found.rows
    assert found.defects[0].part == "decided differently"
    assert hand.verify(decide=refuse).defects[0].part == "cannot be decided again"


def test_a_decision_begins_with_the_state_that_the_one_before_left(hand: Any) -> None:
    def forgetful(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        decision, state = decide_again(inputs)
        return decision, {**state, "mode": "dead"} if decision["decided_at_s"] % 7200 else state

    found = hand.verify(decide=forgetful)
    assert {d.part for d in found.defects} <= {"state differs", "contract altered"}
    assert 'inputs.state.mode is "fresh", should be "dead"' in found.defects[0].what


def test_no_contract_at_all_is_no_defect() -> None:
    trail = Trail({"A": StandingContract("A", 0, None, None, None)}, (), None, 0)
    assert verify(trail, []).defects == []


def test_many_defects_are_counted_and_the_first_are_told(hand: Any) -> None:
    trail, rows = trail_of(hand)
    many = [replace(r, record="{}") for r in rows] * 5
    found = verify(trail, many, recompute=False)
    assert len(found.defects) == 200 < found.broken


@pytest.mark.parametrize("name", ["state", "published"])
def test_a_contract_whose_columns_are_no_json_is_a_defect_and_no_crash(hand: Any, name: str) -> None:
    hand.write(f"UPDATE contracts SET {name} = substr({name}, 2) WHERE symbol = 'BETA'")
    (defect,) = hand.verify(recompute=False).defects
    assert (defect.place, defect.what) == ("BETA", f"its column {name} is no JSON object")
