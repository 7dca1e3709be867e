"""Orders in the decision loop: obeyed at once, recorded, and over when they end, also across a restart."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError

from features.bars import Market
from models.margin.engine import decide
from models.margin.types import Inputs
from serving.champion import Champion
from serving.overrides.requests import SetRequest
from serving.store.tables import DecisionRow

Make = Callable[..., Any]
Tail = list[list[dict[str, Any]]]
HOUR = 3600.0


def multipliers(bench: Any, symbol: str) -> list[float]:
    return [v["multiplier"] for v in bench.answer(symbol)]


def obeyed(bench: Any, symbol: str) -> list[str]:
    return [o["id"] for o in bench.answer(symbol)[0]["overrides"]]


def decided(engine: Engine) -> list[tuple[str, int, str]]:
    """Symbol, number and trigger of every decision, in the order of their storing."""
    with engine.begin() as connection:
        found = connection.execute(
            select(DecisionRow.symbol, DecisionRow.seq, DecisionRow.trigger).order_by(DecisionRow.id)
        )
        return [tuple(row) for row in found]


def give(bench: Any, request: SetRequest, by: str = "ana") -> dict[str, Any]:
    """An order, and what the loop does when it is woken."""
    taken: dict[str, Any] = bench.overrides.set(request, by, bench.loop.now_s())
    bench.loop.follow_overrides()
    return taken


def test_an_order_is_obeyed_at_once_by_the_contracts_that_it_concerns(
    engine: Engine, bench: Make, order: Make
) -> None:
    made = bench(engine)
    before = multipliers(made, "BETA")
    give(made, order(kind="floor", multiplier=4.0, symbol="ALPHA"))
    assert multipliers(made, "ALPHA") == [4.0] * 4
    assert multipliers(made, "BETA") == before
    assert (obeyed(made, "ALPHA"), obeyed(made, "BETA")) == (["o1"], [])
    assert decided(engine)[2:] == [("ALPHA", 2, "override")]
    (shown,) = made.answer("ALPHA")[0]["overrides"]
    assert (shown["kind"], shown["multiplier"], shown["reason"]) == ("floor", 4.0, "a test")
    assert any(t["rule"] == 17 and "by o1: a test" in t["why"] for t in made.answer("ALPHA")[0]["trace"])
    made.loop.follow_overrides()
    assert len(decided(engine)) == 3, "nothing new, nothing decided"


def test_a_global_order_concerns_all_and_whoever_comes_later(
    sqlite: Engine, bench: Make, order: Make, tail: Tail
) -> None:
    made = bench(sqlite)
    give(made, order(kind="rung", rung="static", lasts_s=86400.0))
    assert made.rungs() == {"static"}
    made.feed([b | {"symbol": "LATER"} for b in tail[0][:1]] + tail[0])
    assert obeyed(made, "LATER") == ["o1"]
    assert all(obeyed(made, s) == ["o1"] for s in ("ALPHA", "BETA"))


def test_each_kind_does_what_it_says(
    sqlite: Engine, bench: Make, order: Make, tail: Tail, champion: Callable[..., Champion]
) -> None:
    made = bench(sqlite, champion("1"))
    frozen = [v["served_rate"] for v in made.answer("ALPHA")]
    give(made, order(symbol="ALPHA", lasts_s=86400.0))
    for bars in tail[:3]:
        made.feed(bars)
    assert [v["served_rate"] for v in made.answer("ALPHA")] == frozen
    made.overrides.end("o1", "ana", "over", made.loop.now_s())
    made.loop.follow_overrides()
    give(made, order(kind="cap", multiplier=0.7, symbol="ALPHA", lasts_s=86400.0))
    assert max(multipliers(made, "ALPHA")) <= 0.7 + 1e-12
    assert made.rungs() == {"champion"}
    give(made, order(kind="kill", symbol="BETA", lasts_s=86400.0))
    assert multipliers(made, "BETA") == [2.0] * 4
    assert made.answer("BETA")[0]["rung"] == "static"
    assert made.loop.status()["rungs"] == {"champion": 1, "static": 1}


def test_a_pending_order_changes_nothing_until_it_is_confirmed(
    sqlite: Engine, bench: Make, order: Make, tail: Tail
) -> None:
    made = bench(sqlite, two_person=True)
    give(made, order(kind="floor", multiplier=5.0, lasts_s=86400.0))
    made.feed(tail[0])
    assert obeyed(made, "ALPHA") == []
    assert max(multipliers(made, "ALPHA")) < 5
    assert "override" not in {d[2] for d in decided(sqlite)}
    made.overrides.confirm("o1", "ben", made.loop.now_s())
    made.loop.follow_overrides()
    assert multipliers(made, "ALPHA") == [5.0] * 4


def test_a_kill_switch_waits_for_nobody(sqlite: Engine, bench: Make, order: Make) -> None:
    made = bench(sqlite, two_person=True)
    give(made, order(kind="kill"))
    assert made.rungs() == {"static"}
    made.overrides.end("o1", "ana", "over", made.loop.now_s())
    made.loop.follow_overrides()
    assert made.rungs() == {"static"}, "its end waits for the second person"
    made.overrides.confirm("o1", "ben", made.loop.now_s())
    made.loop.follow_overrides()
    assert made.rungs() == {"rules"}


def test_an_end_is_noticed_at_once(sqlite: Engine, bench: Make, order: Make) -> None:
    made = bench(sqlite)
    give(made, order(kind="floor", multiplier=4.0))
    made.overrides.end("o1", "ben", "over", made.loop.now_s())
    made.loop.follow_overrides()
    assert [obeyed(made, s) for s in ("ALPHA", "BETA")] == [[], []]
    assert [d[2] for d in decided(sqlite)] == ["start"] * 2 + ["override"] * 4


def test_expiry_is_noticed_as_time_passes(
    sqlite: Engine, bench: Make, order: Make, set_clock: Any, market: Market
) -> None:
    clock = set_clock(market.times[-25].timestamp() + 5)
    made = bench(sqlite, clock=clock, decision_tick_s=10)
    give(made, order(kind="floor", multiplier=4.0, lasts_s=4.0))
    assert 0 < made.loop._rest_s() <= 4.0, "the loop wakes for it, not at its next tick"
    clock.time_s += 3.9
    made.loop.follow_overrides()
    assert obeyed(made, "ALPHA") == ["o1"]
    clock.time_s += 0.1
    made.loop.follow_overrides()
    assert [obeyed(made, s) for s in ("ALPHA", "BETA")] == [[], []]
    assert made.overrides.book.orders["o1"].found("expired") is not None
    assert made.loop._rest_s() == 10


def test_by_the_clock_of_the_bars_an_order_lasts_as_long_as_they_do(
    sqlite: Engine, bench: Make, order: Make, tail: Tail
) -> None:
    made = bench(sqlite)
    give(made, order(kind="floor", multiplier=4.0, lasts_s=1.5 * HOUR))
    made.feed(tail[0])
    assert obeyed(made, "ALPHA") == ["o1"]
    made.feed(tail[1])
    assert obeyed(made, "ALPHA") == []
    assert made.overrides.book.orders["o1"].found("expired") is not None


def test_an_order_that_comes_with_a_bar_is_obeyed_by_its_decision(
    sqlite: Engine, bench: Make, order: Make, tail: Tail
) -> None:
    made = bench(sqlite)
    made.overrides.set(order(kind="floor", multiplier=4.0, lasts_s=86400.0), "ana", made.loop.now_s())
    made.feed(tail[0])
    assert multipliers(made, "ALPHA") == [4.0] * 4
    assert [d[2] for d in decided(sqlite)][2:] == ["bar", "bar"]
    made.loop.follow_overrides()
    assert len(decided(sqlite)) == 4, "it was obeyed already"


def test_an_order_does_not_wait_for_the_last_of_many_closes(
    sqlite: Engine, bench: Make, order: Make, tail: Tail, set_clock: Any, market: Market
) -> None:
    made = bench(sqlite, clock=set_clock(market.times[-21].timestamp() + 5))
    for bars in tail[:4]:
        made.feed([b for b in bars if b["symbol"] == "ALPHA"], decide=False)
    # Given while the first of them is decided.
    prepare, given = made.loop._prepare, []

    def prepared(*arguments: Any) -> Any:
        if not given:
            given.append(made.overrides.set(order(kind="kill", lasts_s=86400.0), "ana", made.loop.now_s()))
        return prepare(*arguments)

    made.loop._prepare = prepared
    made.loop.run_pending()
    assert [(s, t) for s, _, t in decided(sqlite)][2:] == [
        ("ALPHA", "bar"),
        ("BETA", "override"),
        *[("ALPHA", "bar")] * 3,
    ]
    assert obeyed(made, "ALPHA") == obeyed(made, "BETA") == ["o1"]


def test_an_order_does_not_wait_for_the_last_contract_of_a_tick(
    sqlite: Engine,
    bench: Make,
    order: Make,
    set_clock: Any,
    market: Market,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.loop._TICK_CONTRACTS", 1)
    made = bench(sqlite, clock=set_clock(market.times[-25].timestamp() + 5))
    again, asked = made.loop._again, []

    def asked_again(*arguments: Any) -> Any:
        looked = again(*arguments)
        if not asked:
            asked.append(made.overrides.set(order(kind="kill"), "ana", made.loop.now_s()))
        return looked

    made.loop._again = asked_again
    made.loop.tick()
    assert made.rungs() == {"static"}


def test_orders_survive_a_restart_and_end_during_one(
    engine: Engine, bench: Make, order: Make, tail: Tail
) -> None:
    made = bench(engine)
    give(made, order(kind="floor", multiplier=4.0, symbol="ALPHA", lasts_s=2.5 * HOUR))
    give(made, order(kind="kill", symbol="BETA", lasts_s=86400.0))
    stored = len(decided(engine))
    again = bench(engine, history=False)
    again.loop.follow_overrides()
    assert (obeyed(again, "ALPHA"), obeyed(again, "BETA")) == (["o1"], ["o2"])
    assert len(decided(engine)) == stored, "they were obeyed before the restart"
    again.feed(tail[0])
    assert (obeyed(again, "ALPHA"), obeyed(again, "BETA")) == (["o1"], ["o2"])
    assert multipliers(again, "ALPHA") == [4.0] * 4

    # Ended by somebody while the loop is down.
    again.overrides.end("o2", "ben", "over", again.loop.now_s())
    third = bench(engine, history=False, follow=False)
    assert obeyed(third, "BETA") == ["o2"], "what was published last"
    third.loop.follow_overrides()
    assert (obeyed(third, "ALPHA"), obeyed(third, "BETA")) == (["o1"], [])
    assert decided(engine)[-1][0::2] == ("BETA", "override")


def test_what_another_server_took_is_found(engine: Engine, bench: Make, order: Make, make_desk: Make) -> None:
    made = bench(engine)
    other = make_desk(engine)
    other.set(order(kind="floor", multiplier=3.0), "ana", made.loop.now_s())
    made.loop.follow_overrides()
    assert multipliers(made, "BETA") == pytest.approx([3.0] * 4)


def test_a_record_holds_the_orders_and_is_decided_again_to_the_bit(
    engine: Engine, bench: Make, order: Make, tail: Tail
) -> None:
    made = bench(engine)
    give(made, order(kind="floor", multiplier=4.0, symbol="ALPHA", lasts_s=86400.0))
    give(made, order(kind="rung", rung="static", lasts_s=86400.0))
    made.feed(tail[0])
    with engine.begin() as connection:
        records = list(connection.scalars(select(DecisionRow.record).order_by(DecisionRow.id)))
    orders = [[o["id"] for o in r["decision"]["inputs"]["overrides"]["orders"]] for r in records]
    assert orders == [[], [], ["o1"], ["o1", "o2"], ["o2"], ["o1", "o2"], ["o2"]]
    for record in records:
        again, _ = decide(*Inputs.from_json(record["decision"]["inputs"]).arguments())
        assert json.loads(json.dumps(again.to_json())) == record["decision"]


def test_a_store_that_fails_leaves_the_order_to_the_next_time(
    sqlite: Engine, bench: Make, order: Make
) -> None:
    made = bench(sqlite)
    made.overrides.set(order(kind="kill"), "ana", made.loop.now_s())
    with sqlite.begin() as connection:
        connection.execute(text("ALTER TABLE decisions RENAME TO lost"))
    with pytest.raises(OperationalError):
        made.loop.follow_overrides()
    assert obeyed(made, "ALPHA") == []
    with sqlite.begin() as connection:
        connection.execute(text("ALTER TABLE lost RENAME TO decisions"))
    made.loop.follow_overrides()
    assert made.rungs() == {"static"}


def test_before_the_first_bar_that_is_the_clock_there_is_no_time(
    sqlite: Engine, bench: Make, tail: Tail
) -> None:
    made = bench(sqlite, history=False)
    assert made.loop.now_s() is None
    made.loop.follow_overrides()
    made.feed(tail[0])
    assert made.loop.now_s() == made.loop._window.newest_s


def test_the_thread_obeys_while_it_waits_for_a_champion(
    sqlite: Engine, bench: Make, order: Make, eventually: Callable[..., None]
) -> None:
    made = bench(sqlite, model_wait_s=600)
    made.champions.asked.clear()
    made.loop.start()
    try:
        made.overrides.set(order(kind="kill"), "ana", made.loop.now_s())
        eventually(lambda: made.rungs() == {"static"})
    finally:
        made.loop.stop()
    assert not made.loop.ready, "and ends while it waits"
