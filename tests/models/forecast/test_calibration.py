"""Calibration on hand-computable cases, against a slow reference, close by close, and against adversaries."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.forecast.base import SIDES, TailForecast
from models.forecast.calibration import (
    MOST_EXCESS,
    CalibrationSettings,
    CalibrationState,
    absorb,
    calibrated,
    track,
)

HOUR = pd.Timedelta(hours=1)
HORIZONS, LEVELS = (HOUR, 3 * HOUR), (0.9, 0.99, 0.999)
FAST = CalibrationSettings(var_step=0.2, es_step=0.1, theta_max=0.5)


def times(count: int) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01", periods=count, freq="1h", tz="UTC", name="time")


def closes_of(returns: np.ndarray) -> pd.DataFrame:
    """Closes from one-bar log returns (time, symbol)."""
    names = [f"S{i}" for i in range(returns.shape[1])]
    return pd.DataFrame(100 * np.exp(np.cumsum(returns, axis=0)), index=times(len(returns)), columns=names)


def constant(
    closes: pd.DataFrame,
    var: tuple[float, ...],
    es: tuple[float, ...],
    horizons: tuple[pd.Timedelta, ...] = HORIZONS,
    levels: tuple[float, ...] = LEVELS,
) -> TailForecast:
    """The same tail at every close, time-major."""
    rows = pd.MultiIndex.from_product([closes.index, closes.columns], names=["time", "symbol"])
    shape = (len(rows), len(horizons), len(SIDES), len(levels))
    return TailForecast(
        rows,
        horizons,
        levels,
        np.broadcast_to(np.array(var), shape).copy(),
        np.broadcast_to(np.array(es), shape).copy(),
    )


@pytest.fixture(scope="module")
def market() -> tuple[TailForecast, pd.DataFrame]:
    """400 hours of four contracts with heavy tails: a stretch without bars, forecasts that are not there, and
    a contract that is listed late, whose name comes first."""
    rng = np.random.default_rng(4)
    closes = closes_of(0.01 * rng.standard_t(3, (400, 4))).set_axis(["S0", "S1", "S2", "A9"], axis=1)
    closes.iloc[:150, 3] = np.nan
    whole = constant(closes, (0.015, 0.03, 0.05), (0.02, 0.035, 0.06))
    noise = np.exp(0.3 * rng.standard_normal((len(whole.rows), 1, 1, 1)))
    there = rng.random(len(whole.rows)) < 0.95
    closes.iloc[100:108] = np.nan
    closes.iloc[200:230, 1] = np.nan
    there &= np.isfinite(closes.to_numpy().ravel())
    var, es = (whole.var * noise)[there], (whole.es * noise)[there]
    return TailForecast(whole.rows[there], HORIZONS, LEVELS, var, es), closes


def between(forecast: TailForecast, first: pd.Timestamp, last: pd.Timestamp) -> TailForecast:
    time = forecast.rows.get_level_values("time")
    picked = np.asarray((time >= first) & (time <= last))
    return TailForecast(
        forecast.rows[picked], forecast.horizons, forecast.levels, forecast.var[picked], forecast.es[picked]
    )


def slow_thetas(
    forecast: TailForecast, closes: pd.DataFrame, s: CalibrationSettings
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """The recursion of the module's docstring, one number at a time: theta_v by contract, and theta_e."""
    log_close = np.log(closes)
    place = {row: i for i, row in enumerate(forecast.rows)}
    shape = (len(forecast.horizons), 2, len(forecast.levels))
    theta_v, theta_e = {symbol: np.zeros(shape) for symbol in closes.columns}, np.zeros(shape)
    for close in closes.index:
        for h, horizon in enumerate(forecast.horizons):
            made, bars = close - horizon, horizon // HOUR
            for side, sign in ((0, -1), (1, 1)):
                for k, level in enumerate(forecast.levels):
                    excesses = []
                    for symbol in closes.columns:
                        if (made, symbol) not in place:
                            continue
                        loss = sign * (log_close.loc[close, symbol] - log_close.loc[made, symbol])
                        if np.isnan(loss):
                            continue
                        row = place[made, symbol]
                        own = theta_v[symbol][h, side, k]
                        var = forecast.var[row, h, side, k] * np.exp(own)
                        es = max(var, forecast.es[row, h, side, k] * np.exp(theta_e[h, side, k]))
                        excesses.append(min(loss / es - 1, MOST_EXCESS) if loss > var else 0.0)
                        own += s.var_step / bars * (float(loss > var) - (1 - level))
                        theta_v[symbol][h, side, k] = np.clip(own, -s.theta_max, s.theta_max)
                    if excesses:
                        moved = theta_e[h, side, k] + s.es_step / bars * np.mean(excesses)
                        theta_e[h, side, k] = np.clip(moved, -s.theta_max, s.theta_max)
        yield {symbol: theta.copy() for symbol, theta in theta_v.items()}, theta_e.copy()


def test_by_hand() -> None:
    # One contract falls by 4 %, then stands; VaR 2 %, ES 2.5 %, level 0.9, one bar.
    closes = closes_of(np.array([[0.0], [-0.04], [0.0], [0.0]]))
    forecast = constant(closes, (0.02, 0.09), (0.025, 0.09), horizons=(HOUR,), levels=(0.9, 0.999))
    settings = CalibrationSettings(var_step=0.1, es_step=0.05)
    found, end = track(forecast, closes, HOUR, settings)
    # The loss of the first forecast is known at the second close: a hit of the long, 1.6 times its ES.
    after_hit = 0.1 * 0.9, 0.05 * 0.6
    assert found.var[:, 0, 0, 0] == pytest.approx(
        0.02 * np.exp([0, after_hit[0], after_hit[0] - 0.01, after_hit[0] - 0.02])
    )
    assert found.es[:, 0, 0, 0] == pytest.approx(0.025 * np.exp([0, *[after_hit[1]] * 3]))
    # The short never is beyond: its VaR drifts down, its ES stays.
    assert found.var[:, 0, 1, 0] == pytest.approx(0.02 * np.exp([0, -0.01, -0.02, -0.03]))
    assert found.es[:, 0, 1, 0] == pytest.approx(0.025)
    assert end.until == closes.index[-1]
    assert end.contracts == ("S0",)
    assert end.theta_v[0, 0, 0, 0] == pytest.approx(after_hit[0] - 0.02)
    assert end.theta_e[0, 0, 0] == pytest.approx(after_hit[1])


def test_var_is_a_contracts_own_and_es_is_everybodys() -> None:
    # S0 falls by 4 %, S1 stands, S2 is not known again before the last close; one bar, level 0.9.
    closes = closes_of(np.array([[0.0] * 3, [-0.04, 0.0, 0.0], [0.0] * 3, [0.0] * 3]))
    closes.loc[closes.index[1:3], "S2"] = np.nan
    forecast = constant(closes, (0.02, 0.09), (0.025, 0.09), horizons=(HOUR,), levels=(0.9, 0.999))
    settings = CalibrationSettings(var_step=0.1, es_step=0.05)
    found, end = track(forecast, closes, HOUR, settings)
    theta = np.log(found.var[:, 0, 0, 0].reshape(4, 3) / 0.02)
    np.testing.assert_allclose(theta, [[0, 0, 0], [0.09, -0.01, 0], [0.08, -0.02, 0], [0.07, -0.03, 0]])
    # One of two that are known is beyond, 1.6 times its ES: half the excess, for all three.
    factor = found.es[:, 0, 0, 0].reshape(4, 3) / 0.025
    np.testing.assert_allclose(factor, np.exp([[0.0] * 3, *[[0.05 * 0.6 / 2] * 3] * 3]))
    assert end.contracts == ("S0", "S1"), "no loss of S2 has counted"
    np.testing.assert_allclose(end.factor(["S2", "S0"])[0, :, 0, 0, 0], np.exp([0, 0.07]))
    assert (end.factor(["new"])[0] == 1).all()
    assert (end.factor(["new"])[1] == np.exp(end.theta_e)).all()


def test_a_horizon_of_three_bars_waits_three_bars_and_moves_by_a_third() -> None:
    closes = closes_of(np.array([[0.0], [-0.1], *[[0.0]] * 5]))
    forecast = constant(closes, (0.02, 0.2, 0.3), (0.03, 0.2, 0.3))
    found, _ = track(forecast, closes, HOUR, CalibrationSettings(var_step=0.03))
    theta = np.log(found.var[:, 1, 0, 0] / 0.02)
    # Only the loss of the first forecast, which is known at the fourth close, has the fall within it.
    assert theta == pytest.approx([0, 0, 0, 0.009, 0.008, 0.007, 0.006])


def test_the_fast_path_is_the_slow_reference(market: tuple[TailForecast, pd.DataFrame]) -> None:
    forecast, closes = market
    slow = dict(zip(closes.index, slow_thetas(forecast, closes, FAST), strict=True))
    found, end = track(forecast, closes, HOUR, FAST)
    theta_v, theta_e = slow[closes.index[-1]]
    assert end.contracts == ("A9", "S0", "S1", "S2")
    np.testing.assert_allclose(end.theta_v, [theta_v[c] for c in end.contracts], rtol=0, atol=1e-12)
    np.testing.assert_allclose(end.theta_e, theta_e, rtol=0, atol=1e-12)
    factor_v = np.exp([slow[time][0][symbol] for time, symbol in forecast.rows])
    factor_e = np.exp([slow[time][1] for time, _ in forecast.rows])
    var = np.maximum.accumulate(forecast.var * factor_v, axis=-1)
    np.testing.assert_allclose(found.var, var, rtol=1e-12)
    es = np.maximum(np.maximum.accumulate(forecast.es * factor_e, axis=-1), var)
    np.testing.assert_allclose(found.es, es, rtol=1e-12)
    assert np.abs(end.theta_v).max(axis=(1, 2, 3)).min() > 0.05, "the market moves each"
    assert np.abs(np.diff(end.theta_v, axis=0)).max() > 0.05, "and not all alike"


@pytest.mark.parametrize("stride", [1, 7])
def test_close_by_close_is_the_whole_history_to_the_bit(
    market: tuple[TailForecast, pd.DataFrame], stride: int
) -> None:
    forecast, closes = market
    whole, end = track(forecast, closes, HOUR, FAST)
    state = CalibrationState.neutral(FAST, HOUR, HORIZONS, LEVELS)
    served = []
    for i in range(0, len(closes), stride):
        now = closes.index[i]
        # No more than what may have matured since the last time, as a server remembers it.
        reach = now - (2 + stride) * HOUR
        state = absorb(state, between(forecast, reach, now), closes.loc[reach:now])
        # A server that stopped here goes on from what it stored.
        state = CalibrationState.from_json(json.loads(json.dumps(state.to_json())))
        served.append(calibrated(between(forecast, now, now), state))
    joined = TailForecast.joined(served)
    expected = whole.rows.get_level_values("time").isin(closes.index[::stride])
    np.testing.assert_array_equal(joined.var, whole.var[expected])
    np.testing.assert_array_equal(joined.es, whole.es[expected])
    if stride == 1:
        assert state.to_json() == end.to_json()


def test_later_closes_change_nothing_earlier(market: tuple[TailForecast, pd.DataFrame]) -> None:
    forecast, closes = market
    whole, _ = track(forecast, closes, HOUR, FAST)
    cut = closes.index[250]
    changed = closes.copy()
    changed.loc[closes.index > cut] *= np.exp(np.random.default_rng(0).normal(0, 1, (149, 4)))
    other, _ = track(forecast, changed, HOUR, FAST)
    known = np.asarray(whole.rows.get_level_values("time") <= cut)
    np.testing.assert_array_equal(other.var[known], whole.var[known])
    np.testing.assert_array_equal(other.es[known], whole.es[known])
    assert not np.array_equal(other.var[~known], whole.var[~known])


def test_what_was_absorbed_is_not_absorbed_again(market: tuple[TailForecast, pd.DataFrame]) -> None:
    forecast, closes = market
    _, state = track(forecast, closes, HOUR, FAST)
    assert absorb(state, forecast, closes) is state
    assert absorb(state, between(forecast, *closes.index[[0, 299]]), closes.iloc[:300]) is state


def test_where_nothing_is_known_theta_stays() -> None:
    closes = closes_of(np.zeros((10, 2)))
    forecast = constant(closes, (0.01,) * 3, (0.01,) * 3)
    closes.iloc[3:] = np.nan
    state = CalibrationState.neutral(FAST, HOUR, HORIZONS, LEVELS)
    after = absorb(state, between(forecast, closes.index[0], closes.index[2]), closes)
    until_hole = absorb(state, between(forecast, closes.index[0], closes.index[2]), closes.iloc[:3])
    np.testing.assert_array_equal(after.theta_v, until_hole.theta_v)
    np.testing.assert_array_equal(after.theta_e, until_hole.theta_e)
    assert after.until == closes.index[-1]
    assert (after.theta_v[:, 0] < 0).all(), "two losses of one bar had matured"
    assert (after.theta_v[:, 1] == 0).all(), "none of three bars had"


def test_a_wrong_print_counts_as_five_times_es() -> None:
    closes = closes_of(np.array([[0.0], [-9.0]]))
    forecast = constant(closes, (0.01,) * 3, (0.01,) * 3)
    _, end = track(forecast, closes, HOUR, CalibrationSettings(es_step=0.05))
    assert end.theta_e[0, 0] == pytest.approx(0.05 * MOST_EXCESS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"theta_v": np.zeros((2, 2, 2))}, "theta_v has shape"),
        ({"theta_v": np.zeros((1, 2, 2, 3))}, "contracts x horizons x sides x levels is"),
        ({"theta_e": np.zeros((2, 3, 2))}, "theta_e has shape"),
        ({"theta_v": np.full((2, 2, 2, 3), 0.51)}, "lies within"),
        ({"theta_e": np.full((2, 2, 3), np.nan)}, "lies within"),
        ({"contracts": ("B", "A")}, "each once, names ascending"),
        ({"contracts": ("A", "A")}, "each once, names ascending"),
    ],
)
def test_an_impossible_state_is_refused(change: dict[str, Any], words: str) -> None:
    arguments = {"settings": FAST, "interval": HOUR, "horizons": HORIZONS, "levels": LEVELS, "until": None}
    arguments |= {"contracts": ("A", "B"), "theta_v": np.zeros((2, 2, 2, 3)), "theta_e": np.zeros((2, 2, 3))}
    CalibrationState(**arguments)
    with pytest.raises(ValueError, match=words):
        CalibrationState(**(arguments | change))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {**{k: v for k, v in c.items() if "theta" not in k}, "theta": [c["theta_e"]] * 2},
        lambda c: {k: v for k, v in c.items() if k != "theta_e"},
        lambda c: {**c, "factor": 1.0},
        lambda c: {**c, "theta_v": [0.1]},
        lambda c: {**c, "theta_v": {"S0": c["theta_e"][0]}},
        lambda c: {**c, "theta_v": {"S0": c["theta_e"], "S1": c["theta_e"][:1]}},
        lambda c: {**c, "theta_v": None},
        lambda c: [c],
    ],
    ids=["pooled", "less", "more", "without_names", "flat", "ragged", "none", "list"],
)
def test_what_is_no_state_is_not_read(change: Callable[[dict[str, Any]], Any]) -> None:
    content = CalibrationState.neutral(FAST, HOUR, HORIZONS, LEVELS).to_json()
    assert CalibrationState.from_json(content).to_json() == content
    with pytest.raises((TypeError, ValueError)):
        CalibrationState.from_json(change(content))


def test_a_state_of_before_there_was_a_factor_a_contract_is_refused_in_words() -> None:
    content = CalibrationState.neutral(FAST, HOUR, HORIZONS, LEVELS).to_json()
    old = {k: v for k, v in content.items() if k not in ("theta_v", "theta_e")} | {"theta": [0.0]}
    with pytest.raises(ValueError, match=r"consists of .*'theta_v'.* was found.* train the model anew"):
        CalibrationState.from_json(old)


def test_forecasts_that_do_not_belong_are_refused(market: tuple[TailForecast, pd.DataFrame]) -> None:
    forecast, closes = market
    other = CalibrationState.neutral(FAST, HOUR, HORIZONS, (0.9, 0.999))
    for action in (lambda: calibrated(forecast, other), lambda: absorb(other, forecast, closes)):
        with pytest.raises(ValueError, match="calibration is of horizons"):
            action()
    for wrong in (closes.iloc[1:], closes[["S0"]]):
        with pytest.raises(ValueError, match="lack"):
            track(forecast, wrong, HOUR, FAST)
    with pytest.raises(ValueError, match="regular grid"):
        track(forecast, closes.drop(index=closes.index[104]), HOUR, FAST)
    with pytest.raises(ValueError, match="do not follow each other by 2h"):
        track(forecast, closes, 2 * HOUR, FAST)
    backwards = TailForecast(forecast.rows[::-1], HORIZONS, LEVELS, forecast.var[::-1], forecast.es[::-1])
    with pytest.raises(ValueError, match="order of time"):
        track(backwards, closes, HOUR, FAST)


@given(
    theta=st.lists(st.floats(-0.5, 0.5), min_size=24, max_size=24),
    tail=st.lists(st.floats(1e-6, 0.5), min_size=24, max_size=24),
)
def test_a_calibrated_forecast_is_a_tail_whatever_theta_is(theta: list[float], tail: list[float]) -> None:
    # TailForecast itself refuses what is none: not finite, VaR <= 0, ES < VaR, falling in the level.
    levels = np.cumsum(np.array(tail).reshape(2, 1, 2, 2, 3), axis=-1)
    rows = pd.MultiIndex.from_product([times(1), ["S0"]], names=["time", "symbol"])
    forecast = TailForecast(rows, HORIZONS, LEVELS, levels[0], levels[0] + levels[1])
    theta_v, theta_e = np.array(theta).reshape(2, 1, 2, 2, 3)
    state = CalibrationState(FAST, HOUR, HORIZONS, LEVELS, None, ("S0",), theta_v, theta_e[0])
    found, factor = calibrated(forecast, state), np.exp([theta_v, theta_e])
    assert (found.var >= forecast.var * factor[0]).all()
    assert (found.es >= forecast.es * factor[1]).all()
    np.testing.assert_array_equal(found.var[..., 0], (forecast.var * factor[0])[..., 0])


LOSS_OVER_VAR = st.one_of(st.floats(-3, 3), st.sampled_from([0.0, 0.6, 1.0, 1.6, 100.0]))


def served_hits(ratios: np.ndarray, settings: CalibrationSettings) -> tuple[np.ndarray, np.ndarray]:
    """Hits of the long's served VaR, by time, and theta after each, for losses of ``ratios`` x VaR; beside a
    contract that falls all the time, and one that never does."""
    own = np.concatenate([[0.0], ratios])
    closes = closes_of(-0.01 * np.column_stack([own, np.full_like(own, 5), np.zeros_like(own)]))
    forecast = constant(closes, (0.01, 0.9), (0.01, 0.9), horizons=(HOUR,), levels=(0.9, 0.999))
    found, end = track(forecast, closes, HOUR, settings)
    losses = -np.diff(np.log(closes["S0"]))
    var = found.var[::3, 0, 0, 0]
    return losses > var[:-1], np.append(np.log(var[1:-1] / 0.01), end.theta_v[0, 0, 0, 0])


@given(st.lists(LOSS_OVER_VAR, min_size=1, max_size=300))
def test_the_long_run_bound_holds_for_any_losses(ratios: list[float]) -> None:
    settings = CalibrationSettings(var_step=0.2, theta_max=0.3)
    hits, theta = served_hits(np.array(ratios), settings)
    allowed = 2 * settings.theta_max / (settings.var_step * len(hits)) + 1e-9
    inside = np.abs(theta) < settings.theta_max
    if inside.all():
        assert abs(hits.mean() - 0.1) <= allowed
    if (theta < settings.theta_max).all():
        assert hits.mean() - 0.1 <= allowed, "held at the lower bound there are not too many hits either"


@given(st.lists(st.sampled_from([-1.0, 0.8, 1.05, 1.2, np.exp(0.3 - 0.2)]), min_size=1, max_size=400))
def test_losses_below_the_largest_factor_never_reach_the_upper_bound(ratios: list[float]) -> None:
    settings = CalibrationSettings(var_step=0.2, theta_max=0.3)
    below = np.minimum(ratios, np.exp(settings.theta_max - settings.var_step) - 1e-9)
    hits, theta = served_hits(below, settings)
    assert theta.max() < settings.theta_max
    assert hits.mean() - 0.1 <= 2 * settings.theta_max / (settings.var_step * len(hits)) + 1e-9


def test_an_adversary_who_sees_theta_does_not_beat_the_bound() -> None:
    """Losses just above VaR as long as that is not too obvious, and then none for a while, for 600 hours."""
    settings, closes = CalibrationSettings(var_step=0.05, theta_max=0.3), [100.0]
    state = CalibrationState.neutral(settings, HOUR, (HOUR,), (0.9, 0.999))
    rng, hits, grid = np.random.default_rng(2), [], times(601)
    for now in range(600):
        theta = state.theta_v[0, 0, 0, 0] if state.contracts else 0.0
        served = 0.01 * np.exp(theta)
        beyond = theta < 0.2 and rng.random() < 0.9
        hits.append(beyond)
        closes.append(closes[-1] * np.exp(-served * (1.01 if beyond else 0.5)))
        frame = pd.DataFrame({"S0": closes[-2:]}, index=grid[now : now + 2])
        state = absorb(
            state, constant(frame.iloc[:1], (0.01, 0.9), (0.01, 0.9), (HOUR,), (0.9, 0.999)), frame
        )
    assert abs(np.mean(hits) - 0.1) <= 0.6 / (0.05 * 600)


def test_a_model_that_asks_for_too_little_is_put_right() -> None:
    rng = np.random.default_rng(1)
    closes = closes_of(0.01 * rng.standard_normal((6000, 2)))
    z = np.array([1.2815515655446004, 2.3263478740408408])
    right_es = np.array([1.7549833193248687, 2.665214220345808])
    short = constant(closes, (*(0.008 * z), 0.03), (*(0.008 * right_es), 0.035), horizons=(HOUR,))
    found, _ = track(short, closes, HOUR, CalibrationSettings(var_step=0.05, es_step=0.1))
    settled = found.var[8000:, 0, :, 0]
    assert settled.mean() == pytest.approx(0.01 * z[0], rel=0.03)
    assert found.es[8000:, 0, :, 0].mean() == pytest.approx(0.01 * right_es[0], rel=0.03)


def test_a_model_that_errs_for_two_contracts_in_opposite_ways_is_put_right_for_each() -> None:
    rng, sigma = np.random.default_rng(2), np.array([0.008, 0.0125])
    closes = closes_of(sigma * rng.standard_normal((8000, 2)))
    same_for_both = constant(closes, (0.013, 0.024, 0.034), (0.018, 0.028, 0.038), horizons=(HOUR,))
    found, _ = track(same_for_both, closes, HOUR, CalibrationSettings(var_step=0.05))
    var = found.var[:, 0, :, 0].reshape(8000, 2, 2)[4000:-1]
    np.testing.assert_allclose(var.mean(axis=0), np.outer(1.2815515655446004 * sigma, [1, 1]), rtol=0.05)
    rise = np.log(closes).diff().shift(-1).to_numpy()[4000:-1]
    for side, sign in enumerate((-1, 1)):
        hits = (sign * rise > var[:, :, side]).mean(axis=0)
        np.testing.assert_allclose(hits, 0.1, rtol=0.02)


def test_ten_thousand_closes_are_no_matter_of_minutes() -> None:
    rng = np.random.default_rng(0)
    closes = closes_of(0.01 * rng.standard_normal((10_000, 5)))
    forecast = constant(closes, (0.02, 0.023, 0.03), (0.023, 0.027, 0.033))
    began = time.process_time()
    track(forecast, closes, HOUR, CalibrationSettings())
    assert time.process_time() - began < 3, "less than one second, with room for a busy machine"
