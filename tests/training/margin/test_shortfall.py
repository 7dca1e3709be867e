"""Shortfall and coverage that can be counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.bars import Market
from training.margin.served import served_margins
from training.margin.shortfall import by_contract, by_series, shortfall_of, shortfalls

MarketOf = Callable[..., Market]
TableOf = Callable[..., pd.DataFrame]


def test_by_hand() -> None:
    loss = np.array([0.05, 0.12, -0.2, 0.31, 0.10, np.nan])
    rate = np.array([0.10, 0.10, 0.10, 0.11, 0.10, 0.10])
    found = shortfall_of(loss, rate)
    assert (found.rows, found.exceptions) == (5, 2)
    assert found.coverage == pytest.approx(3 / 5)
    assert found.total == pytest.approx(0.22)
    assert found.mean == pytest.approx(0.044)
    assert found.worst == pytest.approx(0.20)
    assert found.mean_margin == pytest.approx(0.102)
    assert found.half_rows == 1
    np.testing.assert_allclose(shortfalls(loss, rate), [0, 0.02, 0, 0.2, 0, np.nan], atol=1e-15)


def test_a_loss_as_large_as_the_margin_is_covered() -> None:
    found = shortfall_of(np.array([0.1]), np.array([0.1]))
    assert (found.exceptions, found.coverage, found.total, found.half_rows) == (0, 1.0, 0.0, 0)


def test_rows_without_rate_or_loss_do_not_count() -> None:
    found = shortfall_of(np.array([0.5, np.nan]), np.array([np.nan, 0.1]))
    assert found.rows == 0
    assert np.isnan(found.coverage) and np.isnan(found.mean) and np.isnan(found.mean_margin)


def test_how_many_rows_hold_half() -> None:
    loss = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.6])
    assert shortfall_of(loss, np.full(6, 0.1)).half_rows == 1
    assert shortfall_of(loss[:5], np.full(5, 0.1)).half_rows == 3


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one rate a loss"):
        shortfall_of(np.zeros(3), np.zeros(2))


@given(
    st.lists(st.tuples(st.floats(-1, 3), st.floats(1e-4, 1)), min_size=1, max_size=50),
    st.floats(1.0, 3.0),
)
def test_more_margin_is_never_less_cover(rows: list[tuple[float, float]], factor: float) -> None:
    loss, rate = np.array(rows).T
    less, more = shortfall_of(loss, rate), shortfall_of(loss, factor * rate)
    assert more.total <= less.total and more.worst <= less.worst and more.coverage >= less.coverage
    assert less.total == pytest.approx(np.maximum(loss - rate, 0).sum())
    assert less.mean <= less.worst or less.worst == pytest.approx(less.mean)


def test_tables_are_per_million_of_notional(market_of: MarketOf, table_of: TableOf) -> None:
    market = market_of({"A": [100.0, 80.0, 80.0], "B": [10.0, 12.0, 12.0]})
    margins = served_margins(table_of(market, 0.1, kinds=["maintenance"]), market)
    row = by_series(margins).iloc[0]
    assert (row["rows"], row["exceptions"], row["half_rows"]) == (8, 2, 1)
    assert row["mean_shortfall"] == pytest.approx(1e6 * 0.2 / 8)
    assert row["worst_shortfall"] == pytest.approx(1e5)
    assert row["total_shortfall"] == pytest.approx(0.2)
    cells = by_contract(margins).set_index(["symbol", "side"])
    assert cells["worst_shortfall"].to_dict() == pytest.approx(
        {("A", "long"): 1e5, ("A", "short"): 0, ("B", "long"): 0, ("B", "short"): 1e5}
    )
    assert cells["rows"].tolist() == [2, 2, 2, 2]
