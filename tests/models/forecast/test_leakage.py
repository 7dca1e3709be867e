"""No model knows what it cannot know, found by discovery: skill comes from true labels and timely features,
and what follows a time changes nothing before it.

The market here has a volatility that wanders widely within days, so that there is much to know. Skill is FZ0
at 97.5 % over one hour, both sides, below that of a constant: the pooled tail of the training window.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest

from features.bars import Market, check_bars
from features.pipeline import FeatureFrame, Pipeline
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.discovery import model_class, model_names
from models.margin.fhs import tail_quantiles
from models.scores import fz0

HOUR = pd.Timedelta(hours=1)
LEVEL = 0.975
BARS, TRAINED = 4000, 2800
#: What a model without skill may gain or lose by luck over the rows scored here.
LUCK = 0.02
NewModel = Callable[[str], TailModel]


def bar_table(log_close: np.ndarray, wick: np.ndarray) -> pd.DataFrame:
    close = np.exp(log_close)
    opening = np.append(1.0, close[:-1])
    return pd.DataFrame(
        {
            "open_time": pd.date_range("2024-01-01", periods=len(close), freq=HOUR, tz="UTC"),
            **{"open": opening, "close": close, "volume": 1.0},
            **{"high": np.maximum(opening, close) * wick, "low": np.minimum(opening, close) / wick},
        }
    )


@pytest.fixture(scope="module")
def volatile() -> Market:
    """Two symbols under one log volatility, an AR(1) with a half-life of 17 hours and a deviation of 1."""
    rng = np.random.default_rng(4)
    keep = 0.96
    shocks = np.sqrt(1 - keep**2) * rng.standard_normal(BARS)
    log_volatility = np.empty(BARS)
    state = 0.0
    for t in range(BARS):
        log_volatility[t] = state
        state = keep * state + shocks[t]
    scale = 0.005 * np.exp(log_volatility)
    tables = {}
    for symbol in ("AUSDT", "BUSDT"):
        log_close = np.cumsum(scale * rng.standard_normal(BARS))
        wick = np.exp(0.5 * scale * rng.random(BARS))
        tables[symbol] = check_bars(bar_table(log_close, wick), HOUR, symbol)
    return Market.from_bars(tables, HOUR)


@pytest.fixture(scope="module")
def data_of(volatile: Market) -> Callable[[str], Dataset]:
    """Features that learned on the training window alone, over all of the market."""

    @cache
    def build(name: str) -> Dataset:
        pipeline = Pipeline.fit(
            volatile.until(volatile.times[TRAINED - 1]), model_class(name).feature_names()
        )
        return Dataset(pipeline.batch(volatile), volatile.close, (HOUR, 4 * HOUR), (LEVEL, 0.99))

    return build


@pytest.fixture(params=model_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(name: str, data_of: Callable[[str], Dataset]) -> Dataset:
    return data_of(name)


def cut(data: Dataset, first: int, end: int) -> Dataset:
    times = data.features.times
    features = data.features.between(times[first], times[end - 1])
    return Dataset(features, data.closes.iloc[first:end], data.horizons, data.levels)


def lagged(data: Dataset, bars: int) -> Dataset:
    """Each row with the features of ``bars`` before it; a negative number lets it see the future."""
    taken = np.arange(len(data.closes)) - bars
    there = (taken >= 0) & (taken < len(taken))
    values = np.full_like(data.features.values, np.nan)
    values[there] = data.features.values[taken[there]]
    f = data.features
    features = FeatureFrame(f.times, f.symbols, f.names, f.interval, values)
    return Dataset(features, data.closes, data.horizons, data.levels)


def scored(model: TailModel, data: Dataset) -> tuple[float, float]:
    """FZ0 of the model and of the constant on the hourly losses after the training window."""
    tested = cut(data, TRAINED, BARS)
    forecast = model.predict(tested.features)
    time = tested.features.times.get_indexer(pd.DatetimeIndex(forecast.rows.get_level_values("time")))
    symbol = pd.Index(tested.features.symbols).get_indexer(forecast.rows.get_level_values("symbol"))
    returns = tested.forward_returns(HOUR)[time, symbol]
    assert np.isfinite(returns).mean() > 0.99
    losses = np.stack([-returns, returns], axis=-1)
    mine = fz0(losses, forecast.var[:, 0, :, 0], forecast.es[:, 0, :, 0], LEVEL)
    var, es = tail_quantiles(cut(data, 0, TRAINED).forward_returns(HOUR), (LEVEL,))
    constant = fz0(losses, var[:, 0], es[:, 0], LEVEL)
    return float(np.nanmean(mine)), float(np.nanmean(constant))


def test_true_labels_give_skill(name: str, data: Dataset, new_model: NewModel) -> None:
    mine, constant = scored(new_model(name).fit(cut(data, 0, TRAINED)), data)
    assert mine < constant - 0.3


def test_shuffled_labels_give_no_skill(name: str, data: Dataset, new_model: NewModel) -> None:
    """Returns in random order under the true features: nothing is left to know but the long-run tail."""
    returns = np.diff(np.log(data.closes.to_numpy()), axis=0)
    shuffled = np.random.default_rng(8).permutation(returns)
    log_close = np.vstack([np.zeros(returns.shape[1]), np.cumsum(shuffled, axis=0)])
    closes = pd.DataFrame(np.exp(log_close), index=data.closes.index, columns=data.closes.columns)
    mixed = Dataset(data.features, closes, data.horizons, data.levels)
    mine, constant = scored(new_model(name).fit(cut(mixed, 0, TRAINED)), mixed)
    assert mine > constant - LUCK


def test_later_features_give_less_skill_and_earlier_ones_too_much(
    name: str, data: Dataset, new_model: NewModel
) -> None:
    """A bar late costs skill, and a bar early, the one that holds the loss, would show at once."""
    late, timely, early = (
        scored(new_model(name).fit(cut(lagged(data, bars), 0, TRAINED)), lagged(data, bars))[0]
        for bars in (1, 0, -1)
    )
    assert early < timely - 0.2
    assert late > timely + LUCK


def test_dropping_what_follows_changes_no_forecast(
    name: str, data: Dataset, volatile: Market, new_model: NewModel
) -> None:
    pipeline = Pipeline.fit(volatile.until(volatile.times[TRAINED - 1]), model_class(name).feature_names())
    model = new_model(name).fit(cut(data, 0, TRAINED))
    whole = model.predict(data.features)
    for end in (TRAINED + 7, TRAINED + 600):
        until = volatile.times[end]
        dropped = model.predict(pipeline.batch(volatile.until(until)))
        rows = whole.rows.get_level_values("time") <= until
        assert same(dropped, whole, rows)


def same(a: TailForecast, b: TailForecast, rows: np.ndarray) -> bool:
    return (
        a.rows.equals(b.rows[rows])
        and np.array_equal(a.var, b.var[rows])
        and np.array_equal(a.es, b.es[rows])
    )
