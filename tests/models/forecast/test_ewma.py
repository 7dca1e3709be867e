"""``ewma`` by hand: quantiles of standardised losses times the scale, own where there is history, else
pooled.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame
from models.forecast.base import Dataset
from models.forecast.ewma import EwmaModel, Settings
from models.margin.fhs import LOSS_FLOOR, filtered_historical_simulation

MakeDataset = Callable[..., Dataset]
HOUR = pd.Timedelta(hours=1)
START = pd.Timestamp("2024-01-01", tz="UTC")


def returns_dataset(returns: np.ndarray, horizons: tuple[pd.Timedelta, ...] = (HOUR,)) -> Dataset:
    """Prices with these one-bar log returns (time, symbol), and a scale of 1 % a bar throughout."""
    log_close = np.vstack([np.zeros(returns.shape[1]), np.cumsum(returns, axis=0)])
    times = pd.date_range(START, periods=len(log_close), freq=HOUR, unit="ns")
    names = tuple("ABCDEF"[: returns.shape[1]])
    frame = FeatureFrame(times, names, ("ewma_volatility",), HOUR, np.full((*log_close.shape, 1), 0.01))
    return Dataset(frame, pd.DataFrame(np.exp(log_close), index=times, columns=list(names)), horizons, (0.9,))


def test_quantiles_and_means_beyond_by_hand() -> None:
    rng = np.random.default_rng(1)
    returns = 0.01 * rng.permuted(np.arange(-500, 501) / 100)[:, None]
    data = returns_dataset(returns)
    forecast = EwmaModel().fit(data).predict(data.features)
    assert forecast.levels == (0.9, 0.999)
    # Standardised losses are -5.00, -4.99, ... 5.00 on either side: the 0.9 quantile is 4.00, the mean beyond
    # it 4.50; at 0.999, 4.99 and 4.995.
    assert forecast.var[0, 0] == pytest.approx(np.array([[0.04, 0.0499]] * 2))
    assert forecast.es[0, 0] == pytest.approx(np.array([[0.045, 0.04995]] * 2))


def test_sides_follow_the_sign_of_the_loss() -> None:
    rng = np.random.default_rng(2)
    falls = np.where(rng.random((2000, 1)) < 0.2, -0.03, 0.0075)
    data = returns_dataset(falls)
    forecast = EwmaModel().fit(data).predict(data.features)
    assert forecast.var[0, 0, 0, 0] == pytest.approx(0.03)
    assert forecast.var[0, 0, 1, 0] == pytest.approx(0.0075)


def test_the_horizon_enters_by_its_square_root() -> None:
    returns = 0.01 * np.random.default_rng(3).standard_normal((20_000, 1))
    data = returns_dataset(returns, (HOUR, 4 * HOUR))
    var = EwmaModel().fit(data).predict(data.features).var
    assert var[0, 1, 0, 0] / var[0, 0, 0, 0] == pytest.approx(2, rel=0.05)
    doubled = FeatureFrame(data.features.times, ("A",), ("ewma_volatility",), HOUR, 2 * data.features.values)
    assert EwmaModel().fit(data).predict(doubled).var == pytest.approx(2 * var)


def test_short_histories_and_unseen_symbols_get_the_pooled_tail() -> None:
    rng = np.random.default_rng(4)
    returns = 0.01 * rng.standard_normal((3000, 3)) * [1.0, 2.0, 5.0]
    data = returns_dataset(returns)
    closes = data.closes.copy()
    closes.iloc[:2500, 2] = np.nan
    model = EwmaModel().fit(Dataset(data.features, closes, data.horizons, data.levels))
    pooled, own = model.tails[:, 0], model.tails[:, 1]
    assert np.array_equal(model.tails[:, 3], pooled)
    assert not np.array_equal(own, pooled)
    stranger = FeatureFrame(
        data.features.times[:1], ("Z",), ("ewma_volatility",), HOUR, data.features.values[:1, :1]
    )
    assert model.predict(stranger).var[0, 0] == pytest.approx(0.01 * pooled[0, 0])


def test_only_the_trailing_two_years_are_used() -> None:
    returns = 0.01 * np.random.default_rng(5).standard_normal((3 * 8766, 1))
    wild = returns.copy()
    wild[: 8766 - 24] *= 10
    calm, disturbed = (EwmaModel().fit(returns_dataset(r)) for r in (returns, wild))
    assert calm.tails == pytest.approx(disturbed.tails)


def test_a_price_that_only_rises_has_a_long_var_at_the_floor() -> None:
    returns = np.abs(0.01 * np.random.default_rng(6).standard_normal((2000, 1)))
    data = returns_dataset(returns)
    forecast = EwmaModel().fit(data).predict(data.features)
    assert (forecast.var[:, 0, 0] == LOSS_FLOOR).all()
    assert (forecast.var[:, 0, 1] > 0.01).all()


def test_it_is_what_the_rules_rung_computes(market: Market, make_dataset: MakeDataset) -> None:
    data = make_dataset(market, names=("ewma_volatility",))
    last = data.features.between(data.features.times[-1], None)
    forecast = EwmaModel().fit(data).predict(last)
    for s, symbol in enumerate(market.symbols):
        var, es = filtered_historical_simulation(
            market.close[symbol].to_numpy(), 3600.0, [3600.0, 14400.0], forecast.levels
        )
        assert forecast.var[s] == pytest.approx(var, rel=1e-9)
        assert forecast.es[s] == pytest.approx(es, rel=1e-9)


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        Settings(min_row=5)  # type: ignore[call-arg]
