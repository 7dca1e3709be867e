"""A calm market to begin with: returns whose volatility clusters, from a seed.

    r[t] = sqrt(v[t]) z[t],    v[t+1] = omega + alpha r[t]^2 + beta v[t]

a GARCH(1,1) with Student t errors z of variance 1 and the parameters that hourly bars of large coins showed
(``features.garch.TYPICAL``). Returns are log returns a bar, fractions; v starts at its long-run mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.garch import TYPICAL

Array = NDArray[np.float64]

HOUR_S = 3600.0
#: Degrees of freedom of the errors: heavy tails whose fourth moment exists.
DEGREES_OF_FREEDOM = 5.0


@dataclass(frozen=True)
class Calm:
    """Log returns a bar, and the volatility (log return a bar) that each was drawn with; shapes (T,) or
    (T, path)."""

    returns: Array
    volatility: Array


def calm(
    bars: int, interval_s: float, seed: int, *, hourly_volatility: float, paths: int | None = None
) -> Calm:
    """So many bars of calm. The same arguments give the same returns.

    Args:
        bars: how many.
        interval_s: bar length.
        seed: of everything random.
        hourly_volatility: the long-run standard deviation of an hour's log return, a fraction.
        paths: how many paths side by side; None gives one, shape (T,).

    Raises ``ValueError`` for a length or volatility that is not above 0.
    """
    if bars < 1 or not interval_s > 0 or not hourly_volatility > 0 or (paths is not None and paths < 1):
        raise ValueError(
            f"bars {bars}, interval_s {interval_s}, hourly_volatility {hourly_volatility} and paths {paths} "
            f"must all be above 0"
        )
    rng = np.random.default_rng(seed)
    t = DEGREES_OF_FREEDOM
    width = 1 if paths is None else paths
    errors = rng.standard_t(t, (bars, width)) * math.sqrt((t - 2) / t)
    long_run = hourly_volatility**2 * interval_s / HOUR_S
    alpha, beta = TYPICAL["alpha"], TYPICAL["beta"]
    variances = np.empty((bars, width))
    variance = np.full(width, long_run)
    for bar in range(bars):
        variances[bar] = variance
        variance = (1 - alpha - beta) * long_run + (alpha * errors[bar] ** 2 + beta) * variance
    volatility = np.sqrt(variances)
    returns = volatility * errors
    return Calm(returns[:, 0], volatility[:, 0]) if paths is None else Calm(returns, volatility)
