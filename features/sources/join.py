"""Tables of ``features.columns`` alone, without prices, onto the grid of a market."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from features.bars import BarError, Market, check_extra_columns, check_open_time
from features.columns import EXTRA_COLUMNS
from features.durations import format_duration


def with_tables(
    market: Market, tables: Mapping[str, pd.DataFrame], files: Mapping[str, str] | None = None
) -> Market:
    """The market with the columns of the tables, by symbol, each with ``open_time`` of bars of the market's
    interval. NaN where a table has no row, and at a missing bar; rows outside the market's times and symbols
    are left out.

    Raises:
        BarError: naming the symbol, or its file where ``files`` tells it, where open times have no zone,
            occur twice or are not on the grid, for a column that is not one of ``features.columns``, and for
            a value outside its bounds.
        ValueError: where no table is of a symbol of the market.
    """
    if not set(tables) & set(market.symbols):
        raise ValueError(
            f"the tables are of {list(tables)[:5]} and the market of {list(market.symbols)[:5]}; "
            f"give tables of its symbols"
        )
    where = {s: s for s in tables} | dict(files or {})
    aligned = {s: _checked(t, market.interval, where[s]) for s, t in tables.items() if s in market.symbols}
    names = [c for c in EXTRA_COLUMNS if any(c in t for t in aligned.values())]
    columns = {}
    for name in names:
        known = {s: t[name].reindex(market.times) for s, t in aligned.items() if name in t}
        frame = pd.DataFrame(known, market.times, list(market.symbols), dtype="float64")
        columns[name] = frame.to_numpy()
    return market.with_columns(market.frames(columns))


def _checked(table: pd.DataFrame, interval: pd.Timedelta, where: str) -> pd.DataFrame:
    """Indexed by close time."""
    check_open_time(table, where)
    unknown = [c for c in table.columns if c != "open_time" and c not in EXTRA_COLUMNS]
    if unknown:
        raise BarError(
            where,
            f"columns {unknown} are not of features.columns",
            "leave them out; a table that has bars as well is a bar table, to be given as such",
        )
    try:
        table = table.astype(dict.fromkeys(table.columns.drop("open_time"), "float64"))
    except (TypeError, ValueError) as error:
        raise BarError(where, f"a column is not numeric ({error})", "give plain numbers") from error
    check_extra_columns(table, where)
    times = pd.DatetimeIndex(table["open_time"]).tz_convert("UTC").as_unit("ns")
    step = interval // pd.Timedelta(1, unit="ns")
    for broken, words, remedy in (
        (times.duplicated(), "open time occurs twice", "keep one row per open time"),
        (
            times.asi8 % step != 0,
            f"open time is not on the {format_duration(interval)} grid of the market",
            "make the columns at the interval of the bars",
        ),
    ):
        if broken.any():
            row = int(broken.argmax())
            raise BarError(
                where, words, remedy, row=row, column="open_time", value=times[row], count=int(broken.sum())
            )
    return table.drop(columns="open_time").set_index(times + interval)
