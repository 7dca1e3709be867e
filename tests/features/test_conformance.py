"""What every feature keeps, found by discovery: one function for batch and online, no look-ahead, a finite
memory, honest needs, a NaN for a missing bar, and a learned state that survives JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from features.bars import VALUE_COLUMNS, Market
from features.durations import window_bars
from features.pipeline import Feature, Pipeline, State, all_features
from features.windows import Array

EVERY = pytest.mark.parametrize("feature", all_features(), ids=lambda f: f.name)
DAY = pd.Timedelta(days=1)
#: Rows at which online and batch are compared: the newest, just after each hole, at it, at a listing, in
#: warm-up.
ROWS = (-1, -100, 40 * 24, 40 * 24 + 1, 41 * 24 + 3, 8 * 24, 36)


@pytest.fixture(scope="session")
def market(market_of_all_columns: Market) -> Market:
    return market_of_all_columns


def learned(feature: Feature, market: Market) -> State:
    return (
        {}
        if feature.fit is None
        else feature.fit(market.last(len(market.times)).until(market.times[45 * 24]))
    )


def computed(feature: Feature, market: Market, state: State) -> dict[str, Array]:
    frames = feature.compute(market, state)
    assert tuple(frames) == feature.outputs
    for frame in frames.values():
        assert frame.index.equals(market.times)
        assert tuple(frame.columns) == market.symbols
    return {name: frame.to_numpy(dtype="float64") for name, frame in frames.items()}


def disturbed(market: Market, rows: slice) -> Market:
    """Another history in these rows and beneath them: other prices, other activity, and one bar missing."""
    here = _disturbed(market, rows)
    finer = {}
    for interval, fine in market.finer.items():
        k = market.interval // interval
        first, last, _ = rows.indices(len(market.times))
        finer[interval] = _disturbed(fine, slice(first * k, last * k))
    return replace(here, finer=finer)


def _disturbed(market: Market, rows: slice) -> Market:
    factor = {"trades": 3.0, "taker_buy_volume": 0.2, "taker_buy_quote_volume": 0.2}
    rng = np.random.default_rng(5)
    columns = {}
    wiggle = np.exp(0.05 * rng.standard_normal(market.close.shape))
    for name, frame in market.columns.items():
        values = frame.to_numpy(copy=True)
        change = wiggle if name in ("open", "high", "low", "close") else factor.get(name, 7.0) * wiggle
        values[rows] = (values * change)[rows]
        values[rows][3:4] = np.nan
        columns[name] = pd.DataFrame(values, frame.index, frame.columns)
    return Market(market.interval, columns)


@EVERY
def test_online_is_the_last_row_of_batch(feature: Feature, market: Market) -> None:
    state = learned(feature, market)
    batch = computed(feature, market, state)
    bars = window_bars(feature.look_back, market.interval)
    for row in ROWS:
        online = computed(feature, market.until(market.times[row]).last(bars), state)
        for name in feature.outputs:
            expected, found = batch[name][row], online[name][-1]
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            distance = np.abs(found - expected) / np.maximum(1, np.abs(expected))
            assert np.nanmax(np.append(distance, 0.0)) <= feature.tolerance, (name, row)


@EVERY
def test_later_bars_change_nothing_before_them(feature: Feature, market: Market) -> None:
    state = learned(feature, market)
    row = 42 * 24
    before = computed(feature, market, state)
    after = computed(feature, disturbed(market, slice(row + 1, None)), state)
    cut = computed(feature, market.until(market.times[row]), state)
    for name in feature.outputs:
        np.testing.assert_array_equal(after[name][: row + 1], before[name][: row + 1])
        np.testing.assert_array_equal(cut[name], before[name][: row + 1])


@EVERY
def test_bars_older_than_the_look_back_do_not_matter(feature: Feature, market: Market) -> None:
    state = learned(feature, market)
    oldest = len(market.times) - window_bars(feature.look_back, market.interval)
    assert oldest > 24, "the market must be longer than the look-back for this test to say anything"
    before = computed(feature, market, state)
    after = computed(feature, disturbed(market, slice(0, oldest)), state)
    for name in feature.outputs:
        np.testing.assert_array_equal(after[name][-1], before[name][-1])


def only(market: Market, feature: Feature) -> Market:
    """What the feature declares that it reads, and the closes that make the grid."""
    if feature.resolution is None:
        return market.reading((*feature.needs, *feature.uses))
    fine = market.finer[feature.resolution].reading((*feature.needs, *feature.uses))
    return replace(market.reading(["close"]), finer={feature.resolution: fine})


@EVERY
def test_the_declared_columns_suffice(feature: Feature, market: Market) -> None:
    state = learned(feature, market)
    fewer = only(market, feature)
    assert learned(feature, fewer) == state
    whole, part = computed(feature, market, state), computed(feature, fewer, state)
    for name in feature.outputs:
        np.testing.assert_array_equal(part[name], whole[name])


@EVERY
def test_columns_that_are_only_used_may_go_missing(feature: Feature, market: Market) -> None:
    state = learned(feature, market)
    fewer = market.reading([c for c in market.columns if c in feature.needs or c not in feature.uses])
    fewer = replace(fewer, finer=market.finer)
    for name, values in computed(feature, fewer, state).items():
        assert np.isfinite(values[-1]).all(), name
    json.dumps(learned(feature, fewer), allow_nan=False)


@EVERY
def test_a_missing_bar_is_missing_and_a_hole_heals(feature: Feature, market: Market) -> None:
    values = computed(feature, market, learned(feature, market))
    missing = market.close.isna().to_numpy()
    for name in feature.outputs:
        assert np.isnan(values[name][missing]).all()
        assert not np.isinf(values[name]).any()
        # A day after the holes every symbol is known again, and the others never were unknown for them.
        assert np.isfinite(values[name][42 * 24 :]).all(), name
        assert np.isfinite(values[name][40 * 24, [0, 2]]).all(), name
        assert np.isfinite(values[name][41 * 24, [1, 2]]).all(), name


@EVERY
def test_the_warm_up_ends_within_the_look_back(feature: Feature, market: Market) -> None:
    values = computed(feature, market, learned(feature, market))
    for name in feature.outputs:
        known = np.isfinite(values[name][:, 2])
        assert known[window_bars(feature.look_back, market.interval) :].all()
        assert not (np.diff(known.astype(int)) < 0).any(), f"{name} falls back into warm-up without a hole"


@EVERY
def test_a_state_is_plain_json(feature: Feature, market: Market) -> None:
    state = learned(feature, market)
    again = json.loads(json.dumps(state, allow_nan=False))
    assert again == state
    before, after = computed(feature, market, state), computed(feature, market, again)
    for name in feature.outputs:
        np.testing.assert_array_equal(after[name], before[name])
    if feature.learns:
        assert state


@EVERY
def test_a_symbol_that_was_never_trained_on_gets_its_features(feature: Feature, market: Market) -> None:
    state = learned(feature, market.select(market.symbols[:2]))
    values = computed(feature, market, state)
    for name in feature.outputs:
        assert np.isfinite(values[name][-1]).all()


@EVERY
@pytest.mark.parametrize(("interval", "days"), [("15min", 33), ("4h", 60), ("24h", 120)])
def test_other_intervals_agree_as_well(
    feature: Feature,
    interval: str,
    days: int,
    market_with_everything: Callable[[int, int, str, int], Market],
) -> None:
    market = market_with_everything(2, days, interval, 4)
    if feature.lacks(market):
        assert feature.below is not None or feature.resolution is not None
        return  # these bars are too coarse for it, or not coarser than what it reads beneath them
    state = {} if feature.fit is None else feature.fit(market)
    batch = computed(feature, market, state)
    bars = window_bars(feature.look_back, market.interval)
    for row in (-1, -7):
        online = computed(feature, market.until(market.times[row]).last(bars), state)
        for name in feature.outputs:
            assert np.isfinite(batch[name][row]).all(), name
            np.testing.assert_allclose(online[name][-1], batch[name][row], rtol=feature.tolerance, atol=1e-12)


@EVERY
def test_a_flat_price_gives_no_infinity(feature: Feature, market: Market) -> None:
    def flat(moving: Market) -> Market:
        price = ("open", "high", "low", "close")
        columns = {c: f * 0 + (100.0 if c in price else 0.0) for c, f in moving.columns.items()}
        return Market(moving.interval, columns, {i: flat(fine) for i, fine in moving.finer.items()})

    still = flat(market)
    state = {} if feature.fit is None else feature.fit(still)
    json.dumps(state, allow_nan=False)
    for values in computed(feature, still, state).values():
        assert not np.isinf(values).any()


def test_features_that_need_absent_columns_are_absent(market: Market, market_without_flow: Market) -> None:
    with_flow, without = Pipeline.fit(market.reading(VALUE_COLUMNS)), Pipeline.fit(market_without_flow)
    gone = set(with_flow.names) - set(without.names)
    assert {"imbalance_1h", "toxicity_1d", "impact_1d", "trade_intensity_1h", "market_imbalance_1h"} <= gone
    assert not gone & {"ewma_volatility", "volume_1h", "regime_calm"}
    assert without.batch(market_without_flow).names == without.names


def test_every_family_is_found_once_and_in_order() -> None:
    families = [f.family for f in all_features()]
    assert set(families) >= {"calendar", "flow", "regime", "spillover", "volatility"}
    assert len([1 for a, b in pairwise(families) if a != b]) == len(set(families)) - 1
