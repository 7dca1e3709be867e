"""A small simulated market, and datasets cut from it, for every test of a forecast model."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline
from features.sources.simulated import simulate
from models.forecast.base import Dataset

HORIZONS = (pd.Timedelta(hours=1), pd.Timedelta(hours=4))
LEVELS = (0.975, 0.99)

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="session")
def market() -> Market:
    """Three symbols, half a year of hourly bars, one crash."""
    return simulate(symbols=3, days=180, seed=3)


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """``make_dataset(market, names=..., horizons=..., levels=...)``: features and closes of one market."""

    def make(
        market: Market,
        names: tuple[str, ...] | None = None,
        horizons: tuple[pd.Timedelta, ...] = HORIZONS,
        levels: tuple[float, ...] = LEVELS,
    ) -> Dataset:
        features = Pipeline.fit(market, names).batch(market)
        return Dataset(features, market.close, horizons, levels)

    return make
