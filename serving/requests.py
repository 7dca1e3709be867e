"""What clients send: strict JSON types, no unknown fields, no number that is not finite."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from features.bars import BAR_COLUMNS, OPTIONAL_COLUMNS, BarError, check_bars
from serving.errors import InvalidInputError

Symbol = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:/-]+$")]
#: A JSON number; ``true`` and ``"1"`` are not, and neither is NaN, which Python's JSON reader would let
#: through.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
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


class MultipliersRequest(BaseModel):
    """``POST /v1/multipliers``: which answers; everything by default."""

    model_config = _FORBID

    symbols: list[Symbol] | None = Field(None, min_length=1, max_length=10_000)
    side: Literal["long", "short"] | None = None
    kind: Literal["initial", "maintenance"] | None = None


class ForecastRequest(BaseModel):
    """``POST /v1/forecast``: a forecast from these bars alone."""

    model_config = _FORBID

    bars: list[BarIn] = Field(min_length=1)


def bar_tables(bars: list[BarIn], interval: pd.Timedelta) -> dict[str, pd.DataFrame]:
    """The bars as one checked table a symbol (``features.bars.check_bars``), in order of first appearance.

    Raises ``InvalidInputError`` with the row (of the request, from 0), the field, the value and the rule.
    """
    columns: dict[str, list[object]] = {c: [getattr(b, c) for b in bars] for c in BAR_COLUMNS}
    table = pd.DataFrame(columns)
    # datetime.timezone.utc and +00:00 alike; nothing but UTC nanoseconds enters.
    table["open_time"] = pd.to_datetime(table["open_time"], utc=True).dt.as_unit("ns")
    places = pd.Series([b.symbol for b in bars])
    tables = {}
    for symbol, rows in table.groupby(places, sort=False):
        tables[str(symbol)] = _checked(str(symbol), rows, interval)
    return tables


def _checked(symbol: str, rows: pd.DataFrame, interval: pd.Timedelta) -> pd.DataFrame:
    given = [c for c in OPTIONAL_COLUMNS if rows[c].notna().any()]
    for column in given:
        if rows[column].isna().any():
            row = int(rows.index.to_numpy()[rows[column].isna().to_numpy().argmax()])
            raise InvalidInputError(
                f"row {row}: {column} of {symbol} is missing, and other bars of the symbol have it",
                "give a column for all bars of a symbol, or for none",
                field=f"bars.{row}.{column}",
                row=row,
            )
    kept = rows.drop(columns=[c for c in OPTIONAL_COLUMNS if c not in given])
    try:
        return check_bars(kept, interval, f"bars of {symbol}")
    except BarError as error:
        place = None if error.row is None else int(rows.index.to_numpy()[error.row])
        raise InvalidInputError(
            f"bars of {symbol}: {error.rule}" if place is None else f"row {place} ({symbol}): {error.rule}",
            error.remedy,
            field="bars" if place is None else f"bars.{place}.{error.column}",
            value=_value(error.value),
            row=place,
        ) from error


def _value(value: object) -> object:
    return value.isoformat() if isinstance(value, pd.Timestamp) else value


def refuse_repeated_symbols(symbols: list[str]) -> None:
    """Raise ``InvalidInputError`` where a list names a symbol twice."""
    twice = [s for s, n in Counter(symbols).items() if n > 1]
    if twice:
        raise InvalidInputError(
            f"symbol {twice[0]} is named twice", "name each symbol once", field="symbols", value=twice[0]
        )
