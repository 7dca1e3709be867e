"""A contract as the store keeps it: everything comes back, and what an older server stored is taken up."""

import json
from typing import Any

import numpy as np
import pytest

from models.margin.base_rate import Cycle
from models.margin.types import Candidate, EngineState, Open, Served, StateError
from serving.contract import Contract, Memory, MonthlyRates, as_last_good
from serving.outlook import Forecast, Seen
from serving.rules_rung import WeeklyTail
from serving.store.decisions import StoredContract

RATES = (0.2, 0.1, 0.21, 0.11)
FORECAST = Forecast((3600.0, 14400.0), (0.99, 0.999), np.full((2, 2, 2), 0.01), np.full((2, 2, 2), 0.02))
CHAMPION = Candidate(
    "champion", RATES, (0.1, 0.05, 0.1, 0.05), 1e9, 1e9 + 7200, "7", (0.03, 0.04), 0.75, 0.125
)
#: As the first server wrote it.
FIRST_STATE = {
    "served": [
        {"time_s": 1e9, "rates": list(RATES), "close": None, "var": None},
        {"time_s": 1e9 + 3600, "rates": [0.3, 0.1, 0.3, 0.1], "close": 5.0, "var": [0.1, 0.05, 0.1, 0.05]},
    ],
    "rung": "champion",
    "mode": "fresh",
    "model_version": "7",
    "valid_until_s": 1e9 + 7200,
    "base_rates": list(RATES),
}


def stored(state: Any = None, memory: Any = None) -> Contract:
    texts = [None if part is None else json.loads(json.dumps(part)) for part in (state, memory)]
    return Contract.stored(StoredContract("A", 3, 1_000_000_800, *texts, published=None))


def memory() -> Memory:
    cycle = Cycle(RATES, (0.1, 0.05, 0.1, 0.05), (0.07, 0.08), (0.4, 0.3, 0.4, 0.3))
    return Memory(
        as_last_good(Seen(CHAMPION, FORECAST)),
        WeeklyTail(1_000_000_000, 0.01, FORECAST),
        MonthlyRates(999_993_600, "settings", cycle),
        "7",
    )


def test_the_last_good_forecast_comes_back_with_all_that_the_rules_look_at() -> None:
    found = stored(memory=memory().to_json()).memory
    assert found.last_good is not None
    candidate = found.last_good.candidate
    assert candidate.rung == "last_good"
    assert (candidate.breaker, candidate.confidence, candidate.drift) == ((0.03, 0.04), 0.75, 0.125)
    assert candidate == as_last_good(Seen(CHAMPION, FORECAST)).candidate
    assert found.rates == memory().rates
    assert found.to_json() == memory().to_json()


def test_a_memory_without_what_the_breaker_needs_is_taken_up_and_completed() -> None:
    content = memory().to_json()
    for name in ("breaker", "confidence", "drift"):
        del content["last_good"][name]
    for name in ("extreme_losses", "stressed_rates"):
        del content["rates"][name]
    found = stored(memory=content).memory
    assert found.last_good is not None
    assert found.last_good.candidate.breaker is None
    assert found.last_good.candidate.confidence == 1.0
    assert found.rates is None, "found anew at the next look"


def test_a_state_comes_back() -> None:
    state = EngineState(
        served=(Served(1e9, RATES, RATES),),
        open=(Open(1e9, 5.0, RATES, (0.1, 0.2)),),
        rates=RATES,
        breaker_until_s=1e9 + 60,
    )
    assert stored(state.to_json()).state == state
    assert stored().state == EngineState()


def test_a_state_of_the_first_engine_keeps_its_rates_and_its_open_decisions() -> None:
    found = stored(FIRST_STATE).state
    assert found == EngineState(
        served=(Served(1e9, RATES, None), Served(1e9 + 3600, (0.3, 0.1, 0.3, 0.1), None)),
        open=(Open(1e9 + 3600, 5.0, (0.1, 0.05, 0.1, 0.05), None),),
        rates=(0.3, 0.1, 0.3, 0.1),
        rung="champion",
        mode="fresh",
        model_version="7",
        valid_until_s=1e9 + 7200,
        base_rates=RATES,
    )
    empty = {
        **FIRST_STATE,
        "served": [],
        "valid_until_s": None,
        "base_rates": None,
        "rung": None,
        "mode": None,
    }
    assert stored({**empty, "model_version": ""}).state == EngineState()


def test_a_state_with_something_else_is_refused() -> None:
    with pytest.raises(StateError, match="state"):
        stored({**FIRST_STATE, "more": 1})
