"""Reasons in decisions: of the champion's own requirement, stored, and never in the way of a decision."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, select

from features.bars import Market
from features.pipeline import FeatureFrame, Pipeline
from models.explanations import Cell, Contributions
from models.forecast._ensemble_network import Settings as NetworkSettings
from models.forecast.base import Dataset
from models.forecast.network import NetworkModel
from models.margin.engine import decide
from models.margin.types import Candidate, Inputs
from models.reasons import BASELINE
from models.settings import MarginSettings
from serving.calibration import as_served
from serving.champion import Champion
from serving.explain import MOST_REASONS, explanations, moved
from serving.outlook import Forecast, Needs, Seen
from serving.store.tables import DecisionRow

Tail = list[list[dict[str, Any]]]
NEEDS = Needs.of(MarginSettings())
HOUR = pd.Timedelta(hours=1)
#: Effects on ln ES that the fake model tells, beside that of the scale against 1 % an hour.
TOLD = {"imbalance_1h": (-2.9, -3.1, 0.2), "weekend": (1.0, 1.6, -0.1), "har_1h": (0.1, 0.2, 0.0)}

Told = Callable[[FeatureFrame, Sequence[Cell]], Contributions | None]


def contributions(features: FeatureFrame, cells: Sequence[Cell]) -> Contributions:
    """Of the model of ``conftest``: ES = sigma (1 or 2, by the horizon) 3 1.2 at 99 %."""
    sigma = features["ewma_volatility"][-1]
    known = np.isfinite(sigma)
    rows = features.rows()[known]
    effects = np.empty((len(rows), len(cells), 1 + len(TOLD)))
    effects[..., 0] = np.log(sigma[known] / 0.01)[:, np.newaxis]
    effects[..., 1:] = [effect for _, _, effect in TOLD.values()]
    wide = np.array([{HOUR: 1.0, 4 * HOUR: 2.0}[c.horizon] * 3 * 1.2 for c in cells])
    others = sum(effect for _, _, effect in TOLD.values())
    return Contributions(
        rows,
        tuple(cells),
        ("ewma_volatility", *TOLD),
        np.array([[s, *(value for value, _, _ in TOLD.values())] for s in sigma[known]]),
        np.array([[0.0, *(score for _, score, _ in TOLD.values())] for _ in rows]),
        np.tile(np.log(0.01 * wide) - others, (len(rows), 1)),
        effects,
    )


@pytest.fixture
def telling(champion: Callable[..., Champion]) -> Callable[..., Champion]:
    """``telling(f)``: the champion of ``conftest``, whose model tells what ``f`` gives."""

    def make(tell: Told = contributions, version: str = "1") -> Champion:
        made = champion(version)

        class Telling(type(made.artifact.model)):  # type: ignore[misc]
            def contributions(self, features: FeatureFrame, cells: Sequence[Cell]) -> Contributions | None:
                return tell(features, cells)

        return Champion(version, replace(made.artifact, model=Telling()))

    return make


def records(engine: Engine) -> list[dict[str, Any]]:
    with engine.begin() as connection:
        rows = connection.execute(select(DecisionRow.symbol, DecisionRow.record).order_by(DecisionRow.id))
        return [{"symbol": symbol, **record} for symbol, record in rows]


def test_every_answer_says_why(
    engine: Engine, bench: Callable[..., Any], tail: Tail, telling: Callable[..., Champion], market: Market
) -> None:
    made = bench(engine, telling())
    made.feed(tail[0])
    for symbol in market.symbols:
        for answer in made.answer(symbol):
            told = answer["explanation"]
            assert set(told) == {"against", "average_rate", "reasons"}
            assert told["against"] == BASELINE
            hours = 4 if answer["kind"] == "initial" else 1
            inputs = [reason["inputs"] for reason in told["reasons"]]
            assert sorted(inputs) == [["ewma_volatility"], ["imbalance_1h"], ["weekend"]]
            for reason in told["reasons"]:
                assert set(reason) == {"inputs", "value", "score", "effect", "words"}
                assert reason["words"].count(f"the {hours}h margin of {answer['side']}s") == 1
            flow = next(r for r in told["reasons"] if r["inputs"] == ["imbalance_1h"])
            assert (flow["value"], flow["score"]) == (-2.9, -3.1)
            assert flow["words"].startswith(
                "taker selling over 1 h 3.1 standard deviations above normal: raises"
            )
            # The rate without it, from what the reason says and from the ES that is served.
            es = next(t["es"] for t in answer["tail"] if (t["horizon"], t["level"]) == (f"{hours}h", 0.99))
            without = (
                -math.expm1(-es * math.exp(-0.2))
                if answer["side"] == "long"
                else math.expm1(es * math.exp(-0.2))
            )
            assert flow["effect"] == pytest.approx(answer["required_rate"] / without - 1, rel=1e-3)
            sizes = [abs(math.log1p(reason["effect"])) for reason in told["reasons"]]
            assert sizes == sorted(sizes, reverse=True)
            average = 0.01 * (2 if hours == 4 else 1) * 3 * 1.2 * math.exp(-0.1)
            assert told["average_rate"] == pytest.approx(
                -math.expm1(-average) if answer["side"] == "long" else math.expm1(average), rel=1e-3
            )
    assert json.loads(made.loop.board.text())["multipliers"][0]["explanation"]["reasons"]


def test_the_record_keeps_it_and_the_decision_is_the_same_without(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, telling: Callable[..., Champion], tmp_path: Any
) -> None:
    from serving.store.engine import store_engine
    from serving.store.migrate import migrate

    silent = store_engine(f"sqlite:///{tmp_path / 'silent.db'}")
    migrate(silent)
    for engine, explain in ((sqlite, "always"), (silent, "never")):
        made = bench(engine, telling(), explain=explain)
        for bars in tail[:3]:
            made.feed(bars)
    told, quiet = records(sqlite), records(silent)
    silent.dispose()
    assert [r["explanation"] is not None for r in told] == [r["decision"]["rung"] == "champion" for r in told]
    assert {r["explanation"] for r in quiet} == {None}
    for one, other in zip(told, quiet, strict=True):
        assert {**one, "explanation": None} == other
        again, _ = decide(*Inputs.from_json(one["decision"]["inputs"]).arguments())
        assert json.loads(json.dumps(again.to_json())) == one["decision"]
    sides = [(e["side"], e["kind"], e["horizon_s"]) for e in told[-1]["explanation"]]
    assert sides == [
        (s, k, h) for s in ("long", "short") for k, h in (("initial", 14400), ("maintenance", 3600))
    ]


def test_only_what_moved_is_told_where_that_is_asked_for(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, telling: Callable[..., Champion]
) -> None:
    asked: list[tuple[str, ...]] = []

    def tell(features: FeatureFrame, cells: Sequence[Cell]) -> Contributions:
        asked.append(features.symbols)
        return contributions(features, cells)

    made = bench(sqlite, telling(tell), explain="moved")
    for bars in tail[:12]:
        made.feed(bars)
    found = records(sqlite)
    before: dict[str, list[float]] = {}
    expected = []
    for record in found:
        if record["decision"]["rung"] != "champion":
            continue
        candidate = record["decision"]["inputs"]["candidates"]["champion"]["requirement"]
        last = before.get(record["symbol"])
        expected.append(
            last is None or any(abs(n / o - 1) > 0.05 for o, n in zip(last, candidate, strict=True))
        )
        before[record["symbol"]] = candidate
    told = [r["explanation"] is not None for r in found if r["decision"]["rung"] == "champion"]
    assert told == expected
    assert 0 < sum(told) < len(told)
    assert sum(len(symbols) for symbols in asked) == sum(told), "the others are not even asked for"


def test_a_requirement_moves_by_a_twentieth() -> None:
    def of(*rates: float) -> Candidate:
        return Candidate("champion", rates, rates, 0.0, 1.0)  # type: ignore[arg-type]

    assert moved(None, of(1, 1, 1, 1))
    assert not moved(of(1, 1, 1, 1), of(1.049, 0.951, 1, 1))
    assert moved(of(1, 1, 1, 1), of(1, 1, 1, 0.94))


@pytest.mark.parametrize("error", [RuntimeError("no idea"), SystemExit(3), ZeroDivisionError()], ids=repr)
def test_a_model_that_cannot_tell_decides_all_the_same(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    telling: Callable[..., Champion],
    error: BaseException,
) -> None:
    def fail(*_: object) -> Contributions:
        raise error

    made = bench(sqlite, telling(fail))
    made.feed(tail[0])
    assert made.rungs() == {"champion"}
    assert {v["explanation"] for values in made.loop.board.values.values() for v in values} == {None}
    status = made.loop.status()
    assert status["failures"]["the model explained nothing"] == 2
    assert type(error).__name__ in status["last_failure"]


def test_what_has_no_words_is_not_told(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, telling: Callable[..., Champion]
) -> None:
    def nameless(features: FeatureFrame, cells: Sequence[Cell]) -> Contributions:
        found = contributions(features, cells)
        return replace(found, inputs=("ewma_volatility", "nonsense", *found.inputs[2:]))

    made = bench(sqlite, telling(nameless))
    made.feed(tail[0])
    assert made.rungs() == {"champion"}
    assert "input 'nonsense' has no words" in made.loop.status()["last_failure"]


def test_other_rungs_have_no_reasons(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, telling: Callable[..., Champion]
) -> None:
    made = bench(sqlite, telling(lambda *_: None))
    made.feed(tail[0])
    assert made.rungs() == {"champion"}
    assert {v["explanation"] for values in made.loop.board.values.values() for v in values} == {None}
    made.champions.current = None
    made.feed(tail[1])
    assert made.rungs() == {"last_good"}
    assert {v["explanation"] for values in made.loop.board.values.values() for v in values} == {None}


def test_reasons_of_a_fitted_model_multiply_up_to_the_rate(market: Market) -> None:
    """With all reasons given, the average hour's ES times their effects is the ES that is served."""
    features = Pipeline.fit(market, NetworkModel.feature_names()).batch(market)
    settings = NetworkSettings(members=2, hidden=8, steps=20, batch_rows=256, device="cpu")
    data = Dataset(features, market.close, (HOUR, 4 * HOUR), (0.99,))
    model = NetworkModel(settings).fit(data)
    newest = features.between(features.times[-1], None)
    served = as_served(model.predict(newest), None)
    seen = {s: _seen(f) for s, f in served.items()}
    told = explanations(model, newest, seen, NEEDS)
    assert set(told) == set(market.symbols)
    for symbol, entries in told.items():
        assert len(entries) == 4
        for entry in entries:
            assert 1 <= len(entry["reasons"]) <= MOST_REASONS
        found = model.contributions(newest, (Cell(HOUR, "short", 0.99),))
        assert found is not None
        row = found.rows.get_loc((newest.times[0], symbol))
        es = served[symbol].es[0, 1, 0]
        assert float(np.exp(found.log_es[row, 0])) == pytest.approx(es, rel=1e-5)
        assert entries[3]["average_rate"] == pytest.approx(
            math.expm1(math.exp(found.baseline[row, 0])), rel=1e-3
        )


def test_an_initial_margin_that_was_raised_has_the_reasons_of_the_other(
    champion: Callable[..., Champion], market: Market
) -> None:
    """A model that asks more for an hour than for four."""
    made = champion("1")
    frame = made.frame(market)
    symbol = market.symbols[0]
    es = np.full((2, 2, 2), 0.01)
    es[0, 0] = 0.03  # the long, over an hour
    forecast = Forecast((3600.0, 14400.0), (0.99, 0.999), es / 2, es)

    class Told:
        contributions = staticmethod(contributions)

    entries = explanations(Told(), frame, {symbol: _seen(forecast)}, NEEDS)[symbol]  # type: ignore[arg-type]
    assert [(e["side"], e["kind"], e["horizon_s"]) for e in entries] == [
        ("long", "initial", 3600.0),
        ("long", "maintenance", 3600.0),
        ("short", "initial", 14400.0),
        ("short", "maintenance", 3600.0),
    ]


def _seen(forecast: Forecast) -> Seen:
    return Seen(NEEDS.candidate("champion", forecast, 0.0, 3600.0, "1"), forecast)
