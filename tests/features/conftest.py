"""Markets to compute features on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest

from features.bars import VALUE_COLUMNS, Market
from features.columns import EXTRA_COLUMNS
from features.resample import merged
from features.sources.simulated import simulate

HOUR = pd.Timedelta(hours=1)
#: The finest grid beneath the markets here.
FINEST = pd.Timedelta(minutes=1)
FLOW_COLUMNS = ("trades", "taker_buy_volume", "taker_buy_quote_volume")


@pytest.fixture(scope="session")
def market_with_everything() -> Callable[[int, int, str, int], Market]:
    """Simulated bars with all that a feature may read, from (symbols, days, interval, seed): finer grids,
    whose bars add up to the coarse ones, and any numbers in every column of ``features.columns``."""

    def filled(market: Market, rng: np.random.Generator) -> Market:
        extra = {}
        for name, column in EXTRA_COLUMNS.items():
            low = -3.0 if column.low is None else column.low
            high = low + 6.0 if column.high is None else column.high
            values = rng.uniform(low, high, market.close.shape)
            extra[name] = pd.DataFrame(values, market.times, list(market.symbols))
        return market.with_columns(extra)

    @cache
    def make(symbols: int, days: int, interval: str, seed: int) -> Market:
        coarse, rng = pd.Timedelta(interval), np.random.default_rng(seed)
        fine = filled(simulate(symbols=symbols, days=days, interval=FINEST, seed=seed), rng)
        bars = filled(Market(coarse, merged(fine.columns, FINEST, coarse)), rng)
        return bars.with_finer(fine)

    return make


@pytest.fixture(scope="session")
def market_of_all_columns(market_with_everything: Callable[[int, int, str, int], Market]) -> Market:
    """50 days of hourly bars of three symbols, with everything that a feature may read; the second lists a
    week late and misses one bar on day 40, the leader misses two, and so do the bars beneath."""
    whole = market_with_everything(3, 50, "1h", 11)

    def with_holes(frame: pd.DataFrame, k: int) -> pd.DataFrame:
        values = frame.to_numpy(copy=True)
        values[: 7 * 24 * k, 1] = np.nan
        values[40 * 24 * k : (40 * 24 + 1) * k, 1] = np.nan
        values[41 * 24 * k : (41 * 24 + 2) * k, 0] = np.nan
        return pd.DataFrame(values, frame.index, frame.columns)

    def holed(market: Market, k: int) -> Market:
        columns = {c: with_holes(f, k) for c, f in market.columns.items()}
        return Market(market.interval, columns, {i: holed(f, HOUR // i) for i, f in market.finer.items()})

    return holed(whole, 1)


@pytest.fixture(scope="session")
def market(market_of_all_columns: Market) -> Market:
    """The same with the bar columns alone, and nothing finer."""
    return market_of_all_columns.reading(VALUE_COLUMNS)


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
