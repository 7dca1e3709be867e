"""``ensemble``: the geometric mean of the forecasts of a few models that err differently.

    ln VaR = sum of w_m ln VaR_m,        ln ES = sum of w_m ln ES_m,        sum of w_m = 1

Means of logarithms keep 0 < VaR <= ES and the order of the levels, and do not follow a single member that
is far too high. Weights are round numbers: those fitted on scores as noisy as a tail's do no better than
equal ones. A row is forecast where every member forecasts it.

Each member is fitted by itself on the same data, with its shipped settings; calibration lies on top of the
mean, not on members. Sources: Timmermann (2006) on equal weights; Taylor (2020) on combining VaR and ES.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from features.pipeline import FeatureFrame
from models.forecast._files import read_content, write_content
from models.forecast._residuals import with_breaker
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings
from models.forecast.network import NetworkModel
from models.forecast.quantile import QuantileModel

#: In the order in which they are fitted, and averaged.
MEMBERS: tuple[type[TailModel], ...] = (NetworkModel, QuantileModel)


class Settings(BaseModel):
    """Of the mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Weight of each of ``MEMBERS``; they need not sum to 1.
    weights: tuple[float, ...] = Field((1.0, 1.0), min_length=len(MEMBERS), max_length=len(MEMBERS))


class EnsembleModel(TailModel):
    """See the module."""

    name: ClassVar[str] = "ensemble"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)
    settings_class: ClassVar[type[BaseModel] | None] = Settings
    calibration: ClassVar[CalibrationSettings | None] = CalibrationSettings()

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        if not (min(self.settings.weights) >= 0 and sum(self.settings.weights) > 0):
            raise ValueError(f"weights are {self.settings.weights}; give none below 0, and one above")
        self.members: tuple[TailModel, ...] = ()

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        wanted = [member.feature_names() for member in MEMBERS]
        if None in wanted:
            return None
        return tuple(dict.fromkeys(name for names in wanted if names is not None for name in names))

    def fit(self, dataset: Dataset) -> Self:
        self.members = tuple(member().fit(dataset) for member in MEMBERS)
        self.horizons, self.levels = dataset.horizons, with_breaker(dataset.levels)
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        forecasts = [member.predict(features) for member in self.members]
        rows = forecasts[0].rows
        for forecast in forecasts[1:]:
            rows = rows[rows.isin(forecast.rows)]
        weights = np.array(self.settings.weights) / sum(self.settings.weights)
        log_var, log_es = 0.0, 0.0
        for weight, forecast in zip(weights, forecasts, strict=True):
            at = forecast.rows.get_indexer(rows)
            log_var = log_var + weight * np.log(forecast.var[at])
            log_es = log_es + weight * np.log(forecast.es[at])
        # A rounding may undo an order that two members agree on.
        var = np.maximum.accumulate(np.exp(log_var), axis=-1)
        es = np.maximum.accumulate(np.maximum(np.exp(log_es), var), axis=-1)
        return TailForecast(rows, self.horizons, self.levels, var, es)

    def save(self, folder: Path) -> None:
        for member in self.members:
            own = folder / member.name
            own.mkdir(exist_ok=True)
            member.save(own)
        content = {"settings": self.settings.model_dump(), "members": [m.name for m in self.members]}
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        names = [member.name for member in MEMBERS]
        if content["members"] != names:
            raise ValueError(
                f"{folder} is a mean of {content['members']}, and this version averages {names}; "
                f"train it again"
            )
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels = horizons, levels
        model.members = tuple(member.load(folder / member.name) for member in MEMBERS)
        return model
