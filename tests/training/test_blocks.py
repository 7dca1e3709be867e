"""A block scores settings on what followed their training, and on nothing that reaches out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.forecast.base import TailModel
from models.forecast.ewma import EwmaModel
from models.forecast.har import HarModel, Settings
from training.backtest import keep_levels
from training.blocks import Block, prepare_blocks
from training.dataset import History, Task, TrainingRefusedError
from training.evaluation import ROW_KEYS, summary, with_losses
from training.splits import Fold, equal_blocks

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
LEVELS = (0.975, 0.99)
START, END = (pd.Timestamp(t, tz="UTC") for t in ("2024-03-20 07:00", "2024-04-08 12:00"))


def prepared(market: Market, task: Task, model: type[TailModel] = HarModel) -> tuple[Block, ...]:
    folds = equal_blocks(market.times, START, END, 2, task.embargo)
    return prepare_blocks(History(market, (EwmaModel, model)), model, EwmaModel, task, LEVELS, folds)


@pytest.fixture(scope="module")
def blocks(market: Market, task: Task) -> tuple[Block, ...]:
    return prepared(market, task)


def test_the_score_is_that_of_the_evaluation(blocks: tuple[Block, ...], market: Market, task: Task) -> None:
    """The slow way: forecast tables, joined with losses, summarised."""
    fold, history = blocks[0].fold, History(market, (EwmaModel, HarModel))
    tables = []
    for model in (EwmaModel, HarModel):
        fit = history.fit(model, fold.train_end, task)
        forecast = history.forecast(fit.model, fit.pipeline, fold.test_start, fold.test_end)
        tables.append(keep_levels(forecast.to_table(model.name), LEVELS))
    scored = with_losses(pd.concat(tables), market.until(fold.test_end))
    table = summary(scored, HOUR)
    score = blocks[0].score(HarModel())
    assert score.mean == pytest.approx(table.loc[table["model"] == "har", "difference"].mean(), rel=1e-9)
    # And the first day of it.
    first = scored[scored["time"] < fold.test_start + DAY].set_index([*ROW_KEYS, "model"])["fz0"]
    difference = (first.xs("har", level="model") - first.xs("ewma", level="model")).groupby(
        ["horizon", "level"]
    )
    assert score.daily.iloc[0] == pytest.approx(difference.mean().mean(), rel=1e-9)


def test_settings_make_the_score_and_the_reference_scores_nothing(
    blocks: tuple[Block, ...], market: Market, task: Task
) -> None:
    shipped, floored = (blocks[0].score(HarModel(s)) for s in (None, Settings(label_floor=0.4)))
    assert shipped.mean != floored.mean
    same = prepared(market, task, EwmaModel)[0].score(EwmaModel())
    assert same.mean == 0
    assert (same.daily == 0).all()


def test_blocks_share_no_day_and_none_is_left_out(blocks: tuple[Block, ...]) -> None:
    days = [block.score(HarModel()).daily.index for block in blocks]
    assert [index[0] for index in days] == [block.fold.test_start for block in blocks]
    assert not days[0].intersection(days[1]).size
    # 461 hours, half of them a block; the last hours' losses lie in the next block, or beyond the end.
    assert [len(index) for index in days] == [10, 10]


def moved(market: Market, after: pd.Timestamp, until: pd.Timestamp) -> Market:
    """Prices times 1.5 within (after, until]: every loss that begins or ends there is another."""
    times = market.times
    factor = pd.Series(np.where((times > after) & (times <= until), 1.5, 1.0), times)
    columns = {
        name: frame.mul(factor, axis=0) if name in {"open", "high", "low", "close"} else frame
        for name, frame in market.columns.items()
    }
    return replace(market, columns=columns)


@pytest.mark.parametrize("after", ["end of the block", "middle of the block"])
def test_nothing_after_a_block_is_scored(
    after: str, blocks: tuple[Block, ...], market: Market, task: Task
) -> None:
    fold = blocks[0].fold
    begins = {"end of the block": fold.test_end, "middle of the block": fold.test_start + 4 * DAY}[after]
    changed = prepared(moved(market, begins, market.times[-1]), task)[0].score(HarModel())
    same = changed.mean == blocks[0].score(HarModel()).mean
    assert same == (after == "end of the block")


def test_a_block_is_not_learned_from_nor_is_the_embargo_before_it(
    market: Market, task: Task, recording_model: type[TailModel]
) -> None:
    blocks = prepared(market, task, recording_model)
    for block in blocks:
        block.score(recording_model())
    fitted_on = recording_model.fitted_on  # type: ignore[attr-defined]
    ends = [(data.features.times[-1], data.closes.index[-1]) for data in fitted_on]
    # The second block begins between two bars; the last one that is four hours before it is learned from.
    second = (blocks[1].fold.test_start - 4 * HOUR).floor("h")
    assert [end for end, _ in ends] == [end for _, end in ends]
    assert ends[0][0] == START - 4 * HOUR
    assert second - HOUR <= ends[1][0] <= second


def test_a_block_without_a_loss_is_refused(market: Market, task: Task) -> None:
    fold = Fold(START - 4 * HOUR, START, START)
    (block,) = prepare_blocks(
        History(market, (EwmaModel, HarModel)), HarModel, EwmaModel, task, LEVELS, [fold]
    )
    with pytest.raises(TrainingRefusedError, match="share no row with a known loss"):
        block.score(HarModel())
