"""Model confidence set: which models' scores the data cannot tell from the best one's.

Scores are losses of forecasts (FZ0, say), lower is better, of shape (time, cell, ...) a model: the same rows
for all, consecutive decision times. Cells (symbol, side) of one time move together, so scores are averaged
within each time before anything is resampled; a cell that one model lacks counts for none.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from arch.bootstrap import MCS
from numpy.typing import ArrayLike, NDArray


def confidence_set(
    scores: Mapping[str, ArrayLike],
    horizon_bars: int,
    *,
    block_bars: int | None = None,
    replicas: int = 1000,
    seed: int = 1,
) -> dict[str, float]:
    """p-value of each model: it is in the set of confidence 1 - s (0.9, say) where this is above s (0.1).

    Hansen's range statistic by the stationary bootstrap (``arch.bootstrap.MCS``); models with equal scores
    are judged as one. Blocks have ``block_bars`` on average: by default the larger of twice the horizon,
    whose losses overlap, and the cube root of the number of times. The same seed gives the same p-values. NaN
    policy: a NaN is a cell without a score. Raises ``ValueError`` for fewer than two models, unequal shapes,
    an infinite score, a time without a cell that all models scored, blocks shorter than the horizon or longer
    than half of the times, and two models whose scores differ by a constant, where nothing can be resampled.
    Source: Hansen, Lunde, Nason (2011).
    """
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} models given; compare at least two")
    averaged = _average_of_cells(scores)
    times = len(averaged)
    block = max(2 * horizon_bars, round(times ** (1 / 3))) if block_bars is None else block_bars
    if horizon_bars < 1 or not horizon_bars <= block <= times // 2:
        raise ValueError(
            f"blocks of {block} bars do not suit a horizon of {horizon_bars} and {times} times; give blocks "
            f"of at least the horizon, and at least twice as many times"
        )
    groups = _equal_columns(averaged)
    distinct = averaged[list(groups)]
    if len(groups) == 1:
        found = {next(iter(groups)): 1.0}
    else:
        test = MCS(distinct, size=0.1, reps=replicas, block_size=block, method="R", seed=seed)
        test.compute()
        found = {str(name): float(p) for name, p in test.pvalues["Pvalue"].items()}
    return {name: found[first] for name in scores for first, group in groups.items() if name in group}


def _average_of_cells(scores: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Scores averaged within each time, a column a model, over the cells that every model scored."""
    arrays = {name: np.asarray(values, dtype="float64") for name, values in scores.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) < 1:
        raise ValueError(f"scores have shapes {shapes}; score all models on the same rows")
    panel = np.stack([array.reshape(len(array), -1) for array in arrays.values()])  # (model, time, cell)
    if np.isinf(panel).any():
        raise ValueError("a score is infinite; repair the forecast, or leave its row out for every model")
    known: NDArray[np.bool_] = ~np.isnan(panel).any(axis=0)
    empty = int((~known.any(axis=1)).sum())
    if empty:
        raise ValueError(f"{empty} times have no cell that all models scored; drop those times")
    mean = np.where(known, panel, 0.0).sum(axis=2) / known.sum(axis=1)
    return pd.DataFrame(mean.T, columns=list(arrays))


def _equal_columns(averaged: pd.DataFrame) -> dict[str, list[str]]:
    """Columns that are equal in every row, under the first of them."""
    groups: dict[str, list[str]] = {}
    for name in averaged.columns:
        same = (first for first in groups if np.array_equal(averaged[first], averaged[name]))
        groups.setdefault(next(same, name), []).append(name)
    for first, second in combinations(groups, 2):
        difference = (averaged[first] - averaged[second]).to_numpy()
        if np.ptp(difference) <= 1e-12 * np.abs(difference).max():
            raise ValueError(
                f"{first} and {second} differ by {difference[0]} at every time; there is nothing to resample"
            )
    return groups
