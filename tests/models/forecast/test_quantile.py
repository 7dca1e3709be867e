"""``quantile``: order, floor and ratio by hand; what it says where inputs tell nothing, and where they do."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.pipeline import FeatureFrame
from models.forecast.base import Dataset
from models.forecast.ewma import EwmaModel
from models.forecast.quantile import QuantileModel, Settings
from models.scores import fz0

HOUR = pd.Timedelta(hours=1)
_, *INPUTS = QuantileModel.feature_names() or ()
QUICK = Settings(trees=25, learning_rate=0.2, leaf_tail_rows=10, fit_threads=1)


def dataset(
    returns: np.ndarray, inputs: dict[str, np.ndarray], levels: tuple[float, ...] = (0.9, 0.975)
) -> Dataset:
    """Prices with these one-bar log returns (time, symbol), a scale of 1 % a bar, and these inputs, others 0.

    ``returns[t]`` is what comes after row t.
    """
    log_close = np.vstack([np.zeros(returns.shape[1]), np.cumsum(returns, axis=0)])
    times = pd.date_range("2024-01-01", periods=len(log_close), freq=HOUR, tz="UTC", unit="ns")
    symbols = tuple("ABC"[: returns.shape[1]])
    names = ("ewma_volatility", *INPUTS)
    values = np.zeros((*log_close.shape, len(names)))
    values[:, :, 0] = 0.01
    for name, given in inputs.items():
        values[:-1, :, names.index(name)] = given
    frame = FeatureFrame(times, symbols, names, HOUR, values)
    closes = pd.DataFrame(np.exp(log_close), index=times, columns=list(symbols))
    return Dataset(frame, closes, (HOUR,), levels)


def clockwork(rows: int, seed: int) -> Dataset:
    """Two symbols whose normal returns are 1 % in one half of the day and 3 % in the other."""
    wild = np.arange(rows) % 24 < 12
    size = np.where(wild, 0.03, 0.01)[:, None]
    noise = np.random.default_rng(seed).standard_normal((rows, 2))
    return dataset(size * noise, {"hour_sin": np.where(wild, 1.0, -1.0)[:, None] * np.ones(2)})


def test_crossing_quantiles_are_put_in_order_and_held_above_the_floor() -> None:
    model = QuantileModel(Settings(quantile_floor=0.1))
    scores = np.array([[[2.0, 1.5, 3.0], [0.05, 1.0, 0.9]]])
    assert model._in_order(scores)[0] == pytest.approx(np.array([[2, 2, 3], [0.1, 1, 1]]))


def test_the_ratio_is_the_mean_beyond_over_the_quantile_there() -> None:
    model = QuantileModel(Settings(min_hits=2))
    z = np.array([3.0, 5.0, 0.0, -4.0, -6.0, -1.0])
    var = np.empty((6, 2, 2))
    var[:, :, 0] = np.array([2.0, 3.0, 9.0, 2.0, 2.0, 2.0])[:, None]
    var[:, :, 1] = np.array([2.5, 4.5, 9.0, 3.5, 9.0, 9.0])[:, None]
    # Short: 3 beyond 2 and 5 beyond 3, then 3 beyond 2.5 and 5 beyond 4.5. Long: 4 beyond 2 and 6 beyond 2,
    # then 4 beyond 3.5 alone, which is too few, so that the ratio of the level below stands.
    losses = np.stack([-z, z], axis=1)
    assert model._ratios(losses, var, HOUR) == pytest.approx(np.array([[10 / 4, 10 / 4], [8 / 5, 8 / 7]]))


def test_no_loss_beyond_the_lowest_level_is_refused() -> None:
    model = QuantileModel(Settings(min_hits=2))
    with pytest.raises(
        ValueError, match="1 losses of the long side lie beyond the lowest level at horizon 1h"
    ):
        z = np.array([3.0, 5.0, -3.0])
        model._ratios(np.stack([-z, z], axis=1), np.full((3, 2, 1), 2.0), HOUR)


def test_where_inputs_tell_nothing_it_gives_the_empirical_tail() -> None:
    """Standardised losses are -5.00, -4.99, ... 5.00 on either side, ten times over: the 0.9 quantile is 4.00
    and the mean beyond it 4.50; 4.75 and 4.875 at 0.975; 4.99 and 5.00 at 0.999."""
    tile = np.tile(np.arange(-500, 501) / 100, 10)
    rng = np.random.default_rng(1)
    data = dataset(0.01 * rng.permuted(tile)[:, None], {"return_1h": rng.standard_normal((len(tile), 1))})
    forecast = QuantileModel(Settings(fit_threads=1)).fit(data).predict(data.features)
    var, es = 100 * forecast.var[:, 0].mean(axis=0), 100 * forecast.es[:, 0].mean(axis=0)
    assert forecast.levels == (0.9, 0.975, 0.999)
    assert var == pytest.approx(np.array([[4.0, 4.75, 4.99]] * 2), abs=0.05)
    assert es == pytest.approx(np.array([[4.5, 4.875, 5.0]] * 2), rel=0.03)


def test_it_learns_quantiles_that_depend_on_the_inputs() -> None:
    model = QuantileModel(QUICK).fit(clockwork(4000, 2))
    tested = clockwork(1000, 3)
    forecast = model.predict(tested.features)
    wild = tested.features["hour_sin"].ravel() > 0
    # A normal of 3 %: VaR is 1.28 and 1.96 of it, ES 1.75 and 2.34.
    assert forecast.var[wild, 0, :, :2].mean(axis=0) == pytest.approx(
        0.03 * np.array([[1.28, 1.96]] * 2), rel=0.1
    )
    assert forecast.es[wild, 0, :, :2].mean(axis=0) == pytest.approx(
        0.03 * np.array([[1.75, 2.34]] * 2), rel=0.12
    )
    assert forecast.var[wild, 0, :, 0].mean() / forecast.var[~wild, 0, :, 0].mean() == pytest.approx(
        3, rel=0.15
    )


def test_sides_are_learned_apart() -> None:
    """In one half of the day falls are six times as large as rises, in the other half the reverse."""
    rows = 6000
    falling = (np.arange(rows) % 24 < 12)[:, None] * np.ones(2, dtype=bool)
    noise = np.random.default_rng(4).standard_normal((rows, 2))
    returns = np.where((noise < 0) == falling, 0.03, 0.005) * noise
    data = dataset(returns, {"hour_sin": np.where(falling, 1.0, -1.0)}, (0.9,))
    forecast = (
        QuantileModel(QUICK.model_copy(update={"trees": 60, "feature_fraction": 1.0}))
        .fit(data)
        .predict(data.features)
    )
    # A tenth lies beyond 1.28 standard deviations of a normal on either side.
    falls_first = 1.28 * np.array([0.03, 0.005])
    assert forecast.var[0, 0, :, 0] == pytest.approx(falls_first, rel=0.15)
    assert forecast.var[24, 0, :, 0] == pytest.approx(falls_first[::-1], rel=0.15)


def test_it_beats_the_scale_that_it_starts_from() -> None:
    trained, tested = clockwork(3000, 5), clockwork(1500, 6)
    losses = -tested.forward_returns(HOUR).ravel()
    known = np.isfinite(losses)
    scores = []
    for model in (QuantileModel(QUICK), EwmaModel()):
        forecast = model.fit(trained).predict(tested.features)
        scores.append(
            fz0(losses[known], forecast.var[known, 0, 0, 1], forecast.es[known, 0, 0, 1], 0.975).mean()
        )
    assert scores[0] < scores[1] - 0.1


def test_a_row_needs_all_of_its_inputs() -> None:
    data = clockwork(1500, 7)
    f = data.features
    values = f.values.copy()
    values[7, 1, 5] = np.nan
    holed = FeatureFrame(f.times, f.symbols, f.names, f.interval, values)
    model = QuantileModel(QUICK).fit(Dataset(holed, data.closes, data.horizons, data.levels))
    rows = model.predict(holed).rows
    assert len(rows) == 2 * 1501 - 1
    assert (f.times[7], "B") not in rows


def test_threads_do_not_change_the_model() -> None:
    data = clockwork(1500, 8)
    one, two = (QuantileModel(QUICK.model_copy(update={"fit_threads": n})).fit(data) for n in (1, 2))
    assert np.array_equal(one.ratios, two.ratios)
    assert [b.model_to_string() for b in one.boosters] == [b.model_to_string() for b in two.boosters]


def test_files_are_named_for_what_they_forecast(tmp_path: Path) -> None:
    model = QuantileModel(QUICK).fit(clockwork(1500, 9))
    model.save(tmp_path)
    names = {f"trees-1h-{level}.txt" for level in ("0.9", "0.975", "0.999")}
    assert {f.name for f in tmp_path.iterdir()} == names | {"forecast.json"}
    for name in names:
        level = float(re.findall(r"[\d.]+(?=\.txt)", name)[0])
        alpha = 1 - level if "long" in name else level
        told = re.search(r"\[alpha: ([\d.]+)\]", (tmp_path / name).read_text())
        assert told is not None
        assert float(told[1]) == pytest.approx(alpha, rel=1e-6)
