"""The bar interval that tables show by the steps between their open times."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from features.bars import BarError
from features.durations import format_duration


def common_interval(tables: Mapping[str, pd.DataFrame], given: pd.Timedelta | None) -> pd.Timedelta:
    """The smallest step between open times, which must be the same in all tables and equal to ``given``.

    A table of one bar has no step and agrees with any. Raises ``BarError``, naming the source under which the
    table is given, where steps differ, and where nothing tells the interval.
    """
    steps = {where: table["open_time"].diff().abs() for where, table in tables.items()}
    smallest = {where: d[d > pd.Timedelta(0)].min() for where, d in steps.items()}
    found = {where: step for where, step in smallest.items() if not pd.isna(step)}
    if given is None and not found:
        raise BarError(next(iter(tables)), "one bar does not tell the bar interval", "give the interval")
    expected = given or min(found.values())
    for where, step in found.items():
        if step != expected:
            raise BarError(
                where,
                f"the smallest step between bars is {format_duration(step)}, not {format_duration(expected)}",
                "keep bars of one interval together, and give that interval",
            )
    return expected
