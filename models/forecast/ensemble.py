"""``ensemble``: the geometric mean of the forecasts of a few models that err differently.

    ln VaR = sum of w_m ln VaR_m,        ln ES = sum of w_m ln ES_m,        sum of w_m = 1

Means of logarithms keep 0 < VaR <= ES and the order of the levels, and do not follow a single member that
is far too high. Weights are round numbers: those fitted on scores as noisy as a tail's do no better than
equal ones. Where one member has no forecast, trees after a missing bar say, the mean is that of the others;
the network has one wherever there is a scale.

Each member is fitted by itself on the same data, with its shipped settings; calibration lies on top of the
mean, not on members. Sources: Timmermann (2006) on equal weights; Taylor (2020) on combining VaR and ES.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions, weighted_mean
from models.forecast._ensemble_network import Settings as NetworkSettings
from models.forecast._files import read_content, write_content
from models.forecast._residuals import with_breaker
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings
from models.forecast.network import NetworkModel
from models.forecast.quantile import QuantileModel
from models.forecast.quantile import Settings as QuantileSettings


class Settings(BaseModel):
    """Of the mean and of its members. Weights need not sum to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network_weight: float = Field(1.0, gt=0)
    quantile_weight: float = Field(1.0, gt=0)
    network: NetworkSettings = NetworkSettings()
    quantile: QuantileSettings = QuantileSettings()


class EnsembleModel(TailModel):
    """See the module. ``members`` are in the order of their names here."""

    name: ClassVar[str] = "ensemble"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)
    settings_class: ClassVar[type[BaseModel] | None] = Settings
    calibration: ClassVar[CalibrationSettings | None] = CalibrationSettings()

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.members: tuple[TailModel, ...] = (
            NetworkModel(self.settings.network),
            QuantileModel(self.settings.quantile),
        )

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        wanted = (NetworkModel.feature_names(), QuantileModel.feature_names())
        return tuple(dict.fromkeys(name for names in wanted for name in names or ()))

    def fit(self, dataset: Dataset) -> Self:
        for member in self.members:
            member.fit(dataset)
        self.horizons, self.levels = dataset.horizons, with_breaker(dataset.levels)
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        forecasts = [member.predict(features) for member in self.members]
        # The network forecasts every row that another member may.
        rows, shape = forecasts[0].rows, forecasts[0].var.shape
        log_var, log_es, total = np.zeros(shape), np.zeros(shape), np.zeros((len(rows), 1, 1, 1))
        weights = (self.settings.network_weight, self.settings.quantile_weight)
        for weight, forecast in zip(weights, forecasts, strict=True):
            everywhere = len(forecast.rows) == len(rows)
            at = slice(None) if everywhere else rows.get_indexer(forecast.rows)
            log_var[at] += weight * np.log(forecast.var)
            log_es[at] += weight * np.log(forecast.es)
            total[at] += weight
        log_var, log_es = log_var / total, log_es / total
        # A rounding may undo an order that the members agree on.
        var = np.maximum.accumulate(np.exp(log_var), axis=-1)
        es = np.maximum.accumulate(np.maximum(np.exp(log_es), var), axis=-1)
        # Of the network's members among themselves: how far they are from the trees says nothing about hits.
        return TailForecast(rows, self.horizons, self.levels, var, es, forecasts[0].spread)

    def contributions(self, features: FeatureFrame, cells: Sequence[Cell]) -> Contributions | None:
        """The weighted mean of the members' effects, as ln ES is that of theirs."""
        found = [member.contributions(features, cells) for member in self.members]
        parts = [part for part in found if part is not None]
        weights = (self.settings.network_weight, self.settings.quantile_weight)
        return weighted_mean(parts, weights) if len(parts) == len(found) else None

    def gain(self) -> Mapping[str, float]:
        """Of the members that have trees."""
        return self.members[1].gain()

    def save(self, folder: Path) -> None:
        for member in self.members:
            own = folder / member.name
            own.mkdir(exist_ok=True)
            member.save(own)
        content = {"settings": self.settings.model_dump()}
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels = horizons, levels
        model.members = tuple(member.load(folder / member.name) for member in model.members)
        return model
