"""Contributions on real bars, a crash among them: they add up, and a rest of the integration is small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.pipeline import Pipeline
from features.sources.parquet import read_folder
from models.explanations import Cell
from models.forecast._path_gradients import path_gradients
from models.forecast.base import SIDES, Dataset, TailModel
from models.forecast.network import NetworkModel
from models.margin.requirement import margin_rate
from models.reasons import reasons

HOUR = pd.Timedelta(hours=1)
CELLS = tuple(Cell(h * HOUR, side, 0.99) for h in (1, 4) for side in SIDES)


@pytest.mark.realdata
def test_november_2022_is_explained(real_data: Path, new_model: Callable[[str], TailModel]) -> None:
    start, trained, end = (pd.Timestamp(t, tz="UTC") for t in ("2022-06-01", "2022-10-15", "2022-11-20"))
    folder = real_data / "bars" / "binance-spot" / "1h"
    market = read_folder(folder, symbols=("BTCUSDT", "SOLUSDT")).since(start).until(end)
    known = market.until(trained)
    for name in ("network", "quantile", "gbm"):
        model = new_model(name)
        pipeline = Pipeline.fit(known, model.feature_names())
        model.fit(Dataset(pipeline.batch(known), known.close, (HOUR, 4 * HOUR), (0.975, 0.99)))
        features = pipeline.batch(market).between(trained, None)
        found, forecast = model.contributions(features, CELLS), model.predict(features)
        assert found is not None
        assert found.rows.equals(forecast.rows)
        es = np.stack([forecast.es[:, h, s, 1] for h in range(2) for s in range(2)], axis=-1)
        assert found.log_es == pytest.approx(np.log(es), abs=1e-5)
        if isinstance(model, NetworkModel):
            x = model._standardised(features.matrix(model.inputs))
            places = [(h, s, 1) for h in range(2) for s in range(2)]
            assert path_gradients(model.weights, x, model._shape(), places)[2] < 0.01
        # The hour after the fall of SOL on the ninth: volatility comes first, and raises.
        row = found.rows.get_loc((pd.Timestamp("2022-11-09 22:00", tz="UTC"), "SOLUSDT"))
        first = reasons(found, row, 0, float(es[row, 0]), margin_rate, 1)[0]
        assert first.inputs == ("ewma_volatility",)
        assert first.rate_effect > 1
        assert first.words.startswith("volatility ")
        assert "raises the 1h margin of longs" in first.words
