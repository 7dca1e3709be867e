"""Every model on real bars of every interval: crashes, a print of 0.0001, outages, months that are missing, a
symbol that lists later. Forecasts are made, and checked for being there and being sane; nothing is scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.durations import whole_bars
from features.pipeline import Pipeline
from features.sources.parquet import read_folder
from models.forecast.base import Dataset, TailModel
from models.forecast.discovery import model_class, model_names

LEVELS = (0.975, 0.99)
NewModel = Callable[[str], TailModel]


@dataclass(frozen=True)
class Span:
    """Bars of a folder from ``start`` to ``end``, of which a model may learn from those until ``trained``."""

    folder: str
    symbols: tuple[str, ...]
    start: str
    trained: str
    end: str
    horizons: tuple[str, ...]


SPANS = (
    # March 2020, LINK's low of 0.0001 within it, and SOL, which listed after training.
    Span(
        *("binance-spot/2h", ("BTCUSDT", "LINKUSDT", "SOLUSDT"), "2018-12-01", "2019-11-01", "2020-12-01"),
        ("2h", "6h", "26h"),
    ),
    # November 2022, and the bar that is missing in March 2023.
    Span(
        *("binance-spot/1h", ("BTCUSDT", "SOLUSDT"), "2022-06-01", "2022-10-15", "2023-04-01"),
        ("1h", "4h", "24h"),
    ),
    # The fifth of August 2024.
    Span(
        *("binance-spot/30m", ("ETHUSDT", "DOGEUSDT"), "2024-05-15", "2024-07-15", "2024-09-01"),
        ("30min", "7h"),
    ),
    Span(
        *("binance-spot/15m", ("BTCUSDT", "XRPUSDT"), "2024-12-30", "2025-02-01", "2025-03-10"),
        ("15min", "4h"),
    ),
    Span("binance-spot/1m", ("BTCUSDT",), "2026-05-01", "2026-05-20", "2026-05-28", ("1min", "7min", "4h")),
    # A month, and two, without a bar.
    Span("binance-usdm/1m", ("FILUSDT",), "2023-06-10", "2023-06-29", "2023-08-18", ("1min", "1h")),
    Span("binance-usdm/1m", ("NEARUSDT",), "2023-05-10", "2023-05-29", "2023-08-18", ("3min",)),
    Span("binance-usdm/1m", ("ALGOUSDT",), "2023-02-01", "2023-02-20", "2023-03-01", ("5min",)),
    Span("binance-usdm/1m", ("LINKUSDT",), "2023-02-01", "2023-02-20", "2023-03-01", ("15min", "1h")),
)


@pytest.mark.realdata
@pytest.mark.parametrize("span", SPANS, ids=lambda s: f"{s.folder}-{s.symbols[-1]}")
def test_every_model_forecasts_soundly(real_data: Path, span: Span, new_model: NewModel) -> None:
    start, trained, end = (pd.Timestamp(t, tz="UTC") for t in (span.start, span.trained, span.end))
    market = read_folder(real_data / "bars" / span.folder, symbols=span.symbols).since(start).until(end)
    known = market.until(trained)
    read = {name: model_class(name).feature_names() for name in model_names()}
    wanted = None if None in read.values() else {f for names in read.values() for f in names or ()}
    # One pipeline for all: features are the dear part.
    pipeline = Pipeline.fit(known, wanted)
    features = pipeline.batch(market)
    data = Dataset(
        features.between(None, known.times[-1]),
        known.close,
        tuple(pd.Timedelta(h) for h in span.horizons),
        LEVELS,
    )
    steps = np.sqrt([whole_bars(h, market.interval) for h in data.horizons])
    there = market.close.notna().to_numpy()
    for name in model_names():
        forecast = new_model(name).fit(data).predict(features)
        time = market.times.get_indexer(pd.DatetimeIndex(forecast.rows.get_level_values("time")))
        symbol = market.close.columns.get_indexer(forecast.rows.get_level_values("symbol"))
        made = np.zeros_like(there)
        made[time, symbol] = True
        assert not (made & ~there).any(), f"{name} forecasts from a bar that is missing"
        inputs = np.isfinite(features.matrix(read[name] or features.names)).all(axis=1)
        unmade = inputs.reshape(there.shape) & ~made
        assert not unmade.any(), f"{name} knows its features and makes no forecast"
        assert made[-1].all(), f"{name} has not recovered by the end"
        # In units of the EWMA scale; a normal law has 1.96.
        scale = features["ewma_volatility"][time, symbol, np.newaxis] * steps
        multiple = forecast.var[..., 0] / scale[:, :, np.newaxis]
        assert 1 < np.median(multiple) < 5, name
        assert 0.05 < multiple.min() <= multiple.max() < 50, name
