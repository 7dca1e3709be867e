"""The engine over history: the same decisions as one by one, its state carried on, missing bars told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import (
    MODES,
    RUNGS,
    Candidate,
    Candidates,
    EngineState,
    Inputs,
    MarketState,
    Overrides,
)
from models.settings import MarginSettings
from training.margin.simulation import Answered, Run, plain_limiter, served, simulate
from training.margin.tape import Tape, tapes
from training.parallel import IN_THIS_PROCESS, Workers

MarketOf = Callable[..., Market]
ForecastsOf = Callable[..., pd.DataFrame]

MODELS = ("model", "ewma")
#: A model answers from the first bar on.
NO_WARM_UP = Limits(model_warm_up_bars=0, rules_warm_up_bars=0)
ROWS = 60


def rates_of(tape: Tape, limits: Limits, model: str = "model") -> Answered:
    return served(tape, Run(model, limits))


@pytest.fixture
def moving(market_of: MarketOf, forecasts_of: ForecastsOf) -> Tape:
    """Closes and forecasts that move so much that several rules have something to do."""
    rng = np.random.default_rng(11)
    closes = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(ROWS)))
    closes[40] = 0.8 * closes[39]  # beyond the VaR of the hour before
    market = market_of({"A": closes})
    es = 0.03 * np.exp(np.cumsum(0.15 * rng.standard_normal(ROWS)))
    forecasts = forecasts_of(market, {"model": es, "ewma": 0.03})
    return tapes(forecasts, market, MarginSettings(), MODELS)[1][0]


def test_each_row_is_the_engines_decision_with_the_state_before(moving: Tape) -> None:
    answers = rates_of(moving, NO_WARM_UP)
    state, good = EngineState(), None
    for row in range(ROWS):
        now_s = float(moving.time_s[row])

        def asked(rung: str, model: str, lasts_s: float, row: int = row, now_s: float = now_s) -> Candidate:
            own = moving.asked[model]
            need, var = (tuple(map(float, values[row])) for values in (own.requirement, own.var))
            return Candidate(
                rung, need, var, now_s, now_s + lasts_s, model, tuple(map(float, own.breaker[row]))
            )

        cycle = moving.cycles[moving.month[row]]
        market = MarketState(
            known_symbol=True,
            interval_s=3600.0,
            last_close_s=now_s,
            bars=row + 1,
            close=float(moving.close[row]),
            base_rates=cycle.base,
            long_run_var=cycle.long_run_var,
            horizons_s=(14400.0, 3600.0),
            last_return=None if row == 0 else math.log(moving.close[row]) - math.log(moving.close[row - 1]),
            extreme_losses=cycle.extreme_losses,
            stressed_rates=cycle.stressed_rates,
        )
        candidates = Candidates(asked("champion", "model", 7200.0), good, asked("rules", "ewma", 21600.0))
        decision, state = decide(candidates, market, NO_WARM_UP, Overrides(), state, now_s)
        assert decision == decide(*Inputs(*decision.inputs.arguments()).arguments())[0]
        if decision.rung == "champion":
            good = asked("last_good", "model", 7200.0)
        assert tuple(answers.served[row]) == decision.served_rates
        assert tuple(answers.required[row]) == decision.required_rates
        assert tuple(answers.base[row]) == decision.base_rates
        assert tuple(answers.multiplier[row]) == decision.multipliers
        assert RUNGS[answers.rung[row]] == decision.rung
        assert MODES[answers.mode[row]] == decision.mode
        named = [tuple(filter(None, answers.names[code].split(","))) for code in answers.rules[row]]
        assert named == [decision.rules(value) for value in range(4)]
    assert {"step limits", "release"} <= {name for names in answers.names for name in names.split(",")}


def test_a_steady_forecast_is_served_as_it_is(market_of: MarketOf, forecasts_of: ForecastsOf) -> None:
    market = market_of({"A": [100.0] * 10})
    forecasts = forecasts_of(market, {"model": 0.05, "ewma": 0.05})
    (tape,) = tapes(forecasts, market, MarginSettings(), MODELS)[1]
    answers = rates_of(tape, NO_WARM_UP)
    long, short = -math.expm1(-0.05), math.expm1(0.055)
    assert (answers.served == answers.served[0]).all()
    assert answers.served[0] == pytest.approx((-math.expm1(-0.1), long, math.expm1(0.11), short))
    assert set(answers.names) == {""}
    assert answers.served[0] / answers.base[0] == pytest.approx(answers.multiplier[0])


def test_a_rise_takes_the_steps_that_the_limits_allow(market_of: MarketOf, forecasts_of: ForecastsOf) -> None:
    market = market_of({"A": [100.0] * 8})
    forecasts = forecasts_of(market, {"model": [0.05] * 3 + [0.09] * 5, "ewma": 0.05})
    (tape,) = tapes(forecasts, market, MarginSettings(), MODELS)[1]
    long = rates_of(tape, replace(NO_WARM_UP, up_limit_1h=0.25, up_limit_24h=0.60)).served[:, 1]
    first = -math.expm1(-0.05)
    # 25 % within any hour, whose beginning is of it; then the 60 % of a day.
    assert long[:3] == pytest.approx([first] * 3)
    assert long[3] == pytest.approx(1.25 * first)
    assert long[-1] == pytest.approx(1.6 * first)


def test_a_missing_forecast_is_answered_by_the_last_good_and_then_by_rules(
    market_of: MarketOf, forecasts_of: ForecastsOf
) -> None:
    market = market_of({"A": [100.0] * 12})
    table = forecasts_of(market, {"model": 0.05, "ewma": 0.06})
    gone = (table["model"] == "model") & table["time"].between(market.times[4], market.times[8])
    (tape,) = tapes(table[~gone], market, MarginSettings(), MODELS)[1]
    rungs = [RUNGS[code] for code in rates_of(tape, NO_WARM_UP).rung]
    # A forecast lasts two bars, its last second included.
    assert rungs == ["champion"] * 4 + ["last_good"] * 2 + ["rules"] * 3 + ["champion"] * 3


def test_silence_of_the_feed_takes_the_ladder_down_and_back(
    market_of: MarketOf, forecasts_of: ForecastsOf
) -> None:
    closes = [100.0] * 4 + [np.nan] * 9 + [100.0] * 3
    market = market_of({"A": closes})
    table = forecasts_of(market, {"model": 0.05, "ewma": 0.05})
    silent = table["time"].isin(market.times[np.isnan(closes)])
    (tape,) = tapes(table[~silent], market, MarginSettings(), MODELS)[1]
    answers = rates_of(tape, NO_WARM_UP)
    modes = [MODES[code] for code in answers.mode]
    # The newest bar is as many bars old as the feed is silent.
    assert modes == ["fresh"] * 5 + ["degraded"] + ["stale"] * 4 + ["dead"] * 3 + ["fresh"] * 3
    rungs = [RUNGS[code] for code in answers.rung]
    assert rungs == ["champion"] * 4 + ["last_good"] * 2 + ["rules"] * 4 + ["static"] * 3 + ["champion"] * 3
    assert (np.diff(answers.served[:13], axis=0) >= 0).all()


def test_the_plain_limiter_waits_for_hours_before_a_fall(
    market_of: MarketOf, forecasts_of: ForecastsOf
) -> None:
    market = market_of({"A": [100.0] * 14})
    forecasts = forecasts_of(market, {"model": [0.09] * 2 + [0.05] * 12, "ewma": 0.06})
    (tape,) = tapes(forecasts, market, MarginSettings(), MODELS)[1]
    own = rates_of(tape, NO_WARM_UP).served[:, 1]
    plain = rates_of(tape, plain_limiter(NO_WARM_UP)).served[:, 1]
    first = -math.expm1(-0.09)
    assert own[2] == pytest.approx(0.75 * first)
    assert plain[:8] == pytest.approx([first] * 8)
    assert plain[8:10] == pytest.approx([0.95 * first, 0.95**2 * first])


def test_confidence_costs_margin(market_of: MarketOf, forecasts_of: ForecastsOf) -> None:
    market = market_of({"A": [100.0] * 3})
    table = forecasts_of(market, {"model": 0.05, "ewma": 0.05}).assign(confidence=0.6)
    (tape,) = tapes(table, market, MarginSettings(), MODELS)[1]
    answers = rates_of(tape, NO_WARM_UP)
    assert answers.served[0] == pytest.approx(1.2 * answers.required[0])
    assert answers.names[answers.rules[0, 0]] == "uncertainty costs margin"


def test_who_works_does_not_matter(moving: Tape) -> None:
    runs = [Run("model", NO_WARM_UP), Run("ewma", NO_WARM_UP)]
    alone = simulate([moving, moving], runs, IN_THIS_PROCESS)
    together = simulate([moving, moving], runs, Workers(2))
    assert [len(each) for each in alone] == [2, 2]
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a.served == b.served).all()
            assert (a.rules == b.rules).all()
            assert a.names == b.names
    assert not np.array_equal(alone[0][0].served, alone[1][0].served)
