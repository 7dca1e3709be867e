"""The backtest command on real hourly bars: what the README says of the default model holds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from features.sources.parquet import read_folder
from training.cli import main
from training.evaluation import FORECAST_COLUMNS, common_rows, summary, with_losses


@pytest.mark.realdata
def test_gbm_beats_ewma_where_it_should_and_is_nowhere_worse(real_data: Path, tmp_path: Path) -> None:
    bars, out = real_data / "bars" / "binance-spot" / "1h", tmp_path / "forecasts.parquet"
    arguments = {
        "--bars": str(bars),
        "--interval": "1h",
        "--horizons": "1h,4h,24h",
        "--levels": "0.975,0.99",
        "--start": "2025-07-01",
        "--end": "2025-09-28",
        "--models": "ewma,gbm",
        "--out": str(out),
    }
    assert main(["backtest", *(part for pair in arguments.items() for part in pair)]) == 0
    table = pd.read_parquet(out)
    assert list(table.columns) == [*FORECAST_COLUMNS, "confidence", "drift"]
    market = read_folder(bars)
    rows = summary(common_rows(with_losses(table, market)), market.interval)
    gbm = rows[rows["model"] == "gbm"].set_index(["horizon", "level"])
    assert len(gbm) == 6
    assert (gbm.loc[["1h", "4h"], "difference"] < 0).all()
    assert (gbm["t"] < 2).all()
