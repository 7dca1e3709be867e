"""What a forecast is made of: how much each input moved the logarithm of an expected shortfall.

    ln ES = baseline + sum over the inputs of their effects

for a row (time, symbol) and a cell (horizon, side, level), ES being a log loss as a fraction. The baseline is
the ES of an average hour of the training window, at the symbol's usual volatility. An effect of 0.1 means
that the ES is a factor exp(0.1) higher for what that input says; the scale (``SCALE_FEATURE``) is an input
too, whose effect is ln(its value / the symbol's usual one).

Sources: Shapley (1953) and Lundberg, Lee (2017) for trees; Sundararajan, Taly, Yan (2017) for networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.durations import format_duration

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """Which ES of a forecast is meant; ``side`` is ``long`` or ``short``."""

    horizon: pd.Timedelta
    side: str
    level: float

    def __str__(self) -> str:
        return f"{format_duration(self.horizon)} {self.side} at {self.level:g}"


@dataclass(frozen=True)
class Contributions:
    """Effects over (row, cell, input), with the values that had them.

    Attributes:
        rows: (time, symbol) of each row.
        cells: what was asked for.
        inputs: names, each once.
        values: (row, input), as the feature gives them; NaN where one is missing.
        scores: (row, input), value less its mean, over its deviation, both of the training window; NaN as
            ``values``.
        baseline: (row, cell), ln ES of the average hour.
        effects: (row, cell, input), 0 for an input that is missing or that the model ignores.

    Checked when made: shapes, and that baseline and effects are finite; else ``ValueError``.
    """

    rows: pd.MultiIndex
    cells: tuple[Cell, ...]
    inputs: tuple[str, ...]
    values: Array
    scores: Array
    baseline: Array
    effects: Array

    def __post_init__(self) -> None:
        rows, cells, inputs = len(self.rows), len(self.cells), len(self.inputs)
        for name, shape in (
            ("values", (rows, inputs)),
            ("scores", (rows, inputs)),
            ("baseline", (rows, cells)),
            ("effects", (rows, cells, inputs)),
        ):
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"{name} has shape {found}; for these rows, cells and inputs it is {shape}")
        if not (np.isfinite(self.baseline).all() and np.isfinite(self.effects).all()):
            raise ValueError("a baseline or an effect is not finite; check the inputs of the forecast")

    @cached_property
    def log_es(self) -> Array:
        """(row, cell): what the effects lead to."""
        return np.asarray(self.baseline + self.effects.sum(axis=-1))


def weighted_mean(parts: Sequence[Contributions], weights: Sequence[float]) -> Contributions:
    """Contributions to the weighted mean of ln ES of several models, over the rows of the first.

    Each row's mean is over those parts that have it, as in a mean of forecasts; an input that a model lacks
    has no effect in it. Raises ``ValueError`` where the cells differ, or a later part has a row that the
    first lacks.
    """
    first = parts[0]
    inputs = tuple(dict.fromkeys(name for part in parts for name in part.inputs))
    values = np.full((len(first.rows), len(inputs)), np.nan)
    scores, total = values.copy(), np.zeros((len(first.rows), 1))
    baseline = np.zeros(first.baseline.shape)
    effects = np.zeros((*first.baseline.shape, len(inputs)))
    for part, weight in zip(parts, weights, strict=True):
        at = first.rows.get_indexer(part.rows)
        if part.cells != first.cells or (at < 0).any():
            raise ValueError("parts are of other cells or rows than the first; ask all of the same features")
        place = np.array([inputs.index(name) for name in part.inputs], dtype=np.intp)
        total[at] += weight
        baseline[at] += weight * part.baseline
        effects[at[:, np.newaxis], :, place] += weight * part.effects.swapaxes(1, 2)
        grid = np.ix_(at, place)
        known = np.isfinite(values[grid])
        values[grid] = np.where(known, values[grid], part.values)
        scores[grid] = np.where(known, scores[grid], part.scores)
    return Contributions(
        first.rows,
        first.cells,
        inputs,
        values,
        scores,
        baseline / total,
        effects / total[..., np.newaxis],
    )


def cell_places(
    cells: Iterable[Cell],
    horizons: tuple[pd.Timedelta, ...],
    sides: tuple[str, ...],
    levels: tuple[float, ...],
) -> list[tuple[int, int, int]]:
    """Where each cell stands among a model's horizons, sides and levels. Raises ``ValueError`` naming one
    that it does not forecast."""
    found = []
    for cell in cells:
        if cell.horizon not in horizons or cell.side not in sides or cell.level not in levels:
            raise ValueError(
                f"no forecast of {cell}; the model has horizons {[format_duration(h) for h in horizons]}, "
                f"sides {list(sides)} and levels {list(levels)}"
            )
        found.append((horizons.index(cell.horizon), sides.index(cell.side), levels.index(cell.level)))
    return found
