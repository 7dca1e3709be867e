"""What the regimes' probabilities must be, of each symbol and of the market."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline
from features.regime import filter_steps, learned_regimes, regimes
from features.regime_chain import REGIMES, STATE_SHARE
from features.sources.simulated import simulate

MakeMarket = Callable[..., Market]
OWN, WHOLE = "regime", "market_regime"
BOTH = pytest.mark.parametrize("prefix", [OWN, WHOLE])


@pytest.fixture(scope="module")
def half_year() -> Market:
    return simulate(symbols=4, days=180, seed=21)


@pytest.fixture(scope="module")
def fitted(half_year: Market) -> Pipeline:
    return Pipeline.fit(half_year, ["regime_calm"])


def probabilities(pipeline: Pipeline, market: Market, prefix: str = OWN) -> np.ndarray:
    frame = pipeline.batch(market)
    return np.stack([frame[f"{prefix}_{name}"] for name in REGIMES], axis=-1)


@BOTH
def test_probabilities_are_probabilities(half_year: Market, fitted: Pipeline, prefix: str) -> None:
    p = probabilities(fitted, half_year, prefix)[48:]
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, atol=1e-12)


@BOTH
def test_regimes_are_ordered_by_the_volatility_that_follows(
    half_year: Market, fitted: Pipeline, prefix: str
) -> None:
    likeliest = probabilities(fitted, half_year, prefix)[48:-4].argmax(axis=-1)
    squared = half_year.log_returns().to_numpy() ** 2
    following = sum(squared[48 + k : len(squared) - 4 + k] for k in range(1, 5))
    level = [float(np.sqrt(np.median(following[likeliest == k]))) for k in range(4)]
    assert level == sorted(level)
    assert level[3] > 2 * level[0]


@BOTH
def test_states_are_about_as_frequent_as_their_names_say(
    half_year: Market, fitted: Pipeline, prefix: str
) -> None:
    mean = probabilities(fitted, half_year, prefix)[48:].mean(axis=(0, 1))
    np.testing.assert_allclose(mean, STATE_SHARE, atol=0.1)


def test_the_market_is_one_and_its_symbols_differ(half_year: Market, fitted: Pipeline) -> None:
    whole = probabilities(fitted, half_year, WHOLE)[48:]
    np.testing.assert_array_equal(whole, np.broadcast_to(whole[:, :1], whole.shape))
    own = probabilities(fitted, half_year)[48:]
    assert np.abs(own - own[:, :1]).max() > 0.5


@pytest.mark.parametrize("chain", ["symbol", "market"])
def test_learned_chains_are_ordered_and_say_what_they_observe(fitted: Pipeline, chain: str) -> None:
    state = fitted.states["regime_calm"][chain]
    assert state["observations"] == ["volatility", "toxicity", "illiquidity", "togetherness"]
    volatility = [mean[0] for mean in state["mean"]]
    assert volatility == sorted(volatility)
    transition = np.array(state["transition"])
    np.testing.assert_allclose(transition.sum(axis=1), 1.0)
    assert (np.diag(transition) > 0.8).all()


@BOTH
def test_the_crash_is_a_crisis(half_year: Market, fitted: Pipeline, prefix: str) -> None:
    worst = int(half_year.log_returns().sum(axis=1).to_numpy().argmin())
    p = probabilities(fitted, half_year, prefix)
    assert (p[worst, :, 2:].sum(axis=-1) > 0.8).all()


def test_without_flow_and_volume_the_others_carry_on(half_year: Market, fitted: Pipeline) -> None:
    whole = probabilities(fitted, half_year)[48:]
    for gone in (["taker_buy_volume"], ["volume", "taker_buy_volume"]):
        less = half_year.reading([c for c in half_year.columns if c not in gone])
        part = probabilities(fitted, less)[48:]
        np.testing.assert_allclose(part.sum(axis=-1), 1.0, atol=1e-12)
        assert 0 < np.abs(part - whole).mean() < 0.05
        assert (part.argmax(axis=-1) == whole.argmax(axis=-1)).mean() > 0.85


def test_what_is_absent_in_training_is_not_observed(half_year: Market) -> None:
    prices = learned_regimes(half_year.reading(["close", "high", "low"]))
    assert prices["symbol"]["observations"] == ["volatility", "togetherness"]
    assert learned_regimes(half_year, ["volatility"])["market"]["observations"] == ["volatility"]
    one = half_year.select(half_year.symbols[:1])
    assert learned_regimes(one)["symbol"]["observations"] == ["volatility", "toxicity", "illiquidity"]


def test_books_are_observed_where_half_of_the_hours_have_them(half_year: Market) -> None:
    rng = np.random.default_rng(3)
    spread = pd.DataFrame(0.001 * rng.random(half_year.close.shape), half_year.times, half_year.symbols)
    rare = spread.copy()
    rare.iloc[: 6 * len(rare) // 10] = np.nan
    for given, observed in ((spread, True), (rare, False)):
        state = learned_regimes(half_year.with_columns({"book_spread": given}))
        assert ("spread" in state["symbol"]["observations"]) == observed


def test_a_new_symbol_is_measured_against_the_pooled_usual(half_year: Market) -> None:
    state = learned_regimes(half_year.select(half_year.symbols[:3]))
    stranger = half_year.select(half_year.symbols[3:])
    given = {**state, "usual": {stranger.symbols[0]: state["pooled"]}}
    expected, found = regimes(stranger, given), regimes(stranger, state)
    pd.testing.assert_frame_equal(found["regime_crisis"], expected["regime_crisis"])


def test_too_short_a_history_gets_typical_values(market_of_closes: MakeMarket) -> None:
    rng = np.random.default_rng(1)
    closes = list(100 * np.exp(np.cumsum(0.01 * rng.standard_normal(72))))
    market = market_of_closes({"A": closes})
    pipeline = Pipeline.fit(market, ["regime_calm"])
    for chain in ("symbol", "market"):
        state = pipeline.states["regime_calm"][chain]
        assert state["observations"] == ["volatility"]
        assert state["mean"] == [[-0.3], [0.25], [0.75], [1.3]]
    for prefix in (OWN, WHOLE):
        np.testing.assert_allclose(probabilities(pipeline, market, prefix)[-1].sum(axis=-1), 1.0)


@BOTH
def test_a_flat_price_is_calm(market_of_closes: MakeMarket, prefix: str) -> None:
    market = market_of_closes({"A": [100.0] * 800})
    assert probabilities(Pipeline.fit(market, ["regime_calm"]), market, prefix)[-1, 0, 0] > 0.9


def test_what_an_earlier_version_learned_is_refused(half_year: Market) -> None:
    earlier = {"usual": {}, "pooled": 0.01, "mean": [0, 1, 2, 3], "deviation": 1.0, "transition": []}
    with pytest.raises(ValueError, match=r"earlier version.*retrain"):
        regimes(half_year, earlier)


def test_the_filter_steps_by_an_hour_or_a_bar_and_its_week_lies_within_the_look_back() -> None:
    steps = {i: filter_steps(pd.Timedelta(i)) for i in ("1min", "1h", "2h", "4h", "12h", "24h")}
    assert steps == {"1min": 48, "1h": 48, "2h": 35, "4h": 17, "12h": 5, "24h": 2}
