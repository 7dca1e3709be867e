"""One venue's own wrong print, heard by one, two and three sources; sources that come late, and a restart."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine

from features.bars import Market
from models.margin.engine import decide
from models.margin.types import Decision, Inputs
from models.settings import MarginSettings
from serving.champion import Champion
from serving.contract import Contract
from serving.decider import Decider
from serving.history import load_history
from serving.requests import BarsRequest
from serving.settings import ServingSettings
from serving.sources import SourceCloses
from serving.store.engine import store_engine
from serving.store.migrate import migrate
from serving.window import MarketWindow

Tail = list[list[dict[str, Any]]]
HOUR = 3600
OTHERS = ("second", "third")


def scaled(bars: list[dict[str, Any]], factor: float, symbol: str) -> list[dict[str, Any]]:
    """The bars with one contract's close (and what a close bounds) times a factor."""
    found = copy.deepcopy(bars)
    for bar in found:
        if bar["symbol"] == symbol:
            bar["close"] *= factor
            bar["low"], bar["high"] = min(bar["low"], bar["close"]), max(bar["high"], bar["close"])
    return found


def tell(bench: Any, source: str, bars: list[dict[str, Any]]) -> None:
    bench.ingest.take(BarsRequest.model_validate({"bars": bars, "source": source}, strict=False))


def decision(bench: Any, symbol: str) -> Decision:
    found: Decision = bench.loop._decisions[symbol]
    return found


def required_by_rules(bench: Any, symbol: str) -> tuple[float, ...]:
    rules = decision(bench, symbol).inputs.candidates.rules
    assert rules is not None
    return rules.requirement


@pytest.fixture
def run(
    tmp_path: Any, bench: Callable[..., Any], market: Market, tail: Tail, champion: Callable[..., Champion]
) -> Callable[..., Any]:
    """Makes a bench that has heard ``others`` all along and three closes more; at the fourth, the feed's
    close of the first contract is ``factor`` times what it was."""
    engines = []

    def make(name: str, others: tuple[str, ...] = (), factor: float = 1.0) -> Any:
        engine = store_engine(f"sqlite:///{tmp_path / name}.db")
        engines.append(engine)
        migrate(engine)
        for source in others:
            load_history(engine, source, market, market.times[-25])
        made = bench(engine, champion("1"), other_sources=others)
        for at, bars in enumerate(tail[:4]):
            for source in others:
                tell(made, source, bars)
            made.feed(scaled(bars, factor, market.symbols[0]) if at == 3 else bars)
        return made

    yield make
    for engine in engines:
        engine.dispose()


def test_two_of_three_sources_outvote_a_print_at_65_cents(
    run: Callable[..., Any], market: Market, tail: Tail
) -> None:
    one, two = market.symbols
    quiet, alone = run("quiet"), run("alone", (), 0.65)
    three = run("three", OTHERS, 0.65)
    truth = tail[3][0]["close"]

    found = decision(three, one)
    assert found.rung == "rules"
    assert found.inputs.market.close == pytest.approx(0.65 * truth)
    assert found.inputs.market.other_closes == (truth, truth)
    assert found.inputs.market.last_return == decision(quiet, one).inputs.market.last_return
    assert required_by_rules(three, one) == required_by_rules(quiet, one)
    assert next(t.why for t in found.traces if t.rule == 7).startswith("sources lie up to 35.00% from")
    # Nothing falls while sources disagree, and nothing rises but to what the rules engine requires.
    before = three.loop._contracts[one].state.served[-2].rates
    wanted = tuple(map(max, before, required_by_rules(quiet, one)))
    assert found.served_rates == pytest.approx(wanted, rel=0.021)
    assert (
        min(a / b for a, b in zip(required_by_rules(alone, one), required_by_rules(three, one), strict=True))
        > 3
    )
    again, _ = decide(*Inputs.from_json(json.loads(json.dumps(found.inputs.to_json()))).arguments())
    assert again.to_json() == found.to_json()
    assert decision(three, two).rung == "champion", "the other contract has nothing to do with it"

    for made in (quiet, three):
        for source in OTHERS if made is three else ():
            tell(made, source, tail[4])
        made.feed(tail[4])
    assert decision(three, one).rung == "champion"
    assert decision(three, one).inputs.market.last_return == decision(quiet, one).inputs.market.last_return
    assert required_by_rules(three, one) == required_by_rules(quiet, one), "the print is not in the scale"


def test_the_calibration_learns_nothing_from_an_outvoted_print(
    bench: Callable[..., Any],
    tmp_path: Any,
    market: Market,
    tail: Tail,
    calibrated_champion: Callable[..., Champion],
) -> None:
    def factors(others: tuple[str, ...], factor: float) -> Any:
        engine = store_engine(f"sqlite:///{tmp_path / f'{len(others)}-{factor}'}.db")
        migrate(engine)
        for source in others:
            load_history(engine, source, market, market.times[-25])
        made = bench(engine, calibrated_champion(), other_sources=others)
        for at, bars in enumerate(tail[:6]):
            for source in others:
                tell(made, source, bars)
            made.feed(scaled(bars, factor, market.symbols[0]) if at == 3 else bars)
        state = made.loop._decider.calibration.standing.state
        engine.dispose()
        return state.factor(market.symbols)

    # The forecasts are those of a polluted feature; the outcomes that judge them are not.
    def highest(found: Any) -> float:
        return float(found[0, 0, 0].max())  # VaR of the first contract, 1 h

    quiet, alone, three = factors((), 1.0), factors((), 0.65), factors(OTHERS, 0.65)
    assert highest(alone) > 1.1 * highest(quiet)
    assert highest(three) <= highest(quiet)


def test_two_sources_have_no_majority(run: Callable[..., Any], market: Market, tail: Tail) -> None:
    one = market.symbols[0]
    alone, two = run("alone", (), 0.65), run("two", OTHERS[:1], 0.65)
    found, truth = decision(two, one), tail[3][0]["close"]
    assert found.rung == "rules"
    assert next(t.why for t in found.traces if t.rule == 7).endswith(f"median of {0.825 * truth:g}")
    before = tail[2][0]["close"]
    assert found.inputs.market.last_return == pytest.approx(math.log(0.825 * truth / before), rel=1e-9)
    # Half of the error is in the scale: less than alone, and far more than with a third source.
    quiet = required_by_rules(run("quiet"), one)
    for half, whole, none in zip(
        required_by_rules(two, one), required_by_rules(alone, one), quiet, strict=True
    ):
        assert 1.5 * none < half < 0.75 * whole


def test_a_small_disagreement_changes_nothing(run: Callable[..., Any], market: Market) -> None:
    one = market.symbols[0]
    alone, three = run("alone", (), 1.01), run("three", OTHERS, 1.01)
    assert decision(three, one).rung == "champion"
    assert required_by_rules(three, one) == required_by_rules(alone, one)
    assert len(decision(three, one).inputs.market.other_closes) == 2


def test_a_source_that_fell_silent_is_left_out(run: Callable[..., Any], market: Market, tail: Tail) -> None:
    made = run("silent", OTHERS)
    tell(made, "third", tail[4])
    made.feed(tail[4])
    assert decision(made, market.symbols[0]).inputs.market.other_closes == (tail[4][0]["close"],)
    assert made.loop.status()["other_sources"]["second"] < made.loop.status()["other_sources"]["third"]


def test_a_hole_has_no_last_return(sqlite: Engine, bench: Callable[..., Any], tail: Tail) -> None:
    made = bench(sqlite)
    symbol = tail[0][0]["symbol"]
    made.feed(tail[0])
    known = decision(made, symbol).inputs.market
    assert known.last_return is not None
    made.feed(tail[2])
    assert decision(made, symbol).inputs.market.last_return is None
    made.feed(tail[3])
    moved = math.log(tail[3][0]["close"] / tail[2][0]["close"])
    assert decision(made, symbol).inputs.market.last_return == pytest.approx(moved, rel=1e-12)


def test_a_restart_goes_on_with_what_sources_told(
    run: Callable[..., Any], bench: Callable[..., Any], market: Market, tail: Tail
) -> None:
    one = market.symbols[0]
    made = run("whole", OTHERS, 0.65)
    again = bench(made.engine, made.champions.current, history=False, other_sources=OTHERS)
    for source in OTHERS:
        tell(again, source, tail[4])
    again.feed(tail[4])
    whole = run("other", OTHERS, 0.65)
    for source in OTHERS:
        tell(whole, source, tail[4])
    whole.feed(tail[4])
    assert decision(again, one).inputs.to_json() == decision(whole, one).inputs.to_json()


def test_a_close_waits_for_the_sources_that_told_the_one_before(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, set_clock: Any, market: Market
) -> None:
    close_s = market.times[-24].timestamp()
    for source in OTHERS:
        load_history(sqlite, source, market, market.times[-25])
    made = bench(sqlite, clock=set_clock(close_s + 0.5), other_sources=OTHERS)
    made.feed(tail[0])
    assert made.loop.status()["pending_closes"] == 1
    tell(made, "second", tail[0])
    assert made.loop.run_pending() == 0
    tell(made, "third", tail[0])
    assert made.loop.run_pending() == 1
    assert len(decision(made, market.symbols[0]).inputs.market.other_closes) == 2


def test_what_a_source_tells_late_counts_at_the_next_tick(
    sqlite: Engine, bench: Callable[..., Any], tail: Tail, set_clock: Any, market: Market
) -> None:
    one = market.symbols[0]
    clock = set_clock(market.times[-24].timestamp() + 0.5)
    for source in OTHERS:
        load_history(sqlite, source, market, market.times[-25])
    made = bench(sqlite, clock=clock, other_sources=OTHERS)
    made.feed(scaled(tail[0], 0.65, one))
    clock.time_s += 2
    assert made.loop.run_pending() == 1
    blown = required_by_rules(made, one)
    assert decision(made, one).mode == "fresh"
    for source in OTHERS:
        tell(made, source, tail[0])
    made.loop.run_pending()
    made.loop.tick()
    assert decision(made, one).mode == "degraded"
    assert max(a / b for a, b in zip(required_by_rules(made, one), blown, strict=True)) < 0.3


def test_the_months_extremes_rest_on_what_sources_agree_on() -> None:
    rows = 24 * 170
    start_s = 1672531200  # 1 January 2023
    times = start_s + HOUR * np.arange(1, rows + 1)
    truth = 100 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.003, rows)))
    wrong = truth.copy()
    wrong[[500, 900, 1300, 1700]] *= 0.65

    def cycle(own: NDArray[np.float64], others: tuple[str, ...]) -> Any:
        def read(symbol: str, until_s: int, source: str | None) -> Any:
            assert symbol == "A"
            known = times <= until_s
            if source == "third":
                known &= times > start_s + 400 * HOUR  # it came later
            return times[known], (own if source is None else truth)[known]

        sources = SourceCloses(HOUR, 10, others) if others else None
        window = MarketWindow(HOUR, 10)
        window.add_symbols(["A"])
        decider = Decider(HOUR, MarginSettings(), window, read, lambda _: None, sources=sources)
        _, learned = decider.look([Contract("A")], int(times[-1]), None)
        return learned["A"].memory.rates.cycle

    quiet = cycle(truth, ())
    assert max(quiet.extreme_losses) < 0.02
    assert cycle(wrong, OTHERS) == quiet
    alone = cycle(wrong, ())
    assert min(alone.extreme_losses) > 0.2
    assert alone.base[0] > 2 * quiet.base[0]


@pytest.mark.parametrize("others", [("feed",), ("a", "a"), ("",), ("x" * 65,)])
def test_sources_are_named_once_each(others: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="name each source once"):
        ServingSettings(other_sources=others)
