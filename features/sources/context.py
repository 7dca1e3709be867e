"""Series from elsewhere as parquet files: funding, an implied-volatility index, open interest, liquidations.

Times in UTC, in order of time for each symbol. When each is known, and how it is joined onto bars:
``features.sources.as_of``.

- funding: ``symbol, funding_time, funding_rate, funding_interval_hours``; the rate is a fraction of the
  notional for one interval;
- index: ``open_time, open, high, low, close`` in bars of one hour, annualised, in percent points as Deribit
  publishes DVOL;
- open interest: ``symbol, time, open_interest``, in any unit that stays the same for a symbol;
- liquidations: ``symbol, time, side, size, price``, the side being that of the forced order: ``sell`` closes
  a long. Several at one time are several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from features.bars import BarError, Rule, refuse_broken
from features.durations import format_duration

#: Bars of the index.
INDEX_INTERVAL = pd.Timedelta(hours=1)

#: No venue takes a tenth of the notional for one interval; percent taken for fractions soon exceed it.
LARGEST_FUNDING = 0.1
#: An index outside, in percent points, is in another unit.
INDEX_BOUNDS = (2.0, 1000.0)

_FIRST, _LAST = pd.Timestamp("2009-01-01", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC")
_REPAIR = "repair the row from its source, or leave it out"


@dataclass(frozen=True)
class Context:
    """Checked tables, see the module; None is absent."""

    funding: pd.DataFrame | None = None
    index: pd.DataFrame | None = None
    open_interest: pd.DataFrame | None = None
    liquidations: pd.DataFrame | None = None


def read_context(
    funding: Path | None = None,
    index: Path | None = None,
    open_interest: Path | None = None,
    liquidations: Path | None = None,
) -> Context:
    """Read and check the files given. Raises ``BarError`` with file, row, column, value, rule and remedy."""

    def read(path: Path | None, check: Callable[[pd.DataFrame, str], pd.DataFrame]) -> pd.DataFrame | None:
        return None if path is None else check(_read(path), str(path))

    return Context(
        read(funding, check_funding),
        read(index, check_index),
        read(open_interest, check_open_interest),
        read(liquidations, check_liquidations),
    )


def check_funding(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table in its columns' order, or ``BarError``."""
    rate, hours = "funding_rate", "funding_interval_hours"
    rules = [
        _not_finite(rate),
        Rule(
            (rate,),
            lambda t: t[rate].abs() > LARGEST_FUNDING,
            f"{rate} is beyond +-{LARGEST_FUNDING:g}",
            "give the fraction of the notional for one interval, not percent",
        ),
        _not_finite(hours),
        Rule(
            (hours,),
            lambda t: (t[hours] <= 0) | (t[hours] > 24),
            f"{hours} is not above 0 and at most 24",
            "give the hours between two payments",
        ),
    ]
    return _checked(table, where, "funding_time", ("symbol",), (rate, hours), rules)


def check_index(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table in its columns' order, or ``BarError``."""
    prices, (low, high) = ("open", "high", "low", "close"), INDEX_BOUNDS
    step = INDEX_INTERVAL // pd.Timedelta(1, unit="ns")
    rules = [
        Rule(
            ("open_time",),
            lambda t: t["open_time"].astype("int64") % step != 0,
            f"open_time is not on the {format_duration(INDEX_INTERVAL)} grid",
            "give the index in bars of one hour",
        ),
        *(_not_finite(c) for c in prices),
        *(
            Rule(
                (c,),
                lambda t, c=c: (t[c] < low) | (t[c] > high),  # type: ignore[misc]
                f"{c} is not within {low:g} and {high:g}",
                "give annualised volatility in percent points: 55 for 55 %",
            )
            for c in prices
        ),
        Rule(
            ("high",),
            lambda t: t["high"] < t[list(prices)].max(axis=1),
            "high is below open, low or close",
            _REPAIR,
        ),
        Rule(
            ("low",), lambda t: t["low"] > t[list(prices)].min(axis=1), "low is above open or close", _REPAIR
        ),
    ]
    return _checked(table, where, "open_time", (), prices, rules)


def check_open_interest(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table in its columns' order, or ``BarError``."""
    name = "open_interest"
    negative = Rule((name,), lambda t: t[name] < 0, f"{name} is negative", _REPAIR)
    return _checked(table, where, "time", ("symbol",), (name,), [_not_finite(name), negative])


def check_liquidations(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table in its columns' order, or ``BarError``. Several at one time are several liquidations."""
    rules = [
        Rule(
            ("side",),
            lambda t: ~t["side"].isin(["buy", "sell"]),
            "side is neither buy nor sell",
            "give the side of the forced order: sell closes a long",
        )
    ]
    for name in ("size", "price"):
        rules.append(_not_finite(name))
        rules.append(
            Rule((name,), lambda t, name=name: t[name] <= 0, f"{name} is not above 0", _REPAIR)  # type: ignore[misc]
        )
    return _checked(table, where, "time", ("symbol", "side"), ("size", "price"), rules, repeats=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise BarError(
            str(path), f"the file cannot be read as parquet ({reason})", "write it again from its source"
        ) from error


def _not_finite(column: str) -> Rule:
    return Rule((column,), lambda t: ~np.isfinite(t[column]), f"{column} is not finite", _REPAIR)


def _checked(
    table: pd.DataFrame,
    where: str,
    time: str,
    labels: Sequence[str],
    numbers: Sequence[str],
    rules: Sequence[Rule],
    repeats: bool = False,
) -> pd.DataFrame:
    """These columns alone, times in nanoseconds, numbers as float64; or ``BarError``."""
    wanted = [*labels, time, *numbers]
    missing = [c for c in wanted if c not in table.columns]
    if missing:
        raise BarError(where, f"columns {missing} are missing", f"the file has at least {wanted}")
    dtype = table[time].dtype
    if not isinstance(dtype, pd.DatetimeTZDtype) or str(dtype.tz) != "UTC":
        raise BarError(
            where,
            f"{time} is {dtype}, not in UTC",
            f"give UTC times: table['{time}'].dt.tz_localize(zone).dt.tz_convert('UTC')",
        )
    table = table[wanted].reset_index(drop=True)
    for column in numbers:
        try:
            table[column] = table[column].astype("float64")
        except (TypeError, ValueError) as error:
            raise BarError(where, f"column {column} is not numeric", "give plain numbers") from error
    by_symbol = "symbol" in labels

    def steps(t: pd.DataFrame) -> pd.Series[pd.Timedelta]:
        return t.groupby("symbol")[time].diff() if by_symbol else t[time].diff()

    order = [
        *(Rule((c,), lambda t, c=c: t[c].isna(), f"{c} is missing", _REPAIR) for c in (*labels, time)),  # type: ignore[misc]
        Rule(
            (time,),
            lambda t: (t[time] < _FIRST) | (t[time] >= _LAST),
            f"{time} is not between 2009 and 2100",
            "check the unit of the times: seconds, milliseconds, microseconds or nanoseconds",
        ),
        Rule(
            (time,),
            lambda t: steps(t) < pd.Timedelta(0),
            f"{time} is earlier than the one before",
            "sort the table by symbol and time" if by_symbol else "sort the table by time",
        ),
    ]
    if not repeats:
        twice = Rule(
            (time,), lambda t: steps(t) == pd.Timedelta(0), f"{time} occurs twice", "keep one row each"
        )
        order.append(twice)
    refuse_broken(table, order, where)
    # Only now: a time in the wrong unit may not exist in nanoseconds.
    table[time] = table[time].dt.as_unit("ns")
    refuse_broken(table, rules, where)
    return table
