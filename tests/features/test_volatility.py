"""Volatility features against hand-computed values, slow references and degenerate prices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline
from features.volatility import VOLATILITY_FLOOR, log_returns, sigma

MakeMarket = Callable[..., Market]


def values(market: Market, name: str) -> np.ndarray:
    return Pipeline.fit(market, [name]).batch(market)[name]


def alternating(bars: int, size: float) -> list[float]:
    """Closes whose log return is +size, -size, +size, ..."""
    return [100 * float(np.exp(size * (i % 2))) for i in range(bars)]


def slow_sigma(market: Market, decay: float, bars: int, least: int) -> np.ndarray:
    """EWMA volatility as its definition reads, one row and symbol at a time."""
    r = log_returns(market)
    out = np.full(r.shape, np.nan)
    for t in range(len(r)):
        for i in range(r.shape[1]):
            weighted = [(decay**j, r[t - j, i]) for j in range(min(bars, t + 1)) if np.isfinite(r[t - j, i])]
            if len(weighted) >= least:
                mean = sum(w * x**2 for w, x in weighted) / sum(w for w, _ in weighted)
                out[t, i] = max(mean**0.5, VOLATILITY_FLOOR)
    return out


def test_ewma_agrees_with_its_definition(market: Market) -> None:
    some = market.last(24 * 14)
    np.testing.assert_allclose(sigma(some), slow_sigma(some, 0.94, 239, 24), rtol=1e-12)


def test_ewma_decay_scales_with_the_bar(market_of_closes: MakeMarket) -> None:
    rng = np.random.default_rng(2)
    closes = list(100 * np.exp(np.cumsum(0.01 * rng.standard_normal(400))))
    quarter = market_of_closes({"A": closes}, pd.Timedelta(minutes=15))
    np.testing.assert_allclose(sigma(quarter), slow_sigma(quarter, 0.94**0.25, 959, 96), rtol=1e-12)


def test_a_constant_move_is_its_own_volatility(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": alternating(31 * 24 + 1, 0.01)})
    ewma = values(market, "ewma_volatility")
    assert np.isnan(ewma[:24]).all()
    np.testing.assert_allclose(ewma[24:], 0.01, rtol=1e-9)
    for name in ("har_1h", "har_4h", "har_1d", "har_1w", "har_1m", "largest_move_1d"):
        assert values(market, name)[-1, 0] == pytest.approx(0.0, abs=1e-9)
    # Down and up take turns: sqrt(2 * 0.01^2 / 2) / 0.01.
    assert values(market, "downside_4h")[-1, 0] == pytest.approx(1.0)
    assert values(market, "upside_1w")[-1, 0] == pytest.approx(1.0)
    # BV = pi / 2 * 0.01^2 > RV, so nothing is a jump.
    assert values(market, "bipower_1d")[-1, 0] == pytest.approx(0.5 * np.log(np.pi / 2))
    assert values(market, "jump_share_1d")[-1, 0] == 0.0
    assert values(market, "autocorrelation_1d")[-1, 0] == pytest.approx(-1.0)
    assert values(market, "log_volatility")[-1, 0] == pytest.approx(np.log(0.01))
    # A bar's range is its move: ln(h / l)^2 / (4 ln 2).
    assert values(market, "parkinson_4h")[-1, 0] == pytest.approx(np.log(1 / np.sqrt(4 * np.log(2))))
    # c = h or c = l = 0 in every bar, so h (h - c) + l (l - c) = 0, held at the bound.
    assert values(market, "rogers_satchell_1d")[-1, 0] == -5.0
    gk = 0.5 - (2 * np.log(2) - 1)
    assert values(market, "garman_klass_1d")[-1, 0] == pytest.approx(0.5 * np.log(gk))


def test_the_level_is_that_of_an_hour_at_any_interval(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": alternating(200, 0.01)}, pd.Timedelta(minutes=15))
    assert values(market, "log_volatility")[-1, 0] == pytest.approx(np.log(0.02))


def test_one_jump_is_all_of_the_jump_share(market_of_closes: MakeMarket) -> None:
    closes = alternating(400, 0.001)
    jumped = closes[:-3] + [c * 1.1 for c in closes[-3:]]
    market = market_of_closes({"A": jumped})
    size = float(np.log(1.1))
    r = log_returns(market)[-24:, 0]
    rv = (r**2).mean()
    bv = np.pi / 2 * np.abs(log_returns(market)[-24:, 0] * log_returns(market)[-25:-1, 0]).mean()
    assert values(market, "jump_share_1d")[-1, 0] == pytest.approx(1 - bv / rv)
    assert 1 - bv / rv > 0.95
    scale = sigma(market)[-1, 0]
    assert values(market, "largest_move_1d")[-1, 0] == pytest.approx(np.log(np.abs(r).max() / scale))
    assert np.abs(r).max() == pytest.approx(size, rel=0.02)


def test_signed_returns_and_drawdown_in_units_of_sigma(market_of_closes: MakeMarket) -> None:
    closes = [*alternating(300, 0.01), 99.0, 97.0, 98.0]
    market = market_of_closes({"A": closes})
    scale = sigma(market)[-1, 0]
    move = float(np.log(98.0 / closes[-5]))
    assert values(market, "return_4h")[-1, 0] == pytest.approx(move / (2 * scale))
    assert values(market, "return_1h")[-1, 0] == pytest.approx(np.log(98 / 97) / scale)
    top = max(closes[-24:])
    assert values(market, "drawdown_1d")[-1, 0] == pytest.approx(np.log(98 / top) / (scale * np.sqrt(24)))
    assert values(market, "rally_1d")[-1, 0] == pytest.approx(np.log(98 / 97) / (scale * np.sqrt(24)))


def test_a_flat_price_has_the_floor_as_its_scale(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": [100.0] * 800})
    np.testing.assert_array_equal(values(market, "ewma_volatility")[24:], VOLATILITY_FLOOR)
    assert values(market, "return_1d")[-1, 0] == 0.0
    assert values(market, "har_1d")[-1, 0] == -5.0
    assert values(market, "jump_share_1d")[-1, 0] == 0.0
    assert values(market, "drawdown_1m")[-1, 0] == 0.0


def test_an_absurd_print_stays_a_bounded_number(market: Market) -> None:
    low = market["low"].to_numpy(copy=True)
    low[-30, 2] = 1e-4
    printed = Market(
        market.interval,
        {**market.columns, "low": pd.DataFrame(low, market.times, market.close.columns)},
    )
    for window in ("1h", "4h", "1d", "1w"):
        assert np.nanmax(np.abs(values(printed, f"parkinson_{window}"))) <= 5.0


def test_windows_shorter_than_the_bar_are_one_bar(market_of_closes: MakeMarket) -> None:
    rng = np.random.default_rng(2)
    closes = list(100 * np.exp(np.cumsum(0.02 * rng.standard_normal(60))))
    market = market_of_closes({"A": closes}, pd.Timedelta(days=1))
    np.testing.assert_array_equal(values(market, "har_1h"), values(market, "har_1d"))
    assert np.isfinite(values(market, "har_1h")[-1, 0])


def test_a_missing_bar_weighs_nothing(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": alternating(100, 0.01)})
    there = pd.Series(market.times != market.times[60], index=market.times)
    holed = Market(market.interval, {c: f.where(there) for c, f in market.columns.items()})
    ewma = values(holed, "ewma_volatility")
    assert np.isnan(ewma[60, 0])
    np.testing.assert_allclose(np.delete(ewma[24:, 0], 36), 0.01, rtol=1e-9)


def test_shadows_are_the_way_to_the_extremes(market_of_closes: MakeMarket) -> None:
    """A bar's range is its own move here, so the extremes of four bars are closes: after +1 % in each of many
    bars the low of four bars is four moves below, and the high is the close."""
    rising = market_of_closes({"A": [100 * float(np.exp(0.01 * i)) for i in range(300)]})
    assert values(rising, "above_low_4h")[-1, 0] == pytest.approx(4 / np.sqrt(4), rel=1e-6)
    assert values(rising, "below_high_4h")[-1, 0] == pytest.approx(0.0, abs=1e-9)
    turned = market_of_closes({"A": alternating(300, 0.01)})
    # The last bar rose from the lower of two prices to the higher one.
    assert values(turned, "above_low_1h")[-1, 0] == pytest.approx(1.0, rel=1e-6)
    assert values(turned, "below_high_1d")[-1, 0] == pytest.approx(0.0, abs=1e-9)


def test_single_moves_by_the_scale_of_their_own_bar(market_of_closes: MakeMarket) -> None:
    closes = alternating(300, 0.01)
    market = market_of_closes({"A": [*closes, closes[-1] * 1.05, *([closes[-1] * 1.05] * 2)]})
    scale, r = sigma(market)[:, 0], np.abs(log_returns(market)[:, 0])
    for lag, name in ((1, "move_lag_1"), (2, "move_lag_2"), (3, "move_lag_3")):
        expected = np.log(r[-1 - lag] / scale[-1 - lag] + 0.05)
        assert values(market, name)[-1, 0] == pytest.approx(expected, rel=1e-12)
    assert values(market, "move_lag_1")[-1, 0] == pytest.approx(np.log(0.05))
    changes = np.diff(np.log(scale))[-24:]
    assert values(market, "volatility_of_volatility_1d")[-1, 0] == pytest.approx(
        np.sqrt(np.mean(changes**2)), rel=1e-9
    )
