"""``ensemble``: the geometric mean of its members, by hand, and what happens where one of them is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.ensemble import EnsembleModel, Settings

HOUR = pd.Timedelta(hours=1)
LEVELS = (0.99, 0.999)
TIMES = pd.date_range("2024-01-01", periods=3, freq=HOUR, tz="UTC", unit="ns")


class Fixed(TailModel):
    """Always the same VaR, ES twice that, at the times it knows."""

    name = "fixed"

    def __init__(self, var: float, times: slice = slice(None)) -> None:
        self.var, self.times = var, times

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return ()

    def fit(self, dataset: Dataset) -> Fixed:
        raise NotImplementedError(dataset)

    def predict(self, features: FeatureFrame) -> TailForecast:
        rows = pd.MultiIndex.from_product([features.times[self.times], ["A"]], names=["time", "symbol"])
        var = self.var * np.broadcast_to([1.0, 1.5], (len(rows), 1, 2, 2))
        return TailForecast(rows, (HOUR,), LEVELS, var.copy(), 2 * var)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Fixed:
        raise NotImplementedError


def mean_of(first: Fixed, second: Fixed, settings: Settings | None = None) -> TailForecast:
    model = EnsembleModel(settings)
    model.members, model.horizons, model.levels = (first, second), (HOUR,), LEVELS
    return model.predict(FeatureFrame(TIMES, ("A",), (), HOUR, np.empty((3, 1, 0))))


def test_it_is_the_geometric_mean() -> None:
    forecast = mean_of(Fixed(0.01), Fixed(0.04))
    assert forecast.var[0, 0] == pytest.approx(np.array([[0.02, 0.03]] * 2))
    assert forecast.es[0, 0] == pytest.approx(np.array([[0.04, 0.06]] * 2))


def test_weights_count_by_their_share() -> None:
    forecast = mean_of(Fixed(0.01), Fixed(0.08), Settings(network_weight=4, quantile_weight=2))
    assert forecast.var[0, 0, 0, 0] == pytest.approx(0.02)


def test_where_a_member_is_silent_the_other_speaks_alone() -> None:
    forecast = mean_of(Fixed(0.01), Fixed(0.04, slice(1, None)))
    assert forecast.rows.get_level_values("time").tolist() == TIMES.tolist()
    assert forecast.var[:, 0, 0, 0] == pytest.approx(np.array([0.01, 0.02, 0.02]))


def test_it_is_the_mean_of_its_members_as_they_are_fitted(
    market: Market, make_dataset: Callable[..., Dataset], new_model: Callable[[str], TailModel]
) -> None:
    data = make_dataset(market, EnsembleModel.feature_names())
    model = new_model("ensemble").fit(data)
    assert isinstance(model, EnsembleModel)
    parts = [new_model(name).fit(data).predict(data.features) for name in ("network", "quantile")]
    whole = model.predict(data.features)
    at = whole.rows.get_indexer(parts[1].rows)
    expected = parts[0].var.copy()
    expected[at] = np.sqrt(parts[0].var[at] * parts[1].var)
    assert 0 < len(at) < len(whole.rows)
    assert whole.var == pytest.approx(expected, rel=1e-9)
    assert sum(model.gain().values()) == pytest.approx(1)
