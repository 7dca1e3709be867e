"""How fast models fit and forecast: ``python benchmarks/forecast.py [DIR] [--models ewma,gbm,network]``.

DIR is a folder of bars; without it, seven simulated symbols. For each model: seconds to fit on the whole
history at horizons of 1, 4 and 24 hours, milliseconds to forecast one decision time of all symbols and
one single row, rows a second in a batch, and each of these as a multiple of the first model's. The
network is fitted on the CPU and, where there is one, on the GPU. The least of a few runs is told.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.durations import format_duration
from features.pipeline import FeatureFrame, Pipeline
from features.sources.parquet import read_folder
from features.sources.simulated import simulate
from models.forecast.base import Dataset, TailModel
from models.forecast.discovery import model_class, model_names

HORIZONS = tuple(pd.Timedelta(hours=h) for h in (1, 4, 24))
LEVELS = (0.975, 0.99)
COLUMNS = ("fit s", "one time ms", "one row ms", "batch rows/s")


def least_seconds(work: Callable[[], Any], runs: int) -> float:
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def variants(name: str) -> dict[str, TailModel]:
    """The model, or one a device where it can choose."""
    if name != "network":
        return {name: model_class(name)()}
    import torch

    from models.forecast.network import NetworkModel, Settings

    made: dict[str, TailModel] = {"network (cpu)": NetworkModel(Settings(device="cpu"))}
    if torch.cuda.is_available():
        made["network (cuda)"] = NetworkModel(Settings(device="cuda"))
    return made


def measured(model: TailModel, data: Dataset) -> list[float]:
    features = data.features
    fit = least_seconds(lambda: model.fit(data), runs=1)
    last = features.between(features.times[-1], None)
    row = FeatureFrame(last.times, last.symbols[:1], last.names, last.interval, last.values[:, :1])
    batch = features.between(features.times[-5000], None)
    return [
        fit,
        1e3 * least_seconds(lambda: model.predict(last), runs=50),
        1e3 * least_seconds(lambda: model.predict(row), runs=50),
        batch.values[:, :, 0].size / least_seconds(lambda: model.predict(batch), runs=3),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of SYMBOL.parquet files")
    parser.add_argument(
        "--models", default=",".join(model_names()), help="comma-separated, the first is the unit"
    )
    arguments = parser.parse_args()
    market = simulate(symbols=7, days=730) if arguments.folder is None else read_folder(arguments.folder)
    known = int(np.isfinite(market.close.to_numpy()).sum())
    print(
        f"{arguments.folder or 'simulated'}: {known:,} bars of {format_duration(market.interval)}, "
        f"{len(market.symbols)} symbols, {len(HORIZONS)} horizons, {len(LEVELS) + 1} levels"
    )
    print(f"{'':16}" + "".join(f"{c:>24}" for c in COLUMNS))
    unit: list[float] | None = None
    for name in arguments.models.split(","):
        features = Pipeline.fit(market, model_class(name).feature_names()).batch(market)
        data = Dataset(features, market.close, HORIZONS, LEVELS)
        for label, model in variants(name).items():
            figures = measured(model, data)
            unit = unit or figures
            cells = (f"{f:,.3f} ({f / u:,.2f} x)" for f, u in zip(figures, unit, strict=True))
            print(f"{label:16}" + "".join(f"{c:>24}" for c in cells), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
