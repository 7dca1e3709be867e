"""``garch`` by hand: the variance over a horizon, and quantiles of the losses standardised by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame, Pipeline
from features.sources.parquet import read_folder
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.ewma import EwmaModel
from models.forecast.garch import INPUTS, GarchModel, Settings, variance_over
from models.margin.fhs import LOSS_FLOOR
from models.scores import fz0

HOUR = pd.Timedelta(hours=1)
START = pd.Timestamp("2024-01-01", tz="UTC")
MarketOfReturns = Callable[[np.ndarray], Market]


def inputs(
    times: pd.DatetimeIndex, symbols: tuple[str, ...], variance: float, omega: float, persistence: float
) -> FeatureFrame:
    values = np.broadcast_to([variance, omega, persistence], (len(times), len(symbols), 3)).copy()
    return FeatureFrame(times, symbols, INPUTS, HOUR, values)


def returns_dataset(returns: np.ndarray, horizons: tuple[pd.Timedelta, ...] = (HOUR,)) -> Dataset:
    """Prices with these one-bar log returns (time, symbol), and a variance of 1 % squared throughout."""
    log_close = np.vstack([np.zeros(returns.shape[1]), np.cumsum(returns, axis=0)])
    times = pd.date_range(START, periods=len(log_close), freq=HOUR, unit="ns")
    names = tuple("ABCDEF"[: returns.shape[1]])
    frame = inputs(times, names, 1e-4, 0.0, 1.0)
    return Dataset(frame, pd.DataFrame(np.exp(log_close), index=times, columns=list(names)), horizons, (0.9,))


def one(value: float) -> np.ndarray:
    return np.array([value])


def test_the_variance_over_a_horizon_by_hand() -> None:
    # v = 4, then 1 + 2 = 3, then 1 + 1.5 = 2.5.
    assert variance_over(one(4.0), one(1.0), one(0.5), 1)[0] == 4.0
    assert variance_over(one(4.0), one(1.0), one(0.5), 3)[0] == pytest.approx(9.5)
    assert variance_over(one(4.0), one(1.0), one(1.0), 3)[0] == 4 + 5 + 6
    assert np.isnan(variance_over(one(np.nan), one(1.0), one(0.5), 3)[0])


@pytest.mark.parametrize("persistence", [0.0, 0.9, 0.999, 1 - 1e-7, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("bars", [1, 4, 24, 1440])
def test_the_closed_form_is_the_sum(persistence: float, bars: int) -> None:
    v, total = 3e-4, 0.0
    for _ in range(bars):
        total += v
        v = 2e-6 + persistence * v
    assert variance_over(one(3e-4), one(2e-6), one(persistence), bars)[0] == pytest.approx(total, rel=1e-5)


def test_quantiles_and_means_beyond_by_hand() -> None:
    rng = np.random.default_rng(1)
    returns = 0.01 * rng.permuted(np.arange(-500, 501) / 100)[:, None]
    data = returns_dataset(returns)
    forecast = GarchModel().fit(data).predict(data.features)
    assert forecast.levels == (0.9, 0.999)
    # Standardised losses are -5.00, -4.99, ... 5.00 on either side: the 0.9 quantile is 4.00, the mean beyond
    # it 4.50; at 0.999, 4.99 and 4.995.
    assert forecast.var[0, 0] == pytest.approx(np.array([[0.04, 0.0499]] * 2))
    assert forecast.es[0, 0] == pytest.approx(np.array([[0.045, 0.04995]] * 2))


def test_sides_follow_the_sign_of_the_loss() -> None:
    rng = np.random.default_rng(2)
    falls = np.where(rng.random((2000, 1)) < 0.2, -0.03, 0.0075)
    data = returns_dataset(falls)
    forecast = GarchModel().fit(data).predict(data.features)
    assert forecast.var[0, 0, 0, 0] == pytest.approx(0.03)
    assert forecast.var[0, 0, 1, 0] == pytest.approx(0.0075)


def test_after_a_shock_the_variance_reverts_over_the_horizon() -> None:
    returns = 0.01 * np.random.default_rng(3).standard_normal((20_000, 1))
    data = returns_dataset(returns, (HOUR, 4 * HOUR))
    model = GarchModel().fit(data)
    calm = model.predict(inputs(data.features.times[:1], ("A",), 1e-4, 5e-5, 0.5)).var[0, :, 0, 0]
    shocked = model.predict(inputs(data.features.times[:1], ("A",), 16e-4, 5e-5, 0.5)).var[0, :, 0, 0]
    # Next bar sixteen times the variance; over four, 16 + 8.5 + 4.75 + 2.875 = 32.125 to 4.
    assert shocked / calm == pytest.approx(np.sqrt([16, 32.125 / 4]))


def test_short_histories_and_unseen_symbols_get_the_pooled_tail() -> None:
    returns = 0.01 * np.random.default_rng(4).standard_normal((3000, 3)) * [1.0, 2.0, 5.0]
    data = returns_dataset(returns)
    closes = data.closes.copy()
    closes.iloc[:2500, 2] = np.nan
    model = GarchModel().fit(Dataset(data.features, closes, data.horizons, data.levels))
    pooled, own = model.tails[:, 0], model.tails[:, 1]
    assert np.array_equal(model.tails[:, 3], pooled)
    assert not np.array_equal(own, pooled)
    stranger = inputs(data.features.times[:1], ("Z",), 1e-4, 0.0, 1.0)
    assert model.predict(stranger).var[0, 0] == pytest.approx(0.01 * pooled[0, 0])


def test_only_the_trailing_two_years_are_used() -> None:
    returns = 0.01 * np.random.default_rng(5).standard_normal((3 * 8766, 1))
    wild = returns.copy()
    wild[: 8766 - 24] *= 10
    calm, disturbed = (GarchModel().fit(returns_dataset(r)) for r in (returns, wild))
    assert calm.tails == pytest.approx(disturbed.tails)


def test_a_price_that_only_rises_has_a_long_var_at_the_floor() -> None:
    returns = np.abs(0.01 * np.random.default_rng(6).standard_normal((2000, 1)))
    data = returns_dataset(returns)
    forecast = GarchModel().fit(data).predict(data.features)
    assert (forecast.var[:, 0, 0] == LOSS_FLOOR).all()
    assert (forecast.var[:, 0, 1] > 0.01).all()


def test_a_row_that_lacks_any_input_is_left_out() -> None:
    data = returns_dataset(0.01 * np.random.default_rng(7).standard_normal((2000, 1)))
    model = GarchModel().fit(data)
    values = data.features.values[:4].copy()
    values[[0, 1, 2], 0, [0, 1, 2]] = np.nan
    holed = FeatureFrame(data.features.times[:4], ("A",), INPUTS, HOUR, values)
    assert model.predict(holed).rows.tolist() == [(data.features.times[3], "A")]


def held_out_fz0(model: TailModel, market: Market, split: pd.Timestamp, horizons: int) -> np.ndarray:
    """FZ0 (percent, level 0.975) by horizon of a model fitted up to ``split``, on what came after."""
    spans = tuple(pd.Timedelta(hours=h) for h in (1, 4, 24)[:horizons])
    known = market.until(split)
    pipeline = Pipeline.fit(known, model.feature_names())
    model.fit(Dataset(pipeline.batch(known), known.close, spans, (0.975,)))
    later = market.since(split - pipeline.look_back)
    frame = pipeline.batch(later).between(split + max(spans), None)
    return np.array([_score(model.predict(frame), market, h) for h in range(horizons)])


def _score(forecast: TailForecast, market: Market, h: int) -> float:
    time = market.times.get_indexer(forecast.rows.get_level_values("time"))
    symbol = pd.Index(market.symbols).get_indexer(forecast.rows.get_level_values("symbol"))
    bars, log_close = int(forecast.horizons[h] / HOUR), np.log(market.close.to_numpy())
    matured = time + bars < len(log_close)
    t, s = time[matured], symbol[matured]
    change = 100 * (log_close[t + bars, s] - log_close[t, s])
    losses = np.stack([-change, change], axis=1)
    known = np.isfinite(losses)
    var, es = (100 * a[matured, h, :, 0] for a in (forecast.var, forecast.es))
    return float(fz0(losses[known], var[known], es[known], 0.975).mean())


def test_on_garch_returns_it_is_better_than_the_ewma() -> None:
    """Where its law holds, with variance that comes back quickly, the model knows more than an average."""
    z = np.random.default_rng(8).standard_t(6, (12_000, 2)) * np.sqrt(4 / 6)
    r, v = np.empty_like(z), np.full(2, 1e-4)
    for t in range(len(z)):
        r[t] = np.sqrt(v) * z[t]
        v = 1.5e-5 + (0.1 + 0.2 * (r[t] < 0)) * r[t] ** 2 + 0.65 * v
    closes = 100 * np.exp(np.cumsum(r, axis=0))
    times = pd.date_range(START, periods=len(z), freq=HOUR, unit="ns")
    market = Market(HOUR, {"close": pd.DataFrame(closes, index=times, columns=["A", "B"])})
    garch, ewma = (held_out_fz0(m, market, times[8000], 2) for m in (GarchModel(), EwmaModel()))
    assert (garch < ewma - 0.01).all(), (garch, ewma)


@pytest.mark.realdata
def test_on_real_bars_it_is_no_worse_than_the_ewma(real_data: Path) -> None:
    split = pd.Timestamp("2024-06-30", tz="UTC")
    market = read_folder(real_data / "bars" / "binance-spot" / "1h", HOUR, None).reading(["close"])
    market = market.since(split - pd.Timedelta(days=730)).until(split + pd.Timedelta(days=91))
    garch, ewma = (held_out_fz0(m, market, split, 3) for m in (GarchModel(), EwmaModel()))
    assert (garch < ewma).all(), (garch, ewma)


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        Settings(min_row=5)  # type: ignore[call-arg]
