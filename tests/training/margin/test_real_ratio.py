"""What a requirement saves on real hourly bars of a year: the figures that are known of the baselines."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from features.sources.parquet import read_folder
from training.cli import main
from training.margin.measures import measure
from training.margin.requirements import requirement_table


@pytest.mark.realdata
def test_the_margin_ratio_of_the_baselines(real_data: Path, tmp_path: Path) -> None:
    bars, out = real_data / "bars" / "binance-spot" / "1h", tmp_path / "forecasts.parquet"
    arguments = {
        "--bars": str(bars),
        "--interval": "1h",
        "--horizons": "1h,4h",
        "--levels": "0.99",
        "--start": "2024-10-01",
        "--end": "2025-09-28",
        "--models": "ewma,garch",
        "--out": str(out),
    }
    assert main(["backtest", *(part for pair in arguments.items() for part in pair)]) == 0
    forecasts = pd.read_parquet(out)
    table = pd.concat([requirement_table(forecasts, model) for model in ("ewma", "garch")])
    found = measure(table, read_folder(bars), compared_with="ewma requirement")
    assert found.static_before == pd.Timestamp("2024-10-01", tz="UTC")
    summary = found.summary.set_index(["kind", "series"])
    ratios = summary["ratio"].to_dict()
    assert ratios["maintenance", "ewma requirement"] == pytest.approx(0.752, abs=0.003)
    assert ratios["maintenance", "garch requirement"] == pytest.approx(0.733, abs=0.003)
    assert ratios["initial", "ewma requirement"] == pytest.approx(0.805, abs=0.003)
    assert ratios["initial", "garch requirement"] == pytest.approx(0.777, abs=0.003)
    # GARCH saves more than EWMA in nearly every resample of the weeks, little as it is.
    assert (summary.xs("garch requirement", level="series")["difference_high"] < 0).all()
    # A year's shortfall of the static rate rests on few rows.
    assert summary.loc[("maintenance", "static"), "half_rows"] < 80
