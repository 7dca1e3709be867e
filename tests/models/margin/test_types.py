import json
import math
import sys

import pytest

from models.margin.draft import Rule
from models.margin.limits import Limits
from models.margin.overrides import Override
from models.margin.types import (
    VALUES,
    Candidate,
    Candidates,
    Decision,
    EngineState,
    Health,
    Inputs,
    Judged,
    MarketState,
    Open,
    Overrides,
    RuleTrace,
    Served,
    StateError,
    Tail,
    is_number,
    is_rates,
    is_time,
)

GOOD = (0.20, 0.10, 0.20, 0.10)


def test_the_order_of_the_four_values() -> None:
    assert VALUES == (
        ("long", "initial"),
        ("long", "maintenance"),
        ("short", "initial"),
        ("short", "maintenance"),
    )


def test_what_counts_as_a_number_a_time_and_rates() -> None:
    assert is_number(1)
    assert is_number(-1e308)
    assert is_number(sys.float_info.max)
    assert is_number(-sys.float_info.max)
    assert not any(is_number(v) for v in (math.nan, math.inf, -math.inf, 10**400, True, None, "1", (1.0,)))
    assert is_time(1.7e9)
    assert is_time(1_700_000_000)
    assert is_time(-1)
    assert all(map(is_time, (math.nextafter(1e12, 0), math.nextafter(-1e12, 0), 10**12 - 1, 1 - 10**12)))
    assert not any(is_time(v) for v in (1e12, -1e12, -2e12, 10**12, -(10**12), 2 * 10**12, True, "1"))
    assert not is_time(1.7e12)
    assert not is_time(None)
    assert is_rates(GOOD)
    assert is_rates((1, 0.1, 0.1, 0.1))
    assert not is_rates((1, 0, 0.1, 0.1))
    assert not is_rates((1, 0.1, -0.1, 0.1))
    assert not any(is_rates(v) for v in ((0.1,) * 3, [0.1] * 4, (0.1, 0.1, 0.1, 0.0), None, "abcd"))


def test_a_state_survives_its_json_to_the_bit(served) -> None:
    third = 1 / 3
    state = served((third, third, third, third), 1e9 / 3)
    assert EngineState.from_json(json.loads(json.dumps(state.to_json(), allow_nan=False))) == state
    assert EngineState.from_json(json.loads(json.dumps(EngineState().to_json()))) == EngineState()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("served", None, "served is None; it must be a list"),
        ("rung", "best", "rung is 'best'; it must be one of"),
        ("mode", "tired", "mode is 'tired'; it must be one of"),
        ("valid_until_s", math.nan, "valid_until_s is nan; it must be a finite number"),
        ("base_rates", [0.1, 0.1], r"base_rates is \[0.1, 0.1\]; it must be a list of 4"),
        ("model_version", 3, "model_version is 3; it must be of type str"),
        ("extra", 1, "state is .*'extra'.* it must be an object with exactly"),
    ],
)
def test_a_state_that_cannot_be_read_is_refused(served, field, value, message) -> None:
    content = served(GOOD).to_json() | {field: value}
    with pytest.raises(StateError, match=message):
        EngineState.from_json(content)


@pytest.mark.parametrize(
    ("memory", "field", "value"),
    [
        ("served", "time_s", "soon"),
        ("served", "rates", [0.1, 0.1, 0.1, -0.1]),
        ("served", "asked", [0.1, 0.1, 0.1, 0.0]),
        ("open", "time_s", None),
        ("open", "close", math.inf),
        ("open", "close", 0.0),
        ("open", "var", [1]),
        ("open", "var", [0.1, 0.1, -0.1, 0.1]),
        ("open", "breaker", [0.1, 0.1, 0.1]),
    ],
)
def test_a_memory_that_cannot_be_read_is_refused(served, memory, field, value) -> None:
    content = served(GOOD).to_json()
    content[memory][0][field] = value
    with pytest.raises(StateError, match=rf"{memory}\[0\].{field} is "):
        EngineState.from_json(content)


def test_a_memory_out_of_order_is_refused() -> None:
    entries = (Served(2.0, GOOD, None), Served(1.0, GOOD, None))
    with pytest.raises(StateError, match="in order of time"):
        EngineState.from_json(EngineState(served=entries, rates=GOOD).to_json())


def test_the_decision_as_json_is_strict_and_complete(answer, candidate) -> None:
    decision = answer(candidate((math.nan, 0.1, 0.2, 0.1)))
    content = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert [(v["side"], v["kind"]) for v in content["values"]] == list(VALUES)
    assert content["values"][0] == {
        "side": "long",
        "kind": "initial",
        "base_rate": 0.1,
        "required_rate": 0.2,
        "served_rate": 0.2,
        "multiplier": 2.0,
        "var": None,
        "rules": [],
    }
    assert content["traces"][0] == {
        "rule": 1,
        "name": "refuse what is not a number",
        "side": None,
        "kind": None,
        "before": None,
        "after": None,
        "why": "champion refused: requirement of long initial is nan, not a finite number above 0",
    }
    assert math.isnan(Inputs.from_json(content["inputs"]).candidates.champion.requirement[0])
    assert "inputs" not in decision.to_json(with_inputs=False)


def test_inputs_with_a_missing_field_are_refused(answer) -> None:
    content = answer().to_json()["inputs"]
    del content["market"]["close"]
    with pytest.raises(StateError, match=r"MarketState is .* with exactly"):
        Inputs.from_json(content)


def test_rules_that_moved_nothing_are_not_named(answer, candidate) -> None:
    decision = answer(candidate((0.03, 0.03, 9.0, 0.1)))
    assert [decision.rules(i) for i in range(4)] == [("absolute floor",), (), ("absolute cap",), ()]
    assert all(isinstance(t, RuleTrace) for t in decision.traces)


@pytest.mark.parametrize(
    "kind",
    [
        Tail,
        Candidate,
        Candidates,
        MarketState,
        EngineState,
        Inputs,
        Decision,
        Limits,
        Override,
        Overrides,
        Rule,
    ],
)
def test_values_are_frozen(kind) -> None:
    assert kind.__dataclass_params__.frozen
    assert kind in (Limits, Rule) or "__slots__" in vars(kind)


def test_a_candidate_says_no_more_than_it_was_told() -> None:
    made = Candidate("rules", GOOD, GOOD, 0.0, 1.0)
    assert (made.model_version, made.breaker, made.confidence, made.drift) == ("", None, 1.0, 0.0)
    assert Candidates() == Candidates(None, None, None)
    assert EngineState() == EngineState(
        (), (), None, None, None, "", None, None, (0, 0.0), None, None, (None,) * 4
    )
    assert EngineState().since_s is None
    assert EngineState().buffer == (0.0,) * 4
    assert EngineState().health == (0, ((), ()), None, False)


def test_a_market_that_tells_little() -> None:
    seen = MarketState(True, 60.0, None, 0, None, GOOD, GOOD, (1.0, 1.0))
    assert (seen.other_closes, seen.last_return, seen.extreme_losses) == ((), None, (0.0, 0.0))
    assert (seen.stressed_rates, seen.positions) == ((0.0,) * 4, ((), ()))


def test_small_prices_and_a_buffer_are_remembered(served) -> None:
    waiting = Judged(0.0, 0.5, (0.1, 0.1))
    state = served(
        GOOD,
        open=(Open(0.0, 1e-9, GOOD, (0.1, 0.2)), Open(1.0, 0.5, GOOD, None)),
        buffer=(0.25, 0.25, 0.1, 0.25),
        health=Health(1, ((1,), ()), waiting),
        waiting_s=(None, 1.0, 0.0, -1.0),
        since_s=(1.0, 2.0, 3.0, 4.0),
        breaker_until_s=5.0,
        resumed_s=6.0,
        out_of_band=(2, 7.0),
    )
    assert EngineState.from_json(json.loads(json.dumps(state.to_json(), allow_nan=False))) == state


def test_inputs_are_read_back_whole_and_nothing_else_is(answer, candidate) -> None:
    decision = answer(candidate(GOOD), candidate(GOOD, "last_good"), candidate(GOOD, "rules"))
    content = json.loads(json.dumps(decision.inputs.to_json(), allow_nan=False))
    assert Inputs.from_json(content) == decision.inputs
    assert decision.inputs.arguments() == (
        decision.inputs.candidates,
        decision.inputs.market,
        decision.inputs.limits,
        decision.inputs.overrides,
        decision.inputs.state,
        decision.inputs.now_s,
    )
    less = {k: v for k, v in content.items() if k != "limits"}
    for wrong in (content | {"extra": 1}, less, [], None):
        with pytest.raises(StateError, match=r"inputs is .* it must be an object with exactly"):
            Inputs.from_json(wrong)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("others", [0.1, 1], ids=["floats", "whole"])
def test_each_of_four_rates_counts(place, others) -> None:
    def rates(value):
        return tuple(value if i == place else others for i in range(4))

    assert all(is_rates(rates(v)) for v in (5e-324, sys.float_info.max, 1.0))
    assert not any(is_rates(rates(v)) for v in (0.0, -0.0, -0.1, -5e-324, math.inf, -math.inf, math.nan))
