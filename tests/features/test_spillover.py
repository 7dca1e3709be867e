"""Market-wide and leader features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from features.bars import Market
from features.pipeline import Pipeline
from features.volatility import log_returns, sigma

MakeMarket = Callable[..., Market]


def frame(market: Market, *names: str) -> dict[str, np.ndarray]:
    batch = Pipeline.fit(market, names).batch(market)
    return {name: batch[name] for name in batch.names}


def test_market_and_leader_returns_and_dispersion(market: Market) -> None:
    values = frame(market, "market_return_1h")
    r, scale = log_returns(market)[-1], sigma(market)[-1]
    z = r / scale
    np.testing.assert_allclose(values["market_return_1h"][-1], np.full(3, z.mean()))
    np.testing.assert_allclose(values["leader_return_1h"][-1], np.full(3, z[0]))
    np.testing.assert_allclose(values["dispersion_1h"][-1], np.full(3, z.std()))


def test_the_market_stands_in_for_a_missing_leader(market: Market) -> None:
    values = frame(market, "market_return_1h", "market_volatility")
    hole = 41 * 24
    assert np.isnan(market.close.iloc[hole, 0])
    for part in ("return_1h", "volatility"):
        leader, mean = values[f"leader_{part}"][hole], values[f"market_{part}"][hole]
        assert np.isnan(leader[0]) and np.isnan(mean[0])
        np.testing.assert_array_equal(leader[1:], mean[1:])
    z = (log_returns(market) / sigma(market))[hole, 1:]
    np.testing.assert_allclose(values["market_return_1h"][hole, 1:], z.mean(), rtol=1e-12)


def test_a_symbol_alone_is_its_own_market(market: Market) -> None:
    values = frame(market.select(["GAMMA"]), "market_volatility", "market_return_1d", "correlation_1d")
    assert values["relative_volatility"][-1, 0] == 0.0
    assert values["dispersion_1d"][-1, 0] == 0.0
    assert values["correlation_1d"][-1, 0] == pytest.approx(1.0)
    assert values["market_return_1d"][-1, 0] == values["leader_return_1d"][-1, 0]


def test_correlation_of_a_twin_and_of_a_mirror(market_of_closes: MakeMarket) -> None:
    rng = np.random.default_rng(8)
    moves = 0.01 * rng.standard_normal(800)
    up, mirror = (list(100 * np.exp(np.cumsum(sign * moves))) for sign in (1, -1))
    twins = frame(market_of_closes({"A": up, "B": up, "C": mirror}), "correlation_1w")
    np.testing.assert_allclose(twins["correlation_1w"][-1], [1.0, 1.0, -1.0])
    np.testing.assert_allclose(twins["market_correlation_1w"][-1], np.full(3, 1 / 3))


def test_volatility_of_the_market_is_the_mean_of_logs(market_of_closes: MakeMarket) -> None:
    calm = [100 * float(np.exp(0.01 * (i % 2))) for i in range(800)]
    loud = calm[:-200] + [100 * float(np.exp(0.03 * (i % 2))) for i in range(600, 800)]
    values = frame(market_of_closes({"A": calm, "B": loud}), "market_volatility")
    raised = np.log(0.03 / np.sqrt((521 * 0.01**2 + 199 * 0.03**2) / 720))
    np.testing.assert_allclose(values["market_volatility"][-1], np.full(2, raised / 2), rtol=1e-4)
    np.testing.assert_allclose(values["leader_volatility"][-1], np.zeros(2), atol=1e-6)
    np.testing.assert_allclose(values["relative_volatility"][-1], [-raised / 2, raised / 2], rtol=1e-4)


def test_the_shapes_of_the_market_and_its_leader(market: Market) -> None:
    names = ["har_1d", "downside_1d", "drawdown_1w", "parkinson_4h"]
    wanted = [*names, *(f"{part}_{n}" for n in names for part in ("market", "leader"))]
    frame = Pipeline.fit(market, wanted).batch(market)
    for name in names:
        own, mean, leader = frame[name], frame[f"market_{name}"], frame[f"leader_{name}"]
        whole = np.isfinite(own).all(axis=1)
        np.testing.assert_allclose(mean[whole, 0], own[whole].mean(axis=1), rtol=1e-12)
        np.testing.assert_array_equal(leader[whole, 2], own[whole, 0])
