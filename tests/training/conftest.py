"""A small market in a folder, settings that fit it, and models that behave in a chosen way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame
from features.sources.parquet import read_folder, write_folder
from features.sources.simulated import simulate
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings
from models.forecast.ewma import EwmaModel
from training.dataset import History, ModelLookup, Task
from training.settings import TrainingSettings

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file of the working directory, and no store of the repository, reaches a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOREMARGIN_SETTINGS", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/unused/mlflow.db")


@pytest.fixture(scope="session")
def bars_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two symbols, 120 days of hourly bars."""
    folder = tmp_path_factory.mktemp("bars")
    write_folder(simulate(symbols=2, days=120, interval=HOUR, seed=5), folder)
    return folder


@pytest.fixture(scope="session")
def market(bars_folder: Path) -> Market:
    return read_folder(bars_folder)


@pytest.fixture(scope="session")
def task() -> Task:
    return Task((HOUR, 4 * HOUR), (0.975, 0.99, 0.999))


@pytest.fixture
def history(market: Market) -> History:
    return History(market, (EwmaModel,))


@pytest.fixture
def settings() -> TrainingSettings:
    return TrainingSettings(
        model="ewma",
        horizons="1h,4h",
        levels="0.975,0.99",
        evaluation_days=20,
        minimum_train_days=60,
    )


class ScaledEwma(EwmaModel):
    """``ewma`` times a factor: below 1 it asks for too little, far above 1 for too much."""

    factor: ClassVar[float] = 1.0

    def predict(self, features: FeatureFrame) -> TailForecast:
        found = super().predict(features)
        return TailForecast(
            found.rows, found.horizons, found.levels, self.factor * found.var, self.factor * found.es
        )


@pytest.fixture(scope="session")
def scaled_lookup() -> ModelLookup:
    """``ewma`` and ``halved``, ``tripled``, ``same``, ``tiny``: the same forecast times 0.5, 3, 1, 1e-3;
    ``calibrated``: 0.7 of it, and calibrated faster than it is good for any model but this one."""
    factors = {"halved": 0.5, "tripled": 3.0, "same": 1.0, "tiny": 1e-3}
    classes: dict[str, type[TailModel]] = {
        name: type(name.title(), (ScaledEwma,), {"name": name, "factor": factor})
        for name, factor in factors.items()
    }
    quick = CalibrationSettings(var_step=0.1, es_step=0.1)
    classes["calibrated"] = type(
        "Calibrated", (ScaledEwma,), {"name": "calibrated", "factor": 0.7, "calibration": quick}
    )

    def lookup(name: str) -> type[TailModel]:
        return EwmaModel if name == "ewma" else classes[name]

    return lookup


class RecordingModel(TailModel):
    """Remembers the datasets it was fitted on; forecasts a constant."""

    name: ClassVar[str] = "recording"
    refit_every: ClassVar[pd.Timedelta] = 5 * DAY
    fitted_on: ClassVar[list[Dataset]] = []

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return None

    def fit(self, dataset: Dataset) -> Self:
        self.fitted_on.append(dataset)
        self.horizons, self.levels = dataset.horizons, dataset.levels
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        shape = (features.values.shape[0] * len(features.symbols), len(self.horizons), 2, len(self.levels))
        var = np.broadcast_to(np.linspace(0.01, 0.02, len(self.levels)), shape).copy()
        return TailForecast(features.rows(), self.horizons, self.levels, var, 1.2 * var)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


@pytest.fixture
def recording_model() -> type[RecordingModel]:
    """A class of the test's own, whose memory is empty."""
    return type("Recording", (RecordingModel,), {"fitted_on": []})


@pytest.fixture
def killed_after() -> Callable[[str], Callable[[str], None]]:
    """Makes a checkpoint that raises ``KeyboardInterrupt`` once a step is done, as if the process had
    ended."""

    def make(step: str) -> Callable[[str], None]:
        def checkpoint(name: str) -> None:
            if name == step:
                raise KeyboardInterrupt(step)

        return checkpoint

    return make
