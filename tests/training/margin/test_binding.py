"""Clamp gaps, time on rungs and rules that bound, counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.margin.types import RUNGS
from training.margin.binding import (
    clamp_gaps,
    clamp_gaps_by_contract,
    lowest_rung,
    rules_that_bound,
    rung_shares,
    rungs,
    while_alive,
)
from training.margin.served import NONE, served_margins

MarketOf = Callable[..., Market]
TableOf = Callable[..., pd.DataFrame]


@pytest.fixture
def market(market_of: MarketOf) -> Market:
    return market_of({"A": [100.0] * 4, "B": [10.0] * 4})


def test_gaps_by_hand(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1, kinds=["maintenance"], required_rate=[0.1, 0.12, 0.16, 0.04])
    found = clamp_gaps(served_margins(table, market)).iloc[0]
    assert found["withheld"] == pytest.approx(0.5)
    assert found["mean_gap"] == pytest.approx(1e6 * (0.02 + 0.06) / 4)
    assert found["worst_gap"] == pytest.approx(6e4)
    assert found["above"] == pytest.approx(0.25)
    assert found["mean_above"] == pytest.approx(1e6 * 0.06 / 4)


def test_rounding_is_no_gap(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.3, required_rate=[0.1 + 0.2] * 4)
    found = clamp_gaps(served_margins(table, market))
    assert (found["withheld"] == 0).all() and (found["above"] == 0).all()


def test_without_a_requirement_there_is_no_gap_to_tell(market: Market, table_of: TableOf) -> None:
    found = clamp_gaps(served_margins(table_of(market, 0.1).assign(required_rate=np.nan), market))
    assert found["withheld"].isna().all() and found["mean_gap"].isna().all()


def test_gaps_of_each_contract(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1, kinds=["maintenance"])
    table.loc[(table["symbol"] == "B") & (table["side"] == "short"), "required_rate"] = 0.11
    found = clamp_gaps_by_contract(served_margins(table, market)).set_index(["symbol", "side"])["mean_gap"]
    assert found.to_dict() == pytest.approx(
        {("A", "long"): 0, ("A", "short"): 0, ("B", "long"): 0, ("B", "short"): 1e4}
    )


def test_time_on_rungs(market: Market, table_of: TableOf) -> None:
    table = table_of(
        market,
        0.1,
        rung=["champion", "champion", "rules", "static"],
        mode=["fresh", "fresh", "stale", "dead"],
    )
    found = rungs(served_margins(table, market)).set_index("symbol")
    assert list(found.index) == ["A", "B"]
    assert found.loc["A", list(RUNGS)].tolist() == [0.5, 0, 0.25, 0.25, 0]
    assert found.loc["A", ["feed_fresh", "feed_dead"]].tolist() == [0.5, 0.25]
    assert found["rows"].tolist() == [4, 4]
    assert (found["below_rules_alive"] == 0).all()


def test_a_rung_below_rules_with_a_live_feed_is_counted(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1, rung="champion", mode="fresh")
    own = (table["time"] == market.times[2]) & (table["symbol"] == "B")
    table.loc[own, ["rung", "mode"]] = ["static", "stale"]
    found = rungs(served_margins(table, market)).set_index("symbol")
    assert found["below_rules_alive"].to_dict() == {"A": 0, "B": 1}


def test_a_series_without_an_engine_has_no_rungs(market: Market, table_of: TableOf) -> None:
    both = pd.concat([table_of(market, 0.1), table_of(market, 0.1, "served", rung="cap", mode="dead")])
    assert rungs(served_margins(both, market))["series"].unique().tolist() == ["served"]
    assert rungs(served_margins(table_of(market, 0.1), market)).empty


def test_codes() -> None:
    rung = np.array([[0, 2], [3, NONE]], dtype=np.int8)
    mode = np.array([[0, 1], [3, NONE]], dtype=np.int8)
    assert lowest_rung(rung) == "static"
    assert lowest_rung(while_alive(rung, mode)) == "rules"
    assert lowest_rung(np.full((2, 2), NONE, dtype=np.int8)) == ""
    assert rung_shares(rung)["rules"] == pytest.approx(1 / 3)
    assert np.isnan(rung_shares(np.full(3, NONE, dtype=np.int8))["cap"])


def test_rules_that_bound(market: Market, table_of: TableOf) -> None:
    table = table_of(market, 0.1, kinds=["initial"], rules=["", "floor", "floor, cap", "step limits"])
    found = rules_that_bound(table).set_index("rule")["share"]
    assert found.to_dict() == {"floor": 0.5, "cap": 0.25, "step limits": 0.25}
    assert rules_that_bound(table.assign(rules="")).empty
    assert rules_that_bound(table.assign(rules=None)).empty
