"""How fast models fit and forecast: ``python benchmarks/forecast.py [DIR] [--models plain,ewma,gbm]``.

DIR is a folder of bars, ``--finer DIR`` one of finer bars beneath, for the models that look at them; without,
two years of ten simulated symbols. Each model is measured in a process of its own, at horizons of 1, 4 and 24
hours, and told with its multiple of the first model's figure:

- seconds to fit on the whole history, and the peak of memory (resident, MiB) that the fit added,
- milliseconds to forecast one decision time of all symbols, as each bar close asks for: median and 95th
  percentile of 200; the goal is 5 ms,
- seconds to forecast the newest year of all symbols.

``plain`` is what one would write first, and the default unit: an ``LGBMRegressor(objective="quantile")`` of
scikit-learn's interface for each horizon, side and level, on the inputs of ``gbm``, with LightGBM's defaults
but for its threads, one, since more wait for each other wherever a core is shared. It forecasts VaR alone.
The network is fitted on the CPU and, where there is one, on the GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.bars import Market
from features.durations import format_duration
from features.pipeline import FeatureFrame, Pipeline
from features.sources.market import MarketSource, read_market
from features.sources.simulated import simulate
from models.forecast.base import BREAKER_LEVEL, Dataset
from models.forecast.discovery import model_class, model_names
from training.dataset import bar_variances

HORIZONS = tuple(pd.Timedelta(hours=h) for h in (1, 4, 24))
LEVELS = (0.975, 0.99, BREAKER_LEVEL)
YEAR = pd.Timedelta(days=365)
WARM_UP, CALLS = 10, 200
GOAL_MS = 5.0
PLAIN = "plain"


class Model(Protocol):
    """What is measured of a model."""

    def fit(self, dataset: Dataset, /) -> Any: ...
    def predict(self, features: FeatureFrame, /) -> Any: ...


@dataclass(frozen=True)
class Figures:
    """Of one model, in the units of the field names. ``memory_mib`` is NaN where the system cannot tell."""

    fit_s: float
    memory_mib: float
    one_time_median_ms: float
    one_time_p95_ms: float
    year_s: float
    rows: int
    year_rows: int


class PlainQuantiles:
    """One quantile regressor a horizon, side and level; rows without all inputs are left out."""

    def __init__(self) -> None:
        self._fitted: list[Any] = []

    def fit(self, dataset: Dataset, /) -> Self:
        from lightgbm import LGBMRegressor

        inputs = dataset.features.matrix(dataset.features.names)
        complete = np.isfinite(inputs).all(axis=1)
        for horizon in HORIZONS:
            short_loss = dataset.forward_returns(horizon).ravel()
            known = complete & np.isfinite(short_loss)
            for sign in (-1.0, 1.0):
                for level in LEVELS:
                    regressor = LGBMRegressor(objective="quantile", alpha=level, n_jobs=1, verbose=-1)
                    self._fitted.append(regressor.fit(inputs[known], sign * short_loss[known]))
        return self

    def predict(self, features: FeatureFrame, /) -> np.ndarray:
        inputs = features.matrix(features.names)
        given = inputs[np.isfinite(inputs).all(axis=1)]
        return np.stack([regressor.predict(given) for regressor in self._fitted], axis=-1)


def made(label: str) -> Model:
    """The model of a label: ``plain``, a model's name, or ``network (cuda)``."""
    if label == PLAIN:
        return PlainQuantiles()
    name, _, device = label.partition(" ")
    model = model_class(name)
    if not device:
        return model()
    assert model.settings_class is not None
    return model(model.settings_class(device=device.strip("()")))


def labels(names: list[str]) -> list[str]:
    """One a name, and one a device where a model can choose."""
    found = []
    for name in names:
        found.append("network (cpu)" if name == "network" else name)
        if name == "network":
            import torch

            found += ["network (cuda)"] if torch.cuda.is_available() else []
    return found


def bars_of(source: MarketSource | None) -> Market:
    return simulate(symbols=10, days=730) if source is None else read_market(source)


def measured(label: str, source: MarketSource | None) -> Figures:
    market = bars_of(source)
    kind, model = model_class("gbm" if label == PLAIN else label.split()[0]), made(label)
    features = Pipeline.fit(market, kind.feature_names(), kind.optional_features()).batch(market)
    data = Dataset(features, market.close, HORIZONS, LEVELS[:-1], bar_variances(market))
    before = _reset_peak_mib()
    began = time.perf_counter()
    model.fit(data)
    fit_s = time.perf_counter() - began
    memory_mib = _peak_mib() - before
    last = features.between(features.times[-1], None)
    calls = np.array([_seconds(model, last) for _ in range(WARM_UP + CALLS)][WARM_UP:])
    year = features.between(features.times[-1] - YEAR, None)
    return Figures(
        fit_s=fit_s,
        memory_mib=memory_mib,
        one_time_median_ms=1e3 * float(np.median(calls)),
        one_time_p95_ms=1e3 * float(np.quantile(calls, 0.95)),
        year_s=min(_seconds(model, year) for _ in range(3)),
        rows=data.closes.size,
        year_rows=year.values[:, :, 0].size,
    )


def _seconds(model: Model, features: FeatureFrame) -> float:
    began = time.perf_counter()
    model.predict(features)
    return time.perf_counter() - began


def _reset_peak_mib() -> float:
    """Forget the peak of memory so far (Linux), and return what is resident now."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    return _peak_mib()


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return float("nan") if found is None else int(found[1]) / 1024


COLUMNS = {
    "fit s": "fit_s",
    "fit MiB": "memory_mib",
    "one time ms": "one_time_median_ms",
    "p95 ms": "one_time_p95_ms",
    "year s": "year_s",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="folder of SYMBOL.parquet files")
    parser.add_argument(
        "--models", default=",".join((PLAIN, *model_names())), help="comma-separated, the first is the unit"
    )
    parser.add_argument(
        "--finer", type=Path, action="append", default=[], help="folder of finer bars beneath, with a folder"
    )
    arguments = parser.parse_args()
    folder, finer = arguments.folder, tuple(arguments.finer)
    if finer and folder is None:
        parser.error("--finer needs the folder of bars that they lie beneath")
    source = None if folder is None else MarketSource(folder, finer=finer)
    market = bars_of(source)
    print(
        f"{folder or 'simulated'}: {market.close.size:,} rows of {len(market.symbols)} symbols, "
        f"bars of {format_duration(market.interval)}, {len(HORIZONS)} horizons, {len(LEVELS)} levels"
    )
    print(f"{'':16}" + "".join(f"{column:>20}" for column in COLUMNS))
    unit: Figures | None = None
    for label in labels(arguments.models.split(",")):
        # A process each: its own peak of memory, and no threads left over from another library.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found = process.submit(measured, label, source).result()
        unit = unit or found
        cells = (
            (getattr(found, name), getattr(found, name) / getattr(unit, name)) for name in COLUMNS.values()
        )
        goal = "" if found.one_time_p95_ms < GOAL_MS else f"  above the goal of {GOAL_MS:g} ms"
        print(f"{label:16}" + "".join(f"{f'{v:,.2f} ({r:,.3g} x)':>20}" for v, r in cells) + goal, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
