"""When a day is closed, what its root binds, and that nothing changes it afterwards."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import Engine, select

from serving.audit.chain import genesis, link
from serving.audit.days import (
    DOMAIN,
    DayRoot,
    Head,
    close_day,
    day_of,
    holding,
    inclusion_proof,
    root_of_proof,
)
from serving.audit.merkle import root
from serving.audit.verify import Findings, verify
from serving.store.days import read_days
from serving.store.decisions import NewDecision, list_contracts, save_decisions
from serving.store.engine import reading_engine
from serving.store.tables import DecisionRow
from serving.store.trail import read_decisions, read_trail

DAY = 86400
#: 2024-03-01.
FIRST = 19783 * DAY


def decision(symbol: str, seq: int, made_at: float) -> NewDecision:
    known = {"bar_close_s": None, "decided_at_s": made_at, "rung": "cap", "mode": "dead", "model_version": ""}
    return NewDecision(
        symbol, seq, "tick", None, made_at, "cap", "dead", "", {"decision": known}, {}, {}, {"answers": []}
    )


class Clocked:
    """Stores decisions of contracts at given times; what it gives back is the days that are closed then."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.counts: dict[str, int] = {}
        with engine.begin() as connection:
            list_contracts(connection, ["A", "B"])

    def decide(self, made_at: float, *symbols: str) -> list[DayRoot]:
        batch = []
        for symbol in symbols:
            self.counts[symbol] = self.counts.get(symbol, 0) + 1
            batch.append(decision(symbol, self.counts[symbol], made_at))
        with self.engine.begin() as connection:
            save_decisions(connection, batch)
            return read_days(connection)

    def hash_of(self, symbol: str, seq: int) -> str:
        with self.engine.begin() as connection:
            found = connection.scalar(
                select(DecisionRow.hash).where(DecisionRow.symbol == symbol, DecisionRow.seq == seq)
            )
        assert found is not None
        return found

    def verify(self) -> Findings:
        engine = reading_engine(self.engine.url.render_as_string(hide_password=False))
        trail = read_trail(engine)
        found = verify(trail, read_decisions(engine, trail.last_id), recompute=False)
        engine.dispose()
        return found


@pytest.fixture
def clocked(engine: Engine) -> Clocked:
    return Clocked(engine)


def test_the_first_decision_of_a_later_day_closes_the_day(clocked: Clocked) -> None:
    assert clocked.decide(FIRST + 3600, "B", "A") == []
    assert clocked.decide(FIRST + DAY - 0.001, "A") == []
    (day,) = clocked.decide(FIRST + DAY, "A", "B")
    assert day.day == "2024-03-01"
    heads = (Head("A", 2, clocked.hash_of("A", 2)), Head("B", 1, clocked.hash_of("B", 1)))
    assert day.heads == heads
    assert day.root == root([h.leaf for h in heads])
    assert day.previous_hash == genesis(DOMAIN)
    assert day.hash == link(DOMAIN, genesis(DOMAIN), {"day": "2024-03-01", "leaves": 2, "root": day.root})
    assert clocked.verify().defects == []


def test_days_without_decisions_have_no_root_and_the_chain_goes_on(clocked: Clocked) -> None:
    clocked.decide(FIRST, "A")
    clocked.decide(FIRST + 5 * DAY, "A")
    first, second = clocked.decide(FIRST + 6 * DAY, "A")
    assert [first.day, second.day] == ["2024-03-01", "2024-03-06"]
    assert second.previous_hash == first.hash
    assert holding([first, second], "2024-03-04") == first
    assert holding([first, second], "2024-03-06") == second
    with pytest.raises(ValueError, match="closed: 2024-03-01 to 2024-03-06"):
        holding([first, second], "2024-03-07")
    with pytest.raises(ValueError, match="closed: none"):
        holding([], "2024-03-07")


def test_a_batch_over_midnight_is_cut_at_midnight(clocked: Clocked) -> None:
    late, early = decision("A", 1, FIRST + DAY + 0.001), decision("B", 1, FIRST + DAY - 0.001)
    with clocked.engine.begin() as connection:
        save_decisions(connection, [late, early])
        (day,) = read_days(connection)
    assert [(h.symbol, h.seq) for h in day.heads] == [("B", 1)]
    assert clocked.verify().late == []


def test_a_decision_made_on_a_closed_day_does_not_change_its_root(clocked: Clocked) -> None:
    clocked.decide(FIRST, "A", "B")
    (closed,) = clocked.decide(FIRST + DAY, "A")
    assert clocked.decide(FIRST + 7200, "B") == [closed]
    found = clocked.verify()
    assert (found.defects, found.late, found.early) == ([], ["B/2"], [])
    first, second = clocked.decide(FIRST + 2 * DAY, "A")
    assert first == closed
    assert [(h.symbol, h.seq) for h in second.heads] == [("A", 2), ("B", 2)]
    assert (clocked.verify().defects, clocked.verify().late) == ([], ["B/2"])


def test_a_clock_that_was_ahead_does_not_stop_the_days(clocked: Clocked) -> None:
    clocked.decide(FIRST, "A", "B")
    clocked.decide(FIRST + 400 * DAY, "A")
    clocked.decide(FIRST + DAY, "B")
    first, second = clocked.decide(FIRST + 2 * DAY, "A")
    assert [first.day, second.day] == ["2024-03-01", "2024-03-02"]
    found = clocked.verify()
    assert (found.defects, found.early) == ([], ["A/2"])


def test_each_contract_is_shown_under_the_root() -> None:
    heads = [Head(f"S{i}", i + 1, f"{i:064x}") for i in range(7)]
    day = close_day("2024-03-01", heads, None)
    for head in heads:
        proof = json.loads(json.dumps(inclusion_proof(day.day, heads, head.symbol)))
        assert root_of_proof(proof) == day.root == proof["root"]
        assert root_of_proof({**proof, "leaf": vars(replace(head, seq=99))}) != day.root
    with pytest.raises(ValueError, match="'X' has no decision under the root of 2024-03-01"):
        inclusion_proof(day.day, heads, "X")
    for broken in ({}, [], {"leaf": {}, "index": 0, "leaves": 1, "path": []}, {**proof, "path": ["zz"] * 3}):
        with pytest.raises(ValueError, match=r"no inclusion proof|needs 2"):
            root_of_proof(broken)


def test_the_order_of_contracts_is_that_of_their_names() -> None:
    a, b = Head("A", 1, "1" * 64), Head("B", 2, "2" * 64)
    assert close_day("2024-03-01", [b, a], None) == close_day("2024-03-01", [a, b], None)


def test_days_are_those_of_utc() -> None:
    assert day_of(0.0) == "1970-01-01"
    assert day_of(FIRST - 0.001) == "2024-02-29"
    assert day_of(FIRST) == "2024-03-01"
