"""All features on real bars: gaps, a 0.0001 print, months that are not contiguous, March 2020."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.durations import window_bars
from features.pipeline import Pipeline
from features.sources.parquet import read_folder


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "symbols"),
    [
        ("binance-spot/2h", ["BTCUSDT", "ETHUSDT", "LINKUSDT"]),
        ("binance-spot/15m", ["BTCUSDT", "SOLUSDT"]),
        ("binance-usdm/1m", ["LINKUSDT"]),
    ],
)
def test_features_are_finite_and_online_agrees(real_data: Path, folder: str, symbols: list[str]) -> None:
    market = read_folder(real_data / "bars" / folder, symbols=symbols)
    pipeline = Pipeline.fit(market)
    frame = pipeline.batch(market)
    assert not np.isinf(frame.values).any()

    there = market.close.notna().to_numpy()
    assert np.isnan(frame.values[~there]).all()
    # Warm: half of the longest window, and no bar missing in it.
    half = window_bars(pd.Timedelta(days=16), market.interval)
    warm = (market.close.notna().rolling(half).sum() == half).to_numpy()
    assert warm.sum() > 10_000
    known = np.isfinite(frame.values[warm]).mean(axis=0)
    # Not every row: an hour in which nothing traded has no trade size and no imbalance.
    assert {name: share for name, share in zip(frame.names, known, strict=True) if share < 0.99} == {}

    holes = np.flatnonzero(~there[:, 0])
    rows = {len(market.times) - 1, len(market.times) // 2, *(holes[-1:] + 1)}
    for row in sorted(r for r in rows if r < len(market.times)):
        online = pipeline.online(market.until(market.times[row]))
        np.testing.assert_allclose(online.values[0], frame.values[row], rtol=1e-9, atol=1e-12)
