"""Losses in rate terms and static rates that can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from training.margin.losses import log_losses, rate_losses, static_rates, static_table

MarketOf = Callable[..., Market]


def test_a_loss_is_the_part_of_the_notional_that_is_lost(market_of: MarketOf) -> None:
    market = market_of({"A": [100.0, 90.0, 99.0, 99.0]})
    losses = rate_losses(market, "1h")
    np.testing.assert_allclose(losses[:3, 0], [[0.1, -0.1], [-0.1, 0.1], [0, 0]], atol=1e-15)
    assert np.isnan(losses[3]).all()
    np.testing.assert_allclose(rate_losses(market, "2h")[:2, 0], [[0.01, -0.01], [-0.1, 0.1]], atol=1e-15)
    np.testing.assert_allclose(log_losses(market, "1h")[0, 0], [-np.log(0.9), np.log(0.9)])


def test_a_loss_across_a_missing_bar_is_unknown(market_of: MarketOf) -> None:
    market = market_of({"A": [100.0, np.nan, 90.0, 95.0], "B": [1.0, 1.0, 1.0, 1.0]})
    losses = rate_losses(market, "1h")
    assert np.isnan(losses[:, 0, 0]).tolist() == [True, True, False, True]
    assert np.isnan(losses[:, 1, 0]).tolist() == [False, False, False, True]


def test_a_horizon_longer_than_the_history_leaves_no_loss(market_of: MarketOf) -> None:
    market = market_of({"A": [100.0, 90.0]})
    assert np.isnan(rate_losses(market, "4h")).all()


def test_a_horizon_of_half_a_bar_is_refused(market_of: MarketOf) -> None:
    with pytest.raises(ValueError, match="whole number"):
        rate_losses(market_of({"A": [1.0, 1.0]}), "30m")


def test_the_static_rate_is_the_mean_of_the_worst_losses_before(market_of: MarketOf) -> None:
    closes = np.full(400, 100.0)
    closes[10:] *= 0.8
    closes[50:] *= 0.9
    closes[70:] *= 1.3
    closes[101:] *= 0.1  # not known at row 100
    market = market_of({"A": closes})
    rates = static_rates(market, market.times[100], "1h", level=0.99)
    # 100 losses by then: rank 0.99 x 99 = 98.01, so that the largest alone ranks beyond it.
    np.testing.assert_allclose(rates, [[0.2, 0.3]])
    # rank 0.98 x 99 = 97.02: the two largest, whose mean log loss is the rate's.
    rates = static_rates(market, market.times[100], "1h", level=0.98)
    np.testing.assert_allclose(rates[0, 0], 1 - np.sqrt(0.8 * 0.9))


def test_no_later_bar_moves_the_static_rate(market_of: MarketOf) -> None:
    rng = np.random.default_rng(3)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 300)))
    before = static_rates(market_of({"A": closes}), market_of({"A": closes}).times[200], "4h")
    closes[201:] *= 3
    np.testing.assert_array_equal(
        static_rates(market_of({"A": closes}), market_of({"A": closes}).times[200], "4h"), before
    )


def test_the_static_table_stands_still_and_keeps_the_kinds_in_order(market_of: MarketOf) -> None:
    rng = np.random.default_rng(4)
    # Prices that turn back: four hours ask for less than one.
    closes = {s: 100 * np.exp(rng.normal(0, 0.01, 300)) for s in "AB"}
    market = market_of(closes)
    times = market.times[200:210]
    table = static_table(market, times)
    assert len(table) == 10 * 2 * 2 * 2
    rates = table.groupby(["symbol", "side", "kind"])["served_rate"].agg(["nunique", "first"])
    assert (rates["nunique"] == 1).all()
    wide = rates["first"].unstack("kind")
    assert (wide["initial"] >= wide["maintenance"]).all()
    one = static_rates(market, times[0], "1h")
    np.testing.assert_allclose(wide["maintenance"].to_numpy().reshape(2, 2), one)
    early = static_table(market, times, before=market.times[120])
    assert (early["served_rate"] != table["served_rate"]).any()


def test_a_symbol_without_history_is_refused(market_of: MarketOf) -> None:
    market = market_of({"A": [100.0] * 20, "B": [np.nan] * 15 + [5.0] * 5})
    with pytest.raises(ValueError, match="B has no loss over 1h that had matured by 2026-01-05 10:00"):
        static_rates(market, market.times[10], "1h")
    with pytest.raises(ValueError, match="A has no loss"):
        static_rates(market, market.times[0] - pd.Timedelta(days=1), "1h")
