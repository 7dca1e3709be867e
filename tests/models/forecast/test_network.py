"""``network``: where it starts from, what it learns, and inputs that are missing."""

import numpy as np
import pandas as pd
import pytest
import torch

from features.pipeline import FeatureFrame
from models.forecast._inputs import INPUTS
from models.forecast.base import Dataset
from models.forecast.network import NetworkModel, Settings
from models.margin.fhs import tail_quantiles

HOUR = pd.Timedelta(hours=1)


def clockwork(rows: int, seed: int) -> Dataset:
    """One symbol whose volatility is 1 % or 3 % by the first input; the scale says 2 %."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=rows, freq=HOUR, tz="UTC", unit="ns")
    wild = rng.random(rows) < 0.5
    returns = np.where(np.roll(wild, 1), 0.03, 0.01) * rng.standard_normal(rows)
    values = rng.standard_normal((rows, 1, 1 + len(INPUTS)))
    values[:, :, 0] = 0.02
    values[:, 0, 1] = np.where(wild, 1.0, -1.0)
    frame = FeatureFrame(times, ("A",), ("ewma_volatility", *INPUTS), HOUR, values)
    closes = pd.DataFrame({"A": np.exp(np.cumsum(returns))}, index=times)
    return Dataset(frame, closes, (HOUR,), (0.975, 0.99))


def test_untrained_it_is_the_pooled_filtered_historical_simulation() -> None:
    data = clockwork(3000, 1)
    model = NetworkModel(Settings(steps=1, batch_rows=8, learning_rate=1e-9, device="cpu")).fit(data)
    forecast = model.predict(data.features)
    z = data.forward_returns(HOUR) / 0.02
    var, es = tail_quantiles(z, model.levels)
    assert forecast.var[:, 0] == pytest.approx(np.broadcast_to(0.02 * var, (3000, 2, 3)), rel=1e-4)
    assert forecast.es[:, 0] == pytest.approx(np.broadcast_to(0.02 * es, (3000, 2, 3)), rel=1e-4)


def test_it_learns_what_moves_the_tail() -> None:
    settings = Settings(steps=150, members=2, batch_rows=512, hidden=16, learning_rate=1e-2, device="cpu")
    model = NetworkModel(settings).fit(clockwork(4000, 2))
    tested = clockwork(500, 3)
    var = model.predict(tested.features).var[:, 0, :, 1]
    wild = tested.features["hour_sin"][:, 0] > 0
    assert var[wild].mean() == pytest.approx(0.03 * 2.33, rel=0.25)
    assert var[~wild].mean() == pytest.approx(0.01 * 2.33, rel=0.25)


def test_a_missing_input_counts_as_its_training_mean() -> None:
    data = clockwork(3000, 4)
    model = NetworkModel(Settings(steps=20, batch_rows=256, device="cpu")).fit(data)
    missing, mean = data.features.values[:2].copy(), data.features.values[:2].copy()
    missing[:, :, 3], mean[:, :, 3] = np.nan, model.mean[model.inputs.index(INPUTS[2])]
    forecasts = [
        model.predict(FeatureFrame(data.features.times[:2], ("A",), data.features.names, HOUR, v))
        for v in (missing, mean)
    ]
    assert forecasts[0].var == pytest.approx(forecasts[1].var, rel=1e-6)


def test_far_inputs_give_bounded_forecasts() -> None:
    data = clockwork(3000, 5)
    model = NetworkModel(Settings(steps=20, batch_rows=256, device="cpu")).fit(data)
    far = data.features.values[:4].copy()
    far[:, :, 1:] = np.array([1e300, -1e300, np.inf, -np.inf])[:, None, None]
    forecast = model.predict(FeatureFrame(data.features.times[:4], ("A",), data.features.names, HOUR, far))
    assert (forecast.es < 1.0).all()


def test_one_way_prices_are_refused() -> None:
    data = clockwork(3000, 6)
    rising = pd.DataFrame({"A": np.exp(np.arange(3000) / 1000)}, index=data.closes.index)
    with pytest.raises(ValueError, match="moved one way only"):
        NetworkModel(Settings(device="cpu")).fit(Dataset(data.features, rising, (HOUR,), (0.99,)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: nothing to train on it")
def test_a_gpu_learns_about_the_same() -> None:
    data = clockwork(3000, 7)
    forecasts = [
        NetworkModel(Settings(steps=50, batch_rows=512, device=d)).fit(data).predict(data.features)
        for d in ("cpu", "cuda")
    ]
    assert forecasts[0].var == pytest.approx(forecasts[1].var, rel=0.02)
