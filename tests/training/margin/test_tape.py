"""What the engine is given: a forecast table and its bars as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.margin.requirement import candidate
from models.margin.types import Tail
from models.settings import MarginSettings
from training.margin.tape import ForecastTableError, Tape, needs, tapes

MarketOf = Callable[..., Market]
ForecastsOf = Callable[..., pd.DataFrame]

HOUR = pd.Timedelta(hours=1)
MODELS = ("model", "ewma")


@pytest.fixture
def market(market_of: MarketOf) -> Market:
    return market_of({"A": [100.0, 101.0, 99.0, 100.0, 102.0], "B": [10.0, np.nan, 11.0, 10.0, 10.5]})


def only(found: tuple[pd.DatetimeIndex, list[Tape]]) -> Tape:
    (tape,) = found[1]
    return tape


def test_a_tape_has_the_rates_of_the_server_to_the_bit(market: Market, forecasts_of: ForecastsOf) -> None:
    table = forecasts_of(market.select(["A"]), {"model": 0.031, "ewma": 0.047})
    tape = only(tapes(table, market, MarginSettings(), MODELS))
    limits = MarginSettings().limits
    for model in MODELS:
        own = table[(table["model"] == model) & (table["time"] == market.times[0])]
        cube = [
            own.set_index(["horizon", "side", "level"])[name]
            .loc[pd.MultiIndex.from_product([["1h", "4h"], ["long", "short"], [0.99, 0.999]])]
            .to_numpy()
            .reshape(2, 2, 2)
            for name in ("var", "es")
        ]
        live = candidate(
            "champion",
            *cube,
            horizons_s=(3600.0, 14400.0),
            levels=(0.99, 0.999),
            initial=Tail(0.99, 14400.0),
            maintenance=Tail(0.99, 3600.0),
            made_at_s=0.0,
            interval_s=3600.0,
            limits=limits,
        )
        asked = tape.asked[model]
        assert tuple(asked.requirement[0]) == live.requirement
        assert tuple(asked.var[0]) == live.var
        assert tuple(asked.breaker[0]) == live.breaker


def test_bars_that_are_missing_stay_missing(market: Market, forecasts_of: ForecastsOf) -> None:
    table = forecasts_of(market, {"model": 0.03, "ewma": 0.04})
    times, found = tapes(table, market, MarginSettings(), MODELS)
    assert list(times) == list(market.times)
    a, b = found
    assert (a.symbol, b.symbol) == ("A", "B")
    assert np.isnan(b.close).tolist() == [False, True, False, False, False]
    assert b.bars.tolist() == [1, 1, 2, 3, 4]
    assert a.last_return[1:] == pytest.approx(np.diff(np.log([100.0, 101.0, 99.0, 100.0, 102.0])))
    assert np.isnan(b.last_return).tolist() == [True, True, True, False, False]
    assert (a.first, a.time_s[1] - a.time_s[0]) == (0, 3600.0)


def test_a_tape_goes_from_the_first_forecast_to_the_last(market: Market, forecasts_of: ForecastsOf) -> None:
    table = forecasts_of(market, {"model": 0.03, "ewma": 0.04})
    late = (table["symbol"] == "B") & (table["time"] < market.times[2])
    gap = (table["symbol"] == "B") & (table["model"] == "model") & (table["time"] == market.times[3])
    _, (a, b) = tapes(table[~(late | gap)], market, MarginSettings(), MODELS)
    assert (a.first, len(a.time_s)) == (0, 5)
    assert (b.first, len(b.time_s)) == (2, 3)
    assert b.asked["model"].known.tolist() == [True, False, True]
    assert b.asked["ewma"].known.tolist() == [True, True, True]


def test_a_time_without_one_of_the_four_values_has_no_forecast(
    market: Market, forecasts_of: ForecastsOf
) -> None:
    table = forecasts_of(market.select(["A"]), {"model": 0.03, "ewma": 0.04})
    one = (table["time"] == market.times[1]) & (table["horizon"] == "4h") & (table["side"] == "short")
    tape = only(tapes(table[~(one & (table["model"] == "model"))], market, MarginSettings(), MODELS))
    assert tape.asked["model"].known.tolist() == [True, False, True, True, True]


def test_scale_multiplies_every_requirement_and_nothing_else(
    market: Market, forecasts_of: ForecastsOf
) -> None:
    table = forecasts_of(market.select(["A"]), {"model": 0.03, "ewma": 0.04})
    tape = only(tapes(table, market, MarginSettings(), MODELS))
    twice = tape.scaled(2.0)
    for model in MODELS:
        assert (twice.asked[model].requirement == 2 * tape.asked[model].requirement).all()
        assert twice.asked[model].var is tape.asked[model].var
    assert tape.scaled(1.0).asked["model"] is tape.asked["model"]


def test_confidence_and_drift_are_taken_where_the_table_tells_them(
    market: Market, forecasts_of: ForecastsOf
) -> None:
    plain = forecasts_of(market.select(["A"]), {"model": 0.03, "ewma": 0.04})
    tape = only(tapes(plain, market, MarginSettings(), MODELS))
    assert set(tape.asked["model"].confidence) == {1.0}
    assert set(tape.asked["model"].drift) == {0.0}
    own = plain["model"] == "model"
    told = plain.assign(confidence=np.where(own, 0.7, 1.0), drift=np.where(own, 0.1, 0.0))
    worse = own & (told["horizon"] == "4h") & (told["time"] == market.times[2])
    told.loc[worse, "confidence"], told.loc[worse, "drift"] = 0.4, 0.3
    tape = only(tapes(told, market, MarginSettings(), MODELS))
    assert tape.asked["model"].confidence.tolist() == [0.7, 0.7, 0.4, 0.7, 0.7]
    assert tape.asked["model"].drift.tolist() == [0.1, 0.1, 0.3, 0.1, 0.1]
    assert set(tape.asked["ewma"].confidence) == {1.0}


def test_nothing_that_closed_later_changes_the_rates_of_a_month(
    market_of: MarketOf, forecasts_of: ForecastsOf
) -> None:
    rng = np.random.default_rng(3)
    closes = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(24 * 130)))
    whole = market_of({"A": closes})
    table = forecasts_of(whole.since(whole.times[24 * 100]), {"model": 0.03, "ewma": 0.04})
    cut = 24 * 120
    before = only(tapes(table, whole, MarginSettings(), MODELS))
    known = table[table["time"] <= whole.times[cut - 1]]
    after = only(
        tapes(known, market_of({"A": [*closes[:cut], *(5 * closes[cut:])]}), MarginSettings(), MODELS)
    )
    rows = len(after.time_s)
    assert len(after.cycles) > 1
    for row in range(rows):
        assert after.cycles[after.month[row]] == before.cycles[before.month[row]]
    assert (after.bars == before.bars[:rows]).all()
    assert math.isclose(after.last_return[-1], before.last_return[rows - 1])


def test_the_venues_own_base_rates_stand(market: Market, forecasts_of: ForecastsOf) -> None:
    table = forecasts_of(market, {"model": 0.03, "ewma": 0.04})
    margin = MarginSettings(base_rates={"B": {"initial": 0.2, "maintenance": 0.1}})
    _, (a, b) = tapes(table, market, margin, MODELS)
    assert b.cycles[b.month[0]].base == (0.2, 0.1, 0.2, 0.1)
    assert a.cycles[a.month[0]].base == (0.1, 0.05, 0.1, 0.05)  # the default: too little history


def test_what_a_forecast_must_have_follows_the_settings() -> None:
    needed = needs(MarginSettings())
    assert needed.horizons == (HOUR, 4 * HOUR)
    assert needed.levels == (0.99, 0.999)


def test_refusals_name_what_is_wrong(market: Market, forecasts_of: ForecastsOf) -> None:
    table = forecasts_of(market, {"model": 0.03, "ewma": 0.04})
    settings = MarginSettings()

    def refused(forecasts: pd.DataFrame, words: str, bars: Market = market) -> None:
        with pytest.raises(ForecastTableError, match=words):
            tapes(forecasts, bars, settings, MODELS)

    refused(table.drop(columns="es"), r"lacks columns \['es'\]")
    refused(table[table["model"] == "model"], r"no forecasts of \['ewma'\], only of \['model'\]")
    refused(table[table["horizon"] == "1h"], r"no long forecast over 4h at level 0.99, only over \['1h'\]")
    refused(table[table["level"] == 0.99], "over 1h at level 0.999")
    refused(pd.concat([table, table.iloc[[0]]]), "are there twice")
    refused(table.assign(es=np.where(table.index == 2, np.inf, table["es"])), "not a finite number above 0")
    refused(table, "no bar closes at 2026-01-05 00:00", market.since(market.times[1]))
    refused(table, r"forecasts of \['B'\] and no bars", market.select(["A"]))


def test_a_horizon_that_is_no_number_of_bars_is_refused_with_the_setting(
    market_of: MarketOf, forecasts_of: ForecastsOf
) -> None:
    market = market_of({"A": [1.0, 2.0, 3.0]}, interval=2 * HOUR)
    table = forecasts_of(market, {"model": 0.03, "ewma": 0.04})
    with pytest.raises(ForecastTableError, match="MAINTENANCE__HORIZON_S to a multiple of 7200"):
        tapes(table, market, MarginSettings(), MODELS)
