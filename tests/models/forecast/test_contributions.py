"""Contributions to ln ES: they add up for every model that has them, and by hand for small ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch

from features.bars import Market
from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions
from models.forecast._ensemble_network import Settings as NetworkSettings
from models.forecast._ensemble_network import Shape, first_weights
from models.forecast._inputs import WIDE_INPUTS, mirrored
from models.forecast._path_gradients import _log_es, path_gradients
from models.forecast._quantile_effects import _log_slope, tail_effects
from models.forecast._refinement import family_inputs
from models.forecast._usual import Usual
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.forecast.discovery import model_class, model_names
from models.forecast.network import NetworkModel
from models.forecast.quantile import QuantileModel
from models.forecast.refined import RefinedModel

HOUR = pd.Timedelta(hours=1)
SCALE = "ewma_volatility"
CELLS = tuple(Cell(h * HOUR, side, level) for h in (1, 4) for side in SIDES for level in (0.975, 0.99, 0.999))
EXPLAINED = ("ensemble", "gbm", "network", "quantile", "refined")
Fitted = Callable[[str], tuple[TailModel, FeatureFrame]]


@pytest.fixture(scope="module")
def fitted(
    market: Market, make_dataset: Callable[..., Dataset], new_model: Callable[[str], TailModel]
) -> Fitted:
    @cache
    def fit(name: str) -> tuple[TailModel, FeatureFrame]:
        data = make_dataset(market, names=model_class(name).feature_names())
        return new_model(name).fit(data), data.features

    return fit


@pytest.fixture(params=EXPLAINED)
def case(request: pytest.FixtureRequest, fitted: Fitted) -> tuple[TailModel, FeatureFrame]:
    """A model that explains itself, and features with a hole in one input and in one bar."""
    model, features = fitted(request.param)
    newest = features.between(features.times[-40], None)
    values = newest.values.copy()
    values[5, 1, newest.names.index("har_1h")] = np.nan
    values[7, 2] = np.nan
    return model, changed(newest, values)


def changed(frame: FeatureFrame, values: np.ndarray) -> FeatureFrame:
    return FeatureFrame(frame.times, frame.symbols, frame.names, frame.interval, values)


def explained(model: TailModel, features: FeatureFrame) -> Contributions:
    found = model.contributions(features, CELLS)
    assert found is not None
    return found


def log_es(forecast: TailForecast) -> np.ndarray:
    places = [
        (forecast.horizons.index(c.horizon), SIDES.index(c.side), forecast.levels.index(c.level))
        for c in CELLS
    ]
    return np.stack([np.log(forecast.es[:, h, s, k]) for h, s, k in places], axis=-1)


def test_the_models_that_explain_themselves_are_these(fitted: Fitted) -> None:
    told = {}
    for name in model_names():
        model, features = fitted(name)
        told[name] = model.contributions(features.between(features.times[-1], None), CELLS) is not None
    assert tuple(name for name, does in told.items() if does) == EXPLAINED


def test_baseline_and_effects_add_up_to_the_forecast(case: tuple[TailModel, FeatureFrame]) -> None:
    model, features = case
    found, forecast = explained(model, features), model.predict(features)
    assert found.rows.equals(forecast.rows)
    # The network's own figures are float32, and its batches are of other sizes here.
    assert found.log_es == pytest.approx(log_es(forecast), abs=1e-5)
    assert np.abs(found.effects).max() > 0.05


def test_trees_add_up_to_the_last_digits(fitted: Fitted) -> None:
    for name in ("gbm", "quantile"):
        model, features = fitted(name)
        newest = features.between(features.times[-40], None)
        assert explained(model, newest).log_es == pytest.approx(log_es(model.predict(newest)), abs=1e-12)


def test_a_louder_scale_is_the_scales_own_effect(case: tuple[TailModel, FeatureFrame]) -> None:
    model, features = case
    values = features.values.copy()
    values[:, :, features.names.index(SCALE)] *= 2
    before, after = explained(model, features), explained(model, changed(features, values))
    at = before.inputs.index(SCALE)
    assert after.effects[..., at] == pytest.approx(before.effects[..., at] + np.log(2))
    assert after.baseline == pytest.approx(before.baseline)
    others = np.arange(len(before.inputs)) != at
    assert after.effects[..., others] == pytest.approx(before.effects[..., others])


def test_an_input_that_is_missing_has_no_effect(fitted: Fitted) -> None:
    model, features = fitted("network")
    newest = features.between(features.times[-3], None)
    values = newest.values.copy()
    values[:, 1, newest.names.index("har_1h")] = np.nan
    found = explained(model, changed(newest, values))
    row, at = found.rows.get_loc((newest.times[0], newest.symbols[1])), found.inputs.index("har_1h")
    assert np.isnan(found.values[row, at])
    assert np.isnan(found.scores[row, at])
    assert (found.effects[row, :, at] == 0).all()


def test_an_input_that_no_tree_looks_at_has_no_effect(fitted: Fitted) -> None:
    model, features = fitted("quantile")
    found = explained(model, features.between(features.times[-200], None))
    assert isinstance(model, QuantileModel)
    # The long looks at what it sees in the mirror: an input counts as seen with the one it becomes there.
    order, _ = mirrored(model.inputs)
    gain = np.array([model.gain()[name] for name in model.inputs])
    ignored = (gain == 0) & (gain[order] == 0)
    assert 0 < ignored.sum() < len(gain)
    effects = found.effects[..., 1:]
    assert (effects[..., ignored] == 0).all()
    assert (np.abs(effects[..., gain > 0]).max(axis=(0, 1)) > 0).mean() > 0.5


def test_a_correction_that_is_kept_adds_up_too(
    market: Market, make_dataset: Callable[..., Dataset], new_model: Callable[[str], TailModel]
) -> None:
    """Every step that the data carry, whether it pays or not."""
    flow = family_inputs("flow")
    data = make_dataset(market, names=(*(model_class("refined").feature_names() or ()), *flow))
    settings = new_model("refined").settings  # type: ignore[attr-defined]
    keen = settings.refinement.model_copy(update={"least_t": -1000.0})
    model = RefinedModel(settings.model_copy(update={"refinement": keen})).fit(data)
    assert {step.family for steps in model.refinement.steps for step in steps} == {"core", "flow"}
    newest = data.features.between(data.features.times[-40], None)
    found, base = explained(model, newest), explained(model.ensemble, newest)
    assert found.log_es == pytest.approx(log_es(model.predict(newest)), abs=1e-5)
    assert np.abs(found.log_es - base.log_es).max() > 0.01
    at = [found.inputs.index(name) for name in flow if name in found.inputs]
    assert np.abs(found.effects[..., at]).max() > 0.001
    assert np.isfinite(found.scores[:, at]).any()


def test_saved_and_loaded_it_says_the_same(case: tuple[TailModel, FeatureFrame], tmp_path: Path) -> None:
    model, features = case
    model.save(tmp_path)
    again = explained(type(model).load(tmp_path), features)
    found = explained(model, features)
    for name in ("values", "scores", "baseline", "effects"):
        assert np.array_equal(getattr(again, name), getattr(found, name), equal_nan=True)


def test_a_model_saved_before_there_were_explanations_has_none(
    case: tuple[TailModel, FeatureFrame], tmp_path: Path
) -> None:
    model, features = case
    model.save(tmp_path)
    for path in tmp_path.rglob("forecast.json"):
        content = json.loads(path.read_text())
        content.pop("usual", None)
        path.write_text(json.dumps(content))
    old = type(model).load(tmp_path)
    assert old.contributions(features, CELLS) is None
    assert len(old.predict(features).rows) == len(model.predict(features).rows)


def test_a_cell_that_is_not_forecast_is_refused(case: tuple[TailModel, FeatureFrame]) -> None:
    model, features = case
    for cell in (Cell(2 * HOUR, "long", 0.99), Cell(HOUR, "both", 0.99), Cell(HOUR, "long", 0.5)):
        with pytest.raises(ValueError, match="no forecast of"):
            model.contributions(features, (cell,))


def test_nothing_to_explain_gives_no_rows(case: tuple[TailModel, FeatureFrame]) -> None:
    model, features = case
    found = explained(model, changed(features, np.full_like(features.values, np.nan)))
    assert found.effects.shape == (0, len(CELLS), len(found.inputs))


# The trees, by hand

LEVELS = 2 + np.array([[-1.0], [1.0]]) + np.array([[-0.5, 0.5]])


def stumps(scores: np.ndarray) -> lightgbm.Booster:
    """Trees that say scores[a, b] for the rows (a, b) of 0 and 1: a stump on each, and a third input of
    noise."""
    a, b = (i.ravel() for i in np.indices(scores.shape))
    rows = np.repeat(np.column_stack([a, b, np.zeros(4)]), 25, axis=0).astype("float64")
    rows[:, 2] = np.tile(np.arange(25.0), 4)
    label = np.repeat(scores.ravel(), 25)
    settings = {
        "objective": "regression",
        "learning_rate": 1.0,
        "num_leaves": 2,
        "min_data_in_leaf": 1,
        "min_data_in_bin": 1,
        "verbose": -1,
        "num_threads": 1,
    }
    return lightgbm.train(settings, lightgbm.Dataset(rows, label), 2)


def test_the_logarithm_is_shared_in_proportion() -> None:
    booster = stumps(LEVELS)  # 0.5, 1.5, 2.5, 3.5: 2 on average, 1 for a, a half for b
    start, effects = tail_effects(
        [booster], np.array([1.5]), np.array([[1.0, 1.0, 7.0], [0.0, 1.0, 7.0]]), 0.1
    )
    assert start == pytest.approx(np.log([3.0, 3.0]))
    up, down = np.log(3.5 / 2), np.log(1.5 / 2)
    assert effects == pytest.approx(np.array([[up * 2 / 3, up / 3, 0], [down * 2, -down, 0]]))


def test_below_the_floor_the_effects_lead_to_the_floor() -> None:
    booster = stumps(LEVELS - 1)  # -0.5, 0.5, 1.5, 2.5: 1 on average
    _, effects = tail_effects([booster], np.array([1.0]), np.array([[0.0, 0.0, 1.0]]), 0.1)
    assert effects == pytest.approx(np.log(0.1) * np.array([[2 / 3, 1 / 3, 0]]))


def test_where_levels_cross_the_larger_one_is_explained() -> None:
    lower, upper = stumps(LEVELS), stumps(np.full((2, 2), 2.0) + np.array([[0.0], [0.2]]))
    rows = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    start, effects = tail_effects([lower, upper], np.array([1.5, 1.2]), rows, 0.1)
    # ES of the lower level is 1.5 x 3.5 and of the upper 1.2 x 3.5 in the first row; in the second the upper
    # speaks: 1.2 x 2.0.
    assert start + effects.sum(axis=1) == pytest.approx(np.log([1.5 * 3.5, 1.2 * 2.0]))
    assert effects[0, 1] > 0.1
    assert effects[1] == pytest.approx([np.log(2.0 / 2.1), 0, 0])


def test_the_slope_of_the_logarithm_has_its_limit() -> None:
    same = _log_slope(np.array([2.0, 0.01, 2.0]), np.array([2.0, 0.01, 2.0 + 1e-6]), 0.1)
    assert same == pytest.approx([0.5, 0.0, 0.5], rel=1e-6)


# The network, by hand


def small_network(mirrored_share: float, seed: int = 4) -> tuple[dict[str, torch.Tensor], Shape]:
    """Random weights, the last layer too, for the inputs of the models, at two horizons and three levels."""
    order, sign = mirrored(WIDE_INPUTS)
    var = np.array([[1.9, 2.4, 4.0], [1.8, 2.3, 3.8]])
    shape = Shape.of(np.stack([var, 1.3 * var]), order, sign, core=10)
    generator = torch.Generator().manual_seed(seed)
    settings = NetworkSettings(members=3, hidden=16, mirrored_share=mirrored_share)
    weights = first_weights(settings, len(WIDE_INPUTS), shape, generator)
    weights["weight_2"] = 0.1 * torch.randn(weights["weight_2"].shape, generator=generator)
    return weights, shape


def some_rows(rows: int) -> torch.Tensor:
    return torch.randn((rows, len(WIDE_INPUTS)), generator=torch.Generator().manual_seed(9))


PLACES = [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 0)]


def test_the_nodes_agree_with_a_slow_walk_along_the_way() -> None:
    weights, shape = small_network(0.5)
    x = some_rows(2)
    _, effects, rest = path_gradients(weights, x, shape, PLACES)
    assert rest < 1e-3
    steps = 1000
    slow = np.zeros_like(effects)
    for step in range(steps):
        point = ((step + 0.5) / steps * x).requires_grad_()
        for cell, place in enumerate(PLACES):
            (slope,) = torch.autograd.grad(_log_es(weights, point, shape, [place]).sum(), point)
            slow[:, cell] += (slope * x).numpy() / steps
    assert effects == pytest.approx(slow, abs=2e-3)


def test_of_a_fitted_network_the_nodes_leave_little(fitted: Fitted) -> None:
    model, features = fitted("network")
    assert isinstance(model, NetworkModel)
    x = model._standardised(features.matrix(model.inputs)[-600:])
    _, effects, rest = path_gradients(model.weights, x, model._shape(), PLACES)
    assert rest < 1e-3
    assert np.abs(effects).sum(axis=-1).max() > 0.1


def test_rows_in_many_pieces_say_what_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, shape = small_network(0.5)
    x = some_rows(10)
    start, whole, _ = path_gradients(weights, x, shape, PLACES)
    monkeypatch.setattr("models.forecast._path_gradients._ROWS", 3)
    again, pieces, _ = path_gradients(weights, x, shape, PLACES)
    assert again == pytest.approx(start)
    assert pieces == pytest.approx(whole, abs=1e-5)


def test_what_moves_alone_has_all_of_the_effect() -> None:
    weights, shape = small_network(0.0)
    x = torch.zeros((1, len(WIDE_INPUTS)))
    x[0, 5] = 2.0
    start, effects, _ = path_gradients(weights, x, shape, PLACES)
    end = _log_es(weights, x, shape, PLACES)[0].double().numpy()
    assert effects[0, :, 5] == pytest.approx(end - start)
    assert not np.delete(effects, 5, axis=-1).any()


def test_an_input_without_weight_has_no_effect() -> None:
    weights, shape = small_network(0.0)
    weights["weight_0"][:, 5] = 0.0
    _, effects, _ = path_gradients(weights, some_rows(3), shape, PLACES)
    assert (effects[..., 5] == 0).all()
    assert (np.delete(effects, 5, axis=-1) != 0).all()


def test_in_the_mirror_a_long_is_a_short() -> None:
    weights, shape = small_network(1.0)  # with the mirror, and equal biases of both sides
    x = some_rows(4)
    order, sign = mirrored(WIDE_INPUTS)
    turned = x[:, order] * torch.as_tensor(sign, dtype=torch.float32)
    _, short, _ = path_gradients(weights, x, shape, [(0, 1, 1)])
    _, long, _ = path_gradients(weights, turned, shape, [(0, 0, 1)])
    # A fall's effect on the short is that of as large a rise on the long.
    assert long[..., order] == pytest.approx(short, abs=1e-5)


def test_in_the_mirror_trees_see_a_long_as_a_short(fitted: Fitted) -> None:
    """But for which side it is, of which these trees, asked without it, know nothing."""
    model, features = fitted("quantile")
    assert isinstance(model, QuantileModel)
    newest = features.between(features.times[-6], None)
    order, sign = mirrored(model.inputs)
    values = newest.values.copy()
    columns = [newest.names.index(name) for name in model.inputs]
    values[..., columns] = newest.values[..., columns][..., order] * sign
    splits = np.stack([b.feature_importance()[-1:] for b in model.boosters])
    blind = [i for i, used in enumerate(splits[:, 0]) if used == 0]
    cells = [
        (model.horizons[i // len(model.levels)], model.levels[i % len(model.levels)])
        for i in blind
        if i % len(model.levels) == 0  # the lowest level rests on no other
    ]
    assert cells
    for horizon, level in cells:
        short = model.contributions(newest, (Cell(horizon, "short", level),))
        long = model.contributions(changed(newest, values), (Cell(horizon, "long", level),))
        assert short is not None
        assert long is not None
        assert long.effects[..., 1:][..., order] == pytest.approx(short.effects[..., 1:])


# What was usual, by hand


def frame(scale: list[list[float]], har: list[list[float]]) -> FeatureFrame:
    times = pd.date_range("2024-01-01", periods=len(scale), freq=HOUR, tz="UTC", unit="ns")
    values = np.stack([np.array(scale), np.array(har)], axis=-1)
    return FeatureFrame(times, ("A", "B"), (SCALE, "har_1h"), HOUR, values)


def test_usual_is_the_mean_of_what_is_known() -> None:
    nan = float("nan")
    usual = Usual.of(frame([[0.01, nan], [0.04, 0.1], [nan, 0.1]], [[1, 9], [3, 5], [9, nan]]), ("har_1h",))
    assert np.exp(usual.log_scale["A"]) == pytest.approx(0.02)
    assert np.exp(usual.log_scale["B"]) == pytest.approx(0.1)
    # ln 2 and -ln 2 about A's own, twice nothing about B's.
    assert usual.log_scale_deviation == pytest.approx(np.log(2) / np.sqrt(2))
    assert usual.mean == pytest.approx([3.0])
    assert usual.deviation == pytest.approx([np.sqrt((4 + 0 + 4) / 3)])
    assert Usual.from_json(json.loads(json.dumps(usual.to_json()))) is not None


def test_a_symbol_never_seen_is_held_against_all() -> None:
    usual = Usual.of(frame([[0.01, 0.04]] * 2, [[1, 1], [1, 1]]), ("har_1h",))
    features = FeatureFrame(
        pd.date_range("2025-01-01", periods=1, freq=HOUR, tz="UTC", unit="ns"),
        ("NEW", "B"),
        (SCALE, "har_1h"),
        HOUR,
        np.array([[[0.04, 1.0], [0.04, 2.0]]]),
    )
    cells = (Cell(4 * HOUR, "long", 0.99),)
    found = usual.explained(features, np.ones((1, 2), bool), cells, np.zeros((2, 1)), np.zeros((2, 1, 1)))
    assert found.effects[:, 0, 0] == pytest.approx([np.log(2), 0.0])
    assert found.baseline[:, 0] == pytest.approx(np.log([0.02 * 2, 0.04 * 2]))  # the root of 4 bars
    assert found.scores[:, 1] == pytest.approx([0.0, 1.0])  # an input that never moved has deviation 1


def test_without_any_scale_nothing_is_usual() -> None:
    with pytest.raises(ValueError, match="no ewma_volatility is known"):
        Usual.of(frame([[float("nan")] * 2], [[1, 1]]), ("har_1h",))
