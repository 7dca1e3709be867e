"""What the newest fine bars say: values by hand, and which windows there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.fine import FEATURES, windows_on
from features.pipeline import Feature, Pipeline
from features.resample import merged
from features.volatility import LEAST_MOVE, sigma

HOUR, HALF, QUARTER = pd.Timedelta(hours=1), pd.Timedelta(minutes=30), pd.Timedelta(minutes=15)


def of(resolution: pd.Timedelta | None) -> Feature:
    return next(f for f in FEATURES if f.resolution == resolution)


@pytest.fixture(scope="module")
def market(market_of_closes: Callable[..., Market]) -> Market:
    """36 hours of one symbol, which moves by 1 % a quarter up and down but in the last two hours."""
    moves = np.full(36 * 4, 0.01)
    moves[1::2] *= -1
    moves[-8:] = [0.02, 0.0, 0.0, -0.01, -0.01, -0.02, 0.03, 0.0]
    closes = 100 * np.exp(np.cumsum(moves))
    fine = market_of_closes({"A": closes.tolist()}, QUARTER)
    return Market(HOUR, merged(fine.columns, QUARTER, HOUR)).with_finer(fine)


def last(market: Market, resolution: pd.Timedelta | None) -> dict[str, float]:
    frames = of(resolution).compute(market, {})
    return {name: float(frame.iloc[-1, 0]) for name, frame in frames.items()}


def test_quarters_beneath_an_hour_by_hand(market: Market) -> None:
    found = last(market, QUARTER)
    scale = sigma(market)[-1, 0] / 2  # of a quarter: a fourth of the hour's variance

    def size(mean_square: float) -> float:
        return float(np.log(np.sqrt(mean_square) / scale + LEAST_MOVE))

    assert found["realized_15m_at_15m"] == pytest.approx(np.log(LEAST_MOVE))
    assert found["realized_30m_at_15m"] == pytest.approx(size((0.03**2 + 0) / 2))
    assert found["realized_1h_at_15m"] == pytest.approx(size((0.01**2 + 0.02**2 + 0.03**2) / 4))
    assert found["travel_1h_at_15m"] == pytest.approx(0.0, abs=1e-9)
    assert found["travel_30m_at_15m"] == pytest.approx((0.03 / 2) * np.sqrt(2) / scale)
    assert found["lean_1h_at_15m"] == pytest.approx((9 - 4 - 1) / 14)
    # A bar's range is its move here, and Parkinson's variance the square of it over 4 ln 2.
    assert found["high_low_30m_at_15m"] == pytest.approx(size(0.03**2 / 2 / (4 * np.log(2))))
    assert found["market_high_low_30m_at_15m"] == pytest.approx(found["high_low_30m_at_15m"])


def test_half_hours_are_made_of_quarters(market: Market) -> None:
    found = last(market, HALF)
    scale = sigma(market)[-1, 0] / np.sqrt(2)
    expected = np.log(np.sqrt((0.03**2 + 0.03**2) / 2) / scale + LEAST_MOVE)
    assert found["realized_1h_at_30m"] == pytest.approx(expected)
    assert "realized_15m_at_30m" not in found


def test_a_jump_is_a_part_of_the_variance(market_of_closes: Callable[..., Market]) -> None:
    # One move of 5 % among moves of 0.1 %: nearly all of the variance, and hardly any of the products.
    moves = np.full(96, 0.001)
    moves[80] = 0.05
    fine = market_of_closes({"A": (100 * np.exp(np.cumsum(moves))).tolist()}, QUARTER)
    market = Market(HOUR, merged(fine.columns, QUARTER, HOUR)).with_finer(fine)
    assert last(market, QUARTER)["jump_part_4h_at_15m"] > 0.9
    calm = market.until(market.times[18])
    assert last(calm, QUARTER)["jump_part_4h_at_15m"] < 0.05


def test_every_symbol_has_the_market_s_ranges(market_of_closes: Callable[..., Market]) -> None:
    rng = np.random.default_rng(1)
    closes = {s: (100 * np.exp(0.01 * rng.standard_normal(192).cumsum())).tolist() for s in "AB"}
    fine = market_of_closes(closes, QUARTER)
    market = Market(HOUR, merged(fine.columns, QUARTER, HOUR)).with_finer(fine)
    frames = of(QUARTER).compute(market, {})
    own = frames["high_low_1h_at_15m"].iloc[-1]
    assert frames["market_high_low_1h_at_15m"].iloc[-1].tolist() == pytest.approx([own.mean()] * 2)


def test_windows_are_no_shorter_than_a_bar() -> None:
    assert windows_on(HALF, ("10s", "15m", "30m", "1h")) == ("30m", "1h")
    assert windows_on(None, ("10s", "1h")) == ("10s", "1h")


def test_coarse_decisions_do_not_ask_for_windows_within_a_bar(market: Market) -> None:
    names = Pipeline.fit(market).names
    assert "realized_15m_at_15m" in names
    assert "realized_15m" not in names
    quarters = market.finer[QUARTER]
    assert "realized_15m" in Pipeline.fit(quarters).names
    assert "realized_15m_at_15m" not in Pipeline.fit(quarters).names


def test_what_lies_beneath_must_be_asked_for_by_what_there_is(market: Market) -> None:
    with pytest.raises(ValueError, match="needs bars of 5m beneath its own, which this market lacks"):
        Pipeline.fit(market, ("realized_5m_at_5m",))
    kept = Pipeline.fit(market, ("har_1h",), optional=("realized_5m_at_5m", "realized_15m_at_15m"))
    assert "realized_15m_at_15m" in kept.names
    assert "realized_5m_at_5m" not in kept.names


def test_a_feed_that_goes_missing_is_nan_and_named(market: Market) -> None:
    pipeline = Pipeline.fit(market, ("har_1h", "realized_15m_at_15m"))
    without = market.reading(["open", "high", "low", "close", "volume"])
    assert pipeline.missing(market) == ()
    assert set(pipeline.missing(without)) == set(of(QUARTER).outputs)
    frame = pipeline.batch(without)
    assert np.isnan(frame["realized_15m_at_15m"]).all()
    np.testing.assert_array_equal(frame["har_1h"], pipeline.batch(market)["har_1h"])
    np.testing.assert_array_equal(pipeline.online(without).values, frame.values[-1:])
