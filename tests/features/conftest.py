"""Markets to compute features on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.sources.simulated import simulate

HOUR = pd.Timedelta(hours=1)
FLOW_COLUMNS = ("trades", "taker_buy_volume", "taker_buy_quote_volume")


@pytest.fixture(scope="session")
def market() -> Market:
    """50 days of hourly bars of three symbols; the second lists a week late and misses one bar on day 40, the
    leader misses two."""
    whole = simulate(symbols=3, days=50, interval=HOUR, seed=11)

    def with_holes(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame.to_numpy(copy=True)
        values[: 7 * 24, 1] = np.nan
        values[40 * 24, 1] = np.nan
        values[41 * 24 : 41 * 24 + 2, 0] = np.nan
        return pd.DataFrame(values, frame.index, frame.columns)

    return Market(HOUR, {c: with_holes(f) for c, f in whole.columns.items()})


@pytest.fixture(scope="session")
def market_without_flow(market: Market) -> Market:
    return market.reading([c for c in market.columns if c not in FLOW_COLUMNS])


@pytest.fixture(scope="session")
def bars_of_closes() -> Callable[..., pd.DataFrame]:
    """A bar table from closes: each bar opens at the close before, its range is just that move, one unit
    traded."""

    def make(closes: list[float], interval: pd.Timedelta = HOUR, start: str = "2024-01-01") -> pd.DataFrame:
        close = np.array(closes, dtype="float64")
        opening = np.concatenate([close[:1], close[:-1]])
        times = pd.date_range(start, periods=len(close), freq=interval, tz="UTC", unit="ns")
        return pd.DataFrame(
            {
                "open_time": times,
                "open": opening,
                "high": np.maximum(opening, close),
                "low": np.minimum(opening, close),
                "close": close,
                "volume": 1.0,
            }
        )

    return make


@pytest.fixture(scope="session")
def market_of_closes(bars_of_closes: Callable[..., pd.DataFrame]) -> Callable[..., Market]:
    """A market from closes by symbol (see ``bars_of_closes``); further columns, one list a symbol, may be
    given."""

    def make(closes: dict[str, list[float]], interval: pd.Timedelta = HOUR, **columns: list[float]) -> Market:
        tables = {s: bars_of_closes(c, interval).assign(**columns) for s, c in closes.items()}
        return Market.from_bars(tables, interval)

    return make
