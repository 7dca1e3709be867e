"""A small market and a model fitted on it, for the tests of artifacts and their registry."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from features.bars import Market
from features.fingerprint import fingerprint
from features.pipeline import Pipeline
from features.sources.simulated import simulate
from models.artifact import Fitted
from models.forecast.base import Dataset
from models.forecast.ewma import EwmaModel

HOUR = pd.Timedelta(hours=1)


@pytest.fixture(scope="session")
def small_market() -> Market:
    return simulate(symbols=2, days=90, interval=HOUR, seed=3)


@pytest.fixture(scope="session")
def fit_until(small_market: Market) -> Callable[[int], Fitted]:
    """An ``ewma`` fitted on the first ``days`` of the market."""

    def fit(days: int) -> Fitted:
        known = small_market.until(small_market.times[0] + pd.Timedelta(days=days))
        pipeline = Pipeline.fit(known, EwmaModel.feature_names())
        dataset = Dataset(pipeline.batch(known), known.close, (HOUR, 4 * HOUR), (0.975, 0.99, 0.999))
        return Fitted(
            model=EwmaModel().fit(dataset),
            pipeline=pipeline,
            symbols=known.symbols,
            train_start=known.times[0],
            train_end=known.times[-1],
            data_fingerprint=fingerprint(known),
            scores={"fz0/1h/0.99": 0.75, "fz0/4h/0.99": None},
        )

    return fit
