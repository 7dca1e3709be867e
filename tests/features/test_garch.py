"""The GARCH variance by hand, against the recursion it unrolls, and its fit on returns whose law is known."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest

from features.bars import Market
from features.garch import (
    FIT_NEEDS,
    TYPICAL,
    _fit,
    _variance,
    fit_parameters,
    persistence,
    unrolled,
)
from features.pipeline import Pipeline, State
from features.volatility import VOLATILITY_FLOOR, log_returns

MakeMarket = Callable[..., Market]
HAND = {"alpha": 0.1, "gamma": 0.2, "beta": 0.5, "falls": 0.5}
TRUE = {"omega": 2e-6, "alpha": 0.05, "gamma": 0.10, "beta": 0.85}


def simulated(bars: int, seed: int, omega: float, alpha: float, gamma: float, beta: float) -> np.ndarray:
    """Returns of a GJR-GARCH with unit-variance t(6) errors."""
    z = np.random.default_rng(seed).standard_t(6, bars) * np.sqrt(4 / 6)
    r = np.empty(bars)
    v = omega / (1 - alpha - beta - gamma / 2)
    for t in range(bars):
        r[t] = np.sqrt(v) * z[t]
        v = omega + (alpha + gamma * (r[t] < 0)) * r[t] ** 2 + beta * v
    return r


def closes_of(returns: np.ndarray) -> list[float]:
    return [float(c) for c in 100 * np.exp(np.cumsum(np.append(0.0, returns)))]


def state_of(**symbols: dict[str, float]) -> State:
    return {"symbols": symbols, "pooled": HAND}


def test_three_returns_by_hand() -> None:
    r = np.array([[2.0], [-1.0], [3.0]])
    mean = np.full((3, 1), 14 / 3)
    # From v = 14/3: 1 + 0.1 x 4 + 7/3 = 3.7333; 1 + 0.3 x 1 + 1.8667 = 3.1667; 1 + 0.1 x 9 + 1.5833.
    assert unrolled(r, mean, np.ones((3, 1)), HAND, 3)[-1, 0] == pytest.approx(3.4833333)


def test_a_missing_return_counts_as_the_mean_by_hand() -> None:
    r = np.array([[2.0], [np.nan], [3.0]])
    mean = np.full((3, 1), 6.5)
    # From v = 6.5: 4.65; then 1 + (0.1 + 0.2 / 2) x 6.5 + 2.325 = 4.625; then 1 + 0.9 + 2.3125.
    assert unrolled(r, mean, np.ones((3, 1)), HAND, 3)[-1, 0] == pytest.approx(4.2125)


def test_persistence_by_hand_and_at_its_bound() -> None:
    assert persistence(HAND) == pytest.approx(0.7)
    assert persistence({**HAND, "alpha": 0.6}) == 1.0


def slow_variance(window: np.ndarray, parameters: dict[str, float]) -> float:
    """v after the window, the recursion run bar by bar from the window's mean square."""
    m = float(np.nanmean(window**2))
    omega = parameters.get("omega", (1 - persistence(parameters)) * m)
    v = m
    for r in window:
        square, falls = (m, parameters["falls"]) if np.isnan(r) else (r**2, float(r < 0))
        v = omega + (parameters["alpha"] + parameters["gamma"] * falls) * square + parameters["beta"] * v
    return v


def test_it_agrees_with_the_recursion(market: Market) -> None:
    own = {"omega": 3e-6, "alpha": 0.04, "gamma": 0.03, "beta": 0.93, "falls": 0.48}
    state = state_of(**{market.symbols[0]: own})
    found = _variance(market, state)["garch_variance"].to_numpy()
    r, bars = log_returns(market), 720
    for row in (30, 300, 719, 720, 721, 40 * 24 + 5, 41 * 24 + 5, len(r) - 1):
        for s, parameters in enumerate((own, HAND, HAND)):
            window = r[max(0, row - bars + 1) : row + 1, s]
            if np.isfinite(window).sum() < 24:
                assert np.isnan(found[row, s])
            else:
                whole = np.append(np.full(bars - len(window), np.nan), window)
                assert found[row, s] == pytest.approx(slow_variance(whole, parameters), rel=1e-9), (row, s)


def test_a_fall_frightens_more_than_a_rise(market_of_closes: MakeMarket) -> None:
    quiet = np.tile([0.001, -0.001], 360)
    up, down = (closes_of(np.append(quiet, last)) for last in (0.05, -0.05))
    found = _variance(market_of_closes({"U": up, "D": down}), state_of())["garch_variance"].iloc[-1]
    assert found["D"] - found["U"] == pytest.approx(HAND["gamma"] * 0.05**2)


def test_a_symbol_without_parameters_targets_its_own_variance(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": closes_of(np.tile([0.02, -0.02], 400))})
    frames = {name: f.iloc[-1, 0] for name, f in _variance(market, state_of()).items()}
    assert frames["garch_omega"] == pytest.approx(0.3 * 0.02**2)
    assert frames["garch_persistence"] == pytest.approx(0.7)
    assert frames["garch_variance"] == pytest.approx(0.02**2, rel=0.1)  # the last return is a fall


def test_a_price_that_does_not_move_has_the_floor(market_of_closes: MakeMarket) -> None:
    market = market_of_closes({"A": [100.0] * 800})
    variance = _variance(market, state_of())["garch_variance"].to_numpy()[:, 0]
    assert np.isnan(variance[:24]).all()
    np.testing.assert_array_equal(variance[24:], VOLATILITY_FLOOR**2)


def test_the_fit_finds_the_law_of_its_returns() -> None:
    found = fit_parameters(simulated(20_000, 1, **TRUE), "A")
    assert found is not None
    assert found["alpha"] == pytest.approx(TRUE["alpha"], abs=0.02)
    assert found["gamma"] == pytest.approx(TRUE["gamma"], abs=0.03)
    assert found["beta"] == pytest.approx(TRUE["beta"], abs=0.03)
    assert found["omega"] == pytest.approx(TRUE["omega"], rel=0.3)
    assert found["falls"] == pytest.approx(0.5, abs=0.03)


def test_the_unit_of_returns_does_not_matter() -> None:
    r = simulated(3000, 2, **TRUE)
    small, large = fit_parameters(r, "A"), fit_parameters(1024 * r, "A")
    assert small is not None
    assert large == {**small, "omega": pytest.approx(1024**2 * small["omega"], rel=1e-12)}


def test_symbols_that_cannot_be_fitted_are_named_and_pooled(
    market_of_closes: MakeMarket, caplog: pytest.LogCaptureFixture
) -> None:
    moving = {s: simulated(2000, seed, **TRUE) for s, seed in (("A", 3), ("B", 4), ("C", 5))}
    rare = np.where(np.arange(2000) % (2000 // (FIT_NEEDS - 1) + 1) == 0, 0.01, 0.0)
    # All but still, then one jump: in units of their deviation the returns are zero, the likelihood endless.
    jump = np.append(1e-6 * np.random.default_rng(7).standard_normal(1999), 5.0)
    returns = {**moving, "RARE": rare, "JUMP": jump}
    market = market_of_closes({s: closes_of(r) for s, r in returns.items()})
    with caplog.at_level(logging.WARNING):
        state = _fit(market)
    assert set(state["symbols"]) == set(moving)
    text = " ".join(caplog.messages)
    assert "RARE has" in text
    assert "the GARCH fit of JUMP found no usable maximum" in text
    for name in TYPICAL:
        assert state["pooled"][name] == np.median([p[name] for p in state["symbols"].values()])
    assert np.isfinite(_variance(market, state)["garch_variance"].iloc[-1]).all()


def test_where_nothing_can_be_fitted_the_typical_values_serve(
    market_of_closes: MakeMarket, caplog: pytest.LogCaptureFixture
) -> None:
    market = market_of_closes({"A": closes_of(simulated(400, 6, **TRUE))})
    with caplog.at_level(logging.WARNING):
        pipeline = Pipeline.fit(market, ["garch_variance"])
    assert pipeline.states["garch_variance"] == {"symbols": {}, "pooled": TYPICAL}
    assert "using typical GARCH parameters" in " ".join(caplog.messages)
    assert persistence(TYPICAL) == pytest.approx(0.99)
