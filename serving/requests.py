"""What clients send: strict JSON types, no unknown fields, no number that is not finite."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, StringConstraints

from features.bars import OPTIONAL_COLUMNS, VALUE_COLUMNS, BarError, check_bars
from features.durations import format_duration
from serving.errors import InvalidInputError
from serving.store.bars import SymbolBars

Symbol = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:/-]+$")]
#: A JSON number; ``true`` and ``"1"`` are not, and neither is NaN, which Python's JSON reader would let
#: through.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_OPTIONAL = [VALUE_COLUMNS.index(c) for c in OPTIONAL_COLUMNS]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Nanoseconds since 1970, in which pandas counts, end in 2262.
_LATEST_US = (datetime(2200, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_FORBID = ConfigDict(extra="forbid", frozen=True)


class BarIn(BaseModel):
    """One bar. Prices in quote currency, volumes in base (``quote_*``: in quote) currency, ``trades`` a
    count. The last four are given or left out together, for all bars of a symbol."""

    model_config = _FORBID

    symbol: Symbol
    open_time: Annotated[AwareDatetime, Field(strict=True)] = Field(
        description="when the bar opens: ISO 8601 with its time zone, 2025-01-01T00:00:00Z say"
    )
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    quote_volume: Number | None = None
    trades: Number | None = None
    taker_buy_volume: Number | None = None
    taker_buy_quote_volume: Number | None = None


class BarsRequest(BaseModel):
    """``POST /v1/bars``: new bars, those of a symbol in order of time; all of a close in one request, so that
    they are decided on together."""

    model_config = _FORBID

    bars: list[BarIn] = Field(min_length=1)
    source: Symbol | None = Field(None, description="which feed they come from; default: the one decided on")
    interval: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        None,
        description="their length, 15m say: that of the decisions (the default), or the server's finer one",
    )


class MultipliersRequest(BaseModel):
    """``POST /v1/multipliers``: which answers; everything by default."""

    model_config = _FORBID

    symbols: list[Symbol] | None = Field(None, min_length=1, max_length=10_000)
    side: Literal["long", "short"] | None = None
    kind: Literal["initial", "maintenance"] | None = None


class PositionsRequest(BaseModel):
    """``POST /v1/positions``: what is open in one contract, in place of what was told before. A bin is
    ``[equity_ratio, notional]``: equity over notional, and the notional of all positions that have it."""

    model_config = _FORBID

    symbol: Symbol
    long: Annotated[list[tuple[Number, Number]], FailFast()]
    short: Annotated[list[tuple[Number, Number]], FailFast()]


class ForecastRequest(BaseModel):
    """``POST /v1/forecast``: a forecast from these bars alone."""

    model_config = _FORBID

    bars: list[BarIn] = Field(min_length=1)


def checked_bars(bars: list[BarIn], interval: pd.Timedelta) -> dict[str, SymbolBars]:
    """The bars by symbol, in order of first appearance, checked by the rules of ``features.bars``.

    Raises ``InvalidInputError`` with the row (of the request, from 0), the field, the value and the rule.
    """
    interval_s = int(interval.total_seconds())
    values = np.array([[getattr(b, c) for c in VALUE_COLUMNS] for b in bars], dtype="float64")
    opened_us = np.array([_microseconds(b.open_time) for b in bars], dtype="int64")
    rows_of: dict[str, list[int]] = {}
    for row, bar in enumerate(bars):
        rows_of.setdefault(bar.symbol, []).append(row)
    _refuse_times(bars, opened_us, rows_of, interval)
    given = ~np.isnan(values[:, _OPTIONAL])
    for symbol, rows in rows_of.items():
        _refuse_holes(symbol, rows, given)
    for columns in np.unique(given, axis=0):
        _check_values(bars, values, np.flatnonzero((given == columns).all(axis=1)), columns, interval)
    return {
        symbol: SymbolBars(opened_us[rows] // 10**6 + interval_s, values[rows])
        for symbol, rows in rows_of.items()
    }


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _refuse_times(
    bars: list[BarIn], opened_us: NDArray[np.int64], rows_of: dict[str, list[int]], interval: pd.Timedelta
) -> None:
    """Open times lie on the grid, and ascend within each symbol."""
    step_us = interval // pd.Timedelta(1, unit="us")
    strange = np.flatnonzero((opened_us < 0) | (opened_us >= _LATEST_US))
    if len(strange):
        raise _bad_time(
            bars, int(strange[0]), "open time is not within 1970 to 2200", "correct the year, and send UTC"
        )
    off = np.flatnonzero(opened_us % step_us)
    if len(off):
        raise _bad_time(
            bars,
            int(off[0]),
            f"open time is not on the {format_duration(interval)} grid",
            "send bars of this length",
        )
    for rows in rows_of.values():
        ahead = np.diff(opened_us[rows])
        if (ahead <= 0).any():
            at = int(np.argmax(ahead <= 0))
            twice = ahead[at] == 0
            raise _bad_time(
                bars,
                rows[at + 1],
                "open time occurs twice" if twice else "open time is earlier than the symbol's row before",
                "send one bar per open time" if twice else "send the bars of a symbol in order of time",
            )


def _bad_time(bars: list[BarIn], row: int, rule: str, remedy: str) -> InvalidInputError:
    return InvalidInputError(
        f"row {row} ({bars[row].symbol}): {rule}",
        remedy,
        field=f"bars.{row}.open_time",
        value=bars[row].open_time.isoformat(),
        row=row,
    )


def _refuse_holes(symbol: str, rows: list[int], given: NDArray[np.bool_]) -> None:
    """A column of a source is there for all bars of a symbol, or for none."""
    own = given[rows]
    broken = own.any(axis=0) & ~own.all(axis=0)
    if broken.any():
        column = int(np.argmax(broken))
        row = rows[int(np.argmin(own[:, column]))]
        name = OPTIONAL_COLUMNS[column]
        raise InvalidInputError(
            f"row {row}: {name} of {symbol} is missing, and other bars of the symbol have it",
            "give a column for all bars of a symbol, or for none",
            field=f"bars.{row}.{name}",
            row=row,
        )


def _check_values(
    bars: list[BarIn],
    values: NDArray[np.float64],
    rows: NDArray[np.intp],
    given: NDArray[np.bool_],
    interval: pd.Timedelta,
) -> None:
    """The rules on values, of all symbols in one pass: they look at one row each, so the rows get times of
    their own that break no rule."""
    columns = [c for c in VALUE_COLUMNS if c not in OPTIONAL_COLUMNS or given[OPTIONAL_COLUMNS.index(c)]]
    table = pd.DataFrame(values[rows][:, [VALUE_COLUMNS.index(c) for c in columns]], columns=columns)
    table.insert(
        0, "open_time", pd.date_range("1970-01-01", periods=len(rows), freq=interval, tz="UTC", unit="ns")
    )
    try:
        check_bars(table, interval, "bars")
    except BarError as error:
        assert error.row is not None
        row = int(rows[error.row])
        raise InvalidInputError(
            f"row {row} ({bars[row].symbol}): {error.rule}",
            error.remedy,
            field=f"bars.{row}.{error.column}",
            value=error.value,
            row=row,
        ) from error


def refuse_repeated_symbols(symbols: list[str]) -> None:
    """Raise ``InvalidInputError`` where a list names a symbol twice."""
    twice = [s for s, n in Counter(symbols).items() if n > 1]
    if twice:
        raise InvalidInputError(
            f"symbol {twice[0]} is named twice", "name each symbol once", field="symbols", value=twice[0]
        )
