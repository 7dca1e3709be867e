"""``refined``, the default: the ``ensemble``, corrected by what ranges of bars teach and by whatever else is
there.

The ensemble learns from losses alone, and looks at what every bar has. Its correction (``_refinement``)
learns from the ranges of the bars to come, which are far less noisy, so it can be learned from a short
history: finer bars, order flow, books and other series may each begin years after the bars. Each is tried at
each horizon, and kept where it pays on blocks of time that it did not see. Where a family goes missing, the
forecast goes on without its step.

Both sides have the same factor. Calibration lies on top, as for the ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions
from models.forecast._files import read_content, write_content
from models.forecast._refinement import FAMILIES, LEVEL, Refinement, Step, family_inputs, refine
from models.forecast._refinement import Settings as RefinementSettings
from models.forecast._refinement_effects import corrected
from models.forecast.base import Dataset, FamilyTrial, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings
from models.forecast.ensemble import EnsembleModel
from models.forecast.ensemble import Settings as EnsembleSettings


class Settings(BaseModel):
    """Of the ensemble and of its correction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ensemble: EnsembleSettings = EnsembleSettings()
    refinement: RefinementSettings = RefinementSettings()


class RefinedModel(TailModel):
    """See the module."""

    name: ClassVar[str] = "refined"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)
    settings_class: ClassVar[type[BaseModel] | None] = Settings
    calibration: ClassVar[CalibrationSettings | None] = CalibrationSettings()

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.ensemble = EnsembleModel(self.settings.ensemble)
        self.refinement = Refinement(self.settings.refinement, (), ())

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return EnsembleModel.feature_names()

    @classmethod
    def optional_features(cls) -> tuple[str, ...]:
        return tuple(name for family in FAMILIES for name in family_inputs(family))

    def fit(self, dataset: Dataset) -> Self:
        self.ensemble.fit(dataset)
        self.horizons, self.levels = self.ensemble.horizons, self.ensemble.levels
        forecast = self.ensemble.predict(dataset.features)
        self.refinement = refine(self.settings.refinement, dataset, forecast)
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        return refined_forecast(self.ensemble.predict(features), self.refinement, features)

    def contributions(self, features: FeatureFrame, cells: Sequence[Cell]) -> Contributions | None:
        """Those of the ensemble, and the terms of the correction."""
        base = self.ensemble.contributions(features, cells)
        if base is None:
            return None
        return corrected(base, self.refinement, features, self.ensemble.predict(features))

    def trials(self) -> tuple[FamilyTrial, ...]:
        found = []
        for horizon, steps, tried in zip(
            self.horizons, self.refinement.steps, self.refinement.tried, strict=True
        ):
            used = {step.family for step in steps}
            found += [FamilyTrial(horizon, family, t, family in used) for family, t in tried.items()]
        return tuple(found)

    def reads(self) -> tuple[str, ...] | None:
        """The ensemble's inputs, and those of the steps that were kept."""
        steps = [step for steps in self.refinement.steps for step in steps]
        inputs = (name for step in steps for name in step.inputs if name != LEVEL)
        return tuple(dict.fromkeys((*(self.ensemble.feature_names() or ()), *inputs)))

    def gain(self) -> Mapping[str, float]:
        return self.ensemble.gain()

    def save(self, folder: Path) -> None:
        own = folder / self.ensemble.name
        own.mkdir(exist_ok=True)
        self.ensemble.save(own)
        content = {
            "settings": self.settings.model_dump(mode="json"),
            "steps": [[step.to_json() for step in steps] for steps in self.refinement.steps],
            "tried": [dict(found) for found in self.refinement.tried],
        }
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels = horizons, levels
        model.ensemble = EnsembleModel.load(folder / EnsembleModel.name)
        steps = tuple(tuple(Step.from_json(step) for step in found) for found in content["steps"])
        model.refinement = Refinement(model.settings.refinement, steps, tuple(content["tried"]))
        return model


def refined_forecast(forecast: TailForecast, refinement: Refinement, features: FeatureFrame) -> TailForecast:
    """A forecast times its correction, VaR and ES of all sides and levels alike."""
    factor = np.exp(refinement.log_factors(features, forecast))[..., np.newaxis, np.newaxis]
    return replace(forecast, var=forecast.var * factor, es=forecast.es * factor)
