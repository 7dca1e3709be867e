"""Walk-forward folds: train on the past, leave a gap, test on what follows, move on.

A model may see bars that closed by ``train_end``. Its ``Dataset`` ends there, so a label that reaches further
is unknown to it (purged). The embargo between ``train_end`` and the first test row is the largest horizon:
with it, no bar of a training label lies within a horizon of a test row's features.

An artifact serves with a calibration that has seen the days held out by its training. So that a backtest
judges the same, a calibrated model has one fold more, the warm-up, which moves its calibration and is not
tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

#: How long a calibration runs before the first test row: what training holds out, as shipped.
WARM_UP = pd.Timedelta(days=60)
#: With less history than this before it there is no warm-up: a model that knows nothing would mislead it.
WARM_UP_TRAINS_ON = pd.Timedelta(days=90)


@dataclass(frozen=True)
class Fold:
    """Bars up to ``train_end`` teach; decision times ``test_start`` to ``test_end``, both included, are
    tested."""

    train_end: pd.Timestamp
    test_start: pd.Timestamp
    test_end: pd.Timestamp


def walk_forward(
    times: pd.DatetimeIndex,
    start: pd.Timestamp,
    end: pd.Timestamp,
    refit_every: pd.Timedelta,
    embargo: pd.Timedelta,
) -> tuple[Fold, ...]:
    """Cover the decision times in [start, end] with folds of ``refit_every``, each trained up to ``embargo``
    before.

    Raises ``ValueError`` where no decision time lies in [start, end], or nothing lies before the first
    training end.
    """
    tested = times[(times >= start) & (times <= end)]
    if tested.empty:
        raise ValueError(
            f"no decision time lies between {start} and {end}; the bars have {times[0]} to {times[-1]}"
        )
    folds = []
    first = tested[0]
    while first <= tested[-1]:
        inside = tested[(tested >= first) & (tested < first + refit_every)]
        if inside.empty:  # a refit more often than there are bars: the next bar starts the next fold
            first = tested[tested >= first][0]
            continue
        folds.append(Fold(first - embargo, inside[0], inside[-1]))
        first = first + refit_every
    if folds[0].train_end < times[0]:
        raise ValueError(
            f"nothing lies before {folds[0].train_end} to train on; the bars begin at {times[0]}: start later"
        )
    return tuple(folds)


def warm_up(times: pd.DatetimeIndex, start: pd.Timestamp, embargo: pd.Timedelta) -> Fold | None:
    """The fold of the ``WARM_UP`` before ``start``, trained up to ``embargo`` before its first decision time;
    None where less than ``WARM_UP_TRAINS_ON`` of history lies before that."""
    before = times[(times >= start - WARM_UP) & (times < start)]
    if before.empty or before[0] - embargo - times[0] < WARM_UP_TRAINS_ON:
        return None
    return Fold(before[0] - embargo, before[0], before[-1])


def equal_blocks(
    times: pd.DatetimeIndex, start: pd.Timestamp, end: pd.Timestamp, count: int, embargo: pd.Timedelta
) -> tuple[Fold, ...]:
    """Cut the decision times in [start, end] into ``count`` consecutive folds of equal length, to a bar, each
    trained up to ``embargo`` before. ``times`` are a regular grid.

    Raises ``ValueError`` where a block would be no longer than the embargo, so that hardly a loss over the
    largest horizon matures within it, and as ``walk_forward`` does.
    """
    tested = int(((times >= start) & (times <= end)).sum())
    length = tested * (times[1] - times[0]) / count
    if tested > 0 and length <= embargo:
        raise ValueError(
            f"{count} blocks from {start} to {end} are {length} long each, and a loss takes up to "
            f"{embargo} to mature; give fewer blocks or a longer span"
        )
    return walk_forward(times, start, end, length, embargo)
