"""The correction: its labels and weights by hand, what it keeps, and what it does without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from features.pipeline import FeatureFrame
from models.forecast._refinement import (
    CORE,
    LEVEL,
    MOST,
    Refinement,
    Rows,
    Settings,
    Step,
    _products,
    _ridge,
    _total,
    _Trial,
    family_inputs,
    range_labels,
    refine,
)
from models.forecast.base import Dataset, TailForecast
from models.scores import fz0

Array = NDArray[np.float64]

HOUR = pd.Timedelta(hours=1)
HORIZONS = (HOUR, 4 * HOUR)
LEVELS = (0.975, 0.99, 0.999)
SIGMA = 0.01
T, SYMBOLS = 3000, ("A", "B")
#: One input of each family, and two of the finer bars.
FINE, FINE_2 = family_inputs("fine")[:2]
FLOW = family_inputs("flow")[0]
QUICK = Settings(min_rows=500, families=("fine", "flow"))


def frame_of(inputs: Mapping[str, Array]) -> FeatureFrame:
    """The scale and these inputs, each (time, symbol)."""
    first = next(iter(inputs.values()))
    times = pd.date_range("2024-01-01", periods=len(first), freq=HOUR, tz="UTC", unit="ns")
    values = np.stack([np.full_like(first, SIGMA), *inputs.values()], axis=-1)
    return FeatureFrame(times, SYMBOLS[: first.shape[1]], ("ewma_volatility", *inputs), HOUR, values)


def naive_forecast(features: FeatureFrame) -> TailForecast:
    """A normal tail of the scale, which knows of no input."""
    shape = (len(features.rows()), 2, 2, 3)
    bars = np.array([1.0, 4.0])[:, None, None]
    var = np.broadcast_to(SIGMA * np.sqrt(bars) * np.array([1.96, 2.33, 3.09]), shape)
    return TailForecast(features.rows(), HORIZONS, LEVELS, var.copy(), 1.15 * var)


def world(log_size: Array, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes and ranges of bars whose volatility is ``SIGMA`` times exp of what stood at the close before."""
    rng = np.random.default_rng(seed)
    size = SIGMA * np.exp(np.vstack([np.zeros((1, log_size.shape[1])), log_size[:-1]]))
    times = pd.date_range("2024-01-01", periods=len(size), freq=HOUR, tz="UTC", unit="ns")
    symbols = list(SYMBOLS[: size.shape[1]])
    closes = 100 * np.exp(np.cumsum(size * rng.standard_normal(size.shape), axis=0))
    ranges = size**2 * np.exp(0.5 * rng.standard_normal(size.shape))
    return pd.DataFrame(closes, times, symbols), pd.DataFrame(ranges, times, symbols)


def dataset_of(inputs: Mapping[str, Array], log_size: Array, seed: int = 0) -> Dataset:
    closes, ranges = world(log_size, seed)
    return Dataset(frame_of(inputs), closes, HORIZONS, LEVELS, ranges)


def slow_wave(seed: int, persistence: float = 0.95) -> Array:
    """An AR(1) of deviation one half, (time, symbol)."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((T, len(SYMBOLS))) * 0.5 * np.sqrt(1 - persistence**2)
    out: Array = np.zeros_like(shocks)
    for t in range(1, T):
        out[t] = persistence * out[t - 1] + shocks[t]
    return out


def fit(dataset: Dataset, settings: Settings = QUICK) -> Refinement:
    return refine(settings, dataset, naive_forecast(dataset.features))


def corrected(refinement: Refinement, features: FeatureFrame) -> TailForecast:
    base = naive_forecast(features)
    factor = np.exp(refinement.log_factors(features, base))[..., None, None]
    return TailForecast(base.rows, HORIZONS, LEVELS, factor * base.var, factor * base.es)


def mean_fz0(forecast: TailForecast, dataset: Dataset, horizon: int, rows: slice) -> float:
    """Of both sides at 99 %, over these times."""
    returns = dataset.forward_returns(HORIZONS[horizon])
    kept = np.zeros(returns.shape, dtype=bool)
    kept[rows] = np.isfinite(returns[rows])
    losses = np.stack([-returns, returns], axis=-1)[kept]
    at = kept.ravel()
    return float(fz0(losses, forecast.var[at, horizon, :, 1], forecast.es[at, horizon, :, 1], 0.99).mean())


def families(refinement: Refinement, horizon: int = 0) -> list[str]:
    return [step.family for step in refinement.steps[horizon]]


@pytest.fixture(scope="module")
def told() -> Dataset:
    """The finer bars tell the volatility to come; the flow is noise."""
    wave, noise = slow_wave(1), np.random.default_rng(2).standard_normal((T, 2))
    return dataset_of({FINE: wave, FLOW: noise}, wave)


def cut(dataset: Dataset, end: int) -> Dataset:
    times = dataset.features.times
    features = dataset.features.between(None, times[end - 1])
    assert dataset.ranges is not None
    ranges = dataset.ranges.iloc[:end]
    return Dataset(features, dataset.closes.iloc[:end], HORIZONS, LEVELS, ranges)


# --- by hand -------------------------------------------------------------------------------------------


def small(variance: list[float]) -> Dataset:
    features = frame_of({FINE: np.arange(float(len(variance)))[:, None]})
    closes = pd.DataFrame({"A": 100 * 1.01 ** np.arange(len(variance))}, features.times)
    return Dataset(features, closes, HORIZONS, LEVELS, pd.DataFrame({"A": variance}, features.times))


def test_labels_are_the_mean_variance_of_the_bars_to_come() -> None:
    data = small([1.0, 4.0, 9.0, 16.0, 25.0])
    nan = np.nan
    assert range_labels(data, 1)[:, 0] == pytest.approx([2.0, 3.0, 4.0, 5.0, nan], nan_ok=True)
    assert range_labels(data, 2)[:, 0] == pytest.approx(
        [np.sqrt(6.5), np.sqrt(12.5), np.sqrt(20.5), nan, nan], nan_ok=True
    )
    assert np.isnan(range_labels(data, 5)).all()
    assert np.isnan(range_labels(data, 7)).all(), "a horizon beyond the history"


def test_a_price_that_stands_still_teaches_nothing() -> None:
    data = small([1.0] * 40)
    still = data.closes.copy()
    still.iloc[5:] = 100.0
    label = range_labels(replace(data, closes=still), 1)[:, 0]
    assert np.isfinite(label[:29]).all()  # a move within the last 24 bars
    assert np.isnan(label[29:]).all()


def test_a_label_needs_every_bar_on_the_way_but_not_its_own() -> None:
    nan = np.nan
    data = small([nan, 4.0, 9.0, nan, 25.0, 36.0, 49.0])
    assert range_labels(data, 2)[:, 0] == pytest.approx(
        [np.sqrt(6.5), nan, nan, np.sqrt(30.5), np.sqrt(42.5), nan, nan], nan_ok=True
    )


def test_what_is_learned_is_the_size_to_come_against_the_forecast() -> None:
    """With ranges 4 times SIGMA^2: ln(2 + 0.05) less ln(VaR / (SIGMA sqrt(h))), VaR at the lowest level."""
    data = small([4 * SIGMA**2] * 6)
    forecast = naive_forecast(data.features)
    uneven = forecast.var.copy()
    uneven[:, :, 0] *= 1.2  # of the long alone; the mean over the sides is 1.1 times
    rows = Rows.of(data.features, replace(forecast, var=uneven, es=1.3 * uneven))
    for horizon, bars in ((0, 1), (1, 4)):
        label = _Trial(QUICK, rows, horizon, bars, data).label
        assert label[:-bars] == pytest.approx(np.log(2.05) - np.log(1.96 * 1.1))
        assert np.isnan(label[-bars:]).all()
    assert rows.values((LEVEL, FINE, FLOW), 1)[2] == pytest.approx(
        [np.log(1.96 * 1.1), 2.0, np.nan], nan_ok=True
    )


def test_ridge_by_hand() -> None:
    """X'X = diag(2, 2), X'y = (4, 2), and a penalty of 0.01 on each of four rows."""
    z = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    y = np.array([2.0, -2.0, 1.0, -1.0])
    assert _ridge(_products(z, y), 0.01) == pytest.approx([4 / 2.04, 2 / 2.04])
    # The level of the labels is no business of the weights, block by block.
    blocks = [_products(z[:2], y[:2] + 5), _products(z[2:], y[2:] - 3)]
    assert _ridge(_total(blocks), 0.01) == pytest.approx([4 / 2.04, 2 / 2.04])
    assert np.isfinite(_ridge(_total([_products(z[:0], y[:0]), _products(z, y)]), 0.01)).all()


def test_weights_are_those_of_least_squares_with_a_penalty() -> None:
    """The penalised problem as an ordinary one: rows sqrt(penalty n) I beneath, with labels of zero."""
    wave, other = slow_wave(1), slow_wave(5)
    data = dataset_of({FINE: wave, FINE_2: other}, wave - 0.5 * other)
    settings = QUICK.model_copy(update={"penalty": 0.2})
    (step,) = fit(data, settings).steps[0]
    assert step.inputs == (FINE, FINE_2)  # the naive forecast's level does not move, so it is no input
    label = _Trial(settings, Rows.of(data.features, naive_forecast(data.features)), 0, 1, data).label
    known = np.isfinite(label)
    x = np.column_stack([wave.ravel(), other.ravel()])[known]
    z = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -5, 5)
    y = label[known] - label[known].mean()
    penalty = np.sqrt(0.2 * len(z)) * np.eye(2)
    expected, *_ = np.linalg.lstsq(np.vstack([z, penalty]), np.append(y, [0, 0]), rcond=None)
    assert step.weights == pytest.approx(expected, rel=1e-9)
    assert step.mean == pytest.approx(x.mean(axis=0), abs=1e-12)
    assert step.deviation == pytest.approx(x.std(axis=0))
    assert step.weights[0] > 0 > step.weights[1]


def made_step(weights: list[float], inputs: tuple[str, ...] = (FINE, FINE_2), family: str = "fine") -> Step:
    two = np.full(len(inputs), 2.0)
    return Step(family, inputs, inputs, two / 2, two, np.array(weights), -9.0)


def log_factors(steps: tuple[Step, ...], x: list[list[float]], strength: float = 0.5) -> Array:
    """Of rows with these values of FINE, FINE_2 and FLOW, one hour ahead."""
    values = np.array(x)
    features = frame_of(dict(zip((FINE, FINE_2, FLOW), values.T[:, :, None], strict=True)))
    made = Refinement(Settings(strength=strength), (steps, ()), ({}, {}))
    found = made.log_factors(features, naive_forecast(features))
    assert (found[:, 1] == 0).all()
    return found[:, 0]


def test_strength_is_a_share_of_the_bounded_sum() -> None:
    # z = (x - 1) / 2, held within 5: 1 and 2, then 5 and 0.
    rows = [[3.0, 5.0, 0.0], [101.0, 1.0, 0.0]]
    assert log_factors((made_step([0.3, 0.1]),), rows) == pytest.approx([0.5 * 0.5, 0.5 * 1.5])
    assert log_factors((made_step([1.0, 1.0]),), rows) == pytest.approx([0.5 * MOST, 0.5 * MOST])
    assert log_factors((made_step([-1.0, -1.0]),), rows) == pytest.approx([-0.5 * MOST, -0.5 * MOST])
    both = made_step([0.3, 0.1]), made_step([0.2], (FLOW,), "flow")
    assert log_factors(both, rows, 1.0) == pytest.approx([0.5 - 0.1, 1.5 - 0.1]), "held after the sum"
    assert (log_factors(both, rows, 0.0) == 0).all()


def test_a_missing_input_counts_as_its_mean_and_a_missing_family_as_nothing() -> None:
    step, flow = made_step([0.3, 0.1]), made_step([0.2], (FLOW,), "flow")
    nan = np.nan
    rows = [[nan, 5.0, 3.0], [1.0, 5.0, 3.0], [nan, nan, 3.0], [3.0, 5.0, nan]]
    found = log_factors((step, flow), rows)
    assert found[0] == found[1] == pytest.approx(0.5 * (0.1 * 2 + 0.2))
    assert found[2] == pytest.approx(0.5 * 0.2)
    assert found[3] == pytest.approx(0.5 * 0.5)


def test_a_step_on_the_level_alone_is_left_out_with_its_family() -> None:
    """The forecast's own level is always known; it does not make a family known."""
    step = replace(made_step([0.3, 0.4], (FINE, LEVEL)), own=(FINE,))
    nan = np.nan
    found = log_factors((step,), [[nan, 0.0, 0.0], [1.0, 0.0, 0.0]])
    level = (np.log(1.96) - 1) / 2
    assert found == pytest.approx([0.0, 0.5 * 0.4 * level])


# --- what is kept --------------------------------------------------------------------------------------


def test_a_family_that_tells_is_kept_and_pays_out_of_sample(told: Dataset) -> None:
    half = T // 2
    refinement = fit(cut(told, half))
    assert [families(refinement, h) for h in (0, 1)] == [["fine"], ["fine"]]
    assert all(found["fine"] < -5 for found in refinement.tried)
    base, better = naive_forecast(told.features), corrected(refinement, told.features)
    for horizon in (0, 1):
        unseen = slice(half + 4, None)
        gain = mean_fz0(base, told, horizon, unseen) - mean_fz0(better, told, horizon, unseen)
        assert gain > 0.05


@pytest.mark.parametrize("seed", range(5))
def test_a_family_of_noise_is_not_kept(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    noise = {name: rng.standard_normal((T, 2)) for name in family_inputs("flow")[:8]}
    refinement = fit(dataset_of(noise, slow_wave(seed), seed))
    assert refinement.steps == ((), ())
    assert all(list(found) == ["flow"] and found["flow"] > -2 for found in refinement.tried)


def test_a_family_that_says_the_opposite_in_every_block_is_not_kept() -> None:
    """Within each block it is as good as the truth, and known to be; the next block turns it round."""
    wave = slow_wave(3)
    sign = np.where(np.arange(T) * 5 // T % 2 == 0, 1.0, -1.0)[:, None]
    data = dataset_of({FINE: sign * wave, FLOW: wave}, wave)
    refinement = fit(data, QUICK.model_copy(update={"families": ("fine",)}))
    assert refinement.steps == ((), ())
    assert refinement.tried[0]["fine"] > 2
    within = cut(data, T // 5)
    assert families(fit(within, QUICK.model_copy(update={"families": ("fine",), "min_rows": 200}))) == [
        "fine"
    ]


def test_a_family_is_tried_on_what_those_before_it_left() -> None:
    wave = slow_wave(1)
    same = dataset_of({FINE: wave, FLOW: wave}, wave)
    assert families(fit(same)) == ["fine"]
    assert families(fit(same, QUICK.model_copy(update={"families": ("flow", "fine")}))) == ["flow"]
    more = slow_wave(7)
    both = fit(dataset_of({FINE: wave, FLOW: more}, wave + more))
    assert families(both) == ["fine", "flow"]


def test_the_core_is_tried_first() -> None:
    wave, other = slow_wave(1), slow_wave(6)
    refinement = fit(dataset_of({"har_1h": wave, FINE: other}, wave + other))
    assert families(refinement) == [CORE, "fine"]
    assert list(refinement.tried[0]) == [CORE, "fine"]
    assert refinement.steps[0][0].own == ("har_1h",)


def test_families_of_too_few_rows_or_of_nothing_that_moves_are_not_tried(told: Dataset) -> None:
    assert fit(told, QUICK.model_copy(update={"min_rows": 2 * T})).tried == ({}, {})
    known = told.features[FINE].copy()
    known[: T - 200] = np.nan
    late = dataset_of({FINE: known, FLOW: np.full((T, 2), 3.0)}, told.features[FINE])
    assert fit(late).tried == ({}, {}), "400 rows of the one, and the other stands still"
    assert list(fit(late, QUICK.model_copy(update={"min_rows": 300})).tried[0]) == ["fine"]
    with pytest.raises(ValueError, match="no family of features 'tea leaves'; choose among"):
        fit(told, QUICK.model_copy(update={"families": ("tea leaves",)}))


def test_copies_of_an_input_are_one(told: Dataset) -> None:
    wave = told.features[FINE]
    (step,) = fit(dataset_of({FINE: wave, FINE_2: wave}, wave)).steps[0]
    assert step.inputs == (FINE,)


# --- what it does without, and what it may not know ------------------------------------------------------


def test_without_a_family_the_forecast_is_the_one_without_its_step() -> None:
    wave, more = slow_wave(1), slow_wave(7)
    data = dataset_of({FINE: wave, FLOW: more}, wave + more)
    refinement = fit(data)
    assert families(refinement) == ["fine", "flow"]
    alone = replace(refinement, steps=tuple(steps[:1] for steps in refinement.steps))
    expected = corrected(alone, data.features)
    for features in (frame_of({FINE: wave, FLOW: np.full_like(more, np.nan)}), frame_of({FINE: wave})):
        found = corrected(refinement, features)
        assert np.array_equal(found.var, expected.var)
        assert np.array_equal(found.es, expected.es)
    nothing = corrected(refinement, frame_of({"har_1h": wave}))
    assert np.array_equal(nothing.var, naive_forecast(data.features).var)


def test_a_horizon_without_steps_is_the_uncorrected_forecast_to_the_bit(told: Dataset) -> None:
    refinement = fit(told)
    assert refinement.steps[0] and refinement.steps[1]
    base, found = (
        naive_forecast(told.features),
        corrected(replace(refinement, steps=(refinement.steps[0], ())), told.features),
    )
    assert np.array_equal(found.var[:, 1], base.var[:, 1])
    assert np.array_equal(found.es[:, 1], base.es[:, 1])
    assert not np.array_equal(found.var[:, 0], base.var[:, 0])


def test_rows_whose_label_has_not_matured_teach_nothing(told: Dataset) -> None:
    """What the newest rows look like, as many as the horizon has bars, changes no weight."""
    whole = fit(told)
    values = told.features.values.copy()
    values[-1, :, 1:] = 7.0
    one = fit(replace(told, features=replace(told.features, values=values)))
    assert np.array_equal(one.steps[0][0].weights, whole.steps[0][0].weights)
    values[-4:, :, 1:] = 7.0
    four = fit(replace(told, features=replace(told.features, values=values)))
    assert np.array_equal(four.steps[1][0].weights, whole.steps[1][0].weights)
    assert np.array_equal(four.steps[1][0].mean, whole.steps[1][0].mean)
    assert four.tried[1] == whole.tried[1]
    assert not np.array_equal(four.steps[0][0].weights, whole.steps[0][0].weights), "these had matured"


def test_a_trial_learns_from_no_label_that_reaches_into_the_block_it_is_tried_on(told: Dataset) -> None:
    rows = Rows.of(told.features, naive_forecast(told.features))
    for horizon, bars in ((0, 1), (1, 4)):
        trial = _Trial(QUICK, rows, horizon, bars, told)
        known = np.isfinite(trial.label)
        times = rows.time[known]
        blocks = [times[block] for block in trial._blocks(known)]
        assert len(blocks) == 5
        for before, after in pairwise(blocks):
            assert before.max() + bars < after.min()
            assert before.max() + bars >= after.min() - 1, "and no row more than that is left out"


def test_a_step_is_plain_json(told: Dataset) -> None:
    (step,) = fit(told).steps[0]
    again = Step.from_json(json.loads(json.dumps(step.to_json())))
    assert (again.family, again.inputs, again.own, again.t) == (step.family, step.inputs, step.own, step.t)
    for name in ("mean", "deviation", "weights"):
        assert np.array_equal(getattr(again, name), getattr(step, name))
