"""The regime filter against a loop, and what its probabilities must be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline
from features.regime import REGIMES, STATE_SHARE, filter_probabilities, filter_steps
from features.sources.simulated import simulate

MakeMarket = Callable[..., Market]
STATE = {
    "mean": [-0.3, 0.2, 0.7, 1.2],
    "deviation": 0.5,
    "transition": [[0.9, 0.08, 0.01, 0.01], [0.05, 0.9, 0.04, 0.01], [0, 0.1, 0.8, 0.1], [0, 0, 0.1, 0.9]],
}


@pytest.fixture(scope="module")
def half_year() -> Market:
    return simulate(symbols=4, days=180, seed=21)


@pytest.fixture(scope="module")
def fitted(half_year: Market) -> Pipeline:
    return Pipeline.fit(half_year, ["regime_calm"])


def probabilities(pipeline: Pipeline, market: Market) -> np.ndarray:
    frame = pipeline.batch(market)
    return np.stack([frame[f"regime_{name}"] for name in REGIMES], axis=-1)


def slow_filter(y: np.ndarray, steps: int, step_bars: int) -> np.ndarray:
    """Hamilton's filter for one row and symbol at a time."""
    mean, transition = np.array(STATE["mean"]), np.array(STATE["transition"])
    out = np.empty((*y.shape, 4))
    for t in range(len(y)):
        for i in range(y.shape[1]):
            p = STATE_SHARE
            for lag in range((steps - 1) * step_bars, -1, -step_bars):
                p = p @ transition
                if t - lag >= 0 and np.isfinite(y[t - lag, i]):
                    p = p * np.exp(-0.5 * ((y[t - lag, i] - mean) / STATE["deviation"]) ** 2)
                p = p / p.sum()
            out[t, i] = p
    return out


@pytest.mark.parametrize(("steps", "step_bars"), [(1, 1), (5, 1), (6, 4)])
def test_the_filter_agrees_with_a_loop(steps: int, step_bars: int) -> None:
    rng = np.random.default_rng(9)
    y = rng.standard_normal((40, 2))
    y[rng.random(y.shape) < 0.1] = np.nan
    fast = filter_probabilities(y, STATE, steps, step_bars)
    np.testing.assert_allclose(fast, slow_filter(y, steps, step_bars), rtol=1e-10)


def test_probabilities_are_probabilities(half_year: Market, fitted: Pipeline) -> None:
    p = probabilities(fitted, half_year)[48:]
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, atol=1e-12)


def test_regimes_are_ordered_by_the_volatility_that_follows(half_year: Market, fitted: Pipeline) -> None:
    likeliest = probabilities(fitted, half_year)[48:-4].argmax(axis=-1)
    squared = half_year.log_returns().to_numpy() ** 2
    following = sum(squared[48 + k : len(squared) - 4 + k] for k in range(1, 5))
    level = [float(np.sqrt(np.median(following[likeliest == k]))) for k in range(4)]
    assert level == sorted(level)
    assert level[3] > 2 * level[0]


def test_states_are_about_as_frequent_as_their_names_say(half_year: Market, fitted: Pipeline) -> None:
    mean = probabilities(fitted, half_year)[48:].mean(axis=(0, 1))
    np.testing.assert_allclose(mean, STATE_SHARE, atol=0.08)


def test_learned_means_ascend_and_transitions_are_rows_of_probabilities(fitted: Pipeline) -> None:
    state = fitted.states["regime_calm"]
    assert state["mean"] == sorted(state["mean"])
    transition = np.array(state["transition"])
    np.testing.assert_allclose(transition.sum(axis=1), 1.0)
    assert (np.diag(transition) > 0.8).all()


def test_a_more_violent_hour_is_never_read_as_calmer() -> None:
    y = np.linspace(-3, 5, 60)[np.newaxis, :]
    p = filter_probabilities(y, STATE, 1, 1)[0]
    for k in range(1, 4):
        upper = p[:, k:].sum(axis=1)
        assert (np.diff(upper) >= -1e-12).all()
    assert p[-1, 3] > 0.99


def test_the_crash_is_a_crisis(half_year: Market, fitted: Pipeline) -> None:
    worst = int(half_year.log_returns().sum(axis=1).to_numpy().argmin())
    p = probabilities(fitted, half_year)
    assert (p[worst, :, 2:].sum(axis=-1) > 0.8).all()


def test_too_short_a_history_gets_typical_values(market_of_closes: MakeMarket) -> None:
    rng = np.random.default_rng(1)
    closes = list(100 * np.exp(np.cumsum(0.01 * rng.standard_normal(72))))
    market = market_of_closes({"A": closes})
    pipeline = Pipeline.fit(market, ["regime_calm"])
    assert pipeline.states["regime_calm"]["mean"] == [-0.3, 0.25, 0.75, 1.3]
    np.testing.assert_allclose(np.sum(pipeline.states["regime_calm"]["transition"], axis=1), 1.0)
    np.testing.assert_allclose(probabilities(pipeline, market)[-1].sum(axis=-1), 1.0)


def test_a_flat_price_is_calm(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": [100.0] * 800})
    assert probabilities(Pipeline.fit(market, ["regime_calm"]), market)[-1, 0, 0] > 0.9


def test_the_filter_steps_by_an_hour_or_a_bar() -> None:
    steps = {i: filter_steps(pd.Timedelta(i)) for i in ("1min", "1h", "4h", "12h", "24h")}
    assert steps == {"1min": 48, "1h": 48, "4h": 48, "12h": 20, "24h": 10}
