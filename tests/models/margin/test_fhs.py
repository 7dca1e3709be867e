import math

import numpy as np
import pytest

from models.margin import fhs
from models.margin.fhs import (
    LOSS_FLOOR,
    VOLATILITY_FLOOR,
    TooShortError,
    ewma_volatility,
    filtered_historical_simulation,
    horizon_in_bars,
    needed_residuals,
    scale,
    standardised_losses,
    tail_quantiles,
)

HOUR = 3600.0
LEVELS = (0.975, 0.99, 0.999)


def walk(bars: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100 * np.exp(np.cumsum(0.01 * rng.standard_t(4, bars)))


def slow_volatility(returns: np.ndarray, decay: float, window: int) -> np.ndarray:
    """The definition, one bar after the other."""
    out = np.full(len(returns), np.nan)
    for t in range(len(returns)):
        pairs = [(decay**k, returns[t - k]) for k in range(window) if t - k >= 0]
        known = [(w, r) for w, r in pairs if not math.isnan(r)]
        if known:
            variance = sum(w * r * r for w, r in known) / sum(w for w, _ in known)
            out[t] = max(math.sqrt(variance), VOLATILITY_FLOOR)
    return out


def test_ewma_volatility_by_hand() -> None:
    returns = np.array([0.03, -0.04, 0.0, 0.01])
    found = ewma_volatility(returns, 0.5, 2)
    # Two bars, weights 1 and 1/2: sqrt((r_t^2 + r_(t-1)^2 / 2) / 1.5).
    expected = [0.03, math.sqrt((16 + 4.5) / 1.5) / 100, math.sqrt(8 / 1.5) / 100, math.sqrt(1 / 1.5) / 100]
    assert found == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 8, 13, 64, 500])
def test_ewma_volatility_agrees_with_its_definition(window: int) -> None:
    rng = np.random.default_rng(window)
    returns = rng.normal(0, 0.01, 100)
    returns[[0, 5, 6, 7, 40]] = np.nan
    np.testing.assert_allclose(
        ewma_volatility(returns, 0.9, window), slow_volatility(returns, 0.9, window), rtol=1e-12
    )


def test_ewma_volatility_of_several_symbols_is_that_of_each() -> None:
    returns = np.random.default_rng(1).normal(0, 0.01, (300, 3))
    together = ewma_volatility(returns, 0.94, 50)
    for s in range(3):
        np.testing.assert_array_equal(together[:, s], ewma_volatility(returns[:, s], 0.94, 50))


def test_nothing_older_than_the_window_has_any_effect() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, 300)
    crashed = returns.copy()
    crashed[100] = -11.0
    calm, after = ewma_volatility(returns, 0.94, 50), ewma_volatility(crashed, 0.94, 50)
    np.testing.assert_array_equal(calm[150:], after[150:])
    np.testing.assert_array_equal(calm[:100], after[:100])
    assert (after[100:150] > calm[100:150]).all()


def test_minimum_returns_and_missing_bars() -> None:
    returns = np.array([np.nan, 0.01, np.nan, 0.01, 0.01, np.nan, np.nan, np.nan, np.nan])
    found = ewma_volatility(returns, 0.5, 4, minimum_returns=2)
    assert np.isnan(found).tolist() == [True, True, True, False, False, False, False, True, True]
    assert found[3:7] == pytest.approx([0.01] * 4, rel=1e-14)


@pytest.mark.parametrize(("decay", "window"), [(1.0, 5), (0.0, 5), (math.nan, 5), (0.9, 0)])
def test_an_impossible_decay_or_window_is_refused(decay: float, window: int) -> None:
    with pytest.raises(ValueError, match="must"):
        ewma_volatility(np.zeros(3), decay, window)


@pytest.mark.parametrize(
    ("interval_s", "window", "first"), [(HOUR, 239, 24), (7200.0, 119, 12), (86400.0, 9, 6)]
)
def test_the_scale_of_the_forecast(interval_s: float, window: int, first: int) -> None:
    """Ten days of returns, a decay of 0.94 an hour, known after a day of returns and at least six."""
    closes = walk(400)
    found = scale(closes, interval_s)
    assert np.flatnonzero(np.isfinite(found))[0] == first
    returns = np.diff(np.log(closes), prepend=np.nan)
    expected = slow_volatility(returns, 0.94 ** (interval_s / HOUR), window)
    np.testing.assert_allclose(found[first:], expected[first:], rtol=1e-12)
    assert scale(closes[-(window + 1) :], interval_s)[-1] == found[-1]


def test_standardised_losses_are_matured_returns_in_units_of_the_scale() -> None:
    log_closes = np.array([0.0, 0.01, 0.03, np.nan, 0.02])
    volatility = np.array([0.01, 0.005, np.nan, 0.01, 0.01])
    z = standardised_losses(log_closes, volatility, 2)
    assert z[0] == pytest.approx(0.03 / (0.01 * math.sqrt(2)), rel=1e-14)
    assert np.isnan(z[1:]).all()
    assert np.isnan(standardised_losses(log_closes, volatility, 5)).all()
    assert np.isnan(standardised_losses(log_closes, volatility, 9)).all()


def test_a_scale_at_its_floor_measures_no_move() -> None:
    z = standardised_losses(np.array([0.0, 0.0, 0.1]), np.full(3, VOLATILITY_FLOOR), 1)
    assert z[0] == 0.0
    assert np.isnan(z[1:]).all()


def test_tail_quantiles_by_hand() -> None:
    z = np.append(np.arange(-50.0, 51.0), np.nan)  # 101 values, so that the quantile at p is 100 p - 50
    var, es = tail_quantiles(z, (0.9, 0.98))
    assert var == pytest.approx(np.array([[40.0, 48.0], [40.0, 48.0]]), rel=1e-14)
    assert es == pytest.approx(np.array([[45.0, 49.0], [45.0, 49.0]]), rel=1e-14)
    # Between two order statistics: 0.975 x 100 - 50 = 47.5; at or beyond it lie 48, 49, 50.
    var, es = tail_quantiles(z, (0.975,))
    assert (var[0, 0], es[0, 0]) == pytest.approx((47.5, 49.0), rel=1e-14)


def test_the_long_side_is_the_lower_tail() -> None:
    var, es = tail_quantiles(np.array([-10.0, *[0.0] * 98, 1.0, 2.0]), (0.99,))
    assert es[:, 0].tolist() == [5.0, 1.5]  # ties with the quantile, 0, count by rank
    assert var[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert var[1, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("levels", [(0.99, 0.975), (0.99, 0.99), (0.4,), (1.0,)])
def test_levels_out_of_order_or_range_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        tail_quantiles(np.arange(10.0), levels)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="no residual"):
        tail_quantiles(np.array([np.nan]), (0.99,))


def test_the_forecast_is_todays_scale_times_the_tail() -> None:
    closes = walk(2000)
    var, es = filtered_historical_simulation(closes, HOUR, (HOUR, 4 * HOUR), LEVELS)
    log_closes = np.log(closes)
    returns = np.diff(log_closes, prepend=np.nan)
    sigma = slow_volatility(returns, 0.94, 239)
    sigma[:24] = np.nan
    for h, bars in enumerate((1, 4)):
        z = np.array(
            [
                (log_closes[t + bars] - log_closes[t]) / (sigma[t] * math.sqrt(bars))
                for t in range(24, 2000 - bars)
            ]
        )
        for s, losses in enumerate((-z, z)):
            for k, p in enumerate(LEVELS):
                q = np.quantile(losses, p)
                assert var[h, s, k] == pytest.approx(sigma[-1] * math.sqrt(bars) * q, rel=1e-9)
                mean = losses[losses >= q].mean()
                assert es[h, s, k] == pytest.approx(sigma[-1] * math.sqrt(bars) * mean, rel=1e-9)


def test_it_is_what_the_model_ewma_forecasts() -> None:
    """One method, fitted ahead of time there and on the spot here."""
    import pandas as pd

    from features.bars import Market
    from features.pipeline import Pipeline
    from models.forecast.base import Dataset
    from models.forecast.ewma import EwmaModel

    times = pd.date_range("2024-01-01", periods=3000, freq="1h", tz="UTC", unit="ns")
    closes = walk(3000, seed=3)
    hour = pd.Timedelta(hours=1)
    market = Market(hour, {"close": pd.DataFrame({"A": closes}, index=times)})
    frame = Pipeline.fit(market, EwmaModel.feature_names()).batch(market)
    horizons = (hour, 4 * hour)
    model = EwmaModel().fit(Dataset(frame, market.close, horizons, LEVELS))
    forecast = model.predict(frame.between(times[-1], None))
    var, es = filtered_historical_simulation(closes, HOUR, (HOUR, 4 * HOUR), LEVELS)
    np.testing.assert_allclose(var, forecast.var[-1], rtol=1e-9)
    np.testing.assert_allclose(es, forecast.es[-1], rtol=1e-9)


@pytest.mark.parametrize("interval_s", [60.0, 900.0, HOUR, 7200.0, 86400.0])
def test_every_forecast_is_in_order_at_every_interval(interval_s: float) -> None:
    horizons = (interval_s, 4 * interval_s, 24 * interval_s)
    var, es = filtered_historical_simulation(walk(3000), interval_s, horizons, LEVELS)
    assert (var > 0).all()
    assert (es >= var).all()
    assert (np.diff(var, axis=-1) >= 0).all()
    assert (np.diff(es, axis=-1) >= 0).all()


@pytest.mark.parametrize(
    "closes",
    [
        np.full(600, 5.0),
        np.exp(np.arange(600) * 1e-3),  # one way up: the long loses nothing
        np.where(np.arange(600) < 599, 5.0, 6.0),
        np.where(np.arange(600) == 300, 1e-4, 5.0),
        np.where(np.arange(600) % 7 == 3, np.nan, walk(600)),
    ],
    ids=["flat", "one way", "first move", "print of 0.0001", "holes"],
)
def test_a_degenerate_tape_has_a_forecast_in_order(closes: np.ndarray) -> None:
    var, es = filtered_historical_simulation(closes, HOUR, (HOUR, 4 * HOUR), LEVELS)
    assert np.isfinite(es).all()
    assert (var >= LOSS_FLOOR).all()
    assert (es >= var).all()
    assert (np.diff(var, axis=-1) >= 0).all()
    assert (np.diff(es, axis=-1) >= 0).all()


def test_a_flat_price_is_at_the_floor() -> None:
    var, es = filtered_historical_simulation(np.full(600, 5.0), HOUR, (HOUR,), LEVELS)
    assert (var == LOSS_FLOOR).all()
    assert (es == LOSS_FLOOR).all()


def test_what_is_older_than_the_residuals_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhs, "RESIDUALS_S", 500 * HOUR)
    closes = walk(2000)
    other = closes.copy()
    other[: 2000 - 501 - 239] *= np.linspace(1.0, 5.0, 2000 - 501 - 239)
    for one, two in zip(
        filtered_historical_simulation(closes, HOUR, (HOUR,), LEVELS),
        filtered_historical_simulation(other, HOUR, (HOUR,), LEVELS),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("bars", "enough"), [(0, False), (10, False), (224, False), (225, True)])
def test_too_short_a_history_is_refused(bars: int, enough: bool) -> None:
    # 24 bars before the first scale, then 200 residuals that have matured after one bar.
    if enough:
        filtered_historical_simulation(walk(bars), HOUR, (HOUR,), LEVELS)
    else:
        with pytest.raises(TooShortError, match="give"):
            filtered_historical_simulation(walk(bars), HOUR, (HOUR,), LEVELS)


def test_a_long_horizon_needs_more() -> None:
    assert needed_residuals(1) == needed_residuals(40) == 200
    assert needed_residuals(100) == 500


@pytest.mark.parametrize("close", [0.0, -1.0, math.inf])
def test_an_impossible_close_is_refused(close: float) -> None:
    closes = walk(600)
    closes[17] = close
    with pytest.raises(ValueError, match="in row 17"):
        filtered_historical_simulation(closes, HOUR, (HOUR,), LEVELS)


def test_the_shape_is_that_of_one_contract() -> None:
    with pytest.raises(ValueError, match=r"shape \(600, 2\)"):
        filtered_historical_simulation(np.ones((600, 2)), HOUR, (HOUR,), LEVELS)


def test_horizon_in_bars() -> None:
    assert horizon_in_bars(14400.0, 900.0) == 16
    with pytest.raises(ValueError, match=r"horizon 5400 s is not a whole number of 3600 s bars"):
        horizon_in_bars(5400.0, 3600.0)


@pytest.mark.realdata
@pytest.mark.parametrize("interval", ["15m", "30m", "1h", "2h"])
def test_real_bars_give_a_forecast_in_order(real_data, interval: str) -> None:
    import pandas as pd

    seconds = pd.Timedelta(interval).total_seconds()
    for path in sorted((real_data / "bars" / "binance-spot" / interval).glob("*.parquet")):
        bars = pd.read_parquet(path, columns=["open_time", "close"]).set_index("open_time")["close"]
        closes = bars.asfreq(pd.Timedelta(interval)).to_numpy()
        for end in (len(closes) // 2, len(closes)):
            var, es = filtered_historical_simulation(closes[:end], seconds, (4 * 3600.0, 86400.0), LEVELS)
            assert (var > LOSS_FLOOR).all(), path.name
            assert (es >= var).all(), path.name
            assert (es < 1.5).all(), path.name
            assert (np.diff(es, axis=-1) >= 0).all(), path.name
