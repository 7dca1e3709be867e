"""What GJR-GARCH requires on simulated paths: fitted on calm, then filtered through whatever comes.

The variance is that of ``features.garch``, the forecast over a horizon and its tail those of the model
``garch`` (``models.forecast.garch``); the tail is that of the losses before the shock. Losses are log losses,
ES at 99 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from features.garch import fit_parameters, persistence, unrolled
from features.windows import rolling_mean
from models.forecast.garch import variance_over
from models.margin import fhs

Array = NDArray[np.float64]

#: The features' look-back of 30 days, and the day of returns that they begin with, in hours.
_LOOK_BACK, _LEAST = 720, 24


def fitted(returns: Array) -> Mapping[str, float]:
    """Parameters of hourly calm returns (T,), by maximum likelihood. Raises ``ValueError`` where there is no
    maximum."""
    found = fit_parameters(returns, "the calm")
    if found is None:
        raise ValueError(
            f"the likelihood of GARCH has no maximum on {len(returns)} returns; give more of them"
        )
    return found


def losses_covered(
    returns: Array, parameters: Mapping[str, float], *, begins: int, horizon: int, level: float
) -> Array:
    """ES of a long over ``horizon`` hours as of each close, (T, path), for hourly returns (T, path).

    NaN in the first day, and carried on from the last known hour where a return is missing. ``begins`` is the
    first bar of the shock; the tail of the standardised losses comes from before it.
    """
    mean = rolling_mean(returns**2, _LOOK_BACK, _LEAST)
    omega = np.where(np.isnan(mean), np.nan, parameters["omega"])
    variance = unrolled(returns, mean, omega, parameters, _LOOK_BACK)
    lasting = np.full_like(variance, persistence(parameters))
    ahead = np.sqrt(variance_over(variance, omega, lasting, horizon))
    calm = np.cumsum(returns[:begins], axis=0)
    covered = np.empty_like(ahead)
    for path in range(returns.shape[1]):
        losses = calm[horizon:, path] - calm[:-horizon, path]
        standardised = losses / ahead[: begins - horizon, path]
        _, es = fhs.tail_quantiles(standardised, (level,))
        covered[:, path] = es[0, 0] * ahead[:, path]
    return _carried_on(np.where(np.isnan(returns), math.nan, covered))


def _carried_on(values: Array) -> Array:
    """NaN after a known value replaced by it, down each column."""
    known = ~np.isnan(values)
    last = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, np.newaxis], 0), axis=0)
    found: Array = np.take_along_axis(values, last, axis=0)
    return found
