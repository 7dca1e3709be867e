"""How good settings of a model are: scored on blocks of time, each of which follows what was learned from.

The blocks are consecutive and of equal length (``training.splits.equal_blocks``). For each of them the model
learns from all that lies before. K-fold, which would also learn from what came after, tells how well settings
explain a market whose later regimes are known; a model in use never knows them, and settings that suit it
(more trees, smaller leaves) win there too easily.

Purged on both sides: training ends an embargo of the largest horizon before a block, and a loss counts only
where it matured within its block. So no price of a block or of the embargo before it is learned from for
it, and no price move is scored in two blocks.

    D = mean over horizons and levels of the mean over rows of (FZ0 - FZ0 of the reference)

on the rows that both forecast. FZ0 is in percent units, which cancel; negative is better than the reference.
Without the reference a block's own volatility would be most of the score, and blocks could not be averaged.

What does not depend on the settings (features, labels, the reference's scores) is computed once a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from features.bars import Market
from features.pipeline import FeatureFrame
from models.forecast.base import TailForecast, TailModel
from training.backtest import keep_levels
from training.dataset import History, Task, TrainingRefusedError, TrainingWindow
from training.evaluation import ROW_KEYS, with_losses
from training.splits import Fold

DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class BlockScore:
    """D of the module on one block, ``mean``, and the same for each of its days, ``daily``, by the first
    decision time that a day may have; days are counted from the block's start, so blocks share none. A day's
    horizons and levels count alike, those without a matured loss not at all."""

    mean: float
    daily: pd.Series


@dataclass(frozen=True)
class Block:
    """A block of time, what may be learned for it, and how the reference did there (``fz0`` by row)."""

    fold: Fold
    market: Market
    window: TrainingWindow
    features: FeatureFrame
    levels: tuple[float, ...]
    reference: pd.DataFrame

    def score(self, model: TailModel) -> BlockScore:
        """Fit a model of the kind that the block was prepared for, and score it.

        Raises ``TrainingRefusedError`` where the data cannot carry the fit, or where model and reference
        share no row with a known loss.
        """
        forecast = self.window.fit(model).model.predict(self.features)
        own = _scored(forecast, self.levels, self.market)
        both = own.merge(self.reference, on=ROW_KEYS, suffixes=("", "_reference"))
        if both.empty:
            raise TrainingRefusedError(
                f"{model.name} and its reference share no row with a known loss from {self.fold.test_start} "
                f"to {self.fold.test_end}; give a span with more bars"
            )
        both["difference"] = both["fz0"] - both["fz0_reference"]
        start, cell = self.fold.test_start, ["horizon", "level"]
        both["day"] = start + (both["time"] - start) // DAY * DAY
        daily = both.groupby(["day", *cell])["difference"].mean().groupby("day").mean()
        return BlockScore(float(both.groupby(cell)["difference"].mean().mean()), daily)


def prepare_blocks(
    history: History,
    model: type[TailModel],
    reference: type[TailModel],
    task: Task,
    levels: Sequence[float],
    folds: Sequence[Fold],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Block, ...]:
    """Compute what scoring ``model`` on each fold needs; ``levels`` are the ones scored.

    ``history`` must know both models. ``progress`` is called with how many blocks are done. Raises
    ``TrainingRefusedError`` where a fold has too little before it to fit the reference.
    """
    blocks = []
    for done, fold in enumerate(folds, start=1):
        market = history.market.until(fold.test_end)
        base = history.fit(reference, fold.train_end, task)
        known = history.forecast(base.model, base.pipeline, fold.test_start, fold.test_end)
        window = history.window(model, fold.train_end, task)
        blocks.append(
            Block(
                fold,
                market,
                window,
                history.features(window.pipeline, fold.test_start, fold.test_end),
                tuple(levels),
                _scored(known, tuple(levels), market),
            )
        )
        progress(done)
    return tuple(blocks)


def _scored(forecast: TailForecast, levels: tuple[float, ...], market: Market) -> pd.DataFrame:
    """``ROW_KEYS`` and ``fz0`` of the rows whose loss matured by the market's end."""
    scored = with_losses(keep_levels(forecast.to_table(""), levels), market)
    return scored[[*ROW_KEYS, "fz0"]]
