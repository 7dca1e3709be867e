"""``har``: a regression that can be told by hand, its correction, its tails, and what it learns."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.pipeline import FeatureFrame
from models.forecast._residuals import realized_ratio
from models.forecast.base import Dataset
from models.forecast.ewma import EwmaModel
from models.forecast.har import TERMS, HarModel, Settings
from models.scores import fz0

HOUR = pd.Timedelta(hours=1)
START = pd.Timestamp("2024-01-01", tz="UTC")
NO_FLOOR = Settings(label_floor=1e-300)


def dataset(
    returns: np.ndarray, terms: dict[str, np.ndarray], horizons: tuple[pd.Timedelta, ...] = (HOUR,)
) -> Dataset:
    """Prices with these one-bar log returns (time, symbol), a scale of 1 % a bar, and these terms, others 0.

    ``returns[t]`` is what comes after row t.
    """
    log_close = np.vstack([np.zeros(returns.shape[1]), np.cumsum(returns, axis=0)])
    times = pd.date_range(START, periods=len(log_close), freq=HOUR, unit="ns")
    symbols = tuple("ABC"[: returns.shape[1]])
    names = ("ewma_volatility", *TERMS)
    values = np.zeros((*log_close.shape, len(names)))
    values[:, :, 0] = 0.01
    for name, term in terms.items():
        values[:-1, :, names.index(name)] = term
    frame = FeatureFrame(times, symbols, names, HOUR, values)
    closes = pd.DataFrame(np.exp(log_close), index=times, columns=list(symbols))
    return Dataset(frame, closes, horizons, (0.9,))


def signs(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], shape)


def test_an_exact_law_is_found_to_the_digit() -> None:
    """|r| = 1 % x exp(0.3 + 0.5 har_1d + 0.2 har_1w), nothing left over: the logs of r^2 take twice that."""
    rng = np.random.default_rng(1)
    day, week = rng.normal(size=(2, 1500, 2))
    size = 0.01 * np.exp(0.3 + 0.5 * day + 0.2 * week)
    data = dataset(signs(day.shape, 2) * size, {"har_1d": day, "har_1w": week})
    model = HarModel(NO_FLOOR).fit(data)
    found = dict(zip(("1", *TERMS), model.coefficients[0], strict=True))
    law = {"1": 0.6, "har_1d": 1.0, "har_1w": 0.4}
    assert found == pytest.approx({name: law.get(name, 0.0) for name in found}, abs=1e-9)
    # Every standardised return is 1 or -1, so VaR and ES are the scale itself, on either side.
    forecast = model.predict(data.features)
    scale = np.append(size, np.full((1, 2), 0.01 * np.exp(0.3)), axis=0).ravel()
    assert forecast.var[:, 0] == pytest.approx(np.broadcast_to(scale[:, None, None], (len(scale), 2, 2)))
    assert forecast.es[:, 0] == pytest.approx(forecast.var[:, 0])


def test_the_correction_makes_the_scale_right_in_mean_of_squares() -> None:
    """Half of the moves are 1 scale and half e^2: the mean of ln r^2 is 2, that of r^2 (1 + e^4) / 2."""
    r = 0.01 * np.exp(np.tile([0.0, 2.0], 1000))[:, None] * signs((2000, 1), 3)
    model = HarModel(NO_FLOOR).fit(dataset(r, {}))
    assert model.coefficients[0, 0] == pytest.approx(np.log((1 + np.exp(4)) / 2))
    # Symmetric: the 0.9 quantile of either side is the larger move, whatever the scale that it is held
    # against.
    forecast = model.predict(dataset(r, {}).features)
    assert forecast.var[0, 0, :, 0] == pytest.approx([0.01 * np.exp(2)] * 2)


def test_the_floor_holds_up_bars_that_hardly_moved() -> None:
    """Half of the moves are 1 scale and half 1e-4 of one. Floored at 1/4, their log is -ln 4."""
    r = 0.01 * np.tile([1.0, 1e-4], 1000)[:, None] * signs((2000, 1), 4)
    day = np.tile([0.5, -0.5], 1000)[:, None]
    model = HarModel(Settings(label_floor=0.25)).fit(dataset(r, {"har_1d": day}))
    assert model.coefficients[0, 1 + TERMS.index("har_1d")] == pytest.approx(np.log(4))


def test_realized_variance_on_the_way_by_hand() -> None:
    times = pd.date_range(START, periods=6, freq=HOUR, unit="ns")
    log_close = np.array([0.0, 0.02, 0.01, 0.01, np.nan, 0.03])[:, None]
    frame = FeatureFrame(times, ("A",), ("ewma_volatility",), HOUR, np.full((6, 1, 1), 0.01))
    closes = pd.DataFrame(np.exp(log_close), index=times, columns=["A"])
    data = Dataset(frame, closes, (HOUR, 2 * HOUR), (0.9,))
    nan = np.nan
    # r / sigma is 2, -1, 0, and then a bar is missing at one end or on the way.
    assert realized_ratio(data, HOUR)[:, 0] == pytest.approx([4, 1, 0, nan, nan, nan], nan_ok=True)
    assert realized_ratio(data, 2 * HOUR)[:, 0] == pytest.approx([2.5, 0.5, nan, nan, nan, nan], nan_ok=True)


def test_horizons_have_coefficients_of_their_own() -> None:
    """Sizes repeat for four bars at a time and the term tells them: all of it is in the next bar, while four
    bars reach into the sizes that follow."""
    rng = np.random.default_rng(5)
    term = np.repeat(rng.normal(scale=0.5, size=(2000, 1)), 4, axis=0)
    r = 0.01 * np.exp(term) * rng.standard_normal(term.shape)
    model = HarModel().fit(dataset(r, {"har_4h": term}, (HOUR, 4 * HOUR)))
    one, four = model.coefficients[:, 1 + TERMS.index("har_4h")]
    assert one > 1.5
    assert 0.5 < four < 0.8 * one


def test_tails_are_each_symbols_own_where_it_has_history() -> None:
    rng = np.random.default_rng(6)
    returns = 0.01 * rng.standard_normal((3000, 3)) * [1.0, 2.0, 5.0]
    data = dataset(returns, {})
    closes = data.closes.copy()
    closes.iloc[:2500, 2] = np.nan
    model = HarModel().fit(Dataset(data.features, closes, data.horizons, data.levels))
    assert np.array_equal(model.tails[:, 3], model.tails[:, 0])
    ratio = model.tails[0, 2, 0, :, 0] / model.tails[0, 1, 0, :, 0]
    assert ratio == pytest.approx([2, 2], rel=0.15)


def test_sides_follow_the_sign_of_the_loss() -> None:
    falls = np.where(np.random.default_rng(7).random((2000, 1)) < 0.2, -0.03, 0.0075)
    data = dataset(falls, {})
    forecast = HarModel().fit(data).predict(data.features)
    assert forecast.var[0, 0, :, 0] == pytest.approx([0.03, 0.0075])


def test_it_beats_the_scale_that_it_starts_from() -> None:
    def wave(seed: int, rows: int) -> Dataset:
        """The size of moves, as the terms tell it, swings between a third and three times the scale."""
        term = np.sin(np.arange(rows) / 20)[:, None] * np.ones(2)
        r = 0.01 * 3**term * np.random.default_rng(seed).standard_normal((rows, 2))
        return dataset(r, {"har_1d": np.log(3) * term})

    trained, tested = wave(8, 3000), wave(9, 2000)
    losses = -tested.forward_returns(HOUR).ravel()
    known = np.isfinite(losses)
    scores = []
    for model in (HarModel(), EwmaModel()):
        forecast = model.fit(trained).predict(tested.features)
        scores.append(
            fz0(losses[known], forecast.var[known, 0, 0, 0], forecast.es[known, 0, 0, 0], 0.9).mean()
        )
    assert scores[0] < scores[1] - 0.1


def test_a_row_needs_all_of_its_terms() -> None:
    data = dataset(0.01 * np.random.default_rng(10).standard_normal((1500, 2)), {})
    values = data.features.values.copy()
    values[7, 1, 5] = np.nan
    f = data.features
    holed = FeatureFrame(f.times, f.symbols, f.names, f.interval, values)
    model = HarModel().fit(Dataset(holed, data.closes, data.horizons, data.levels))
    rows = model.predict(holed).rows
    assert len(rows) == 2 * 1501 - 1
    assert (f.times[7], "B") not in rows


def test_a_frame_without_its_terms_is_refused() -> None:
    data = dataset(0.01 * np.random.default_rng(11).standard_normal((1500, 2)), {})
    f = data.features
    bare = FeatureFrame(f.times, f.symbols, f.names[:3], f.interval, f.values[:, :, :3])
    with pytest.raises(ValueError, match=r"'har_1d'.* are missing from the training data"):
        HarModel().fit(Dataset(bare, data.closes, data.horizons, data.levels))


def test_a_model_of_other_terms_is_refused(tmp_path: Path) -> None:
    data = dataset(0.01 * np.random.default_rng(12).standard_normal((1500, 2)), {})
    HarModel().fit(data).save(tmp_path)
    path = tmp_path / "forecast.json"
    content = json.loads(path.read_text())
    content["terms"] = content["terms"][::-1]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="was fitted on the terms"):
        HarModel.load(tmp_path)
