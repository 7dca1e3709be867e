"""The bar table (columns, units, checks) and ``Market``, one wide frame (time x symbol) per column.

A bar is what traded in one symbol in one interval. Bar tables carry ``open_time``; a ``Market`` is indexed by the
bar's *close* time, which is the decision time at which the bar is first known, so row ``t`` of any frame uses
nothing later than ``t``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.durations import format_duration

PRICE_COLUMNS = ("open", "high", "low", "close")
REQUIRED_COLUMNS = ("open_time", *PRICE_COLUMNS, "volume")
#: Present or absent as a whole per source; a feature that needs an absent column is absent, never zero.
OPTIONAL_COLUMNS = ("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")
BAR_COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
VALUE_COLUMNS = BAR_COLUMNS[1:]

# A mean price may leave [low, high] by the rounding of the published volumes, never by more.
_VWAP_TOLERANCE = 1e-5


class BarError(ValueError):
    """A bar table breaks a rule. ``where`` is the file or request, ``row`` the 0-based row (None: whole table)."""

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


Rule = tuple[str, Callable[[pd.DataFrame], "pd.Series[bool]"], str, str]


def _rules(interval: pd.Timedelta) -> list[Rule]:
    """Column to show, mask of the rows that break the rule, the rule in words, and the remedy."""
    step = interval.value

    def off_grid(bars: pd.DataFrame) -> pd.Series[bool]:
        nanoseconds = bars["open_time"].dt.as_unit("ns").astype("int64")
        return nanoseconds % step != 0

    def mean_price_outside(bars: pd.DataFrame) -> pd.Series[bool]:
        mean = bars["quote_volume"] / bars["volume"].where(bars["volume"] > 0)
        return (mean > bars["high"] * (1 + _VWAP_TOLERANCE)) | (mean < bars["low"] * (1 - _VWAP_TOLERANCE))

    rules: list[Rule] = [
        ("open_time", lambda b: b["open_time"].isna(), "open time is missing", "drop or repair the row"),
        (
            "open_time",
            off_grid,
            f"open time is not on the {format_duration(interval)} grid",
            "give the bar interval of this file, or rebuild the bars on the grid of whole intervals since 1970 UTC",
        ),
        (
            "open_time",
            lambda b: b["open_time"].diff() < pd.Timedelta(0),
            "open time is earlier than the row before",
            "sort the table by open_time",
        ),
        (
            "open_time",
            lambda b: b["open_time"].duplicated(),
            "open time occurs twice",
            "keep one bar per open time",
        ),
        *[
            (
                c,
                (lambda b, c=c: ~np.isfinite(b[c])),
                f"{c} is not finite",
                "drop the row: a missing bar stays missing",
            )
            for c in VALUE_COLUMNS
        ],
        *[
            (c, (lambda b, c=c: b[c] <= 0), f"{c} is not above 0", "drop or repair the row")
            for c in PRICE_COLUMNS
        ],
        (
            "high",
            lambda b: b["high"] < b[["open", "close", "low"]].max(axis=1),
            "high is below open, low or close",
            "repair the row from its source",
        ),
        (
            "low",
            lambda b: b["low"] > b[["open", "close", "high"]].min(axis=1),
            "low is above open, high or close",
            "repair the row from its source",
        ),
        *[
            (c, (lambda b, c=c: b[c] < 0), f"{c} is negative", "drop or repair the row")
            for c in VALUE_COLUMNS[4:]
        ],
        (
            "quote_volume",
            mean_price_outside,
            "quote_volume / volume lies outside [low, high]",
            "check that volume is in base and quote_volume in quote currency",
        ),
        (
            "taker_buy_volume",
            lambda b: b["taker_buy_volume"] > b["volume"],
            "taker_buy_volume is above volume",
            "repair the row from its source",
        ),
        (
            "taker_buy_quote_volume",
            lambda b: b["taker_buy_quote_volume"] > b["quote_volume"],
            "taker_buy_quote_volume is above quote_volume",
            "repair the row from its source",
        ),
    ]
    return rules


def check_bars(bars: pd.DataFrame, interval: pd.Timedelta, where: str) -> pd.DataFrame:
    """Return the table in canonical form (column order, UTC nanoseconds, float64), or raise ``BarError``.

    Args:
        bars: rows of one symbol, ``BAR_COLUMNS``; ``OPTIONAL_COLUMNS`` may be absent, other columns are refused.
        interval: the bar length; open times must be whole multiples of it since 1970 UTC.
        where: what to call the table in errors, the file name say.

    A missing bar is a missing row. NaN and infinity are refused, nothing is filled, sorted or dropped.
    """
    missing = [c for c in REQUIRED_COLUMNS if c not in bars.columns]
    if missing:
        raise BarError(
            where, f"columns {missing} are missing", f"a bar table has at least {list(REQUIRED_COLUMNS)}"
        )
    unknown = [c for c in bars.columns if c not in BAR_COLUMNS]
    if unknown:
        raise BarError(where, f"columns {unknown} are unknown", f"a bar table has only {list(BAR_COLUMNS)}")
    if bars.empty:
        raise BarError(where, "the table has no rows", "give at least one bar")
    if not isinstance(bars["open_time"].dtype, pd.DatetimeTZDtype):
        raise BarError(
            where,
            f"open_time has no time zone (it is {bars['open_time'].dtype})",
            "give UTC times: bars['open_time'].dt.tz_localize('UTC')",
        )
    table = bars[[c for c in BAR_COLUMNS if c in bars.columns]].reset_index(drop=True)
    table["open_time"] = table["open_time"].dt.tz_convert("UTC").dt.as_unit("ns")
    for column in table.columns[1:]:
        try:
            table[column] = table[column].astype("float64")
        except (TypeError, ValueError) as error:
            raise BarError(where, f"column {column} is not numeric", "give plain numbers") from error
    for column, broken, rule, remedy in _rules(interval):
        needed = [c for c in BAR_COLUMNS if c in rule.split()] or [column]
        if any(c not in table.columns for c in (column, *needed)):
            continue
        mask = broken(table).to_numpy()
        if mask.any():
            row = int(mask.argmax())
            raise BarError(
                where,
                rule,
                remedy,
                row=row,
                column=column,
                value=table[column].iloc[row],
                count=int(mask.sum()),
            )
    return table


@dataclass(frozen=True)
class Market:
    """Bars of several symbols on one regular grid: ``columns[name]`` is a wide float64 frame (time x symbol).

    The index is the close time (UTC, one row per interval without holes); a bar that is missing is NaN in every
    column. The first symbol is the leader (see ``features.spillover``). All symbols have the same columns.
    """

    interval: pd.Timedelta
    columns: Mapping[str, pd.DataFrame]

    @classmethod
    def from_bars(cls, bars: Mapping[str, pd.DataFrame], interval: pd.Timedelta) -> Market:
        """Align checked bar tables (see ``check_bars``) of each symbol. A column that one symbol lacks is left out."""
        if not bars:
            raise ValueError("no symbols given; a market has at least one")
        tables = {
            s: t.set_index(t["open_time"] + interval).drop(columns="open_time") for s, t in bars.items()
        }
        first = min(t.index[0] for t in tables.values())
        last = max(t.index[-1] for t in tables.values())
        grid = pd.date_range(first, last, freq=interval, name="time", unit="ns")
        shared = [c for c in VALUE_COLUMNS if all(c in t.columns for t in tables.values())]
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

    def _map(self, cut: Callable[[pd.DataFrame], pd.DataFrame]) -> Market:
        return Market(self.interval, {c: cut(f) for c, f in self.columns.items()})

    def until(self, time: pd.Timestamp) -> Market:
        """What was known at ``time``: bars that closed at or before it."""
        return self._map(lambda f: f.loc[:time])

    def since(self, time: pd.Timestamp) -> Market:
        """Bars that closed at or after ``time``."""
        return self._map(lambda f: f.loc[time:])

    def last(self, bars: int) -> Market:
        """The newest ``bars`` rows of the grid."""
        return self._map(lambda f: f.iloc[-bars:])

    def select(self, symbols: Sequence[str]) -> Market:
        """These symbols, in this order (the first becomes the leader)."""
        unknown = [s for s in symbols if s not in self.symbols]
        if unknown:
            raise ValueError(f"symbols {unknown} are not in the market; it has {list(self.symbols)}")
        return self._map(lambda f: f[list(symbols)])

    def log_returns(self) -> pd.DataFrame:
        """ln(close / close one bar before); NaN where either bar is missing."""
        return np.log(self.close).diff()
