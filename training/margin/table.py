"""The margin table: what the engine's answers look like as rows, and its file.

Columns are ``MARGIN_COLUMNS``: ``series`` (which margin), ``mode`` (how alive the feed was), ``time``
(decision time, UTC), ``symbol``, ``side``, ``kind``, ``base_rate``, ``required_rate`` (what the rung asked
for) and ``served_rate`` (fractions of notional), ``multiplier`` (served over base), ``rung``, and ``rules``
(the names of the rules that moved the value, comma-separated, in their order).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.atomic import written_whole
from features.durations import parse_duration
from models.margin.types import MODES, RUNGS, VALUES
from training.margin.requirements import MARGIN_COLUMNS
from training.margin.served import NONE, MarginTableError, ServedMargin
from training.margin.simulation import Answered


def answered_table(series: str, times: pd.DatetimeIndex, answers: Sequence[Answered]) -> pd.DataFrame:
    """The margin table of what the engine answered, contract by contract, a row a decision and value.

    Args:
        series: what the margin is called.
        times: the grid that the answers' tapes lie on.
        answers: one a contract.
    """
    sides, kinds = (np.array(names, dtype=object) for names in zip(*VALUES, strict=True))
    parts = []
    for own in answers:
        rows, each = len(own.rung), len(VALUES)
        parts.append(
            pd.DataFrame(
                {
                    "series": series,
                    "mode": np.repeat(np.array(MODES, dtype=object)[own.mode], each),
                    "time": np.repeat(times[own.first : own.first + rows], each),
                    "symbol": own.symbol,
                    "side": np.tile(sides, rows),
                    "kind": np.tile(kinds, rows),
                    "base_rate": own.base.ravel(),
                    "required_rate": own.required.ravel(),
                    "served_rate": own.served.ravel(),
                    "multiplier": own.multiplier.ravel(),
                    "rung": np.repeat(np.array(RUNGS, dtype=object)[own.rung], each),
                    "rules": np.array(own.names, dtype=object)[own.rules.ravel()],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)[MARGIN_COLUMNS]


def served_margin(
    series: str,
    kind: str,
    times: pd.DatetimeIndex,
    answers: Sequence[Answered],
    losses: NDArray[np.float64],
    *,
    horizon: str,
    interval: pd.Timedelta,
) -> ServedMargin:
    """One kind of the engine's answers as ``training.margin.served`` has it, without a table between.

    ``losses`` are of shape (time, contract), the contracts' sides in the order of the answers.
    """
    values = [place for place, (_, own) in enumerate(VALUES) if own == kind]
    shape = (len(times), len(answers), len(values))
    rate, required, multiplier = (np.full(shape, np.nan) for _ in range(3))
    rung, mode = (np.full(shape, NONE, dtype=np.int8) for _ in range(2))
    for column, own in enumerate(answers):
        rows = slice(own.first, own.first + len(own.rung))
        rate[rows, column] = own.served[:, values]
        required[rows, column] = own.required[:, values]
        multiplier[rows, column] = own.multiplier[:, values]
        rung[rows, column] = own.rung[:, np.newaxis]
        mode[rows, column] = own.mode[:, np.newaxis]
    flat = (len(times), -1)
    contracts = tuple((own.symbol, VALUES[place][0]) for own in answers for place in values)
    laid_out = (rate.reshape(flat), required.reshape(flat), multiplier.reshape(flat))
    codes = (rung.reshape(flat), mode.reshape(flat))
    duration = parse_duration(horizon)
    return ServedMargin(series, kind, duration, interval, times, contracts, *laid_out, losses, *codes)


def write_margins(table: pd.DataFrame, path: Path) -> None:
    """Write a margin table as parquet, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as draft:
        table[MARGIN_COLUMNS].to_parquet(draft, index=False)


def read_margins(path: Path) -> pd.DataFrame:
    """Read what ``write_margins`` wrote. Raises ``MarginTableError`` where the file is no margin table."""
    if not path.is_file():
        raise MarginTableError(
            f"{path} is no file; write one with `python -m training margin --out-margin {path}`"
        )
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise MarginTableError(f"{path} cannot be read as parquet: {error}") from error
    lacking = [c for c in MARGIN_COLUMNS if c not in table.columns]
    if lacking:
        raise MarginTableError(f"{path} lacks columns {lacking} of a margin table")
    return table[MARGIN_COLUMNS]
