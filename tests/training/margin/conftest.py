"""Small markets with chosen closes, and margin tables of chosen rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.forecast.base import SIDES
from models.margin.types import KINDS
from training.margin.requirements import MARGIN_COLUMNS

HOUR = pd.Timedelta(hours=1)

MarketOf = Callable[..., Market]
TableOf = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def market_of() -> MarketOf:
    """A market of these closes by symbol, hourly, the first of them at ``start``."""

    def make(
        closes: Mapping[str, Sequence[float]],
        start: str = "2026-01-05 00:00",
        interval: pd.Timedelta = HOUR,
    ) -> Market:
        rows = len(next(iter(closes.values())))
        index = pd.date_range(start, periods=rows, freq=interval, tz="UTC", unit="ns", name="time")
        wide = {symbol: np.asarray(values, dtype="float64") for symbol, values in closes.items()}
        return Market(interval, {"close": pd.DataFrame(wide, index=index)})

    return make


@pytest.fixture(scope="session")
def table_of() -> TableOf:
    """A margin table that serves one rate, or one a time, for all contracts of the market; a row a time."""

    def make(
        market: Market,
        rate: float | Sequence[float],
        series: str = "model",
        kinds: Sequence[str] = KINDS,
        base: float = 0.1,
        **columns: object,
    ) -> pd.DataFrame:
        keys = pd.MultiIndex.from_product(
            [market.times, market.symbols, SIDES, kinds], names=["time", "symbol", "side", "kind"]
        )
        table = keys.to_frame(index=False)
        cells = len(table) // len(market.times)
        served = np.repeat(np.broadcast_to(np.asarray(rate, dtype="float64"), len(market.times)), cells)
        table = table.assign(
            series=series,
            mode="",
            base_rate=base,
            required_rate=served,
            served_rate=served,
            rung="",
            rules="",
        )
        table["multiplier"] = table["served_rate"] / table["base_rate"]
        for name, value in columns.items():
            table[name] = value if isinstance(value, str) else np.repeat(np.asarray(value), cells)
        return table[MARGIN_COLUMNS]

    return make


ForecastsOf = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def forecasts_of() -> ForecastsOf:
    """A forecast table of these models at every bar: the ES of an hour at 99 %, one or one a time.

    Over 4 h everything is twice as large, at 99.9 % half as large again, on the short side a tenth more; VaR
    is 0.8 of ES.
    """

    def make(market: Market, es: Mapping[str, float | Sequence[float]]) -> pd.DataFrame:
        parts = []
        for model, hourly in es.items():
            each = np.broadcast_to(np.asarray(hourly, dtype="float64"), len(market.times))
            keys = pd.MultiIndex.from_product(
                [range(len(market.times)), market.symbols, ["1h", "4h"], SIDES, [0.99, 0.999]],
                names=["row", "symbol", "horizon", "side", "level"],
            )
            table = keys.to_frame(index=False)
            table["model"] = model
            factor = np.where(table["horizon"] == "4h", 2.0, 1.0) * np.where(table["level"] > 0.99, 1.5, 1.0)
            table["es"] = each[table["row"]] * factor * np.where(table["side"] == "short", 1.1, 1.0)
            table["var"] = 0.8 * table["es"]
            table["time"] = market.times[table["row"]]
            parts.append(table.drop(columns="row"))
        return pd.concat(parts, ignore_index=True)

    return make
