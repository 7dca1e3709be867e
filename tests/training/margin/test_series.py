"""The margin table of all series that a backtest compares, and its file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.settings import MarginSettings
from training.margin.measures import measure
from training.margin.requirements import KEYS, MARGIN_COLUMNS
from training.margin.series import margin_table
from training.margin.served import MarginTableError, served_margins
from training.margin.simulation import Run, simulate
from training.margin.table import answered_table, read_margins, served_margin, write_margins
from training.margin.tape import ForecastTableError, tapes
from training.parallel import IN_THIS_PROCESS

MarketOf = Callable[..., Market]
ForecastsOf = Callable[..., pd.DataFrame]

HOURS = 24 * 40
FIRST = HOURS - 30


@pytest.fixture(scope="module")
def market(market_of: MarketOf) -> Market:
    rng = np.random.default_rng(5)
    closes = {name: 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(HOURS))) for name in ("A", "B")}
    closes["B"][FIRST + 7] = np.nan
    return market_of(closes)


@pytest.fixture(scope="module")
def margin() -> MarginSettings:
    return MarginSettings(
        default_base_rate={"initial": 0.06, "maintenance": 0.03},
        limits={"model_warm_up_bars": 0, "rules_warm_up_bars": 0},
    )


@pytest.fixture(scope="module")
def forecasts(market: Market, forecasts_of: ForecastsOf) -> pd.DataFrame:
    es = 0.03 * np.exp(0.4 * np.sin(np.arange(30)))
    return forecasts_of(market.since(market.times[FIRST]), {"model": es, "ewma": 0.03})


@pytest.fixture(scope="module")
def table(forecasts: pd.DataFrame, market: Market, margin: MarginSettings) -> pd.DataFrame:
    return margin_table(forecasts, market, margin, "model")


def test_every_series_is_there_and_can_be_measured(table: pd.DataFrame, market: Market) -> None:
    assert list(table["series"].unique()) == [
        "model through engine",
        "model through plain limiter",
        "ewma through engine",
        "ewma with 25 % buffer",
        "model requirement",
        "ewma requirement",
        "static",
    ]
    assert list(table.columns) == MARGIN_COLUMNS
    assert not table.duplicated(KEYS).any()
    assert table.groupby("series").size().eq(30 * 2 * 2 * 2).all()
    measures = measure(table, market, resamples=0)
    assert measures.summary["ratio"].notna().all()
    assert (measures.rungs["champion"] > 0.9).all()


def test_an_ewma_champion_makes_no_series_twice(
    forecasts: pd.DataFrame, market: Market, margin: MarginSettings
) -> None:
    table = margin_table(forecasts, market, margin, "ewma")
    assert list(table["series"].unique()) == [
        "ewma through engine",
        "ewma through plain limiter",
        "ewma with 25 % buffer",
        "ewma requirement",
        "static",
    ]
    assert not table.duplicated(KEYS).any()


def test_rates_and_base_rates_are_of_one_piece(table: pd.DataFrame) -> None:
    assert np.allclose(table["multiplier"], table["served_rate"] / table["base_rate"])
    engine = table[table["series"] == "model through engine"].set_index(KEYS[1:])
    asked = table[table["series"] == "model requirement"].set_index(KEYS[1:]).loc[engine.index]
    assert (engine["base_rate"] == asked["base_rate"]).all()
    answered = engine["rung"] == "champion"
    assert np.allclose(engine["required_rate"][answered], asked["required_rate"][answered])
    assert (engine["rules"] != "").any()
    wide = engine["served_rate"].unstack("kind")
    assert (wide["initial"] >= wide["maintenance"]).all()


def test_the_buffer_is_full_at_first_and_on_top(table: pd.DataFrame) -> None:
    first = table[table["time"] == table["time"].min()].set_index(["series", *KEYS[2:]])["served_rate"]
    plain, buffered = first["ewma through engine"], first["ewma with 25 % buffer"]
    assert buffered.to_numpy() == pytest.approx(1.25 * plain.to_numpy())


def test_the_plain_limiter_is_another_margin(table: pd.DataFrame) -> None:
    mean = table.groupby("series")["served_rate"].mean()
    assert mean["model through plain limiter"] > mean["model through engine"]


def test_the_short_way_to_a_margin_is_that_over_the_table(
    forecasts: pd.DataFrame, market: Market, margin: MarginSettings
) -> None:
    times, contracts = tapes(forecasts, market, margin, ("model", "ewma"))
    (answers,) = simulate(contracts, [Run("model", margin.limits)], IN_THIS_PROCESS)
    by_table = served_margins(answered_table("own", times, answers), market)
    for (_, kind), other in by_table.items():
        horizon = {"initial": "4h", "maintenance": "1h"}[kind]
        own = served_margin(
            "own", kind, times, answers, other.loss, horizon=horizon, interval=market.interval
        )
        assert (own.contracts, own.horizon, own.interval) == (other.contracts, other.horizon, other.interval)
        for name in ("rate", "required", "multiplier", "rung", "mode", "loss"):
            assert np.array_equal(
                getattr(own, name), getattr(other, name), equal_nan=name not in ("rung", "mode")
            )


def test_the_file_gives_the_table_back(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "new" / "margins.parquet"
    write_margins(table, path)
    pd.testing.assert_frame_equal(read_margins(path), table)
    assert [file.name for file in path.parent.iterdir()] == ["margins.parquet"]


def test_a_file_that_is_no_margin_table_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(MarginTableError, match="is no file"):
        read_margins(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(MarginTableError, match="cannot be read as parquet"):
        read_margins(tmp_path / "text.parquet")
    table.drop(columns="rung").to_parquet(tmp_path / "part.parquet")
    with pytest.raises(MarginTableError, match=r"lacks columns \['rung'\]"):
        read_margins(tmp_path / "part.parquet")


def test_no_whole_forecast_is_refused(
    forecasts: pd.DataFrame, market: Market, margin: MarginSettings
) -> None:
    sides = forecasts["side"].to_numpy()
    odd = forecasts["time"].dt.hour.to_numpy() % 2 == 0
    apart = forecasts[np.where(odd, sides == "long", sides == "short")]
    with pytest.raises(ForecastTableError, match="no symbol has a whole forecast"):
        margin_table(apart, market, margin, "model")


def test_literal_rates_of_the_first_decision(table: pd.DataFrame) -> None:
    first = table[
        (table["series"] == "model through engine") & (table["time"] == table["time"].min())
    ].set_index(["symbol", "side", "kind"])
    assert first.loc[("A", "long", "maintenance"), "served_rate"] == pytest.approx(-math.expm1(-0.03))
    assert first.loc[("A", "short", "initial"), "served_rate"] == pytest.approx(math.expm1(0.066))
    assert first.loc[("A", "long", "initial"), "base_rate"] == 0.06
