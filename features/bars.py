"""The bar table (columns, units, checks) and ``Market``, one wide frame (time x symbol) per column.

A bar is what traded in one symbol in one interval. Bar tables carry ``open_time``; a ``Market`` is indexed by
the bar's *close* time, which is the decision time at which the bar is first known, so row ``t`` of any frame
uses nothing later than ``t``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.columns import EXTRA_COLUMNS, Column
from features.durations import format_duration
from features.resample import RESOLUTIONS, beneath, fine_bars, merged

PRICE_COLUMNS = ("open", "high", "low", "close")
REQUIRED_COLUMNS = ("open_time", *PRICE_COLUMNS, "volume")
#: Present or absent as a whole per source; a feature that needs an absent column is absent, never zero.
OPTIONAL_COLUMNS = ("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")
BAR_COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
VALUE_COLUMNS = BAR_COLUMNS[1:]

# A mean price may leave [low, high] by the rounding of the published volumes, never by more.
_VWAP_TOLERANCE = 1e-5


class BarError(ValueError):
    """A bar table breaks a rule. ``where`` is the file or request, ``row`` the 0-based row (None: whole
    table)."""

    def __init__(
        self,
        where: str,
        rule: str,
        remedy: str,
        *,
        row: int | None = None,
        column: str | None = None,
        value: object = None,
        count: int = 1,
    ) -> None:
        self.where, self.rule, self.remedy = where, rule, remedy
        self.row, self.column, self.value, self.count = row, column, value, count
        place = where if row is None else f"{where}, row {row}"
        what = f": {column} = {value}" if column is not None else ""
        more = f" ({count} rows break this rule)" if count > 1 else ""
        super().__init__(f"{place}{what}: {rule}{more}; {remedy}")


@dataclass(frozen=True)
class Rule:
    """What a bar must hold: ``broken`` marks the rows that do not. Skipped where a column of ``reads`` is
    absent; the first of ``reads`` is the one whose value the error shows."""

    reads: tuple[str, ...]
    broken: Callable[[pd.DataFrame], pd.Series[bool]]
    words: str
    remedy: str


_REPAIR = "repair the row from its source, or leave it out"


def _time_rules(interval: pd.Timedelta) -> list[Rule]:
    step_ns = interval // pd.Timedelta(1, unit="ns")

    def off_grid(bars: pd.DataFrame) -> pd.Series[bool]:
        return bars["open_time"].astype("int64") % step_ns != 0

    return [
        Rule(("open_time",), lambda b: b["open_time"].isna(), "open time is missing", _REPAIR),
        Rule(
            ("open_time",),
            off_grid,
            f"open time is not on the {format_duration(interval)} grid",
            "give this file's own bar interval, or rebuild its bars on whole intervals since 1970 UTC",
        ),
        Rule(
            ("open_time",),
            lambda b: b["open_time"].diff() < pd.Timedelta(0),
            "open time is earlier than the row before",
            "sort the table by open_time",
        ),
        Rule(
            ("open_time",),
            lambda b: b["open_time"].duplicated(),
            "open time occurs twice",
            "keep one bar per open time",
        ),
    ]


def _not_finite(column: str) -> Rule:
    return Rule(
        (column,),
        lambda b: ~np.isfinite(b[column]),
        f"{column} is not finite",
        "drop the row: a missing bar stays missing",
    )


def _not_positive(column: str) -> Rule:
    return Rule((column,), lambda b: b[column] <= 0, f"{column} is not above 0", _REPAIR)


def _negative(column: str) -> Rule:
    return Rule((column,), lambda b: b[column] < 0, f"{column} is negative", _REPAIR)


def _above(part: str, whole: str) -> Rule:
    return Rule((part, whole), lambda b: b[part] > b[whole], f"{part} is above {whole}", _REPAIR)


def _only_one_is_zero(column: str) -> Rule:
    """Something traded or nothing did: ``column`` and ``volume`` are zero together or not at all."""
    return Rule(
        (column, "volume"),
        lambda b: (b[column] == 0) != (b["volume"] == 0),
        f"only one of {column} and volume is 0",
        _REPAIR,
    )


def _mean_price_outside(bars: pd.DataFrame) -> pd.Series[bool]:
    mean = bars["quote_volume"] / bars["volume"].where(bars["volume"] > 0)
    return (mean > bars["high"] * (1 + _VWAP_TOLERANCE)) | (mean < bars["low"] * (1 - _VWAP_TOLERANCE))


_VALUE_RULES = [
    *(_not_finite(c) for c in VALUE_COLUMNS),
    *(_not_positive(c) for c in PRICE_COLUMNS),
    Rule(
        ("high", "open", "low", "close"),
        lambda b: b["high"] < b[["open", "low", "close"]].max(axis=1),
        "high is below open, low or close",
        _REPAIR,
    ),
    Rule(
        ("low", "open", "close"),
        lambda b: b["low"] > b[["open", "close"]].min(axis=1),
        "low is above open or close",
        _REPAIR,
    ),
    *(_negative(c) for c in ("volume", *OPTIONAL_COLUMNS)),
    _only_one_is_zero("quote_volume"),
    _only_one_is_zero("trades"),
    Rule(
        ("volume", "high", "low"),
        lambda b: (b["volume"] == 0) & (b["high"] > b["low"]),
        "volume is 0 although high is above low",
        _REPAIR,
    ),
    Rule(
        ("quote_volume", "volume", "high", "low"),
        _mean_price_outside,
        "quote_volume / volume lies outside [low, high]",
        "check that volume is in base and quote_volume in quote currency",
    ),
    _above("taker_buy_volume", "volume"),
    _above("taker_buy_quote_volume", "quote_volume"),
]


def _out_of_range(column: Column) -> Rule:
    """Of a column beyond the bar contract, which may be NaN but not infinite."""
    low = -np.inf if column.low is None else column.low
    high = np.inf if column.high is None else column.high
    bounds = f"[{low:g}, {high:g}]"
    return Rule(
        (column.name,),
        lambda b: (b[column.name] < low) | (b[column.name] > high) | np.isinf(b[column.name]),
        f"{column.name} is not a number in {bounds}",
        "repair the row from its source, or leave the value out (NaN)",
    )


def check_open_time(bars: pd.DataFrame, where: str) -> None:
    """Raise ``BarError`` unless the table has a column ``open_time`` of times with a time zone."""
    if "open_time" not in bars.columns:
        raise BarError(
            where, "column open_time is missing", f"a bar table has at least {list(REQUIRED_COLUMNS)}"
        )
    if not isinstance(bars["open_time"].dtype, pd.DatetimeTZDtype):
        raise BarError(
            where,
            f"open_time has no time zone (it is {bars['open_time'].dtype})",
            "give UTC times: bars['open_time'].dt.tz_localize('UTC')",
        )


def check_extra_columns(table: pd.DataFrame, where: str) -> None:
    """Raise ``BarError`` where a column of ``features.columns`` has a value outside its bounds; NaN has
    none."""
    refuse_broken(table, [_out_of_range(EXTRA_COLUMNS[c]) for c in table if c in EXTRA_COLUMNS], where)


def refuse_broken(table: pd.DataFrame, rules: Sequence[Rule], where: str) -> None:
    """Raise ``BarError`` for the first rule that a row breaks."""
    for rule in rules:
        if not set(rule.reads) <= set(table.columns):
            continue
        mask = rule.broken(table).to_numpy()
        if mask.any():
            row, shown = int(mask.argmax()), rule.reads[0]
            raise BarError(
                where,
                rule.words,
                rule.remedy,
                row=row,
                column=shown,
                value=table[shown].iloc[row],
                count=int(mask.sum()),
            )


def check_bars(bars: pd.DataFrame, interval: pd.Timedelta, where: str) -> pd.DataFrame:
    """Return the table in canonical form (column order, UTC nanoseconds, float64), or raise ``BarError``.

    Args:
        bars: rows of one symbol, ``BAR_COLUMNS``; ``OPTIONAL_COLUMNS`` may be absent, those of
        ``features.columns`` may be there, other columns are refused.
        interval: the bar length; open times must be whole multiples of it since 1970 UTC.
        where: what to call the table in errors, the file name say.

    A missing bar is a missing row. NaN and infinity are refused, nothing is filled, sorted or dropped; NaN in
    a column of ``features.columns`` says that it could not be computed.
    """
    check_open_time(bars, where)
    missing = [c for c in REQUIRED_COLUMNS if c not in bars.columns]
    if missing:
        raise BarError(
            where, f"columns {missing} are missing", f"a bar table has at least {list(REQUIRED_COLUMNS)}"
        )
    unknown = [c for c in bars.columns if c not in BAR_COLUMNS and c not in EXTRA_COLUMNS]
    if unknown:
        raise BarError(
            where,
            f"columns {unknown} are unknown",
            f"a bar table has only {list(BAR_COLUMNS)} and the columns of features.columns",
        )
    if bars.empty:
        raise BarError(where, "the table has no rows", "give at least one bar")
    table = bars[[c for c in (*BAR_COLUMNS, *EXTRA_COLUMNS) if c in bars.columns]].reset_index(drop=True)
    table["open_time"] = table["open_time"].dt.tz_convert("UTC").dt.as_unit("ns")
    for column in table.columns[1:]:
        try:
            table[column] = table[column].astype("float64")
        except (TypeError, ValueError) as error:
            raise BarError(where, f"column {column} is not numeric", "give plain numbers") from error
    refuse_broken(table, [*_time_rules(interval), *_VALUE_RULES], where)
    check_extra_columns(table, where)
    return table


@dataclass(frozen=True)
class Market:
    """Bars of several symbols on one regular grid: ``columns[name]`` is a wide float64 frame (time x symbol).

    The index is the close time (UTC, one row per interval without holes); a bar that is missing is NaN in
    every column. The first symbol is the leader (see ``features.spillover``). All symbols have the same
    columns.

    ``finer`` holds the same history of the same symbols on finer grids, by their intervals: each has exactly
    ``interval / finer interval`` rows for every row here, the last of which closes with it. Every cut keeps
    them beneath what is cut.
    """

    interval: pd.Timedelta
    columns: Mapping[str, pd.DataFrame]
    finer: Mapping[pd.Timedelta, Market] = field(default_factory=dict)

    @classmethod
    def from_bars(cls, bars: Mapping[str, pd.DataFrame], interval: pd.Timedelta) -> Market:
        """Align checked bar tables (see ``check_bars``) of each symbol. A column that one symbol lacks is
        left out."""
        if not bars:
            raise ValueError("no symbols given; a market has at least one")
        tables = {
            s: t.set_index(t["open_time"] + interval).drop(columns="open_time") for s, t in bars.items()
        }
        first = min(t.index[0] for t in tables.values())
        last = max(t.index[-1] for t in tables.values())
        grid = pd.date_range(first, last, freq=interval, name="time", unit="ns")
        shared = [c for c in (*VALUE_COLUMNS, *EXTRA_COLUMNS) if all(c in t for t in tables.values())]
        return cls(
            interval,
            {c: pd.DataFrame({s: t[c].reindex(grid) for s, t in tables.items()}, index=grid) for c in shared},
        )

    def __getitem__(self, column: str) -> pd.DataFrame:
        return self.columns[column]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    @property
    def close(self) -> pd.DataFrame:
        return self.columns["close"]

    @property
    def times(self) -> pd.DatetimeIndex:
        """Close times, which are the decision times."""
        index = self.close.index
        assert isinstance(index, pd.DatetimeIndex)
        return index

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(str(s) for s in self.close.columns)

    def _rows(self, first: int, last: int) -> Market:
        """The rows first <= row < last, and the finer ones beneath them."""
        columns = {c: f.iloc[first:last] for c, f in self.columns.items()}
        finer = {
            interval: fine._rows(first * (k := fine_bars(self.interval, interval)), last * k)
            for interval, fine in self.finer.items()
        }
        return Market(self.interval, columns, finer)

    def with_finer(self, fine: Market) -> Market:
        """This history with finer bars of it beneath: those given, and coarser ones of ``RESOLUTIONS`` made
        of them where they fit in. A symbol without finer bars has NaN there, and symbols beyond these are
        left out.

        Raises ``ValueError`` where the finer interval does not divide this one, or no symbol is in both.
        """
        fine_bars(self.interval, fine.interval)
        if not set(self.symbols) & set(fine.symbols):
            raise ValueError(
                f"the finer bars are of {list(fine.symbols)[:5]} and the market of {list(self.symbols)[:5]}; "
                f"give finer bars of the same symbols"
            )
        given = {c: f.reindex(columns=list(self.symbols)) for c, f in fine.columns.items()}
        columns = beneath(given, fine.interval, self.times, self.interval)
        finer = {**self.finer, fine.interval: Market(fine.interval, columns)}
        for between in RESOLUTIONS:
            if (
                fine.interval < between < self.interval
                and between not in self.finer
                and between % fine.interval == self.interval % between == pd.Timedelta(0)
            ):
                finer[between] = Market(between, merged(columns, fine.interval, between))
        return replace(self, finer=finer)

    def with_columns(self, columns: Mapping[str, pd.DataFrame]) -> Market:
        """This history with more columns on its grid. Raises ``ValueError`` where one has other times or
        symbols."""
        for name, frame in columns.items():
            if not (frame.index.equals(self.times) and tuple(frame.columns) == self.symbols):
                raise ValueError(f"column {name} has other times or symbols than the market; align it first")
        return replace(self, columns={**self.columns, **columns})

    def frames(self, values: Mapping[str, NDArray[np.float64]]) -> dict[str, pd.DataFrame]:
        """Arrays (time, symbol) as wide frames; the rows of a missing bar become NaN."""
        here = self.close.notna().to_numpy()
        return {
            name: pd.DataFrame(
                np.where(here, array, np.nan), index=self.close.index, columns=self.close.columns
            )
            for name, array in values.items()
        }

    def bars(self, symbol: str) -> pd.DataFrame:
        """The bar table of one symbol: the rows that are not missing, with ``open_time`` as its first
        column."""
        table = pd.DataFrame({c: f[symbol] for c, f in self.columns.items()}).dropna(how="all")
        times = pd.DatetimeIndex(table.index)
        table.insert(0, "open_time", times - self.interval)
        return table.reset_index(drop=True)

    def until(self, time: pd.Timestamp) -> Market:
        """What was known at ``time``: bars that closed at or before it."""
        return self._rows(0, int(self.times.searchsorted(time, side="right")))

    def since(self, time: pd.Timestamp) -> Market:
        """Bars that closed at or after ``time``."""
        return self._rows(int(self.times.searchsorted(time, side="left")), len(self.times))

    def last(self, bars: int) -> Market:
        """The newest ``bars`` rows of the grid."""
        return self._rows(max(0, len(self.times) - bars), len(self.times))

    def select(self, symbols: Sequence[str]) -> Market:
        """These symbols, in this order (the first becomes the leader)."""
        unknown = [s for s in symbols if s not in self.symbols]
        if unknown:
            raise ValueError(f"symbols {unknown} are not in the market; it has {list(self.symbols)}")
        columns = {c: f[list(symbols)] for c, f in self.columns.items()}
        return Market(self.interval, columns, {i: fine.select(symbols) for i, fine in self.finer.items()})

    def reading(self, columns: Sequence[str]) -> Market:
        """Only these columns, and nothing finer."""
        return Market(self.interval, {c: self.columns[c] for c in columns})

    def log_returns(self) -> pd.DataFrame:
        """ln(close / close one bar before); NaN where either bar is missing."""
        log_close = pd.DataFrame(np.log(self.close.to_numpy()), self.close.index, self.close.columns)
        return log_close.diff()
