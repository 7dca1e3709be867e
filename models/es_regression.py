"""Joint linear regression of VaR and ES, and the backtests of ES that rest on it.

    Q(L | x) = x' b,    ES(L | y) = y' g,    (b, g) minimise the mean FZ0 of the losses

with q = x' b and e = y' g, FZ0 is ``w (q + (L - q)+ / a) + ln e - 1`` at w = 1 / e. Given g that is a
quantile regression weighted by w, solved exactly as a linear programme; given b it is the gamma likelihood of
``Z = q + (L - q)+ / a``, whose mean at the right quantile is ES, solved by Fisher scoring. The two take turns
until neither lowers the score.

A right ES forecast regresses on itself with intercept 0 and slope 1. The covariance of g is
``s^2 D^-1 / T``,

    D = mean(y y' / e^2),    s^2 = Var((L - q) / e | L > q) / a + (1 - a) / a mean((e - q)^2 / e^2)

which takes the losses beyond the quantile to be alike but for their scale, e. A sandwich that leaves each
row's variance to the data asks for less and rejects far more right forecasts, hits being few. The quantile's
density at b is not needed: at the right quantile the errors of b do not reach g.

Losses are fractions, positive is bad; ``level`` is the confidence, ``a = 1 - level``. The tests
want independent losses: give every h-th row of an h-bar loss, one contract and side. NaN policy: refused with
``ValueError``.

Sources: Dimitriadis, Bayer (2019), "A joint quantile and expected shortfall regression framework"; Bayer,
Dimitriadis (2022), "Regression-based expected shortfall backtesting"; Koenker, Bassett (1978).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import linprog

from models._series import checked_level, checked_series, checked_tail
from models.coverage import CoverageTest

Array = NDArray[np.float64]
#: Losses that should lie beyond VaR: with fewer, two lines through them are not an estimate.
LEAST_HITS = 10
_ROUNDS, _STEPS = 100, 100
#: A round that lowers the mean score by less has found the minimum.
_GAIN = 1e-10


@dataclass(frozen=True)
class TailRegression:
    """Coefficients of the quantile (b) and of ES (g), the covariance of g, and the mean FZ0 of the fit."""

    quantile: Array
    es: Array
    es_covariance: Array
    score: float


@dataclass(frozen=True)
class InterceptTest:
    """By which share of itself ES should have been larger, with the error of that; ``p_value`` is one-sided:
    small where ES was too small.
    """

    intercept: float
    error: float

    @property
    def p_value(self) -> float:
        return float(stats.norm.sf(self.intercept / self.error))


def quantile_regression(loss: Array, design: Array, level: float) -> Array:
    """The b that minimises the pinball loss of ``loss - design @ b``, by the dual linear programme.

    ``loss`` is (T,), ``design`` (T, k) of full rank. A row multiplied by w, loss and design, weighs w.
    """
    dual = linprog(-loss, A_eq=design.T, b_eq=(1 - level) * design.sum(axis=0), bounds=(0, 1), method="highs")
    if not dual.success:
        raise ValueError(f"the quantile regression has no solution ({dual.message}); check the regressors")
    return -np.asarray(dual.eqlin.marginals, dtype="float64")


def tail_regression(
    loss: ArrayLike, quantile_design: ArrayLike, es_design: ArrayLike, level: float, start: ArrayLike
) -> TailRegression:
    """Fit quantile and ES of the losses (T,) on their regressors, (T, k) and (T, m), see the module.

    ``start`` are coefficients of ES (m,) that make it positive in every row, which FZ0 needs; (0, 1) for a
    forecast regressed on itself. Raises ``ValueError`` for fewer than ``LEAST_HITS`` promised hits,
    collinear regressors, a start that is not positive, or where no minimum is found.
    """
    losses = checked_series("loss", loss)
    a = _enough(losses.size, level)
    x = _checked_design("quantile_design", quantile_design, losses.size)
    y = _checked_design("es_design", es_design, losses.size)
    g = checked_series("start", start)
    if g.size != y.shape[1] or not (y @ g > 0).all():
        raise ValueError(
            f"start is {g.tolist()}; give {y.shape[1]} coefficients with ES above 0 in every row"
        )
    lowest = np.inf
    for _ in range(_ROUNDS):
        w = 1 / (y @ g)
        b = quantile_regression(w * losses, w[:, np.newaxis] * x, level)
        z = x @ b + np.maximum(losses - x @ b, 0) / a
        g = _es_coefficients(z, y, g)
        score = _score(z, y @ g)
        if not score < lowest - _GAIN:
            break
        lowest = score
    else:
        raise ValueError(
            f"no minimum of FZ0 within {_ROUNDS} rounds; the losses do not follow the regressors"
        )
    e = y @ g
    bread = np.linalg.inv((y / e[:, np.newaxis] ** 2).T @ y / losses.size)
    return TailRegression(b, g, bread * _variance(losses, x @ b, e, a) / losses.size, float(score))


def esr(
    loss: ArrayLike,
    var: ArrayLike,
    es: ArrayLike,
    level: float,
    *,
    version: Literal["strict", "auxiliary"] = "auxiliary",
) -> CoverageTest:
    """Wald test of ``ES(L) = g0 + g1 e`` having (g0, g1) = (0, 1) ~ chi2(2): is ES right whatever it says?

    The quantile is regressed on VaR (``auxiliary``), or on ES too (``strict``, which judges ES without its
    VaR). Two-sided, and asymptotic in the hits: at 5 % it rejects some 8 % of right forecasts with 60 hits,
    and some 12 % with 25. An ES that does not vary has no slope: raises ``ValueError``, as
    ``tail_regression`` does; ``esr_intercept`` answers then. Source: Bayer, Dimitriadis (2022), 2.2.
    """
    if version not in ("strict", "auxiliary"):
        raise ValueError(f"version is {version!r}; choose 'strict' or 'auxiliary'")
    losses, v, e = checked_tail(loss, var, es)
    unit = float(e.mean())  # FZ0 has no unit, and numbers about 1 are solved best
    losses, v, e = losses / unit, v / unit, e / unit
    ones = np.ones(losses.size)
    es_design = np.column_stack([ones, e])
    quantile_design = es_design if version == "strict" else np.column_stack([ones, v])
    fit = tail_regression(losses, quantile_design, es_design, level, start=(0.0, 1.0))
    off = fit.es - (0.0, 1.0)
    return CoverageTest(float(off @ np.linalg.solve(fit.es_covariance, off)), 2)


def esr_intercept(loss: ArrayLike, es: ArrayLike, level: float) -> InterceptTest:
    """Is ES too small on the whole: is the ES of ``(L - e) / e`` above 0? One-sided, and VaR is not asked.

    Fitting a constant alone, the joint regression gives the sample's quantile and ES. The source tests L - e;
    divided by e, residuals of calm and wild times have one law, else the wild ones alone would make the tail
    and a right forecast would be rejected the more often, the longer the series. Raises ``ValueError`` for
    fewer than ``LEAST_HITS`` hits promised, or an ES that is not above 0. Source: Bayer, Dimitriadis (2022),
    2.3.
    """
    losses = checked_series("loss", loss)
    e = checked_series("es", es, losses.size)
    a = _enough(losses.size, level)
    if (e <= 0).any():
        raise ValueError(f"es is at most 0 in {int((e <= 0).sum())} rows; repair the forecast")
    ratio = losses / e
    q = float(np.quantile(ratio, level, method="inverted_cdf"))
    found = q + float(np.maximum(ratio - q, 0).mean()) / a
    ones = np.ones(ratio.size)
    error = np.sqrt(_variance(ratio, q * ones, found * ones, a) / ratio.size) * found
    return InterceptTest(found - 1, float(error))


def _enough(rows: int, level: float) -> float:
    """1 - level, where so many rows promise ``LEAST_HITS`` hits."""
    a = 1 - checked_level(level)
    if rows * a < LEAST_HITS - 1e-9:
        raise ValueError(
            f"{rows} rows promise {rows * a:.1f} losses beyond the {level} quantile and {LEAST_HITS} are "
            f"needed; give {round(LEAST_HITS / a)} rows, or a lower level"
        )
    return a


def _variance(losses: Array, q: Array, e: Array, a: float) -> float:
    """s^2 of the module; raises ``ValueError`` where too few losses lie beyond q to have a variance."""
    beyond = losses > q
    if beyond.sum() < 2:
        raise ValueError(f"{int(beyond.sum())} losses lie beyond the fitted quantile; give more rows")
    truncated = float(((losses - q) / e)[beyond].var(ddof=1))
    return truncated / a + (1 - a) / a * float(np.mean(((e - q) / e) ** 2))


def _checked_design(name: str, design: ArrayLike, rows: int) -> Array:
    x = np.asarray(design, dtype="float64")
    if x.ndim != 2 or len(x) != rows or not np.isfinite(x).all():
        raise ValueError(f"{name} has shape {x.shape}; give {rows} finite rows, a column a regressor")
    # Relative: columns of a fraction and of ones differ in size, not in what they say.
    if np.linalg.matrix_rank(x / np.linalg.norm(x, axis=0), tol=1e-6) < x.shape[1]:
        raise ValueError(
            f"the {x.shape[1]} columns of {name} are collinear, a constant forecast say; leave one out"
        )
    return x


def _score(z: Array, e: Array) -> float:
    return float(np.mean(z / e + np.log(e))) - 1 if (e > 0).all() else float("inf")


def _es_coefficients(z: Array, y: Array, start: Array) -> Array:
    """The g near ``start`` that minimises the mean of z / e + ln e, e = y' g > 0: Fisher scoring, each step
    halved until it lowers the mean.
    """
    g, score = start, _score(z, y @ start)
    for _ in range(_STEPS):
        weighted = y / (y @ g)[:, np.newaxis] ** 2
        step = np.linalg.solve(weighted.T @ y, weighted.T @ z) - g
        while (tried := _score(z, y @ (g + step))) >= score and np.abs(step).max() > 1e-12:
            step = step / 2
        if tried > score - _GAIN / 10:
            break
        g, score = g + step, tried
    return g
