"""Losses of a tail forecast: FZ0 for VaR and ES together, pinball for VaR alone. Lower is better.

Losses are log returns against the side, as fractions; positive is a loss. ``level`` is the confidence (0.99),
and ``a = 1 - level`` the probability of a hit. All functions broadcast their arguments and return one score a
value; average them yourself, over the same rows for every model that is compared.

NaN policy: a NaN in a loss or a forecast gives a NaN score, so that a row that could not be scored is seen
(and dropped by name) rather than counted as a good one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Unit = Literal["percent", "fraction"]


def _checked_level(level: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(level, dtype="float64")
    if not np.all((values > 0) & (values < 1)):
        raise ValueError(f"level is {level!r}; give a confidence between 0 and 1, 0.99 say")
    return values


def fz0(
    loss: ArrayLike, var: ArrayLike, es: ArrayLike, level: ArrayLike, *, unit: Unit = "percent"
) -> NDArray[np.float64]:
    """Joint score of VaR and ES: ``1{L > v} (L - v) / (a e) + v / e + ln e - 1``.

    Homogeneous of degree 0: only ``ln e`` feels the unit, and measuring in percent adds ``ln 100`` to every
    model alike. Loss, VaR and ES are given as fractions; ``unit`` says in which the logarithm is taken.
    Raises ``ValueError`` where a forecast breaks 0 < VaR <= ES. Source: Patton, Ziegel, Chen (2019), equation
    6.
    """
    losses, v, e = (np.asarray(x, dtype="float64") for x in (loss, var, es))
    a = 1 - _checked_level(level)
    if unit not in ("percent", "fraction"):
        raise ValueError(f"unit is {unit!r}; choose 'percent' or 'fraction'")
    if np.any(v <= 0) or np.any(e < v):
        raise ValueError("FZ0 needs 0 < VaR <= ES in every row; repair the forecast, do not clip it here")
    scale = 100.0 if unit == "percent" else 1.0
    score = np.maximum(losses - v, 0) / (a * e) + v / e + np.log(e * scale) - 1
    return np.asarray(score, dtype="float64")


def pinball(loss: ArrayLike, var: ArrayLike, level: ArrayLike) -> NDArray[np.float64]:
    """Quantile score of VaR: ``max(level (L - v), (level - 1) (L - v))``, in the unit of the losses.

    Source: Koenker, Bassett (1978).
    """
    levels = _checked_level(level)
    excess = np.asarray(loss, dtype="float64") - np.asarray(var, dtype="float64")
    return np.asarray(np.maximum(levels * excess, (levels - 1) * excess), dtype="float64")
