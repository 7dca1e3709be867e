"""Open positions: told, replaced, kept, forgotten with age, and what the impact budget does with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select

from features.bars import Market
from models.margin.engine import decide
from models.margin.types import Decision, Inputs
from models.settings import MarginSettings
from serving.errors import InvalidInputError, RefusedError, UnknownSymbolError
from serving.positions import MOST_BINS, NO_POSITIONS, PositionDesk
from serving.requests import PositionsRequest
from serving.store.decisions import list_contracts
from serving.store.tables import DecisionRow

Tail = list[list[dict[str, Any]]]
NOW = 1_700_000_000.0


def request(symbol: str = "ALPHA", long: Any = (), short: Any = ()) -> PositionsRequest:
    return PositionsRequest.model_validate({"symbol": symbol, "long": list(long), "short": list(short)})


def desk(engine: Engine) -> PositionDesk:
    with engine.begin() as connection:
        list_contracts(connection, ["ALPHA", "BETA"])
    return PositionDesk(engine, valid_s=3600)


def refusal(engine: Engine, asked: PositionsRequest, kind: type[RefusedError]) -> dict[str, Any]:
    with pytest.raises(kind) as caught:
        desk(engine).take(asked, NOW)
    error: dict[str, Any] = caught.value.body["error"]
    return error


def test_the_newest_replace_the_former_and_survive_a_restart(engine: Engine) -> None:
    made = desk(engine)
    answer = made.take(request(long=[[0.08, 1e6], [-0.01, 2.5]], short=[[0.2, 3]]), NOW - 60)
    assert answer == {
        "symbol": "ALPHA",
        "long": {"bins": 2, "notional": 1000002.5},
        "short": {"bins": 1, "notional": 3.0},
        "valid_until": "2023-11-14T23:12:20Z",
    }
    assert made.standing("ALPHA", NOW) == (((0.08, 1e6), (-0.01, 2.5)), ((0.2, 3.0),))
    assert made.standing("BETA", NOW) == NO_POSITIONS

    made.take(request(short=[[0.1, 7]]), NOW)
    made.take(request("BETA", long=[[0.3, 1]]), NOW)
    again = desk(engine)
    assert again.standing("ALPHA", NOW) == NO_POSITIONS
    again.load()
    for one in (made, again):
        assert one.standing("ALPHA", NOW) == ((), ((0.1, 7.0),))
        assert one.standing("BETA", NOW) == (((0.3, 1.0),), ())


def test_they_count_for_an_hour(sqlite: Engine) -> None:
    made = desk(sqlite)
    made.take(request(long=[[0.1, 1]]), NOW)
    assert made.standing("ALPHA", NOW + 3600) != NO_POSITIONS
    assert made.status(NOW + 3600) == {"counting": 1, "too_old": 0}
    assert made.standing("ALPHA", NOW + 3601) == NO_POSITIONS
    assert made.status(NOW + 3601) == {"counting": 0, "too_old": 1}


def test_too_many_bins_are_refused_and_the_former_stand(engine: Engine) -> None:
    made = desk(engine)
    made.take(request(short=[[0.001 * i, 1.0] for i in range(MOST_BINS)]), NOW)
    with pytest.raises(InvalidInputError) as caught:
        made.take(request(short=[[0.001 * i, 1.0] for i in range(MOST_BINS + 1)]), NOW)
    error = caught.value.body["error"]
    assert (error["field"], error["value"]) == ("short", 201)
    assert "at most 200" in error["message"]
    assert error["remedy"].startswith("aggregate")
    made.load()
    assert len(made.standing("ALPHA", NOW)[1]) == MOST_BINS


@pytest.mark.parametrize("notional", [0.0, -1.0])
def test_a_notional_above_0_is_asked_for(sqlite: Engine, notional: float) -> None:
    error = refusal(sqlite, request(long=[[0.1, 1], [0.2, notional]]), InvalidInputError)
    assert (error["field"], error["value"], error["row"]) == ("long.1.1", notional, 1)


def test_a_sum_beyond_numbers_is_refused(sqlite: Engine) -> None:
    error = refusal(sqlite, request(long=[[0.1, 1.5e308], [0.2, 1.5e308]]), InvalidInputError)
    assert error["field"] == "long"


def test_an_unknown_contract_is_refused(engine: Engine) -> None:
    error = refusal(engine, request("GAMMA"), UnknownSymbolError)
    assert (error["field"], error["value"]) == ("symbol", "GAMMA")
    assert "ALPHA, BETA" in error["remedy"]


@pytest.mark.parametrize("bad", [[0.1], [0.1, 1, 2], [float("nan"), 1], [0.1, float("inf")], [True, 1], "ab"])
def test_a_bin_is_two_finite_numbers(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"long\.1"):
        request(long=[[0.1, 1], bad])


def decided(bench: Any, symbol: str) -> Decision:
    found: Decision = bench.loop._decisions[symbol]
    return found


def test_they_are_in_the_record_of_the_next_decision_and_stage_a_rise(
    engine: Engine, bench: Callable[..., Any], tail: Tail, market: Market
) -> None:
    """Floors are switched off, since they come after the budget and win over it."""
    one, two = market.symbols
    margin = MarginSettings()
    limits = replace(margin.limits, floor_of_base=0.0, floor_scale=0.0, release_ratio=0.0, publish_step=0.0)
    made = bench(engine, margin=margin.model_copy(update={"limits": limits}))
    for bars in tail[:2]:
        made.feed(bars)
    in_force = decided(made, one).served_rates
    # Whoever is just sound is all there is, so that any rise of maintenance margin is beyond the budget.
    edge = [[rate * (1 + 1e-9), 1000.0] for rate in (in_force[1], in_force[3])]
    now_s = made.loop.now_s()
    made.positions.take(request(one, long=[edge[0]], short=[edge[1]]), now_s)

    shocked = [dict(b) for b in tail[2]]
    for bar in shocked:
        # Within the 99.9 % bound, or the breaker would lift the budget; the scale rises all the same.
        bar["close"] = float(market.close[bar["symbol"]].loc[market.times[-23]]) * 1.004
        bar["low"], bar["high"] = min(bar["low"], bar["close"]), max(bar["high"], bar["close"])
    made.feed(shocked)
    found = decided(made, one)
    assert found.inputs.market.positions == (
        ((edge[0][0], 1000.0),),
        ((edge[1][0], 1000.0),),
    )
    assert decided(made, two).inputs.market.positions == NO_POSITIONS
    staged = [t for t in found.traces if t.rule == 18]
    rising = [i for i in (1, 3) if found.required_rates[i] > in_force[i] * (1 + 1e-9)]
    assert rising
    assert len(staged) == len(rising)
    for i in rising:
        assert found.served_rates[i] == edge[i // 2][0]
    with engine.begin() as connection:
        record = connection.scalar(
            select(DecisionRow.record).where(DecisionRow.symbol == one).order_by(DecisionRow.seq.desc())
        )
    assert record is not None
    stored = record["decision"]["inputs"]["market"]["positions"]
    assert stored == [[edge[0]], [edge[1]]]
    again, _ = decide(*Inputs.from_json(record["decision"]["inputs"]).arguments())
    assert json.loads(json.dumps(again.to_json())) == record["decision"]


def test_after_an_hour_of_silence_they_are_left_out(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, market: Market
) -> None:
    one = market.symbols[0]
    made = bench(sqlite)
    made.positions.take(request(one, long=[[0.05, 1.0]]), made.loop.now_s())
    made.feed(tail[0])
    assert decided(made, one).inputs.market.positions == (((0.05, 1.0),), ())
    again = bench(sqlite, history=False)
    again.feed(tail[1])
    assert decided(again, one).inputs.market.positions == NO_POSITIONS
