"""The variance of the next bar by a fitted GJR-GARCH(1,1,1), as a finite sum over past returns.

r is the one-bar log return as a fraction; variances are fractions squared, per bar. The model of Glosten,
Jagannathan and Runkle (1993), with the skewed t errors of Hansen (1994) and no mean:

    r[t] = sqrt(v[t]) z[t],    v[t+1] = omega + (alpha + gamma 1{r[t] < 0}) r[t]^2 + beta v[t]

unrolled over the L returns of the last 30 days, so that nothing older has any effect:

    v[t+1] = omega G + sum_(j < L) beta^j (alpha + gamma 1{r[t-j] < 0}) r[t-j]^2 + beta^L m[t],
    G = (1 - beta^L) / (1 - beta),    m[t] = mean of the known r^2 of the window

A missing return counts as its expectation, r^2 = m[t] with the usual share of falls. From there on the
expected variance follows v <- omega + p v, p = alpha + beta + gamma s, where s is the share of squared
residuals that came from falls.

Learned by maximum likelihood for each symbol (``arch``), on returns divided by their root mean square, so
that the optimiser sees the same scale at any interval. A symbol whose fit does not converge, one with less
than ``FIT_NEEDS`` returns, and one not trained on get the median parameters of the others, and an omega that
targets their own variance, (1 - p) m[t]; each such symbol of a training window is logged. Where no symbol
could be fitted the parameters are the stated typical ones.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import window_bars
from features.pipeline import Feature, State
from features.volatility import DAY, LONG_LOOK_BACK, VOLATILITY_FLOOR, bars_in, log_returns
from features.windows import Array, rolling_mean, rolling_sum

log = logging.getLogger(__name__)

#: Returns that carry a fit of six parameters, heavy tails among them.
FIT_NEEDS = 500
#: The newest returns that a fit uses: over two years of hours, and a bound on what short bars cost.
FIT_RETURNS = 20_000

#: How far beyond zero the optimiser may leave alpha or alpha + gamma and still mean zero.
_AT_BOUND = 1e-6

#: What hourly bars of large coins showed, rounded: for a training window that no symbol could be fitted on.
TYPICAL = {"alpha": 0.09, "gamma": 0.0, "beta": 0.9, "falls": 0.5}


def _fit(market: Market) -> State:
    """Parameters by symbol, and ``pooled``, their medians, for every symbol that has none of its own."""
    returns = log_returns(market)
    symbols = {}
    for s, symbol in enumerate(market.symbols):
        r = returns[:, s]
        fitted = fit_parameters(r[np.isfinite(r)][-FIT_RETURNS:], symbol)
        if fitted is not None:
            symbols[symbol] = fitted
    if not symbols:
        log.warning("no symbol of %s could be fitted; using typical GARCH parameters", list(market.symbols))
        return {"symbols": {}, "pooled": dict(TYPICAL)}
    pooled = {name: float(np.median([p[name] for p in symbols.values()])) for name in TYPICAL}
    pooled["gamma"] = max(pooled["gamma"], -pooled["alpha"])  # medians need not keep what each symbol keeps
    return {"symbols": symbols, "pooled": pooled}


def fit_parameters(returns: Array, symbol: str) -> dict[str, float] | None:
    """omega, alpha, gamma, beta and ``falls``, the share s, of one symbol's known returns (T,), newest last.

    None, with the reason logged, where too few of them move, or the optimiser finds no usable maximum of the
    likelihood.
    """
    from arch.univariate import arch_model  # heavy, and only a fit needs it

    moved = np.count_nonzero(returns)
    if moved < FIT_NEEDS:
        log.warning(
            "%s has %d returns that are not zero where GARCH needs %d; it gets the median parameters",
            *(symbol, moved, FIT_NEEDS),
        )
        return None
    unit = float(np.sqrt(np.mean(returns**2)))
    model = arch_model(returns / unit, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="skewt", rescale=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model.fit(disp="off", show_warning=False)
    names = {"omega": "omega", "alpha": "alpha[1]", "gamma": "gamma[1]", "beta": "beta[1]"}
    fitted = {name: float(found.params[label]) for name, label in names.items()}
    sound = (
        all(np.isfinite(v) for v in fitted.values())
        and fitted["omega"] > 0
        and min(fitted["alpha"], fitted["alpha"] + fitted["gamma"]) > -_AT_BOUND
        and 0 <= fitted["beta"] < 1
    )
    if found.convergence_flag != 0 or not sound:
        log.warning(
            "the GARCH fit of %s found no usable maximum (flag %d, %s; %s); it gets the median parameters",
            *(symbol, found.convergence_flag, fitted, [str(w.message) for w in caught]),
        )
        return None
    # The optimiser overshoots a bound by rounding; beyond it a variance could fall below zero.
    fitted["alpha"] = max(fitted["alpha"], 0.0)
    fitted["gamma"] = max(fitted["gamma"], -fitted["alpha"])
    squares = np.asarray(found.std_resid, dtype="float64") ** 2
    falls = float(squares[returns < 0].sum() / squares.sum())
    for w in caught:
        log.info("the GARCH fit of %s converged, and warned: %s", symbol, w.message)
    return {**fitted, "omega": fitted["omega"] * unit**2, "falls": falls}


def persistence(parameters: Mapping[str, float]) -> float:
    """p of the module, 1 at most: over it, the expected variances of a long horizon explode."""
    news = parameters["alpha"] + parameters["gamma"] * parameters["falls"]
    return min(news + parameters["beta"], 1.0)


def _variance(market: Market, state: State) -> Mapping[str, pd.DataFrame]:
    """``garch_variance``, v[t+1] (see the module), never below ``VOLATILITY_FLOOR``^2; ``garch_omega`` and
    ``garch_persistence``, with which the expectation goes on from there. NaN (warm-up) while fewer than a day
    of returns (at least 6) are known, and in the row of a missing bar."""
    r = log_returns(market)
    bars = bars_in("1m", market.interval)
    mean = rolling_mean(r**2, bars, min(bars, max(6, window_bars(DAY, market.interval))))
    outputs = {name: np.full_like(r, np.nan) for name in OUTPUTS}
    for s, symbol in enumerate(market.symbols):
        p = state["symbols"].get(symbol, state["pooled"])
        m = mean[:, s]
        omega = np.where(np.isnan(m), np.nan, p["omega"]) if "omega" in p else (1 - persistence(p)) * m
        variance = unrolled(r[:, s : s + 1], m[:, np.newaxis], omega[:, np.newaxis], p, bars)[:, 0]
        outputs["garch_variance"][:, s] = np.maximum(variance, VOLATILITY_FLOOR**2)
        outputs["garch_omega"][:, s] = omega
        outputs["garch_persistence"][:, s] = np.where(np.isnan(m), np.nan, persistence(p))
    return market.frames(outputs)


def unrolled(r: Array, mean: Array, omega: Array, parameters: Mapping[str, float], bars: int) -> Array:
    """v[t+1] of the module from returns, their window means and omegas, each (time, symbol)."""
    alpha, gamma, beta = (parameters[name] for name in ("alpha", "gamma", "beta"))
    known = ~np.isnan(r)
    news = np.where(known, (alpha + gamma * (r < 0)) * r**2, 0.0)
    total = (1 - beta**bars) / (1 - beta)
    absent = total - rolling_sum(known.astype("float64"), bars, beta)
    expected_news = persistence(parameters) - beta
    variance: Array = omega * total + rolling_sum(news, bars, beta)
    return variance + mean * (expected_news * absent + beta**bars)


OUTPUTS = ("garch_variance", "garch_omega", "garch_persistence")
FEATURES = (Feature(OUTPUTS, "garch", LONG_LOOK_BACK, ("close",), _variance, _fit),)
