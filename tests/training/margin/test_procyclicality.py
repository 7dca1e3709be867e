"""How much a margin moves: by hand, and against a slow search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.bars import Market
from training.margin.procyclicality import (
    largest_rise,
    procyclicality,
    procyclicality_by_contract,
    share_of_changes,
)
from training.margin.served import served_margins

MarketOf = Callable[..., Market]
TableOf = Callable[..., pd.DataFrame]


def test_a_rise_is_against_the_lowest_rate_of_the_window() -> None:
    rate = np.array([[2.0], [1.0], [1.5], [3.0], [2.0], [4.0]])
    assert largest_rise(rate, 1).tolist() == [1.0]  # 1.5 to 3, and 2 to 4
    assert largest_rise(rate, 2).tolist() == [2.0]  # 1 to 3
    assert largest_rise(rate, 4).tolist() == [3.0]  # 1 to 4
    assert largest_rise(rate, 3).tolist() == [pytest.approx(2.0)]
    assert largest_rise(rate, 100).tolist() == [3.0]


def test_a_margin_that_only_falls_rises_by_nothing() -> None:
    assert largest_rise(np.array([[3.0], [2.0], [1.0]]), 2).tolist() == [0.0]


def test_missing_rates_are_left_out() -> None:
    rate = np.array([[1.0, np.nan], [np.nan, np.nan], [2.0, np.nan]])
    found = largest_rise(rate, 2)
    assert found[0] == 1.0 and np.isnan(found[1])
    assert largest_rise(rate[:, :1], 1).tolist() == [0.0]
    assert np.isnan(share_of_changes(rate)).all()


def test_changes_are_counted_between_neighbours() -> None:
    rate = np.array([[1.0], [1.0], [2.0], [np.nan], [2.0], [2.0], [1.0]])
    assert share_of_changes(rate).tolist() == [2 / 4]


def test_a_window_below_one_bar_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        largest_rise(np.ones((3, 1)), 0)


@given(
    st.lists(st.one_of(st.floats(0.01, 1), st.just(float("nan"))), min_size=1, max_size=40),
    st.integers(1, 45),
)
def test_the_fast_rise_is_the_slow_one(rates: list[float], bars: int) -> None:
    rate = np.array(rates)[:, np.newaxis]
    slow = [
        rate[t, 0] / np.nanmin(rate[max(0, t - bars) : t + 1, 0]) - 1
        for t in range(len(rate))
        if not np.isnan(rate[t, 0])
    ]
    found = largest_rise(rate, bars)[0]
    assert found == pytest.approx(max(slow)) if slow else np.isnan(found)


def test_the_tables(market_of: MarketOf, table_of: TableOf) -> None:
    market = market_of({"A": np.full(72, 100.0), "B": np.full(72, 100.0)})
    table = table_of(market, np.r_[np.full(24, 0.1), np.full(24, 0.2), np.full(24, 0.4)])
    table.loc[table["symbol"] == "B", "served_rate"] = 0.1
    found = procyclicality_by_contract(served_margins(table, market))
    of_a = found[(found["symbol"] == "A") & (found["kind"] == "initial")].iloc[0]
    assert of_a["mean_rate"] == pytest.approx(0.7 / 3)
    assert of_a["peak_to_trough"] == pytest.approx(4)
    # From the last hour at 0.1 to the first at 0.4 there are 25 hours.
    assert of_a["rise_1d"] == pytest.approx(1)
    assert of_a["rise_5d"] == pytest.approx(3)
    assert of_a["changes"] == pytest.approx(2 / 71)
    totals = procyclicality(found).set_index("kind").loc["initial"]
    assert totals["peak_to_trough"] == pytest.approx(2.5)
    assert totals["peak_to_trough_worst"] == pytest.approx(4)
    assert totals["rise_30d"] == pytest.approx(1.5)
