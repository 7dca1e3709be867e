"""Several bar tables of one symbol, which may overlap, as one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import BarError


def merge_bars(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Merge checked bar tables (see ``check_bars``), each under the name of its source, ordered by open time.

    A bar that occurs in several tables must be the same in all of them, to the bit. Raises ``BarError``
    naming both sources, time and column where two contradict each other, and where tables have different
    columns.
    """
    if not tables:
        raise ValueError("no bar tables given; give at least one")
    first, columns = next((name, list(table.columns)) for name, table in tables.items())
    for name, table in tables.items():
        if list(table.columns) != columns:
            raise BarError(
                name,
                f"its columns {list(table.columns)} are not those of {first}",
                "merge files of one kind: all with the taker columns, or none",
            )
    source = np.repeat(np.arange(len(tables)), [len(t) for t in tables.values()])
    every = pd.concat(tables.values(), ignore_index=True)
    order = every["open_time"].argsort(kind="stable").to_numpy()
    every, source = every.iloc[order].reset_index(drop=True), source[order]
    same_time = (every["open_time"].diff() == pd.Timedelta(0)).to_numpy()
    values = every[columns[1:]].to_numpy(dtype="float64")
    changed = np.zeros_like(values, dtype=bool)
    changed[1:] = values[1:] != values[:-1]
    contradicts = same_time[:, np.newaxis] & changed
    if contradicts.any():
        row, column = (int(i[0]) for i in np.nonzero(contradicts))
        names = list(tables)
        time = every["open_time"].iloc[row]
        raise BarError(
            names[source[row]],
            f"in the bar of {time:%Y-%m-%d %H:%M:%S} UTC it is {values[row - 1, column]} in "
            f"{names[source[row - 1]]}",
            "keep the file that is right",
            column=columns[1 + column],
            value=values[row, column],
            count=int(contradicts.any(axis=1).sum()),
        )
    return every[~same_time].reset_index(drop=True)
