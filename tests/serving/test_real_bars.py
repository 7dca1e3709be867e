"""The loop on recorded bars: the days around 12 March 2020, a print of 0.0001 among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from features.sources.parquet import read_folder
from serving.history import load_history
from serving.replay import closes

pytestmark = pytest.mark.realdata


def test_every_close_of_march_2020_is_answered_bounded_from_the_rules_rung(
    real_data: Path, sqlite: Engine, bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    market = read_folder(real_data / "bars" / "binance-spot" / "2h", symbols=["BTCUSDT", "LINKUSDT"])
    start, end = pd.Timestamp("2020-03-11", tz="UTC"), pd.Timestamp("2020-03-15", tz="UTC")
    feed = list(closes(market, start, end))
    assert any(b["low"] < 0.001 for _, bars in feed for b in bars), "the print is in these days"
    load_history(sqlite, "feed", market.since(start - pd.Timedelta(days=500)), start)
    # An hour is no whole number of these bars.
    monkeypatch.setenv("FOREMARGIN_MARGIN__MAINTENANCE__HORIZON_S", "7200")
    made = bench(sqlite, history=False, interval_s=7200)
    highest = 0.0
    for close, bars in feed:
        made.feed(bars)
        for symbol in market.symbols:
            for value in made.answer(symbol):
                assert value["rung"] == "rules"
                assert pd.Timestamp(value["decision_time"]) == close
                assert 0.6 - 1e-12 <= value["multiplier"] <= 10
                assert 0 < value["served_rate"] <= 1
                highest = max(highest, value["multiplier"])
    assert highest > 2, "the crash was seen"
