"""The decision loop, driven by hand: each bar decided once, whatever the model does, and after a restart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError

from features.bars import Market
from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import Inputs
from models.settings import MarginSettings, SettingsError
from serving.champion import Champion
from serving.errors import InvalidInputError
from serving.requests import BarsRequest
from serving.store.decisions import SecondDeciderError
from serving.store.engine import store_engine
from serving.store.migrate import migrate
from serving.store.tables import DecisionRow

Tail = list[list[dict[str, Any]]]
HOUR = 3600


def records(engine: Engine) -> list[tuple[Any, ...]]:
    """Everything decided, but for the row's number."""
    with engine.begin() as connection:
        rows = connection.execute(
            select(
                *(DecisionRow.symbol, DecisionRow.seq, DecisionRow.trigger, DecisionRow.decision_time),
                *(DecisionRow.made_at, DecisionRow.rung, DecisionRow.mode, DecisionRow.record),
            ).order_by(DecisionRow.symbol, DecisionRow.seq)
        ).all()
    return [(*row[:-1], json.dumps(row[-1], sort_keys=True)) for row in rows]


def assert_bounded(bench: Any) -> None:
    """Every contract answers within floor and cap, initial at least maintenance."""
    assert len(bench.loop.board.values) == 2
    for symbol in bench.loop.board.values:
        values = {(v["side"], v["kind"]): v for v in bench.answer(symbol)}
        assert len(values) == 4
        for value in values.values():
            assert 0.6 - 1e-12 <= value["multiplier"] <= 10
            assert 0 < value["served_rate"] <= 1
            assert value["rung"] in {"champion", "last_good", "rules", "static", "cap"}
        for side in ("long", "short"):
            assert values[side, "initial"]["served_rate"] >= values[side, "maintenance"]["served_rate"]


def test_history_is_not_decided_on_but_for_its_newest_close(
    engine: Engine, bench: Callable[..., Any], market: Market
) -> None:
    made = bench(engine)
    found = records(engine)
    assert [(r[0], r[1], r[2]) for r in found] == [(s, 1, "start") for s in sorted(market.symbols)]
    assert {r[3] for r in found} == {int(market.times[-25].timestamp())}
    assert made.rungs() == {"rules"}
    assert made.loop.ready
    assert_bounded(made)


def test_each_close_is_decided_once_in_order(sqlite: Engine, bench: Callable[..., Any], tail: Tail) -> None:
    made = bench(sqlite)
    for bars in tail:
        made.feed(bars)
        made.feed(bars)
    bars_decided = [r for r in records(sqlite) if r[2] == "bar"]
    assert len(bars_decided) == 48
    assert [r[1] for r in bars_decided[:24]] == list(range(2, 26))
    assert [r[3] for r in bars_decided[:24]] == sorted(r[3] for r in bars_decided[:24])
    assert made.loop.board.version == 25


def test_without_bars_listed_contracts_answer_from_the_static_rung(
    sqlite: Engine, bench: Callable[..., Any]
) -> None:
    made = bench(sqlite, history=False, symbols=("AAA", "BBB"))
    assert made.rungs() == {"static"}
    assert_bounded(made)
    assert made.answer("AAA")[0]["decision_time"] is None


def test_an_empty_server_is_ready_and_learns_contracts_from_bars(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, market: Market
) -> None:
    made = bench(sqlite, history=False)
    assert made.loop.ready
    assert made.loop.board.values == {}
    made.feed(tail[0])
    assert set(made.loop.board.values) == set(market.symbols)
    assert made.rungs() == {"static"}, "one bar carries no forecast"
    assert_bounded(made)


def test_the_champion_answers_where_it_can(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, champion: Callable[..., Champion]
) -> None:
    made = bench(sqlite, champion("7"))
    assert made.rungs() == {"champion"}
    made.feed(tail[0])
    assert made.rungs() == {"champion"}
    value = made.answer("ALPHA")[0]
    assert value["model_version"] == "7"
    assert [(t["horizon"], t["level"]) for t in value["tail"]] == [
        ("1h", 0.99),
        ("1h", 0.999),
        ("4h", 0.99),
        ("4h", 0.999),
    ]
    assert all(0 < t["var"] <= t["es"] for t in value["tail"])
    assert_bounded(made)


def test_a_model_that_raises_leaves_its_last_good_forecast_then_the_rules(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, champion: Callable[..., Champion]
) -> None:
    broken = False

    def misbehave() -> None:
        if broken:
            raise RuntimeError("the model is broken")

    made = bench(sqlite, champion("1", misbehave))
    made.feed(tail[0])
    broken = True
    seen = []
    for bars in tail[1:5]:
        made.feed(bars)
        seen.append(made.rungs())
        assert_bounded(made)
    # A forecast lasts two bars: the one of the first close answers at the next two.
    assert seen == [{"last_good"}, {"last_good"}, {"rules"}, {"rules"}]
    status = made.loop.status()
    assert status["failures"]["the model raised"] == 4
    assert "RuntimeError: the model is broken" in status["last_failure"]
    broken = False
    made.feed(tail[5])
    assert made.rungs() == {"champion"}


def test_a_model_far_outside_the_band_on_three_bars_gives_way_to_the_rules(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, champion: Callable[..., Champion]
) -> None:
    # The fake asks for less than half of what the rules engine requires of some values.
    limits = Limits(band_low=0.8, band_strike_factor=1.2)
    made = bench(sqlite, champion("1"), margin=MarginSettings(limits=limits))
    seen = []
    for bars in tail[:3]:
        seen.append(made.rungs())
        made.feed(bars)
        assert_bounded(made)
    assert seen == [{"champion"}, {"champion"}, {"rules"}]


@pytest.mark.parametrize(
    ("var", "words"),
    [
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (0.0, "VaR is not above 0"),
        (-1.0, "VaR is not above 0"),
        (1e9, "ES is below VaR"),
    ],
)
def test_a_model_that_answers_no_tail_is_not_heard(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    champion: Callable[..., Champion],
    var: float,
    words: str,
) -> None:
    made = bench(sqlite, champion("1", lambda: var))
    made.feed(tail[0])
    assert made.rungs() == {"rules"}
    status = made.loop.status()
    assert status["failures"]["the model answered no tail"] == 4
    assert words in status["last_failure"]
    assert_bounded(made)


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), RecursionError()], ids=repr)
def test_a_model_that_would_end_the_thread_does_not(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    champion: Callable[..., Champion],
    error: BaseException,
) -> None:
    def fail() -> None:
        raise error

    made = bench(sqlite, champion("1", fail))
    made.feed(tail[0])
    assert made.rungs() == {"rules"}
    assert made.loop.status()["failures"]["the model raised"] == 2
    assert_bounded(made)


def test_a_model_that_lacks_a_horizon_is_not_heard(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, champion: Callable[..., Champion]
) -> None:
    short = champion("1")
    short.artifact.model.horizons = short.artifact.model.horizons[
        :1
    ]  # what it says and gives no longer agree
    made = bench(sqlite, short)
    made.feed(tail[0])
    assert made.rungs() == {"rules"}
    assert_bounded(made)


def test_a_new_champion_decides_anew_and_a_withdrawn_one_gives_way(
    sqlite: Engine, bench: Callable[..., Any], champion: Callable[..., Champion]
) -> None:
    made = bench(sqlite)
    made.champions.current = champion("3")
    made.loop.follow_champion()
    assert made.rungs() == {"champion"}
    made.champions.current = None
    made.loop.follow_champion()
    assert made.rungs() <= {"last_good", "rules"}
    assert [r[2] for r in records(sqlite) if r[0] == "ALPHA"] == ["start", "model", "model"]
    made.loop.follow_champion()
    assert len(records(sqlite)) == 6, "nothing new, nothing decided"


@pytest.mark.parametrize("with_champion", [False, True])
@pytest.mark.parametrize("stop_after", [1, 7])
def test_a_restart_decides_what_an_uninterrupted_run_decides(
    tmp_path: Any,
    bench: Callable[..., Any],
    tail: Tail,
    champion: Callable[..., Champion],
    with_champion: bool,
    stop_after: int,
) -> None:
    engines = [store_engine(f"sqlite:///{tmp_path / name}.db") for name in ("whole", "stopped")]
    for engine in engines:
        migrate(engine)
    model = champion("1") if with_champion else None
    whole = bench(engines[0], model)
    for bars in tail[:10]:
        whole.feed(bars)

    stopped = bench(engines[1], model)
    for bars in tail[:stop_after]:
        stopped.feed(bars)
    # Stored, and killed before it was decided on; then sent once more by a replay that starts anew.
    stopped.feed(tail[stop_after], decide=False)
    restarted = bench(engines[1], model, history=False)
    assert restarted.loop.board.values.keys() == whole.loop.board.values.keys()
    for bars in tail[stop_after - 1 : 10]:
        restarted.feed(bars)

    assert records(engines[1]) == records(engines[0])
    assert restarted.loop.board.values == whole.loop.board.values
    for engine in engines:
        engine.dispose()


def test_a_restart_publishes_before_it_has_read_the_bars(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail
) -> None:
    made = bench(sqlite)
    made.feed(tail[0])
    again = bench(sqlite, history=False)
    again.loop.publish_stored()
    assert again.loop.ready
    assert again.loop.board.version == made.loop.board.version
    assert again.loop.board.text() == made.loop.board.text()


def test_a_record_holds_all_that_the_engine_saw(
    engine: Engine, bench: Callable[..., Any], tail: Tail, champion: Callable[..., Champion]
) -> None:
    made = bench(engine, champion("1"))
    for bars in tail[:3]:
        made.feed(bars)
    found = records(engine)
    assert len(found) == 10
    for row in found:
        stored = json.loads(row[-1])["decision"]
        again, _ = decide(*Inputs.from_json(stored["inputs"]).arguments())
        assert json.loads(json.dumps(again.to_json())) == stored


def test_a_contract_without_its_bar_is_decided_as_time_moves_on(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, market: Market
) -> None:
    made = bench(sqlite)
    silent = market.symbols[1]
    rungs = []
    for bars in tail[:9]:
        made.feed([b for b in bars if b["symbol"] != silent])
        rungs.append((made.answer(silent)[0]["rung"], made.answer(silent)[0]["mode"]))
    # Ages of 1, 2, 3 ... bars: degraded beyond one, stale beyond two, dead beyond six.
    assert rungs[:3] == [("rules", "fresh"), ("rules", "degraded"), ("rules", "stale")]
    assert rungs[-1] == ("static", "dead")
    assert_bounded(made)
    late = [b for b in tail[8] if b["symbol"] == silent]
    made.feed(late)
    assert made.answer(silent)[0]["rung"] == "rules", "its own bar of the newest close came at last"


def test_a_bar_for_a_hole_in_the_past_is_history(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, market: Market
) -> None:
    made = bench(sqlite)
    one = market.symbols[1]
    made.feed([b for b in tail[0] if b["symbol"] != one])
    made.feed(tail[1])
    before = len(records(sqlite))
    taken = made.feed([b for b in tail[0] if b["symbol"] == one])
    assert taken["accepted"] == 1
    assert len(records(sqlite)) == before


def test_after_an_outage_only_the_newest_closes_are_decided(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail
) -> None:
    made = bench(sqlite, catch_up_bars=5)
    for bars in tail:
        made.feed(bars, decide=False)
    assert made.loop.status()["pending_closes"] == 24
    assert made.loop.run_pending() == 5
    decided = [r[3] for r in records(sqlite) if r[2] == "bar" and r[0] == "ALPHA"]
    assert len(decided) == 5
    assert decided[-1] - decided[0] == 4 * HOUR


def test_silence_of_the_feed_is_noticed_by_the_tick(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, set_clock: Any, market: Market
) -> None:
    clock = set_clock(market.times[-24].timestamp() + 5)
    made = bench(sqlite, clock=clock)
    made.feed(tail[0])
    stored = len(records(sqlite))
    made.loop.tick()
    assert len(records(sqlite)) == stored, "nothing changed, nothing is stored"
    seen = []
    for hours in (1.5, 2.5, 7):
        clock.time_s = market.times[-24].timestamp() + hours * HOUR
        made.loop.tick()
        seen.append({(v[0]["rung"], v[0]["mode"]) for v in made.loop.board.values.values()})
        assert_bounded(made)
        expires = {v["valid_until"] for values in made.loop.board.values.values() for v in values}
        assert min(expires) > clock_text(clock.time_s)
    assert seen == [{("rules", "degraded")}, {("rules", "stale")}, {("static", "dead")}]


def clock_text(time_s: float) -> str:
    from serving.board import utc_text

    return str(utc_text(time_s))


def test_an_answer_is_renewed_before_it_expires(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, set_clock: Any, market: Market
) -> None:
    clock = set_clock(market.times[-24].timestamp() + 5)
    made = bench(sqlite, clock=clock, decision_tick_s=10)
    made.feed(tail[0])
    for step in range(1, 850):
        clock.time_s = market.times[-24].timestamp() + 5 + 10 * step
        made.loop.tick()
        expires = {v["valid_until"] for values in made.loop.board.values.values() for v in values}
        assert min(expires) > clock_text(clock.time_s)
    assert len(records(sqlite)) < 30, "but it is not stored at every tick"


def test_what_expired_during_an_outage_is_renewed_before_a_model_is_there(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    set_clock: Any,
    market: Market,
    champion: Callable[..., Champion],
) -> None:
    clock = set_clock(market.times[-24].timestamp() + 5)
    made = bench(sqlite, champion("1"), clock=clock)
    made.feed(tail[0])
    assert made.rungs() == {"champion"}

    # A short stop: the answer stands, and the champion, when it comes, goes on.
    clock.time_s += 600
    again = bench(sqlite, None, clock=clock, history=False, follow=False)
    again.loop.renew_expired()
    assert again.rungs() == {"champion"}, "nothing expired, nothing is decided"

    clock.time_s += 2.5 * HOUR
    late = bench(sqlite, None, clock=clock, history=False, follow=False)
    late.loop.renew_expired()
    assert late.rungs() == {"rules"}
    assert all(v["valid_until"] > clock_text(clock.time_s) for s in market.symbols for v in late.answer(s))


def test_a_champion_that_loads_after_a_restarts_first_look_is_heard(
    sqlite: Engine,
    bench: Callable[..., Any],
    tail: Tail,
    set_clock: Any,
    market: Market,
    champion: Callable[..., Champion],
) -> None:
    clock = set_clock(market.times[-24].timestamp() + 5)
    made = bench(sqlite, champion("1"), clock=clock)
    made.feed(tail[0])
    again = bench(sqlite, None, clock=clock, history=False, follow=False)
    again.loop.tick()
    assert again.rungs() == {"last_good"}
    again.champions.current = champion("1")
    again.loop.follow_champion()
    again.loop.tick()
    assert again.rungs() == {"champion"}


def test_a_bar_from_the_future_is_refused_by_the_wall_clock(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, set_clock: Any, market: Market
) -> None:
    made = bench(sqlite, clock=set_clock(market.times[-24].timestamp() - 60))
    with pytest.raises(InvalidInputError, match="closes 60 s from now"):
        made.feed(tail[0])
    assert made.loop.status()["pending_closes"] == 0


def test_a_store_that_fails_leaves_the_bar_waiting(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail
) -> None:
    made = bench(sqlite)
    made.feed(tail[0], decide=False)
    with sqlite.begin() as connection:
        connection.execute(text("ALTER TABLE decisions RENAME TO lost"))
    answered = made.loop.board
    with pytest.raises(OperationalError):
        made.loop.run_pending()
    assert made.loop.board is answered
    with sqlite.begin() as connection:
        connection.execute(text("ALTER TABLE lost RENAME TO decisions"))
    assert made.loop.run_pending() == 1
    assert [r[2] for r in records(sqlite)] == ["start", "bar", "start", "bar"]


def test_two_loops_on_one_store_cannot_both_decide(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail
) -> None:
    first = bench(sqlite)
    second = bench(sqlite, history=False)
    first.feed(tail[0])
    second.loop.offer({})
    second.feed(tail[1], decide=False)
    with pytest.raises(SecondDeciderError):
        second.loop.run_pending()


def test_an_impossible_horizon_is_refused_at_the_start(
    sqlite: Engine, bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMARGIN_MARGIN__MAINTENANCE__HORIZON_S", "5400")
    with pytest.raises(SettingsError, match="whole number of 1h bars"):
        bench(sqlite)


def test_margin_settings_reach_the_engine(
    sqlite: Engine, bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMARGIN_MARGIN__BASE_RATES", '{"ALPHA": {"initial": 0.2, "maintenance": 0.1}}')
    made = bench(sqlite)
    assert [v["base_rate"] for v in made.answer("ALPHA")] == [0.2, 0.1, 0.2, 0.1]
    assert MarginSettings().limits == replace(Limits())


def test_other_sources_are_stored_and_not_decided_on(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail
) -> None:
    made = bench(sqlite)
    taken = made.ingest.take(BarsRequest.model_validate({"bars": tail[0], "source": "second"}, strict=False))
    assert taken == {"accepted": 2, "repeats": 0, "late": 0, "pending_closes": 0}


def test_the_thread_decides_what_it_is_offered(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, eventually: Callable[..., None]
) -> None:
    made = bench(sqlite)
    made.loop.start()
    try:
        made.feed(tail[0], decide=False)
        eventually(lambda: made.loop.board.version == 2)
        assert made.loop.ready
    finally:
        made.loop.stop()
    assert not made.loop.ready, "a loop that ended answers no more"
