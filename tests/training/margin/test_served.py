"""A margin table laid out on the grid of its bars."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.margin.types import MODES, RUNGS
from training.margin.losses import rate_losses
from training.margin.served import NONE, MarginTableError, served_margins

MarketOf = Callable[..., Market]
TableOf = Callable[..., pd.DataFrame]


@pytest.fixture
def market(market_of: MarketOf) -> Market:
    return market_of({"A": [100.0, 110.0, 99.0, 99.0, 98.0, 97.0], "B": [5.0, 5.0, 4.0, np.nan, 4.0, 4.0]})


def test_every_row_finds_its_place(market: Market, table_of: TableOf) -> None:
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    table = table_of(market, rates).sample(frac=1, random_state=7)
    found = served_margins(table, market)
    assert list(found) == [("model", "initial"), ("model", "maintenance")]
    margin = found["model", "maintenance"]
    assert margin.contracts == (("A", "long"), ("A", "short"), ("B", "long"), ("B", "short"))
    np.testing.assert_array_equal(margin.rate, np.repeat(np.array(rates)[:, None], 4, axis=1))
    np.testing.assert_array_equal(margin.multiplier, margin.rate / 0.1)
    np.testing.assert_array_equal(margin.loss, rate_losses(market, "1h").reshape(6, 4))
    np.testing.assert_array_equal(found["model", "initial"].loss, rate_losses(market, "4h").reshape(6, 4))
    assert margin.by_symbol() == {"A": [0, 1], "B": [2, 3]}
    assert (margin.rung == NONE).all() and (margin.mode == NONE).all()


def test_rows_that_are_not_there_are_nan_and_the_grid_is_cut(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1)
    kept = table[
        table["time"].isin(market.times[[1, 3]]) & ~((table["symbol"] == "B") & (table["side"] == "long"))
    ]
    margin = served_margins(kept, market)["model", "initial"]
    assert list(margin.times) == list(market.times[1:4])
    assert np.isnan(margin.rate[1]).all()
    assert np.isnan(margin.rate[:, 2]).all()
    assert margin.rate[0, [0, 1, 3]].tolist() == [0.1, 0.1, 0.1]


def test_a_symbol_that_the_table_lacks_is_no_column(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1)
    margin = served_margins(table[table["symbol"] == "B"], market)["model", "initial"]
    assert margin.contracts == (("B", "long"), ("B", "short"))
    np.testing.assert_array_equal(margin.loss, rate_losses(market, "4h")[:, 1])


def test_rungs_and_modes_are_their_places(market: Market, table_of: TableOf) -> None:
    rungs = [*RUNGS, "champion"]
    table = table_of(market, 0.1, rung=rungs, mode=["fresh", "degraded", "stale", "dead", "", "fresh"])
    margin = served_margins(table, market)["model", "maintenance"]
    assert margin.rung[:, 0].tolist() == [0, 1, 2, 3, 4, 0]
    assert margin.mode[:, 0].tolist() == [MODES.index("fresh"), 1, 2, 3, NONE, 0]


def test_times_of_another_unit_are_the_same_times(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1)
    table["time"] = table["time"].dt.as_unit("us")
    assert len(served_margins(table, market)["model", "initial"].times) == 6


def test_a_requirement_may_be_unknown(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1).assign(required_rate=np.nan, multiplier=np.nan)
    margin = served_margins(table, market)["model", "initial"]
    assert np.isnan(margin.required).all() and not np.isnan(margin.rate).any()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("served_rate", np.nan, "served_rate is nan for model, A long initial at"),
        ("served_rate", 0.0, "fraction of notional above 0"),
        ("required_rate", np.inf, "required_rate is inf"),
        ("rung", "attic", "rung 'attic' is unknown"),
        ("mode", "asleep", "mode 'asleep' is unknown"),
        ("side", "both", "side 'both' is unknown"),
        ("symbol", "Z", "symbol 'Z' is unknown, known are .*own bars"),
        ("kind", "variation", "kind 'variation' is unknown"),
        ("time", pd.Timestamp("2030-01-01", tz="UTC"), "no bar closes at 2030"),
    ],
)
def test_an_impossible_row_is_refused(
    market: Market, table_of: TableOf, column: str, value: object, words: str
) -> None:
    table = table_of(market, 0.1)
    table.loc[0, column] = value
    with pytest.raises(MarginTableError, match=words):
        served_margins(table, market)


def test_a_broken_table_is_refused(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1)
    with pytest.raises(MarginTableError, match="1 rows are there twice"):
        served_margins(pd.concat([table, table.iloc[:1]]), market)
    with pytest.raises(MarginTableError, match=r"lacks columns .*multiplier"):
        served_margins(table.drop(columns="multiplier"), market)
    with pytest.raises(MarginTableError, match="no row"):
        served_margins(table.iloc[:0], market)
    with pytest.raises(MarginTableError, match=r"no horizon is given for kinds \['initial'\]"):
        served_margins(table, market, {"maintenance": "1h"})
