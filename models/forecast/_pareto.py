"""Generalized-Pareto tail of standardised losses: empirical up to a threshold, GPD(shape, scale) beyond it.

With u the empirical quantile at ``threshold_level`` p_u, and excesses over u distributed GPD(xi, beta):

    VaR_p = u + beta / xi (((1 - p) / (1 - p_u))^-xi - 1)           ES_p = (VaR_p + beta - xi u) / (1 - xi)

for p >= p_u. For p < p_u VaR is the empirical quantile and ES joins the empirical losses between VaR and
u to the mean beyond u, so both rise with p by construction. Losses are standardised, positive is bad, no
unit.

Sources: McNeil, Frey (2000); Hosking, Wallis (1987) for the probability-weighted moments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Below this size of xi the GPD is computed as its limit, the exponential distribution.
_EXPONENTIAL = 1e-8


def fit_pareto(excesses: NDArray[np.float64], shape_bounds: tuple[float, float]) -> tuple[float, float]:
    """Shape xi and scale beta of positive excesses by probability-weighted moments.

    xi = 2 - a0 / (a0 - 2 a1), held within ``shape_bounds`` (an upper bound below 1 keeps ES finite), and
    beta = a0 (1 - xi), which keeps the mean excess; a0 is the mean and a1 the mean of x (1 - F(x)). Raises
    ``ValueError`` where there is no positive excess.
    """
    x = np.sort(excesses)
    if x.size == 0 or not x[-1] > 0:
        raise ValueError("no loss lies beyond the threshold; give more history, or lower the threshold")
    a0 = float(x.mean())
    a1 = float((x * (1 - (np.arange(1, x.size + 1) - 0.35) / x.size)).mean())
    # a0 <= 2 a1 only where all excesses are about equal: the lightest tail allowed.
    xi = 2 - a0 / (a0 - 2 * a1) if a0 > 2 * a1 else shape_bounds[0]
    xi = min(max(xi, shape_bounds[0]), shape_bounds[1])
    return xi, a0 * (1 - xi)


def pareto_tail(
    losses: NDArray[np.float64],
    levels: tuple[float, ...],
    threshold_level: float,
    shape_bounds: tuple[float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """VaR and ES of the losses at each level, as the module says. ``losses`` must be finite."""
    p = np.asarray(levels, dtype="float64")
    u = float(np.quantile(losses, threshold_level))
    xi, beta = fit_pareto(losses[losses > u] - u, shape_bounds)
    rarer = np.log1p(-threshold_level) - np.log1p(-np.maximum(p, threshold_level))
    growth = rarer if abs(xi) < _EXPONENTIAL else np.expm1(xi * rarer) / xi
    var = u + beta * growth
    es = (var + beta - xi * u) / (1 - xi)
    for k in np.flatnonzero(p < threshold_level):
        var[k] = np.quantile(losses, p[k])
        between = losses[(losses >= var[k]) & (losses <= u)].mean()
        es[k] = ((threshold_level - p[k]) * between + (1 - threshold_level) * es[k]) / (1 - p[k])
    return var, es
