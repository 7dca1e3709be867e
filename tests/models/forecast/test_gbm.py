"""``gbm``: its label by hand, skill over the EWMA where there is something to learn, inputs that are
missing.
"""

import numpy as np
import pandas as pd
import pytest

from features.pipeline import FeatureFrame
from models.forecast._inputs import INPUTS
from models.forecast._residuals import standardised_returns
from models.forecast.base import Dataset
from models.forecast.ewma import EwmaModel
from models.forecast.gbm import GbmModel, Settings
from models.scores import fz0

HOUR = pd.Timedelta(hours=1)
QUICK = Settings(trees=60, learning_rate=0.1, min_leaf_rows=100, leaf_penalty=1, fit_threads=1)


def clockwork(rows: int, seed: int, horizons: tuple[pd.Timedelta, ...] = (HOUR,)) -> Dataset:
    """Two symbols whose volatility is 1 % in one half of the day and 3 % in the other; the scale says 2 %."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=rows, freq=HOUR, tz="UTC", unit="ns")
    wild = times.hour.to_numpy() < 12
    returns = np.where(np.roll(wild, 1), 0.03, 0.01)[:, None] * rng.standard_normal((rows, 2))
    values = 0.1 * rng.standard_normal((rows, 2, 1 + len(INPUTS)))
    values[:, :, 0] = 0.02
    values[:, :, 1] = np.where(wild, 1.0, -1.0)[:, None]
    frame = FeatureFrame(times, ("A", "B"), ("ewma_volatility", *INPUTS), HOUR, values)
    closes = pd.DataFrame(np.exp(np.cumsum(returns, axis=0)), index=times, columns=["A", "B"])
    return Dataset(frame, closes, horizons, (0.975, 0.99))


def test_it_learns_the_scale_and_leaves_a_tail_of_the_rest() -> None:
    model = GbmModel(QUICK).fit(clockwork(3000, 1))
    tested = clockwork(1000, 2)
    forecast = model.predict(tested.features)
    time = tested.features.times.get_indexer(forecast.rows.get_level_values("time"))
    wild = tested.features["hour_sin"][time, 0] > 0
    ratio = forecast.var[wild, 0, 0, 0].mean() / forecast.var[~wild, 0, 0, 0].mean()
    assert ratio == pytest.approx(3, rel=0.15)
    # The residuals are normal: VaR is 1.96 and 2.33 of them, ES 2.34 and 2.67.
    assert forecast.var[wild, 0, :, :2].mean(axis=0) == pytest.approx(
        0.03 * np.array([[1.96, 2.33]] * 2), rel=0.1
    )
    assert forecast.es[wild, 0, :, :2].mean(axis=0) == pytest.approx(
        0.03 * np.array([[2.34, 2.67]] * 2), rel=0.12
    )


def test_it_beats_the_scale_that_it_starts_from() -> None:
    trained, tested = clockwork(3000, 3), clockwork(1500, 4)
    losses = -tested.forward_returns(HOUR).ravel()
    known = np.isfinite(losses)
    scores = []
    for model in (GbmModel(QUICK), EwmaModel()):
        forecast = model.fit(trained).predict(tested.features)
        scores.append(
            fz0(losses[known], forecast.var[known, 0, 0, 1], forecast.es[known, 0, 0, 1], 0.99).mean()
        )
    assert scores[0] < scores[1] - 0.1


def test_labels_by_hand() -> None:
    times = pd.date_range("2024-01-01", periods=5, freq=HOUR, tz="UTC", unit="ns")
    log_close = np.array([0.0, 0.02, 0.01, np.nan, 0.03])[:, None]
    frame = FeatureFrame(times, ("A",), ("ewma_volatility",), HOUR, np.full((5, 1, 1), 0.01))
    data = Dataset(
        frame, pd.DataFrame(np.exp(log_close), index=times, columns=["A"]), (HOUR, 2 * HOUR), (0.99,)
    )
    one, two = (GbmModel()._labels(data, h, standardised_returns(data, h))[:, 0] for h in data.horizons)
    # One bar: r^2 / sigma^2 is 4 and 1. Two bars: the move is 0.01, so (1 + (4 + 1)) / 2 over 2; from the
    # second row on a bar is missing at the end or on the way.
    assert one == pytest.approx([4, 1, np.nan, np.nan, np.nan], nan_ok=True)
    assert two == pytest.approx([1.5, np.nan, np.nan, np.nan, np.nan], nan_ok=True)


def test_a_row_needs_all_of_its_inputs() -> None:
    data = clockwork(1500, 5)
    model = GbmModel(QUICK).fit(data)
    values = data.features.values.copy()
    values[7, 1, 5] = np.nan
    holed = FeatureFrame(
        data.features.times, data.features.symbols, data.features.names, data.features.interval, values
    )
    assert len(model.predict(holed).rows) == 2 * 1500 - 1
    assert np.isfinite(GbmModel(QUICK).fit(Dataset(holed, data.closes, (HOUR,), (0.99,))).tails).all()


def test_a_frame_without_its_inputs_is_refused() -> None:
    data = clockwork(1500, 6)
    bare = FeatureFrame(
        data.features.times, data.features.symbols, ("ewma_volatility",), HOUR, data.features.values[:, :, :1]
    )
    with pytest.raises(ValueError, match=r"'hour_sin'.* are missing from the training data"):
        GbmModel(QUICK).fit(Dataset(bare, data.closes, (HOUR,), (0.99,)))


def test_too_few_rows_for_the_embargo_are_refused() -> None:
    data = clockwork(1500, 7, (pd.Timedelta(hours=600),))
    with pytest.raises(ValueError, match="rows remain outside a block of time and 600 bars"):
        GbmModel(Settings(trees=5, min_rows=1000)).fit(data)


def test_threads_do_not_change_the_model() -> None:
    data = clockwork(1500, 8)
    one, two = (GbmModel(QUICK.model_copy(update={"fit_threads": n})).fit(data) for n in (1, 2))
    assert np.array_equal(one.tails, two.tails)
    assert one.boosters[0].model_to_string() == two.boosters[0].model_to_string()
