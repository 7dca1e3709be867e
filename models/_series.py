"""Checks of what the statistical tests are given: a level, and series in time order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def checked_level(level: float) -> float:
    """The level, a confidence. Raises ``ValueError`` unless it lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; give a confidence between 0 and 1, 0.99 say")
    return level


def checked_series(name: str, values: ArrayLike, rows: int | None = None) -> NDArray[np.float64]:
    """The values as a finite float64 series. Raises ``ValueError`` where they are not one, or not ``rows``
    long.
    """
    array = np.asarray(values, dtype="float64")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; give one non-empty series in time order")
    if not np.isfinite(array).all():
        broken = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name} is not finite in {broken} rows; drop rows without a matured loss")
    if rows is not None and array.size != rows:
        raise ValueError(f"{name} has {array.size} rows where the losses have {rows}; give one value a row")
    return array


def checked_tail(
    loss: ArrayLike, var: ArrayLike, es: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Losses with the VaR and ES that were forecast for them. Raises ``ValueError`` as ``checked_series``
    does, and where a forecast breaks 0 < VaR <= ES.
    """
    losses = checked_series("loss", loss)
    v, e = checked_series("var", var, losses.size), checked_series("es", es, losses.size)
    if np.any(v <= 0) or np.any(e < v):
        broken = int(((v <= 0) | (e < v)).sum())
        raise ValueError(f"{broken} rows break 0 < VaR <= ES; repair the forecast, do not clip it here")
    return losses, v, e
