"""``refined``: an ensemble with a correction that finer bars pay for, saved, loaded, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame, Pipeline
from features.resample import merged
from features.sources.simulated import simulate
from features.volatility import parkinson_variance
from models.forecast._refinement import LEVEL
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.refined import RefinedModel

QUARTER, HOUR = pd.Timedelta(minutes=15), pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def over_finer_bars() -> Market:
    """Two symbols, 100 days of hourly bars over those of a quarter of an hour."""
    fine = simulate(symbols=2, days=100, interval=QUARTER, seed=5)
    return Market(HOUR, merged(fine.columns, QUARTER, HOUR)).with_finer(fine)


@pytest.fixture(scope="module")
def pipeline(over_finer_bars: Market) -> Pipeline:
    return Pipeline.fit(over_finer_bars, RefinedModel.feature_names(), RefinedModel.optional_features())


@pytest.fixture(scope="module")
def features(over_finer_bars: Market, pipeline: Pipeline) -> FeatureFrame:
    return pipeline.batch(over_finer_bars)


@pytest.fixture(scope="module")
def model(
    over_finer_bars: Market, features: FeatureFrame, new_model: Callable[[str], TailModel]
) -> RefinedModel:
    market = over_finer_bars
    ranges = pd.DataFrame(parkinson_variance(market), market.times, list(market.symbols))
    horizons, levels = (HOUR, 4 * HOUR), (0.99, 0.999)
    found = new_model("refined").fit(Dataset(features, market.close, horizons, levels, ranges))
    assert isinstance(found, RefinedModel)
    return found


def same(one: TailForecast, other: TailForecast) -> bool:
    return (
        one.rows.equals(other.rows)
        and np.array_equal(one.var, other.var)
        and np.array_equal(one.es, other.es)
    )


def test_it_says_what_it_tried_and_uses(model: RefinedModel) -> None:
    trials = model.trials()
    assert [(t.horizon, t.family) for t in trials] == [
        (horizon, family) for horizon in (HOUR, 4 * HOUR) for family in ("core", "fine", "fine_flow", "flow")
    ], "families that the market has"
    assert {t.used for t in trials if t.family == "fine"} == {True}
    assert all(t.used == (t.t < -model.settings.refinement.least_t) for t in trials)


def test_saved_and_loaded_its_steps_are_the_same_to_the_bit(
    model: RefinedModel, features: FeatureFrame, tmp_path: Path
) -> None:
    assert all(model.refinement.steps)
    model.save(tmp_path)
    loaded = RefinedModel.load(tmp_path)
    assert same(loaded.predict(features), model.predict(features))
    assert (loaded.trials(), loaded.reads()) == (model.trials(), model.reads())
    assert loaded.settings == model.settings


def test_what_it_does_not_read_it_does_without(
    model: RefinedModel, pipeline: Pipeline, over_finer_bars: Market, features: FeatureFrame
) -> None:
    read = model.reads()
    assert read is not None
    assert set(RefinedModel.feature_names() or ()) <= set(read) <= set(features.names)
    assert LEVEL not in read
    served = pipeline.only(read)
    assert len(served.names) < len(pipeline.names)
    assert same(model.predict(served.batch(over_finer_bars)), model.predict(features))
    again = Pipeline.from_json(served.to_json())
    assert same(model.predict(again.batch(over_finer_bars)), model.predict(features))


def test_without_finer_bars_it_goes_on_without_their_steps(
    model: RefinedModel, pipeline: Pipeline, over_finer_bars: Market, features: FeatureFrame
) -> None:
    bare = replace(over_finer_bars, finer={})
    lacking = pipeline.missing(bare)
    assert lacking
    assert not pipeline.missing(over_finer_bars)
    frame = pipeline.batch(bare)
    assert np.isnan(frame.matrix(lacking)).all(), "missing, not zero"
    steps = tuple(
        tuple(s for s in steps if s.family not in ("fine", "fine_flow")) for steps in model.refinement.steps
    )
    whole = model.refinement
    without = RefinedModel(model.settings)
    without.ensemble, without.horizons, without.levels = model.ensemble, model.horizons, model.levels
    without.refinement = replace(whole, steps=steps)
    found = model.predict(frame)
    assert same(found, without.predict(features))
    assert not same(found, model.predict(features))


def test_a_horizon_without_steps_is_the_ensembles(model: RefinedModel, features: FeatureFrame) -> None:
    half = RefinedModel(model.settings)
    half.ensemble, half.horizons, half.levels = model.ensemble, model.horizons, model.levels
    half.refinement = replace(model.refinement, steps=((), model.refinement.steps[1]))
    found, base = half.predict(features), model.ensemble.predict(features)
    assert np.array_equal(found.var[:, 0], base.var[:, 0])
    assert np.array_equal(found.es[:, 0], base.es[:, 0])
    assert not np.array_equal(found.var[:, 1], base.var[:, 1])
