"""The champion's calibration in the decision loop: what it counts, when, and after whatever interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError

from features.bars import Market
from models.forecast.calibration import CalibrationState, absorb
from models.margin.engine import decide
from models.margin.types import Inputs
from models.settings import MarginSettings
from serving.champion import Champion
from serving.forecast import forecast_from
from serving.outlook import Forecast, Needs
from serving.requests import BarsRequest
from serving.store.calibrations import read_calibration, save_calibration
from serving.store.engine import store_engine
from serving.store.migrate import migrate
from serving.store.tables import Calibration, DecisionRow

Tail = list[list[dict[str, Any]]]
HOUR = pd.Timedelta(hours=1)


def state_of(bench: Any) -> CalibrationState:
    state = bench.loop.calibration_of(bench.champions.current)
    assert state is not None
    return state


def expected_state(champion: Champion, market: Market, until: pd.Timestamp) -> CalibrationState:
    """The artifact's state gone on in one batch over the market."""
    begun = champion.artifact.calibration
    assert begun is not None
    known = market.until(until)
    assert begun.until is not None
    said = champion.past(known, begun.until - 4 * HOUR)
    return absorb(begun, said, known.close.loc[begun.until - 4 * HOUR :])


def decided(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        rows = connection.execute(
            select(
                *(DecisionRow.symbol, DecisionRow.seq, DecisionRow.trigger, DecisionRow.decision_time),
                *(DecisionRow.rung, DecisionRow.record),
            ).order_by(DecisionRow.symbol, DecisionRow.seq)
        ).all()
    return [(*row[:-1], json.dumps(row[-1], sort_keys=True)) for row in rows]


def stored(engine: Engine) -> dict[str, Any]:
    with engine.begin() as connection:
        return {
            r.artifact: r.state for r in connection.execute(select(Calibration.artifact, Calibration.state))
        }


def feed_all(bench: Any, closes: Sequence[list[dict[str, Any]]]) -> None:
    for bars in closes:
        bench.feed(bars)


@pytest.fixture
def engines(tmp_path: Any) -> Any:
    """Two empty stores."""
    made = [store_engine(f"sqlite:///{tmp_path / name}.db") for name in ("whole", "other")]
    for engine in made:
        migrate(engine)
    yield made
    for engine in made:
        engine.dispose()


@pytest.mark.parametrize("hours", [0, 30, 400])
def test_the_factors_are_those_of_the_whole_history(
    engine: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    market: Market,
    calibrated_champion: Callable[..., Champion],
    hours: int,
) -> None:
    """Whether the artifact is of today or of weeks ago, and close by close from there."""
    champion = calibrated_champion("1", hours)
    made = bench(engine, champion)
    assert state_of(made).until == market.times[-25]
    for i, bars in enumerate(tail[:6]):
        made.feed(bars)
        state = expected_state(champion, market, market.times[-24 + i])
        assert state_of(made).to_json() == state.to_json()
        assert stored(engine) == {"print of 1": state_of(made).to_json()}
    assert state_of(made).contracts == tuple(sorted(market.symbols))
    assert (state_of(made).theta_v != 0).all()


def test_what_is_decided_on_is_the_calibrated_forecast_and_the_record_says_so(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    market: Market,
    calibrated_champion: Callable[..., Champion],
) -> None:
    champion = calibrated_champion("1", 400)
    made = bench(sqlite, champion)
    feed_all(made, tail[:3])
    said, _ = champion.look(market.until(market.times[-22]))
    one, other = (state_of(made).factor([symbol])[:, 0] for symbol in market.symbols)
    assert (one[0] != other[0]).any(), "each contract has its own"
    newest = {row[0]: row for row in decided(sqlite)}
    assert set(newest) == set(market.symbols)
    for symbol, *_, rung, record in newest.values():
        assert rung == "champion"
        content = json.loads(record)
        forecast = Forecast.from_json(content["forecast"])
        assert forecast.factor is not None
        factor = one if symbol == market.symbols[0] else other
        np.testing.assert_array_equal(forecast.factor, factor)
        raw = list(said.rows.get_level_values("symbol")).index(symbol)
        var = np.maximum.accumulate(said.var[raw] * factor[0], axis=-1)
        np.testing.assert_array_equal(forecast.var, var)
        assert (forecast.var != said.var[raw]).all()
        # The requirement is made of the calibrated ES; from the record alone the decision comes out again.
        inputs = content["decision"]["inputs"]
        again, _ = decide(*Inputs.from_json(inputs).arguments())
        assert json.loads(json.dumps(again.to_json())) == content["decision"]
        initial = 1 - np.exp(-forecast.es[1, 0, 0])
        assert inputs["candidates"]["champion"]["requirement"][0] == pytest.approx(initial)


def test_a_model_without_calibration_is_served_as_it_is(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, market: Market, champion: Callable[..., Champion]
) -> None:
    made = bench(sqlite, champion("1"))
    feed_all(made, tail[:3])
    forecast = Forecast.from_json(json.loads(decided(sqlite)[-1][-1])["forecast"])
    assert forecast.factor is None
    said, _ = champion("1").look(market.until(market.times[-22]))
    np.testing.assert_array_equal(forecast.var, said.var[-1])
    assert stored(sqlite) == {}
    assert made.loop.status()["calibration"] is None


@pytest.mark.parametrize("stop_after", [1, 3, 7])
def test_a_restart_decides_what_an_uninterrupted_run_decides(
    engines: list[Engine],
    bench: Callable[..., Any],
    tail: Tail,
    calibrated_champion: Callable[..., Champion],
    stop_after: int,
) -> None:
    whole = bench(engines[0], calibrated_champion("1", 30))
    feed_all(whole, tail[:10])
    stopped = bench(engines[1], calibrated_champion("1", 30))
    feed_all(stopped, tail[:stop_after])
    # Stored, and killed before it was decided on.
    stopped.feed(tail[stop_after], decide=False)
    restarted = bench(engines[1], calibrated_champion("1", 30), history=False)
    feed_all(restarted, tail[stop_after:10])
    assert decided(engines[1]) == decided(engines[0])
    assert stored(engines[1]) == stored(engines[0])
    assert restarted.loop.board.values == whole.loop.board.values


def test_a_restart_knows_a_bar_that_came_late_no_better_than_an_uninterrupted_run(
    engines: list[Engine],
    bench: Callable[..., Any],
    tail: Tail,
    market: Market,
    calibrated_champion: Callable[..., Champion],
) -> None:
    late = [b for b in tail[2] if b["symbol"] == market.symbols[1]]
    closes = [*tail[:2], [b for b in tail[2] if b not in late], tail[3], late, *tail[4:9]]
    whole = bench(engines[0], calibrated_champion("1"))
    feed_all(whole, closes)
    stopped = bench(engines[1], calibrated_champion("1"))
    feed_all(stopped, closes[:6])
    restarted = bench(engines[1], calibrated_champion("1"), history=False)
    feed_all(restarted, closes[6:])
    assert decided(engines[1]) == decided(engines[0])
    assert stored(engines[1]) == stored(engines[0])


def test_closes_without_decisions_are_counted_all_the_same(
    engines: list[Engine],
    bench: Callable[..., Any],
    tail: Tail,
    calibrated_champion: Callable[..., Champion],
) -> None:
    whole = bench(engines[0], calibrated_champion("1"))
    feed_all(whole, tail[:9])
    behind = bench(engines[1], calibrated_champion("1"), catch_up_bars=2)
    for bars in tail[:9]:
        behind.feed(bars, decide=False)
    assert behind.loop.run_pending() == 2
    assert stored(engines[1]) == stored(engines[0])


def test_losses_that_nobody_knows_are_left_out(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    market: Market,
    calibrated_champion: Callable[..., Champion],
) -> None:
    champion = calibrated_champion("1")
    made = bench(sqlite, champion)
    one, other = market.symbols
    # Two closes of nobody, then of one contract alone.
    feed_all(made, [tail[0], *([b for b in bars if b["symbol"] == one] for bars in tail[3:8])])
    holed = replace(market, columns={c: f.copy() for c, f in market.columns.items()})
    for frame in holed.columns.values():
        frame.iloc[-23:-21] = np.nan
        frame.loc[frame.index[-21:], other] = np.nan
    expected = expected_state(champion, holed, market.times[-17])
    assert state_of(made).to_json() == expected.to_json()
    assert made.loop.status()["failures"].get("the calibration could not go on") is None


def test_a_model_that_cannot_say_it_again_serves_with_the_factors_that_it_has(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    market: Market,
    calibrated_champion: Callable[..., Champion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("too much")

    champion = calibrated_champion("1", 30)
    with monkeypatch.context() as patched:
        patched.setattr(Champion, "past", refuse)
        made = bench(sqlite, champion)
        assert made.rungs() == {"champion"}
        assert state_of(made) == champion.artifact.calibration
        assert made.loop.status()["failures"]["the calibration could not go on"] == 1
        assert "MemoryError: too much" in made.loop.status()["last_failure"]
    made.feed(tail[0])
    assert state_of(made).to_json() == expected_state(champion, market, market.times[-24]).to_json()


def test_a_champion_that_returns_goes_on_where_it_was(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    market: Market,
    calibrated_champion: Callable[..., Champion],
) -> None:
    first, second = calibrated_champion("1"), calibrated_champion("2", 5)
    made = bench(sqlite, first)
    feed_all(made, tail[:3])
    made.champions.current = second
    feed_all(made, tail[3:6])
    assert set(stored(sqlite)) == {"print of 1", "print of 2"}
    made.champions.current = first
    feed_all(made, tail[6:8])
    for champion in (first, second):
        content = stored(sqlite)[champion.artifact.info.fingerprint]
        until = market.times[-17 if champion is first else -19]
        assert content == expected_state(champion, market, until).to_json()


def test_a_store_that_fails_leaves_the_state_to_be_stored_with_the_next_decisions(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, calibrated_champion: Callable[..., Champion]
) -> None:
    made = bench(sqlite, calibrated_champion("1"))
    made.feed(tail[0])
    before = stored(sqlite)
    made.feed(tail[1], decide=False)
    with sqlite.begin() as connection:
        connection.execute(text("ALTER TABLE decisions RENAME TO lost"))
    with pytest.raises(OperationalError):
        made.loop.run_pending()
    assert stored(sqlite) == before
    with sqlite.begin() as connection:
        connection.execute(text("ALTER TABLE lost RENAME TO decisions"))
    assert made.loop.run_pending() == 1
    assert stored(sqlite)["print of 1"] == state_of(made).to_json() != before["print of 1"]


@pytest.mark.parametrize(
    "broken",
    [{}, {"theta": [1.0]}, {"theta_e": [1.0]}, {"theta_v": {"ALPHA": 1.0}}, {"until": "soon"}],
    ids=lambda b: next(iter(b), "nothing"),
)
def test_a_broken_state_in_the_store_gives_way_to_the_artifacts(
    sqlite: Engine,
    bench: Callable[..., Any],
    market: Market,
    calibrated_champion: Callable[..., Champion],
    broken: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    champion = calibrated_champion("1", 3)
    begun = champion.artifact.calibration
    assert begun is not None
    with sqlite.begin() as connection:
        save_calibration(connection, "print of 1", {**begun.to_json(), **broken} if broken else {})
    made = bench(sqlite, champion)
    assert state_of(made).to_json() == expected_state(champion, market, market.times[-25]).to_json()
    assert "the stored calibration cannot be read, the artifact's is used" in caplog.text
    assert made.rungs() == {"champion"}


def test_the_status_tells_how_far_it_is(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    market: Market,
    calibrated_champion: Callable[..., Champion],
) -> None:
    made = bench(sqlite, calibrated_champion("1", 30))
    made.feed(tail[0])
    factor = state_of(made).factor(market.symbols)
    status = made.loop.status()
    assert status["calibration"] == {
        "until": status["newest_bar_close"],
        "lowest_factor": factor.min(),
        "highest_factor": factor.max(),
    }


def test_a_forecast_on_request_is_calibrated_as_the_decisions_are(
    sqlite: Engine,
    bench: Callable[..., Any],
    market: Market,
    calibrated_champion: Callable[..., Champion],
) -> None:
    champion = calibrated_champion("1", 400)
    made = bench(sqlite, champion)
    symbol = market.symbols[0]
    table = market.until(market.times[-25]).bars(symbol).iloc[-300:]
    bars = BarsRequest.model_validate(
        {"bars": [{**row, "symbol": symbol} for row in table.to_dict("records")]}, strict=False
    ).bars
    answers = [
        forecast_from(bars, market.interval, Needs.of(MarginSettings()), champion, state)
        for state in (made.loop.calibration_of(champion), None)
    ]
    served, raw = (a["forecasts"][0]["tail"][0] for a in answers)
    assert served["var"] == raw["var"] * state_of(made).factor([symbol])[0, 0, 0, 0, 0]
    assert served["es"] != raw["es"]


def test_a_state_is_stored_once_an_artifact(engine: Engine) -> None:
    with engine.begin() as connection:
        assert read_calibration(connection, "a") is None
        save_calibration(connection, "a", {"theta": [0.1]})
        save_calibration(connection, "b", {"theta": [0.2]})
        save_calibration(connection, "a", {"theta": [0.30000000000000004]})
    assert stored(engine) == {"a": {"theta": [0.30000000000000004]}, "b": {"theta": [0.2]}}
