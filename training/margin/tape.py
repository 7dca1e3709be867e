"""What the engine sees of a contract, bar by bar: a forecast table and its bars, as arrays.

Losses in forecasts are log returns against the side; requirements are margin rates, fractions of notional.
The four values of a contract are in the order of ``models.margin.types.VALUES``. NaN marks a row that a model
did not forecast, and a bar that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.durations import format_duration, whole_bars
from models.forecast.base import BREAKER_LEVEL, SIDES
from models.margin.base_rate import Cycle, base_rates, rate_pair
from models.margin.requirement import margin_rates
from models.margin.types import KINDS, Tail
from models.settings import KindSettings, MarginSettings
from training.dataset import Task
from training.evaluation import FORECAST_COLUMNS

Array = NDArray[np.float64]

#: The model whose method is that of the rules rung, and whose forecast is the rules candidate.
RULES_MODEL = "ewma"


class ForecastTableError(ValueError):
    """A forecast table cannot be served from; the message says what it lacks or holds, and the remedy."""


@dataclass(frozen=True)
class Asked:
    """What one model asks for of one contract, a row a decision time; NaN where it did not forecast.

    Attributes:
        requirement, var: shape (time, 4), margin rates and log losses.
        breaker: (time, 2), the 99.9 % VaR over the maintenance horizon of long and short.
        confidence, drift: (time,), 1 and 0 where the forecast table does not tell.
    """

    requirement: Array
    var: Array
    breaker: Array
    confidence: Array
    drift: Array

    @property
    def known(self) -> NDArray[np.bool_]:
        """At which decision times there is a forecast."""
        found: NDArray[np.bool_] = ~np.isnan(self.requirement[:, 0])
        return found

    def scaled(self, scale: float) -> Self:
        """The same with ``scale`` times the requirement: what a model of another level would ask for."""
        return self if scale == 1 else replace(self, requirement=scale * self.requirement)


@dataclass(frozen=True)
class Tape:
    """One contract from its first forecast to its last, a row a bar of the grid.

    Attributes:
        symbol: of the contract.
        first: the place of its first row on the grid of all contracts.
        interval_s: the bar length.
        horizons_s: of initial and of maintenance margin.
        time_s: (time,), decision times, seconds since 1970 UTC.
        close: (time,); NaN where the bar is missing.
        last_return: (time,), log return from the bar before; NaN where either is missing.
        bars: (time,), how many bars of history there are by then.
        cycles: base rates and what goes with them, one a month ...
        month: ... and which of them holds at each decision time.
        asked: by model.
    """

    symbol: str
    first: int
    interval_s: float
    horizons_s: tuple[float, float]
    time_s: Array
    close: Array
    last_return: Array
    bars: NDArray[np.int64]
    cycles: tuple[Cycle, ...]
    month: NDArray[np.int64]
    asked: Mapping[str, Asked]

    def scaled(self, scale: float) -> Self:
        """The same tape with ``scale`` times every requirement, that of the rules candidate too."""
        return replace(self, asked={model: own.scaled(scale) for model, own in self.asked.items()})


def horizons_of(margin: MarginSettings) -> dict[str, str]:
    """The horizon of each kind, as forecast tables write it."""
    return {kind: format_duration(_kind(margin, kind).horizon) for kind in KINDS}


def levels_of(margin: MarginSettings) -> dict[str, float]:
    """The level of each kind's ES."""
    return {kind: _kind(margin, kind).level for kind in KINDS}


def needs(margin: MarginSettings) -> Task:
    """The horizons and levels that a forecast must have: the kinds', and the level of the circuit breaker."""
    kinds = [_kind(margin, kind) for kind in KINDS]
    horizons = tuple(sorted({kind.horizon for kind in kinds}))
    return Task(horizons, tuple(sorted({*(kind.level for kind in kinds), BREAKER_LEVEL})))


def refuse_horizons_off_the_grid(margin: MarginSettings, interval: pd.Timedelta) -> None:
    """Raise ``ForecastTableError`` where a kind's horizon is not a whole number of bars."""
    for kind in KINDS:
        horizon = _kind(margin, kind).horizon
        try:
            whole_bars(horizon, interval)
        except ValueError as error:
            variable = f"FOREMARGIN_MARGIN__{kind.upper()}__HORIZON_S"
            raise ForecastTableError(
                f"[margin] {kind}.horizon_s does not fit the bars: {error}; set {variable} to a multiple of "
                f"{int(interval.total_seconds())}"
            ) from error


def tapes(
    forecasts: pd.DataFrame, market: Market, margin: MarginSettings, models: Sequence[str]
) -> tuple[pd.DatetimeIndex, list[Tape]]:
    """The grid of decision times, and the tape of every symbol that any of the models forecast.

    Args:
        forecasts: a forecast table that holds all models at the kinds' horizons and levels, and at 99.9 %
            over the maintenance horizon. It may have columns ``confidence`` and ``drift``, one value a time,
            symbol and model; the worst of its rows counts.
        market: the bars that they were made from, with all history before.
        margin: kinds, base rates and the default ones.
        models: whose forecasts; ``RULES_MODEL`` must be among them for the rules candidate.

    The grid is the market's, from the first forecast to the last, bars that are missing included. Raises
    ``ForecastTableError`` where the table lacks a column, model, horizon or level, has a row twice, a time or
    symbol that the bars lack, or a VaR or ES that is no number above 0.
    """
    refuse_horizons_off_the_grid(margin, market.interval)
    own = _checked(forecasts, models)
    row = market.times.get_indexer(pd.DatetimeIndex(own["time"]))
    if (row < 0).any():
        raise ForecastTableError(
            f"no bar closes at {own['time'].iloc[int(np.argmax(row < 0))]}, which the forecasts have; "
            f"give the bars that they were made from"
        )
    symbols = [symbol for symbol in market.symbols if symbol in set(own["symbol"])]
    strangers = sorted(set(own["symbol"]) - set(symbols))
    if strangers:
        raise ForecastTableError(
            f"there are forecasts of {strangers} and no bars; give the bars that they were made from"
        )
    first, last = int(row.min()), int(row.max()) + 1
    cells = _Cells(own, row - first, last - first, symbols)
    times = market.times[first:last]
    time_s = times.as_unit("s").asi8.astype("float64")
    all_s = market.times.as_unit("s").asi8.astype("float64")
    asked = {model: _asked(cells, model, margin) for model in models}
    found = []
    for column, symbol in enumerate(symbols):
        each = {model: own[column] for model, own in asked.items()}
        known = np.flatnonzero(np.logical_or.reduce([own.known for own in each.values()]))
        if not len(known):
            continue
        here = slice(int(known[0]), int(known[-1]) + 1)
        close = market.close[symbol].to_numpy(dtype="float64")
        with np.errstate(invalid="ignore"):
            returns = np.diff(np.log(close), prepend=np.nan)
        span = slice(first + here.start, first + here.stop)
        known_s, since_s = all_s[: span.stop], float(time_s[here][0])
        rates = _cycles(symbol, known_s, close[: span.stop], market.interval, margin, since_s)
        month = np.maximum(np.searchsorted(rates[0], time_s[here], side="right") - 1, 0)
        found.append(
            Tape(
                symbol=symbol,
                first=here.start,
                interval_s=market.interval.total_seconds(),
                horizons_s=(float(margin.initial.horizon_s), float(margin.maintenance.horizon_s)),
                time_s=time_s[here],
                close=close[span],
                last_return=returns[span],
                bars=np.cumsum(np.isfinite(close))[span],
                cycles=rates[1],
                month=month,
                asked={model: _cut(own, here) for model, own in each.items()},
            )
        )
    return times, found


def _kind(margin: MarginSettings, kind: str) -> KindSettings:
    settings: KindSettings = getattr(margin, kind)
    return settings


def _checked(forecasts: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    lacking = [c for c in FORECAST_COLUMNS if c not in forecasts.columns]
    if lacking:
        raise ForecastTableError(
            f"the forecast table lacks columns {lacking}; write one with `python -m training backtest --out`"
        )
    there = sorted(forecasts["model"].unique())
    absent = [model for model in models if model not in there]
    if absent:
        raise ForecastTableError(
            f"the forecast table has no forecasts of {absent}, only of {there}; backtest these models too"
        )
    return forecasts[forecasts["model"].isin(list(models))]


class _Cells:
    """A forecast table's rows by their place on the grid."""

    def __init__(self, table: pd.DataFrame, row: NDArray[np.intp], rows: int, symbols: Sequence[str]) -> None:
        self.table, self.row, self.rows, self.symbols = table, row, rows, symbols
        self.column = pd.Index(symbols).get_indexer(pd.Index(table["symbol"]))
        self.codes = {name: pd.factorize(table[name]) for name in ("model", "horizon", "side")}
        self.level = table["level"].to_numpy(dtype="float64")

    def of(self, name: str, value: str) -> NDArray[np.bool_]:
        """Which rows have this model, horizon or side."""
        codes, there = self.codes[name]
        found: NDArray[np.bool_] = codes == pd.Index(there).get_indexer(pd.Index([value]))[0]
        return found & (codes >= 0)

    def values(self, column: str, model: str, horizon: str, side: str, level: float) -> Array:
        """Shape (time, symbol); NaN where there is no row."""
        mine = self.of("model", model)
        picked = mine & self.of("horizon", horizon) & self.of("side", side) & np.isclose(self.level, level)
        if not picked.any():
            own = self.table[mine]
            raise ForecastTableError(
                f"{model} has no {side} forecast over {horizon} at level {level:g}, only over "
                f"{sorted(own['horizon'].unique())} at {sorted(own['level'].unique())}; backtest with this "
                f"horizon and level, or choose one of these in [margin]"
            )
        values = self.table[column].to_numpy(dtype="float64")[picked]
        if not (np.isfinite(values) & (values > 0)).all():
            raise ForecastTableError(
                f"a {column} of {model} over {horizon} at level {level:g} is not a finite number above 0; "
                f"repair the forecast table"
            )
        found = np.full((self.rows, len(self.symbols)), np.nan)
        found[self.row[picked], self.column[picked]] = values
        if int(np.isfinite(found).sum()) != len(values):
            raise ForecastTableError(
                f"forecasts of {model} over {horizon} at level {level:g} are there twice; keep one of each"
            )
        return found

    def told(self, column: str, model: str, default: float, worst: np.ufunc) -> Array:
        """Confidence or drift, shape (time, symbol): the worst of the rows that tell it, or ``default``."""
        found = np.full((self.rows, len(self.symbols)), default)
        if column in self.table.columns:
            mine = self.of("model", model)
            values = self.table[column].to_numpy(dtype="float64")[mine]
            worst.at(found, (self.row[mine], self.column[mine]), values)
        return found


def _asked(cells: _Cells, model: str, margin: MarginSettings) -> list[Asked]:
    """One a symbol."""
    horizons, levels = horizons_of(margin), levels_of(margin)
    var, es = (
        np.stack(
            [cells.values(name, model, horizons[k], side, levels[k]) for side in SIDES for k in KINDS], axis=2
        )
        for name in ("var", "es")
    )
    breaker = np.stack(
        [cells.values("var", model, horizons["maintenance"], side, BREAKER_LEVEL) for side in SIDES], axis=2
    )
    # A time without one of the four is a time without a forecast.
    known = ~(np.isnan(var) | np.isnan(es)).any(axis=2)
    var[~known], es[~known] = np.nan, np.nan
    confidence = cells.told("confidence", model, 1.0, np.fmin)
    drift = cells.told("drift", model, 0.0, np.fmax)
    # The very function of the engine's own candidates, so that rates agree with the server's to the bit.
    rates = np.array([margin_rates((a, b, c, d)) for a, b, c, d in es.reshape(-1, 4).tolist()])
    requirement = rates.reshape(es.shape)
    return [
        Asked(requirement[:, s], var[:, s], breaker[:, s], confidence[:, s], drift[:, s])
        for s in range(len(cells.symbols))
    ]


def _cut(asked: Asked, rows: slice) -> Asked:
    return Asked(
        asked.requirement[rows],
        asked.var[rows],
        asked.breaker[rows],
        asked.confidence[rows],
        asked.drift[rows],
    )


def _cycles(
    symbol: str, time_s: Array, close: Array, interval: pd.Timedelta, margin: MarginSettings, since_s: float
) -> tuple[Array, tuple[Cycle, ...]]:
    """From when each month's rates hold, and the rates."""
    default, given = margin.default_base_rate, margin.base_rates.get(symbol)
    rates = base_rates(
        time_s,
        close,
        interval_s=interval.total_seconds(),
        initial=Tail(margin.initial.level, float(margin.initial.horizon_s)),
        maintenance=Tail(margin.maintenance.level, float(margin.maintenance.horizon_s)),
        default=rate_pair(default["initial"], default["maintenance"], "default base rate"),
        given=None
        if given is None
        else rate_pair(given["initial"], given["maintenance"], f"base rate of {symbol}"),
        since_s=since_s,
    )
    return np.array(rates.from_s), tuple(rates.at(from_s) for from_s in rates.from_s)
