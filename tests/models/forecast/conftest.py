"""A small simulated market, and datasets cut from it, for every test of a forecast model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
import torch

from features.bars import Market
from features.pipeline import Pipeline
from features.sources.simulated import simulate
from models.forecast.base import Dataset, TailModel
from models.forecast.discovery import model_class

HORIZONS = (pd.Timedelta(hours=1), pd.Timedelta(hours=4))
LEVELS = (0.975, 0.99)

MakeDataset = Callable[..., Dataset]
NewModel = Callable[[str], TailModel]

#: Smaller than the defaults, so that every check of every model stays quick.
QUICK: dict[str, dict[str, Any]] = {
    "gbm": {"trees": 30, "min_leaf_rows": 100, "fit_threads": 1},
    "quantile": {"trees": 15, "learning_rate": 0.2, "leaf_tail_rows": 10, "fit_threads": 1},
    "network": {"steps": 60, "members": 2, "batch_rows": 512, "device": "cpu"},
}


QUICK["ensemble"] = {"network": QUICK["network"], "quantile": QUICK["quantile"]}
QUICK["refined"] = {"ensemble": QUICK["ensemble"], "refinement": {"min_rows": 2000}}


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


@pytest.fixture(scope="session")
def new_model() -> NewModel:
    """``new_model(name)``: a model that is not fitted yet, with quick settings."""

    def make(name: str) -> TailModel:
        module = importlib.import_module(f"models.forecast.{name}")
        return model_class(name)(module.Settings(**QUICK.get(name, {})))  # type: ignore[call-arg]

    return make


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Test runners share the cores, and threads that wait for each other cost more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
