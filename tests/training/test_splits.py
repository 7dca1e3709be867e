"""Walk-forward folds cover every decision time once, and train on nothing within the embargo."""

from __future__ import annotations

import pandas as pd
import pytest

from training.splits import Fold, equal_blocks, walk_forward

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
TIMES = pd.date_range("2026-01-01", periods=240, freq="h", tz="UTC", unit="ns")


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_folds_by_hand() -> None:
    folds = walk_forward(TIMES, at("2026-01-05"), at("2026-01-07 12:00"), DAY, 4 * HOUR)
    assert folds == (
        Fold(at("2026-01-04 20:00"), at("2026-01-05 00:00"), at("2026-01-05 23:00")),
        Fold(at("2026-01-05 20:00"), at("2026-01-06 00:00"), at("2026-01-06 23:00")),
        Fold(at("2026-01-06 20:00"), at("2026-01-07 00:00"), at("2026-01-07 12:00")),
    )


@pytest.mark.parametrize("refit_hours", [1, 7, 24, 1000])
def test_every_decision_time_is_tested_once_and_after_the_embargo(refit_hours: int) -> None:
    start, end, embargo = at("2026-01-03 05:00"), at("2026-01-09 11:00"), 24 * HOUR
    folds = walk_forward(TIMES, start, end, refit_hours * HOUR, embargo)
    covered = [t for f in folds for t in TIMES[(f.test_start <= TIMES) & (f.test_end >= TIMES)]]
    assert covered == list(TIMES[(start <= TIMES) & (end >= TIMES)])
    assert all(f.train_end + embargo <= f.test_start for f in folds)


def test_a_start_between_bars_begins_at_the_next() -> None:
    (fold,) = walk_forward(TIMES, at("2026-01-05 00:30"), at("2026-01-05 03:10"), DAY, HOUR)
    assert (fold.test_start, fold.test_end) == (at("2026-01-05 01:00"), at("2026-01-05 03:00"))


def test_refits_more_often_than_bars_are_one_a_bar() -> None:
    folds = walk_forward(TIMES, at("2026-01-05"), at("2026-01-05 02:00"), pd.Timedelta(minutes=20), HOUR)
    assert [f.test_start.hour for f in folds] == [0, 1, 2]


def test_a_period_without_bars_is_refused() -> None:
    with pytest.raises(ValueError, match="no decision time lies between"):
        walk_forward(TIMES, at("2027-01-01"), at("2027-02-01"), DAY, HOUR)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="start later"):
        walk_forward(TIMES, at("2026-01-01 10:00"), at("2026-01-02"), DAY, 24 * HOUR)


def test_equal_blocks_by_hand() -> None:
    blocks = equal_blocks(TIMES, at("2026-01-05"), at("2026-01-07 23:00"), 2, 4 * HOUR)
    assert blocks == (
        Fold(at("2026-01-04 20:00"), at("2026-01-05 00:00"), at("2026-01-06 11:00")),
        Fold(at("2026-01-06 08:00"), at("2026-01-06 12:00"), at("2026-01-07 23:00")),
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_equal_blocks_are_as_many_as_asked_for_and_differ_by_a_bar_at_most(count: int) -> None:
    start, end = at("2026-01-03 05:30"), at("2026-02-01")  # beyond the newest bar
    blocks = equal_blocks(TIMES, start, end, count, DAY)
    rows = [((start <= TIMES) & (b.test_start <= TIMES) & (b.test_end >= TIMES)).sum() for b in blocks]
    assert len(rows) == count
    assert sum(rows) == (start <= TIMES).sum()
    assert max(rows) - min(rows) <= 1


def test_blocks_in_which_no_loss_matures_are_refused() -> None:
    with pytest.raises(ValueError, match="give fewer blocks or a longer span"):
        equal_blocks(TIMES, at("2026-01-05"), at("2026-01-07 23:00"), 3, DAY)
