"""A small simulated market, and datasets cut from it, for every test of a forecast model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
import pytest
import torch

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


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Test runners share the cores, and threads that wait for each other cost more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
