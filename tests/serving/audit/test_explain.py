"""What is told of a decision, word by word."""

from __future__ import annotations

from typing import Any

import pytest

from models.margin.types import VALUES
from serving.audit.chain import canonical
from serving.audit.explain import explain
from serving.audit.seal import Columns, seal
from serving.store.trail import StoredDecision

HOUR = 3600


def trace(
    rule: int, name: str, why: str, side: str | None, kind: str | None, before: Any, after: Any
) -> dict[str, Any]:
    return {
        "rule": rule,
        "name": name,
        "why": why,
        "side": side,
        "kind": kind,
        "before": before,
        "after": after,
    }


def told(
    seq: int,
    served: list[float],
    required: list[float],
    traces: list[dict[str, Any]],
    explanation: Any = None,
    trigger: str = "bar",
    **fields: Any,
) -> tuple[StoredDecision, dict[str, Any]]:
    base = [0.10, 0.05, 0.10, 0.05]
    decision = {
        "decided_at_s": float(seq * HOUR),
        "bar_close_s": float(seq * HOUR),
        "valid_until_s": float((seq + 2) * HOUR),
        "rung": "champion",
        "mode": "fresh",
        "model_version": "3",
        "traces": traces,
        "values": [
            {
                "side": side,
                "kind": kind,
                "base_rate": base[i],
                "required_rate": required[i],
                "served_rate": served[i],
                "multiplier": served[i] / base[i],
                "rules": sorted({t["name"] for t in traces if (t["side"], t["kind"]) == (side, kind)}),
            }
            for i, (side, kind) in enumerate(VALUES)
        ],
        **fields,
    }
    record = {"decision": decision, "explanation": explanation}
    columns = Columns(
        "BTC/USD", seq, seq * HOUR, float(seq * HOUR), trigger, decision["rung"], decision["mode"], "3"
    )
    text = canonical(record)
    sealed = seal(columns, text, None)
    return StoredDecision(seq, columns, text, **vars(sealed)), record


BEFORE = told(41, [0.08, 0.04, 0.08, 0.04], [0.08, 0.04, 0.08, 0.04], [])


def test_a_rise_is_told_rule_by_rule() -> None:
    why = "rises by no more than 25% in an hour"
    traces = [
        trace(10, "step limits", why, "long", "initial", 0.12, 0.10),
        trace(10, "step limits", why, "long", "maintenance", 0.06, 0.05),
        trace(17, "overrides", "nobody may lower it until noon", None, None, None, None),
        trace(2, "absolute floor", "raised to the floor", "short", "initial", 0.04, 0.06),
    ]
    reason = {"words": "the last hour's range is 4 times the usual: +31 %", "effect": 0.31}
    explanation = [
        {
            "side": "long",
            "kind": "initial",
            "against": "an average hour",
            "average_rate": 0.05,
            "reasons": [reason],
        }
    ]
    row, record = told(42, [0.10, 0.05, 0.06, 0.04], [0.12, 0.06, 0.04, 0.04], traces, explanation)
    assert explain(row, record, BEFORE) == [
        "BTC/USD/42: decided 1970-01-02T18:00:00Z on the bar to 1970-01-02T18:00:00Z, because its bar came",
        "in force until 1970-01-02T20:00:00Z or the next decision",
        f"hash {row.hash}",
        "compared with BTC/USD/41, decided 1970-01-02T17:00:00Z",
        "",
        "Served",
        "  long initial       rises: 8.00 % -> 10.00 %, multiplier 0.800 -> 1.000 of base rate 10.00 %",
        "  long maintenance   rises: 4.00 % -> 5.00 %, multiplier 0.800 -> 1.000 of base rate 5.00 %",
        "  short initial      falls: 8.00 % -> 6.00 %, multiplier 0.800 -> 0.600 of base rate 10.00 %",
        "  short maintenance  stays at 4.00 %, multiplier 0.800 of base rate 5.00 %",
        "",
        "Answered by champion (the promoted model, version 3), as before",
        "The feed is fresh, as before",
        "",
        "Required by champion, before any rule",
        "  long initial       8.00 % -> 12.00 %",
        "  long maintenance   4.00 % -> 6.00 %",
        "  short initial      8.00 % -> 4.00 %",
        "  short maintenance  4.00 %, unchanged",
        "",
        "Rule by rule",
        "  rule 10, step limits: rises by no more than 25% in an hour",
        "    long initial       12.00 % -> 10.00 %",
        "    long maintenance   6.00 % -> 5.00 %",
        "  rule 17, overrides: nobody may lower it until noon",
        "  rule 2, absolute floor: raised to the floor",
        "    short initial      4.00 % -> 6.00 %",
        "",
        "Held back: the rules serve less than is required",
        "  long initial       2.00 % of notional (required 12.00 %, served 10.00 %), by step limits",
        "  long maintenance   1.00 % of notional (required 6.00 %, served 5.00 %), by step limits",
        "",
        "Why the model requires 12.00 % of a long (initial), where an average hour would require 5.00 %",
        "  the last hour's range is 4 times the usual: +31 %",
    ]


def test_one_value_can_be_asked_for() -> None:
    traces = [
        trace(10, "step limits", "up", "long", "initial", 0.12, 0.10),
        trace(16, "whole or not at all", "checked", None, None, None, None),
    ]
    row, record = told(42, [0.10, 0.04, 0.08, 0.04], [0.12, 0.04, 0.08, 0.04], traces)
    lines = explain(row, record, BEFORE, "short", "initial")
    assert "  short initial      stays at 8.00 %, multiplier 0.800 of base rate 10.00 %" in lines
    assert "  rule 16, whole or not at all: checked" in lines
    assert not any("long" in line or "step limits" in line for line in lines)
    assert lines[-1] == "Nothing is held back: every value served is at least what is required"


def test_changes_of_rung_model_mode_and_base_rate_are_told() -> None:
    rates = [0.08, 0.04, 0.08, 0.04]
    row, record = told(42, rates, rates, [], rung="rules", mode="stale", model_version="", trigger="tick")
    record["decision"]["values"][0]["base_rate"] = 0.2
    lines = explain(row, record, BEFORE)
    assert "because time passed" in lines[0]
    assert "Answered by rules (filtered historical simulation of recent bars); before, by champion" in lines
    assert "Required by rules (before: by champion), before any rule" in lines
    assert "The feed is stale; before, it was fresh" in lines
    assert any("base rate 10.00 % -> 20.00 %" in line for line in lines)
    assert "No rule moved anything: what is served is what is required" in lines
    row, record = told(42, rates, rates, [], model_version="4", trigger="model")
    assert "Answered by champion (the promoted model, version 4); before, by version 3" in explain(
        row, record, BEFORE
    )


def test_the_first_decision_has_none_before_it() -> None:
    rates = [0.08, 0.04, 0.08, 0.04]
    row, record = told(1, rates, rates, [], bar_close_s=None, trigger="start")
    lines = explain(row, record, None)
    assert "on no bar yet, because the server started" in lines[0]
    assert any("there is none before it" in line for line in lines)
    assert "  long initial       8.00 %, multiplier 0.800 of base rate 10.00 %" in lines


def test_small_moves_are_shown_in_as_many_digits_as_it_takes() -> None:
    row, record = told(42, [0.0800004, 0.04, 0.08, 0.04 + 1e-12], [0.08, 0.04, 0.08, 0.04], [])
    lines = explain(row, record, BEFORE)
    assert any("rises: 8.00000 % -> 8.00004 %" in line for line in lines)
    assert any("by less than a millionth of a percent" in line for line in lines)


def test_a_record_that_does_not_fit_its_hash_is_said_to_be_altered() -> None:
    row, record = told(42, [0.08, 0.04, 0.08, 0.04], [0.08, 0.04, 0.08, 0.04], [])
    altered = StoredDecision(**{**vars(row), "record": row.record.replace("0.08", "0.09")})
    assert any(line.startswith("ALTERED") for line in explain(altered, record, BEFORE))
    old = StoredDecision(**{**vars(row), "hash": None, "record_hash": None, "previous_hash": None})
    assert any(line.startswith("older than the audit chain") for line in explain(old, record, BEFORE))


@pytest.mark.parametrize("record", [{}, {"decision": {}}, {"decision": None}, {"decision": {"values": 3}}])
def test_what_is_no_decision_cannot_be_told(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"BTC/USD/41 cannot be told .*audit verify"):
        explain(BEFORE[0], record, None)
