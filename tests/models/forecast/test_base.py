"""The invariants of ``TailForecast`` on literal arrays, the forecast table, and the labels of ``Dataset``."""

import numpy as np
import pandas as pd
import pytest

from features.pipeline import FeatureFrame
from models.forecast.base import Dataset, ForecastError, TailForecast

HOUR = pd.Timedelta(hours=1)
ROWS = pd.MultiIndex.from_tuples([(pd.Timestamp("2024-05-01", tz="UTC"), "BETA")], names=["time", "symbol"])
LEVELS = (0.975, 0.99, 0.999)
VAR = np.array([[[[0.01, 0.02, 0.04], [0.01, 0.03, 0.05]]]])
ES = np.array([[[[0.02, 0.03, 0.05], [0.02, 0.04, 0.05]]]])


def broken(array: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    out = array.copy()
    out[index] = value
    return out


def test_forecasts_are_joined_in_the_order_given() -> None:
    one, two = (TailForecast(ROWS, (HOUR,), LEVELS, x * VAR, x * ES) for x in (1, 2))
    joined = TailForecast.joined([two, one])
    assert joined.rows.tolist() == ROWS.tolist() * 2
    assert joined.rows.names == ["time", "symbol"]
    np.testing.assert_array_equal(joined.var, np.concatenate([2 * VAR, VAR]))
    np.testing.assert_array_equal(joined.es, np.concatenate([2 * ES, ES]))
    other = TailForecast(ROWS, (2 * HOUR,), LEVELS, VAR, ES)
    for parts in ([], [one, other]):
        with pytest.raises(ValueError, match="join those of one"):
            TailForecast.joined(parts)


def test_a_sound_forecast_is_accepted() -> None:
    forecast = TailForecast(ROWS, (HOUR,), LEVELS, VAR, ES)
    assert forecast.var is VAR


@pytest.mark.parametrize(
    ("var", "es", "message"),
    [
        (broken(VAR, (0, 0, 0, 1), np.nan), ES, "VaR is not finite at .*horizon 1h, side long, level 0.99"),
        (VAR, broken(ES, (0, 0, 1, 2), np.inf), "ES is not finite at .*side short, level 0.999"),
        (broken(VAR, (0, 0, 0, 0), 0.0), ES, "VaR is not above 0"),
        (broken(VAR, (0, 0, 1, 0), -0.01), ES, "VaR is not above 0 .*side short"),
        (VAR, broken(ES, (0, 0, 0, 0), 0.0099), "ES is below VaR"),
        (broken(VAR, (0, 0, 0, 2), 0.015), ES, "VaR falls as the level rises at .*level 0.999"),
        (VAR, broken(ES, (0, 0, 1, 1), 0.019), "ES falls as the level rises"),
        (VAR[..., :2], ES, "VaR has shape"),
        (VAR, ES[0], "ES has shape"),
    ],
)
def test_a_broken_forecast_is_refused(var: np.ndarray, es: np.ndarray, message: str) -> None:
    with pytest.raises(ForecastError, match=message):
        TailForecast(ROWS, (HOUR,), LEVELS, var, es)


@pytest.mark.parametrize("levels", [(0.95, 0.975, 0.99), (0.99, 0.975, 0.999), (0.99, 0.99, 0.999)])
def test_levels_ascend_and_include_the_breaker(levels: tuple[float, ...]) -> None:
    with pytest.raises(ForecastError, match=r"ascending and with 0\.999"):
        TailForecast(ROWS, (HOUR,), levels, VAR, ES)


def test_the_forecast_table_has_a_row_per_value() -> None:
    table = TailForecast(ROWS, (HOUR,), LEVELS, VAR, ES).to_table("ewma")
    assert list(table.columns) == ["time", "symbol", "horizon", "side", "level", "model", "var", "es"]
    assert len(table) == 6
    one = table[(table["side"] == "short") & (table["level"] == 0.99)].iloc[0]
    assert (one["var"], one["es"], one["symbol"], one["horizon"]) == (0.03, 0.04, "BETA", "1h")
    assert str(table["time"].dtype).endswith("UTC]")


def small_dataset(closes: pd.DataFrame, horizons: tuple[pd.Timedelta, ...]) -> Dataset:
    values = np.zeros((len(closes), len(closes.columns), 1))
    features = FeatureFrame(
        pd.DatetimeIndex(closes.index), tuple(closes.columns), ("ewma_volatility",), HOUR, values
    )
    return Dataset(features, closes, horizons, LEVELS)


def test_labels_are_forward_returns_that_end_with_the_window() -> None:
    times = pd.date_range("2024-05-01", periods=4, freq=HOUR, tz="UTC", unit="ns")
    closes = pd.DataFrame({"A": [100.0, 110.0, 99.0, 99.0], "B": [1.0, np.nan, 2.0, 4.0]}, index=times)
    data = small_dataset(closes, (HOUR, 2 * HOUR))
    one, two = data.forward_returns(HOUR), data.forward_returns(2 * HOUR)
    assert one[:, 0] == pytest.approx([np.log(1.1), np.log(0.9), 0.0, np.nan], nan_ok=True)
    assert one[:, 1] == pytest.approx([np.nan, np.nan, np.log(2), np.nan], nan_ok=True)
    assert two[:, 0] == pytest.approx([np.log(0.99), np.log(0.9), np.nan, np.nan], nan_ok=True)
    assert two[:, 1] == pytest.approx([np.log(2), np.nan, np.nan, np.nan], nan_ok=True)


def test_a_dataset_refuses_mismatched_parts() -> None:
    times = pd.date_range("2024-05-01", periods=4, freq=HOUR, tz="UTC", unit="ns")
    closes = pd.DataFrame({"A": [1.0, 1.0, 1.0, 1.0]}, index=times)
    data = small_dataset(closes, (HOUR,))
    with pytest.raises(ValueError, match="different times or symbols"):
        Dataset(data.features, closes.iloc[:3], (HOUR,), LEVELS)
    with pytest.raises(ValueError, match="not a whole number of 1h bars"):
        small_dataset(closes, (pd.Timedelta(minutes=90),))
