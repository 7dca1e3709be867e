"""A margin table as arrays, each series and kind with the losses that followed.

All of them lie on one grid: the rows are the market's bars from the first decision time to the last, the
columns the contracts' sides. Rates and losses are fractions of notional. NaN is where the table has no row,
or where the loss is unknown (see ``losses``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.durations import parse_duration
from models.forecast.base import SIDES
from models.margin.types import KINDS, MODES, RUNGS
from training.margin.losses import rate_losses
from training.margin.requirements import HORIZONS, MARGIN_COLUMNS

Array = NDArray[np.float64]
Codes = NDArray[np.int8]

#: Code of a row without a rung, or without a mode: there is no row, or no engine answered.
NONE = -1


class MarginTableError(ValueError):
    """A margin table cannot be measured; the message names the column or row and the remedy."""


@dataclass(frozen=True)
class ServedMargin:
    """One series and kind: arrays of shape (time, contract).

    Attributes:
        series, kind: which margin.
        horizon: over which its losses are counted.
        interval: the bar length.
        times: the grid, ascending, without holes.
        contracts: (symbol, side) of each column.
        rate: the served rate.
        required: the required rate; NaN too where none was known.
        multiplier: served rate / base rate; NaN too where no base rate is known.
        loss: what followed, in rate terms.
        rung, mode: places in ``RUNGS`` and ``MODES``; ``NONE`` where there is none.
    """

    series: str
    kind: str
    horizon: pd.Timedelta
    interval: pd.Timedelta
    times: pd.DatetimeIndex
    contracts: tuple[tuple[str, str], ...]
    rate: Array
    required: Array
    multiplier: Array
    loss: Array
    rung: Codes
    mode: Codes

    def by_symbol(self) -> dict[str, list[int]]:
        """The columns of each symbol, its sides in their order."""
        found: dict[str, list[int]] = {}
        for column, (symbol, _) in enumerate(self.contracts):
            found.setdefault(symbol, []).append(column)
        return found


def served_margins(
    table: pd.DataFrame, market: Market, horizons: Mapping[str, str] = HORIZONS
) -> dict[tuple[str, str], ServedMargin]:
    """Every (series, kind) of a margin table, in the table's order of series, with its losses.

    Raises ``MarginTableError`` where the table lacks a column, is empty, has a row twice, a time or symbol
    that the bars lack, a kind without a horizon, an unknown side, rung or mode, or a rate that is not a
    finite number above 0; ``required_rate`` and ``multiplier`` may be NaN, ``base_rate`` is not looked at.
    """
    lacking = [c for c in MARGIN_COLUMNS if c not in table.columns and c not in ("base_rate", "rules")]
    if lacking:
        raise MarginTableError(f"the margin table lacks columns {lacking}; it has {list(table.columns)}")
    if table.empty:
        raise MarginTableError("the margin table has no row; serve at least one decision time")
    _refuse_impossible(table, "served_rate")
    _refuse_impossible(table, "required_rate", or_nan=True)
    series, series_names = pd.factorize(table["series"])
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    kind = _codes(table["kind"], kinds, "kind")
    without = [k for k in kinds if k not in horizons]
    if without:
        raise MarginTableError(f"no horizon is given for kinds {without}, only for {sorted(horizons)}")
    here = set(table["symbol"].unique())
    symbols = [s for s in market.symbols if s in here]
    symbol = _codes(table["symbol"], symbols, "symbol", "measure the table with its own bars")
    side = _codes(table["side"], SIDES, "side")
    row = market.times.get_indexer(pd.DatetimeIndex(table["time"]))
    if (row < 0).any():
        worst = table["time"].iloc[int(np.argmax(row < 0))]
        raise MarginTableError(f"no bar closes at {worst}, which the table has; measure it with its own bars")
    first, last = int(row.min()), int(row.max()) + 1

    shape = (len(series_names), len(kinds), last - first, len(symbols), len(SIDES))
    place = np.ravel_multi_index((series, kind, row - first, symbol, side), shape)
    filled = np.zeros(np.prod(shape), dtype=bool)
    filled[place] = True
    twice = len(table) - int(filled.sum())
    if twice:
        raise MarginTableError(
            f"{twice} rows are there twice (same series, time, symbol, side and kind); keep one of each"
        )
    wide = (*shape[:3], len(symbols) * len(SIDES))

    def laid_out(column: str) -> Array:
        values = np.full(filled.size, np.nan)
        values[place] = table[column].to_numpy(dtype="float64")
        return values.reshape(wide)

    def coded(column: str, names: Sequence[str]) -> Codes:
        values = np.full(filled.size, NONE, dtype=np.int8)
        values[place] = _codes(table[column].fillna(""), ("", *names), column) - 1
        return values.reshape(wide)

    rate, required, multiplier = (laid_out(c) for c in ("served_rate", "required_rate", "multiplier"))
    rung, mode = coded("rung", RUNGS), coded("mode", MODES)
    own = market.select(symbols)
    losses = {
        k: rate_losses(own, horizons[k])[first:last].reshape(last - first, len(symbols) * len(SIDES))
        for k in kinds
    }
    times = market.times[first:last]
    contracts = tuple((s, side_name) for s in symbols for side_name in SIDES)
    return {
        (str(name), k): ServedMargin(
            *(str(name), k, parse_duration(horizons[k]), market.interval, times, contracts),
            *(rate[i, j], required[i, j], multiplier[i, j], losses[k], rung[i, j], mode[i, j]),
        )
        for i, name in enumerate(series_names)
        for j, k in enumerate(kinds)
        if not np.isnan(rate[i, j]).all()
    }


def _refuse_impossible(table: pd.DataFrame, column: str, *, or_nan: bool = False) -> None:
    values = table[column].to_numpy(dtype="float64")
    broken = ~(np.isfinite(values) & (values > 0))
    if or_nan:
        broken &= ~np.isnan(values)
    if broken.any():
        row = table.iloc[int(np.argmax(broken))]
        what = f"{row['series']}, {row['symbol']} {row['side']} {row['kind']} at {row['time']}"
        raise MarginTableError(
            f"{column} is {row[column]} for {what} ({int(broken.sum())} such rows); "
            f"a rate is a finite fraction of notional above 0"
        )


def _codes(
    column: pd.Series[str], names: Sequence[str], what: str, remedy: str = "correct the table"
) -> NDArray[np.intp]:
    codes, found = pd.factorize(column)
    places = pd.Index(names).get_indexer(pd.Index(found))
    if (places < 0).any():
        raise MarginTableError(
            f"{what} {found[int(np.argmax(places < 0))]!r} is unknown, known are {list(names)}; {remedy}"
        )
    placed: NDArray[np.intp] = places[codes]
    return placed
