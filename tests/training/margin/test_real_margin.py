"""The served margin through a real crash: the ladder holds, the multiplier rises, the loss is covered."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from features.bars import Market
from features.sources.parquet import read_folder
from models.margin.types import RUNGS
from training.cli import main
from training.margin.measures import MarginMeasures, measure
from training.margin.table import read_margins

pytestmark = pytest.mark.realdata

SERIES = "ewma through engine"


@pytest.fixture(scope="module")
def bars(real_data: Path) -> Path:
    return real_data / "bars" / "binance-spot" / "1h"


@pytest.fixture(scope="module")
def market(bars: Path) -> Market:
    return read_folder(bars).select(["BTCUSDT", "ETHUSDT"])


@pytest.fixture(scope="module")
def measures(bars: Path, market: Market, tmp_path_factory: pytest.TempPathFactory) -> MarginMeasures:
    """``ewma`` through the engine, two weeks of June 2022."""
    folder = tmp_path_factory.mktemp("june")
    arguments = {
        "--bars": str(bars),
        "--interval": "1h",
        "--symbols": "BTCUSDT,ETHUSDT",
        "--start": "2022-06-05",
        "--end": "2022-06-19",
        "--models": "ewma",
        "--horizons": "1h,4h",
        "--levels": "0.99",
        "--out": str(folder / "forecasts.parquet"),
        "--out-margin": str(folder / "margins.parquet"),
        "--resamples": "0",
    }
    assert main(["backtest", *(part for pair in arguments.items() for part in pair)]) == 0
    return measure(read_margins(folder / "margins.parquet"), market, resamples=0)


def test_no_rung_below_rules_is_needed_while_the_feed_is_alive(measures: MarginMeasures) -> None:
    through = measures.through_crashes
    assert set(through["crash"]) == {"13 June 2022", "18 June 2022"}
    served = through[through["lowest_rung_alive"] != ""]
    assert set(served["series"]) == {SERIES, "ewma through plain limiter", "ewma with 25 % buffer"}
    assert served["lowest_rung_alive"].map(RUNGS.index).max() <= RUNGS.index("rules")
    assert (measures.rungs["below_rules_alive"] == 0).all()


def test_the_multiplier_rises_before_the_worst_hour_and_carries_it(measures: MarginMeasures) -> None:
    through = measures.through_crashes.set_index(["crash", "series", "kind", "symbol"]).sort_index()
    own = through.loc[("13 June 2022", SERIES, "maintenance")]
    assert (own["onset"] < pd.Timestamp("2022-06-13 12:00", tz="UTC")).all()
    assert (own["multiplier_at"] > 1.2).all()
    static = through.loc[("13 June 2022", "static", "maintenance")]
    assert (own["coverage"] >= static["coverage"]).all()
    assert own["total_shortfall"].sum() < static["total_shortfall"].sum()
