"""What each input adds to ln ES where ES is a multiple of the largest of a few quantiles held above a floor.

    ES = max over the levels i up to this one of w_i max(q_i, floor),    w_i = largest ratio from i up to it

One level is the largest in a row; its trees are asked. Their score is a sum of Shapley values phi over an
expected score e, and ln max(q, floor) is shared among the inputs in proportion to them:

    effect_j = phi_j (ln max(q, floor) - ln max(e, floor)) / (q - e),    q = e + sum of phi

which is exact, keeps their signs and their order, and tends to phi_j / e where they are small.

Source: Lundberg, Lee (2017) for the values; sharing by proportion is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.explanations import Array
from models.forecast._trees import raw_score, shapley_values

#: Scores that differ by less, relative to the expected one, have no slope of their own.
_SAME = 1e-9


def tail_effects(
    boosters: Sequence[Any], ratios: Array, rows: NDArray[np.floating[Any]], floor: float
) -> tuple[Array, Array]:
    """Baseline, (row,), and effects, (row, input), on ln ES in units of the scale.

    Args:
        boosters: of the levels up to the one that is explained.
        ratios: (level,), ES over VaR at these.
        rows: (row, input), as the trees see them.
        floor: of the quantiles.
    """
    weights = np.maximum.accumulate(ratios[::-1])[::-1]
    scores = np.stack([raw_score(booster, rows) for booster in boosters], axis=-1)
    # Where levels are equally large, the one that is explained speaks for itself.
    largest = len(boosters) - 1 - np.argmax((weights * np.maximum(scores, floor))[:, ::-1], axis=1)
    start, effects = np.empty(len(rows)), np.empty(rows.shape)
    for level, booster in enumerate(boosters):
        here = largest == level
        values = shapley_values(booster, rows[here])
        parts, expected = values[:, :-1], values[:, -1]
        start[here] = np.log(weights[level] * np.maximum(expected, floor))
        effects[here] = parts * _log_slope(expected, expected + parts.sum(axis=1), floor)[:, np.newaxis]
    return start, effects


def _log_slope(start: Array, end: Array, floor: float) -> Array:
    """(ln max(end, floor) - ln max(start, floor)) / (end - start); its limit where they are the same."""
    limit = np.where(start > floor, 1 / np.maximum(start, floor), 0.0)
    rise = end - start
    steep = np.abs(rise) > _SAME * np.maximum(np.abs(start), floor)
    logs = np.log(np.maximum(end, floor) / np.maximum(start, floor))
    return np.divide(logs, rise, out=limit, where=steep)
