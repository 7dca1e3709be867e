"""Times of trades that come as whole numbers or as Arrow timestamps, in nanoseconds since 1970 UTC.

The magnitude of a number tells its unit, for only one of s, ms, us and ns puts it between 2009 and 2100. A
number that contradicts the stated unit, or the unit of the rows before it, is refused.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from features.trades.arrays import Whole
from features.trades.checks import EARLIEST_NS, LATEST_NS, TradeError

TimeUnit = Literal["s", "ms", "us", "ns"]
UNITS: dict[TimeUnit, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_UTC = {"UTC", "Etc/UTC", "+00:00", "Z"}


class FileTimes:
    """The times of one file, in pieces; ``unit`` None: the first one tells it."""

    def __init__(self, where: str, column: str, unit: TimeUnit | None = None) -> None:
        self._where, self._column, self._stated, self._unit = where, column, unit, unit

    def nanoseconds(self, numbers: Whole, first_row: int) -> Whole:
        """Raises ``TradeError`` naming the row that is in no unit or in another one."""
        if len(numbers) == 0:
            return numbers
        if self._unit is None:
            self._unit = unit_of(int(numbers[0]))
        scale = UNITS[self._unit] if self._unit else 0
        outside = (
            (numbers < EARLIEST_NS // scale) | (numbers >= LATEST_NS // scale)
            if scale
            else np.ones(len(numbers), dtype=bool)
        )
        if outside.any():
            row = int(outside.argmax())
            found = unit_of(int(numbers[row]))
            if found is None:
                rule = "not a time from 2009 to 2100 in s, ms, us or ns since 1970"
            elif self._stated is not None:
                rule = f"a time in {found}, and the unit is stated to be {self._stated}"
            else:
                rule = f"a time in {found}, and the rows before it are in {self._unit}"
            raise TradeError(
                self._where,
                rule,
                "give the file as it was published, in one unit of time",
                row=first_row + row,
                column=self._column,
                value=int(numbers[row]),
                count=int(outside.sum()),
            )
        return numbers * scale


def unit_of(number: int) -> TimeUnit | None:
    """The unit in which the number is a time from 2009 to 2100; None where there is none."""
    return next((u for u, scale in UNITS.items() if EARLIEST_NS <= number * scale < LATEST_NS), None)


def check_time_type(kind: pa.DataType, where: str, column: str) -> None:
    """Raise ``TradeError`` unless the type of a column is whole numbers, or timestamps in UTC."""
    if pa.types.is_integer(kind):
        return
    if not pa.types.is_timestamp(kind):
        raise TradeError(
            where,
            f"column {column} is {kind}, not a time",
            "give timestamps in UTC, or whole numbers since 1970 in one unit",
        )
    if kind.tz is None:
        raise TradeError(
            where,
            f"column {column} has no time zone",
            "give UTC times: trades['timestamp'].dt.tz_localize('UTC'), if that is what they are",
        )
    if kind.tz not in _UTC:
        raise TradeError(
            where,
            f"column {column} is in the time zone {kind.tz}, not in UTC",
            "convert it: trades['timestamp'].dt.tz_convert('UTC')",
        )


def timestamp_nanoseconds(column: pa.ChunkedArray | pa.Array, where: str, name: str, first_row: int) -> Whole:
    """Arrow timestamps as nanoseconds. Raises ``TradeError`` where one lies outside 2009 to 2100, as a feed
    in another unit does."""
    unit: TimeUnit = column.type.unit
    numbers: Whole = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    scale = UNITS[unit]
    outside = (numbers < EARLIEST_NS // scale) | (numbers >= LATEST_NS // scale)
    if outside.any():
        row = int(outside.argmax())
        raise TradeError(
            where,
            "it lies outside 2009 to 2100: the numbers behind it are in another unit than the type says",
            "write the file again with times in their own unit",
            row=first_row + row,
            column=name,
            value=pd.Timestamp(int(numbers[row]), unit=unit)
            if abs(int(numbers[row])) * scale < 2**62
            else int(numbers[row]),
            count=int(outside.sum()),
        )
    return numbers * scale
