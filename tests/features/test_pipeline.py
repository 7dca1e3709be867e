"""Choosing, fitting, running and storing a pipeline."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame, Pipeline


@pytest.fixture(scope="module")
def pipeline(market: Market) -> Pipeline:
    return Pipeline.fit(market.until(market.times[45 * 24]))


@pytest.fixture(scope="module")
def batch(pipeline: Pipeline, market: Market) -> FeatureFrame:
    return pipeline.batch(market)


def test_online_equals_batch_for_all_features_together(
    pipeline: Pipeline, market: Market, batch: FeatureFrame
) -> None:
    for row in (len(market.times) - 1, 45 * 24, 40 * 24 + 1):
        online = pipeline.online(market.until(market.times[row]))
        assert list(online.times) == [market.times[row]]
        np.testing.assert_allclose(online.values[0], batch.values[row], rtol=1e-9, atol=1e-12)


def test_names_choose_features_with_what_they_share(market: Market) -> None:
    chosen = Pipeline.fit(market, ["return_1d", "hour_profile"])
    assert {"return_1d", "return_1w", "hour_profile"} <= set(chosen.names)
    assert "ewma_volatility" not in chosen.names
    assert set(chosen.states) == {"hour_profile"}


def test_only_keeps_what_was_learned_and_chooses_no_more(pipeline: Pipeline, market: Market) -> None:
    learned = next(iter(pipeline.states))
    plain = next(f for f in pipeline.chosen if not f.learns)
    found = pipeline.only([learned, plain.name, "a feature of nobody"])
    assert {f.name for f in found.chosen} == {learned, plain.name}
    assert found.states == {learned: pipeline.states[learned]}
    whole, part = pipeline.batch(market), found.batch(market)
    for name in part.names:
        assert np.array_equal(part[name], whole[name], equal_nan=True)


def test_unknown_names_and_absent_columns_are_told(market: Market, market_without_flow: Market) -> None:
    with pytest.raises(ValueError, match=r"\['sentiment'\] are unknown; choose among"):
        Pipeline.fit(market, ["sentiment"])
    with pytest.raises(ValueError, match=r"imbalance_1h needs columns \['taker_buy_volume'\]"):
        Pipeline.fit(market_without_flow, ["imbalance_1d"])


def test_json_and_back_gives_the_same_numbers(
    pipeline: Pipeline, market: Market, batch: FeatureFrame
) -> None:
    again = Pipeline.from_json(json.loads(json.dumps(pipeline.to_json(), allow_nan=False)))
    assert again.names == pipeline.names
    np.testing.assert_array_equal(again.batch(market).values, batch.values)


def test_a_feature_of_another_version_is_refused(pipeline: Pipeline) -> None:
    content = pipeline.to_json()
    content["features"].append("sentiment")
    with pytest.raises(ValueError, match=r"\['sentiment'\], which this version lacks; retrain"):
        Pipeline.from_json(content)


def test_reuse_spares_what_learns_nothing_and_changes_no_value(
    pipeline: Pipeline, market: Market, batch: FeatureFrame
) -> None:
    other = Pipeline.fit(market)
    np.testing.assert_array_equal(other.batch(market, reuse=batch).values, other.batch(market).values)
    # What does not learn is taken from `reuse` indeed, what learns is not.
    marked = FeatureFrame(
        batch.times, batch.symbols, batch.names, batch.interval, np.full_like(batch.values, 7.0)
    )
    taken = pipeline.batch(market, reuse=marked)
    assert (taken["ewma_volatility"] == 7.0).all()
    np.testing.assert_array_equal(taken["hour_profile"], batch["hour_profile"])


def test_reuse_of_another_market_is_refused(pipeline: Pipeline, market: Market, batch: FeatureFrame) -> None:
    with pytest.raises(ValueError, match="reuse covers other times or symbols"):
        pipeline.batch(market.last(100), reuse=batch)


def test_bars_of_another_interval_are_refused(pipeline: Pipeline, market: Market) -> None:
    coarse = Market(pd.Timedelta(hours=2), {c: f.iloc[::2] for c, f in market.columns.items()})
    with pytest.raises(ValueError, match="same interval"):
        pipeline.batch(coarse)
    with pytest.raises(ValueError, match="same interval"):
        pipeline.online(coarse)


def test_frames_are_cut_and_read_by_name(batch: FeatureFrame) -> None:
    some = batch.between(batch.times[5], batch.times[9])
    assert list(some.times) == list(batch.times[5:10])
    np.testing.assert_array_equal(some["return_1h"], batch["return_1h"][5:10])
    assert len(batch.between(None, batch.times[3]).times) == 4
    with pytest.raises(KeyError, match="sentiment"):
        batch["sentiment"]
    table = some.matrix(["weekend", "return_1h"])
    assert table.shape == (15, 2)
    assert some.rows()[4] == (batch.times[6], batch.symbols[1])
    np.testing.assert_array_equal(table[4, 1], batch["return_1h"][6, 1])
    with pytest.raises(ValueError, match="times x symbols x names"):
        FeatureFrame(batch.times, batch.symbols, batch.names, batch.interval, batch.values[1:])
