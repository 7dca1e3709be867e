"""``network``: where it starts from, what it learns, and inputs that are missing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from features.pipeline import FeatureFrame
from models.forecast._ensemble_network import Trainer, first_weights, tails
from models.forecast._inputs import INPUTS as CORE
from models.forecast._inputs import mirrored
from models.forecast.base import Dataset
from models.forecast.network import NetworkModel, Settings
from models.margin.fhs import tail_quantiles

HOUR = pd.Timedelta(hours=1)
SCALE, *INPUTS = NetworkModel.feature_names() or ()


def clockwork(rows: int, seed: int) -> Dataset:
    """One symbol whose volatility is 1 % or 3 % by the first input; the scale says 2 %."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=rows, freq=HOUR, tz="UTC", unit="ns")
    wild = rng.random(rows) < 0.5
    returns = np.where(np.roll(wild, 1), 0.03, 0.01) * rng.standard_normal(rows)
    values = rng.standard_normal((rows, 1, 1 + len(INPUTS)))
    values[:, :, 0] = 0.02
    values[:, 0, 1] = np.where(wild, 1.0, -1.0)
    frame = FeatureFrame(times, ("A",), (SCALE, *INPUTS), HOUR, values)
    closes = pd.DataFrame({"A": np.exp(np.cumsum(returns))}, index=times)
    return Dataset(frame, closes, (HOUR,), (0.975, 0.99))


def test_untrained_it_is_the_pooled_filtered_historical_simulation() -> None:
    data = clockwork(3000, 1)
    model = NetworkModel(Settings(steps=1, batch_rows=8, learning_rate=1e-9, device="cpu")).fit(data)
    forecast = model.predict(data.features)
    z = data.forward_returns(HOUR) / 0.02
    var, es = tail_quantiles(np.concatenate([z, -z]), model.levels)
    assert forecast.var[:, 0] == pytest.approx(np.broadcast_to(0.02 * var, (3000, 2, 3)), rel=1e-4)
    assert forecast.es[:, 0] == pytest.approx(np.broadcast_to(0.02 * es, (3000, 2, 3)), rel=1e-4)


def test_it_learns_what_moves_the_tail() -> None:
    settings = Settings(
        steps=150, most_passes=20, members=2, batch_rows=512, hidden=16, learning_rate=1e-2, device="cpu"
    )
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


def test_prices_that_hardly_move_are_refused() -> None:
    data = clockwork(3000, 6)
    returns = np.where(np.arange(3000) % 9 == 0, 0.01, 0.0)
    rising = pd.DataFrame({"A": np.exp(np.cumsum(returns))}, index=data.closes.index)
    with pytest.raises(ValueError, match="prices hardly moved"):
        NetworkModel(Settings(device="cpu")).fit(Dataset(data.features, rising, (HOUR,), (0.9,)))


def test_a_mirror_twice_is_none_at_all() -> None:
    order, sign = mirrored(tuple(INPUTS))
    assert (order[order] == np.arange(len(INPUTS))).all()
    assert (sign * sign[order] == 1).all()
    x = dict(zip(INPUTS, np.arange(1.0, len(INPUTS) + 1)[order] * sign, strict=True))
    own = dict(zip(INPUTS, np.arange(1.0, len(INPUTS) + 1), strict=True))
    assert x["return_1d"] == -own["return_1d"]
    assert x["downside_1d"] == own["upside_1d"]
    assert x["market_drawdown_1w"] == -own["market_rally_1w"]
    assert x["below_high_4h"] == own["above_low_4h"]
    assert x["har_1d"] == own["har_1d"]


def test_a_mirrored_market_swaps_the_sides_of_what_is_standardised() -> None:
    data = clockwork(3000, 8)
    model = NetworkModel(Settings(steps=5, batch_rows=64, device="cpu")).fit(data)
    order, sign = mirrored(model.inputs)
    rows = data.features.matrix(model.inputs)
    there_and_back = model._standardised(rows[:, order] * sign).numpy()[:, order] * sign
    np.testing.assert_allclose(there_and_back, model._standardised(rows).numpy(), atol=1e-6)


def test_a_seed_says_everything_and_disturbs_nothing() -> None:
    data = clockwork(3000, 9)
    settings = Settings(steps=10, batch_rows=64, device="cpu")
    torch.manual_seed(5)
    first = NetworkModel(settings).fit(data).weights
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == after
    again = NetworkModel(settings).fit(data).weights
    assert all(torch.equal(first[k], again[k]) for k in first)


def test_half_precision_learns_about_the_same() -> None:
    data = clockwork(3000, 10)
    forecasts = [
        NetworkModel(Settings(steps=20, members=2, batch_rows=64, device="cpu", precision=p))
        .fit(data)
        .predict(data.features)
        for p in ("float32", "bfloat16")
    ]
    assert forecasts[0].var == pytest.approx(forecasts[1].var, rel=0.05)
    assert not np.array_equal(forecasts[0].var, forecasts[1].var)


def test_members_with_the_mirror_see_the_core_and_their_own_part_of_the_rest() -> None:
    settings = Settings(steps=2, batch_rows=64, members=8, device="cpu")
    model = NetworkModel(settings).fit(clockwork(3000, 12))
    seen, mirror = model.weights["seen"][..., 0].bool(), model.weights["mirrored"].ravel().bool()
    assert mirror.tolist() == [False, True] * 4
    assert seen[~mirror].all()
    assert seen[:, : len(CORE)].all()
    assert 0.4 < seen[mirror][:, len(CORE) :].float().mean() < 0.8
    assert len({tuple(row.tolist()) for row in seen[mirror]}) == 4
    order, _ = mirrored(model.inputs)
    assert torch.equal(seen, seen[:, order])
    unseen = model.inputs.index(next(n for i, n in enumerate(model.inputs) if not seen[1, i]))
    weights = {k: w[1:2] for k, w in model.weights.items()}
    x = torch.zeros((1, 2, len(model.inputs)))
    x[0, 1, unseen] = 3.0
    weights["weight_2"] = torch.ones_like(weights["weight_2"])
    var, _ = tails(weights, x, model._shape())
    assert torch.equal(var[0, 0], var[0, 1])


def test_members_are_trained_apart() -> None:
    """Two trained together are what each is alone, given the same rows and no dropout."""
    data = clockwork(3000, 11)
    model = NetworkModel(Settings(steps=1, device="cpu")).fit(data)
    x = model._standardised(data.features.matrix(model.inputs))
    z = torch.as_tensor(data.forward_returns(HOUR) / 0.02, dtype=torch.float32)
    losses = torch.stack([-z, z], dim=1)
    settings = Settings(members=2, dropout=0.0, device="cpu", learning_rate=1e-2)
    weights = first_weights(settings, x.shape[1], model._shape(), torch.Generator().manual_seed(3))
    rows = torch.randint(2998, (2, 128))

    def learned(members: slice) -> dict[str, torch.Tensor]:
        own = {k: w[members].clone() for k, w in weights.items()}
        trainer = Trainer(settings, x, losses, model._shape(), model.levels, own)
        for _ in range(3):
            trainer.learn(rows[members])
        return trainer.trained()

    together, alone = learned(slice(0, 2)), learned(slice(1, 2))
    for key, value in alone.items():
        torch.testing.assert_close(together[key][1:], value, rtol=1e-3, atol=1e-4)


APART = """
import numpy as np
import sys
import torch
from safetensors.torch import save_file
from models.forecast._ensemble_network import Settings, Shape, share, train
torch.manual_seed(0)
x, losses = torch.randn(3000, 5), torch.randn(3000, 2, 1)
start = np.array([[[1.96, 2.33, 3.1]], [[2.3, 2.7, 3.4]]])
shape = Shape.of(start, np.arange(5), np.ones(5), core=3)
settings = Settings(members=3, batch_rows=64, steps=5, device="cpu")
weights = train(settings, x, losses, shape, (0.975, 0.99, 0.999))
save_file(weights, f"{sys.argv[1]}/{share()[0]}.safetensors")
"""


def test_processes_share_the_members_and_end_with_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "apart.py").write_text(APART)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, *launcher, str(tmp_path / "apart.py"), str(tmp_path)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    # The last layer began at zero: every member was trained by one of them.
    assert (first["weight_2"].abs().sum(dim=(1, 2)) > 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: nothing to train on it")
def test_a_gpu_learns_about_the_same() -> None:
    data = clockwork(3000, 7)
    forecasts = [
        NetworkModel(Settings(steps=50, batch_rows=512, device=d)).fit(data).predict(data.features)
        for d in ("cpu", "cuda")
    ]
    assert forecasts[0].var == pytest.approx(forecasts[1].var, rel=0.02)
