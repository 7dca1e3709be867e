"""LightGBM as the tree models here use it: reproducible fits side by side, and blocks of time scored out of
sample.

Trees that are judged on the losses they learned from look better than they are. So the training window is cut
into blocks of time, and each block is scored by trees that saw the others only, less the horizon on either
side.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.forecast._files import write_bytes


class TreeSettings(BaseModel):
    """What every tree model must be told; each gives its own defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    leaves: int = Field(ge=2)
    feature_fraction: float = Field(0.5, gt=0, le=1)
    row_fraction: float = Field(0.5, gt=0, le=1)
    bins: int = Field(63, ge=2, le=255)
    #: Blocks of time that are scored out of sample.
    folds: int = Field(3, ge=2)
    #: Matured rows that a fit needs, all symbols together.
    min_rows: int = Field(2000, ge=500)
    seed: int = 1
    #: Fits side by side. Predicting takes one thread: more cost a single row milliseconds.
    fit_threads: int = Field(2, ge=1)


def parameters(settings: TreeSettings, objective: dict[str, Any], min_leaf_rows: int) -> dict[str, Any]:
    """LightGBM's parameters of one fit; ``objective`` says what it minimises."""
    return {
        **objective,
        "metric": "None",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": min_leaf_rows,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": settings.row_fraction,
        "bagging_freq": 1,
        "max_bin": settings.bins,
        # One thread a fit, fits side by side: LightGBM's own threads wait for each other in a loop, which
        # on a shared machine costs several times what they gain.
        "num_threads": 1,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }


def boost_in_blocks(
    settings: TreeSettings,
    fits: Sequence[dict[str, Any]],
    rows: NDArray[np.floating[Any]],
    label: NDArray[np.float64],
    time: NDArray[np.intp],
    bars: int,
) -> list[tuple[Any, NDArray[np.float64]]]:
    """For each of ``fits`` (parameters): trees fitted on all rows, and the raw score of each row by trees
    that did not see its block of time.

    Args:
        settings: number of trees, blocks and fits side by side.
        fits: parameters, which may differ in the objective and the rows in a leaf only.
        rows: (row, input), finite.
        label: (row,), what all fits learn.
        time: (row,), the position in time of each row, ascending.
        bars: the horizon; so far around a block no row is learned from.

    Raises ``ValueError`` where fewer than half of ``min_rows`` rows remain outside a block.
    """
    edges = np.quantile(time, np.linspace(0, 1, settings.folds + 1)).round().astype("intp")
    edges[-1] += 1
    blocks = [(time >= first) & (time < end) for first, end in pairwise(edges)]
    seen = [np.flatnonzero((time < first - bars) | (time >= end + bars)) for first, end in pairwise(edges)]
    fewest = min(len(others) for others in seen)
    if fewest < settings.min_rows // 2:
        raise ValueError(
            f"only {fewest} rows remain outside a block of time and {bars} bars on either side, "
            f"and {settings.min_rows // 2} are needed; give more history, or fewer folds"
        )
    # The least of them: inputs that cannot be split so are dropped when the bins are made.
    least = min(fits, key=lambda p: int(p["min_data_in_leaf"]))
    data = lightgbm.Dataset(rows, label, params=least, free_raw_data=False).construct()
    parts = [data, *(data.subset(others).construct() for others in seen)]
    work = [(p, part) for p in fits for part in parts]
    with ThreadPoolExecutor(settings.fit_threads) as pool:
        boosters = list(pool.map(lambda job: lightgbm.train(job[0], job[1], settings.trees), work))
    found = []
    for first in range(0, len(boosters), len(parts)):
        whole, *partial = boosters[first : first + len(parts)]
        score = np.empty(len(label))
        for block, booster in zip(blocks, partial, strict=True):
            score[block] = raw_score(booster, rows[block])
        # Read back from its own text: what is saved is what forecasts.
        found.append((lightgbm.Booster(model_str=whole.model_to_string()), score))
    return found


def raw_score(booster: Any, rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The sum of the trees, shape (row,). LightGBM refuses an empty matrix, which is an ordinary answer
    here."""
    if len(rows) == 0:
        return np.empty(0)
    return np.asarray(booster.predict(rows, raw_score=True, num_threads=1), dtype="float64")


def shapley_values(booster: Any, rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """What each input adds to the raw score of each row, (row, input + 1); the last is the score expected
    over the rows that it was fitted on, and all of them sum to the score.

    Source: Lundberg and others (2020), exact for trees.
    """
    if len(rows) == 0:
        return np.empty((0, booster.num_feature() + 1))
    return np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1), dtype="float64")


def gain_shares(inputs: Sequence[str], boosters: Sequence[Any]) -> dict[str, float]:
    """Input -> its share of the gain of all splits, the mean over boosters that have split at all; they sum
    to 1, or all are 0 where none has."""
    gains = np.array([booster.feature_importance("gain") for booster in boosters], dtype="float64")
    split = gains[gains.sum(axis=1) > 0]
    shares = split / split.sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0) if len(shares) else np.zeros(len(inputs))
    return dict(zip(inputs, mean.tolist(), strict=True))


def write_trees(paths: Sequence[Path], boosters: Sequence[Any]) -> None:
    """Write each booster in LightGBM's text format."""
    for path, booster in zip(paths, boosters, strict=True):
        write_bytes(path, booster.model_to_string().encode())


def read_trees(paths: Sequence[Path]) -> tuple[Any, ...]:
    """The boosters that ``write_trees`` wrote."""
    return tuple(lightgbm.Booster(model_str=path.read_text(encoding="utf-8")) for path in paths)
