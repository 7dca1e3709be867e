"""A served decision carries the confidence and drift of its forecast, and the engine's rules act on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select

from models.forecast.confidence import FAR_SHARE, NEAR_SHARE, Confidence
from models.margin.types import Inputs
from serving.champion import Champion
from serving.outlook import Forecast
from serving.store.tables import DecisionRow

Tail = list[list[dict[str, Any]]]


def unsure(champion: Champion, drift: float) -> Champion:
    """The champion with a range that ends so far below any volatility that everything has this drift."""
    # So many widths outside, nearly: volatility is small beside 1.
    width = 1.0 / (NEAR_SHARE + (FAR_SHARE - NEAR_SHARE) * drift)
    usual = Confidence(("ewma_volatility",) * 20, np.full(20, -1.0 - width), np.full(20, -1.0), None)
    return replace(champion, artifact=replace(champion.artifact, confidence=usual))


def last_record(engine: Engine, symbol: str) -> dict[str, Any]:
    with engine.begin() as connection:
        row = connection.execute(
            select(DecisionRow.record)
            .where(DecisionRow.symbol == symbol)
            .order_by(DecisionRow.seq.desc())
            .limit(1)
        )
        found: dict[str, Any] = row.scalar_one()
    return found


@pytest.mark.parametrize(
    ("drift", "rung", "rules"), [(0.1, "champion", {8}), (0.4, "champion", {8, 19}), (0.8, "rules", {19})]
)
def test_doubt_reaches_the_engine(
    sqlite: Engine,
    bench: Callable[..., Any],
    champion: Callable[..., Champion],
    tail: Tail,
    drift: float,
    rung: str,
    rules: set[int],
) -> None:
    made = bench(sqlite, unsure(champion("1"), drift))
    made.feed(tail[0])
    symbol = sorted(made.loop.board.values)[0]
    record = last_record(sqlite, symbol)
    candidate = Inputs.from_json(record["decision"]["inputs"]).candidates.champion
    assert candidate is not None
    assert candidate.drift == pytest.approx(drift, rel=0.05)
    assert candidate.confidence == pytest.approx(1 - candidate.drift)
    assert record["decision"]["rung"] == rung
    acted = {trace["rule"] for trace in record["decision"]["traces"]}
    assert rules <= acted
    if rung == "champion":
        assert record["forecast"]["drift"] == candidate.drift


def test_without_knowledge_of_the_usual_nothing_is_doubted(
    sqlite: Engine, bench: Callable[..., Any], champion: Callable[..., Champion], tail: Tail
) -> None:
    made = bench(sqlite, champion("1"))
    made.feed(tail[0])
    record = last_record(sqlite, sorted(made.loop.board.values)[0])
    candidate = Inputs.from_json(record["decision"]["inputs"]).candidates.champion
    assert candidate is not None
    assert (candidate.confidence, candidate.drift) == (1.0, 0.0)


def test_a_forecast_stored_before_forecasts_were_judged_is_read() -> None:
    tail = np.full((1, 2, 1), 0.01)
    forecast = Forecast((3600.0,), (0.999,), tail, tail, None, 0.75, 0.25)
    content = forecast.to_json()
    again = Forecast.from_json(content)
    assert (again.confidence, again.drift) == (0.75, 0.25)
    del content["confidence"], content["drift"]
    old = Forecast.from_json(content)
    assert (old.confidence, old.drift) == (1.0, 0.0)
