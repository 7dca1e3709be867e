"""``gbm``: gradient-boosted trees for the scale, a generalized-Pareto tail for what the scale leaves over.

One LightGBM model a horizon, global over symbols, learns m, the variance of the next h bars relative to
what the EWMA scale promises. Its label is the mean of two unbiased measures of that ratio,

    y = (r_h^2 + sum of the h one-bar r^2) / 2 / (sigma^2 h),

the squared return over the horizon, which is what margin must hold, and the realized variance on the way,
which is less noisy (for h = 1 they are the same). The gamma objective, y / m + ln m, is QLIKE: its
minimum is the mean of y whatever the distribution, and it forgives the noise of squared returns. The
scale over the horizon is then sigma sqrt(h m).

VaR and ES are that scale times the tail of the standardised losses, per side, pooled over symbols
(``_pareto``). The standardised losses are out of sample: the training window is cut into ``folds`` blocks
of time and each block is scaled by trees that saw the others only, less h bars on either side; trees
fitted on the losses that they scale would leave a tail too thin.

Inputs are prices' own: everything relative to the EWMA scale, no level of price, volume or volatility. A
row needs all of its inputs, and is left out otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from features.durations import format_duration
from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions, cell_places
from models.forecast._files import read_content, write_content
from models.forecast._inputs import input_names, needed_features
from models.forecast._pareto import pareto_tail
from models.forecast._residuals import (
    SCALE_FEATURE,
    SIGNS,
    bars_of,
    complete_rows,
    forecast_rows,
    realized_ratio,
    refuse_unfit,
    scaled_forecast,
    standardised_returns,
    with_breaker,
)
from models.forecast._trees import (
    TreeSettings,
    boost_in_blocks,
    gain_shares,
    parameters,
    raw_score,
    read_trees,
    shapley_values,
    write_trees,
)
from models.forecast._usual import Usual
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings
from models.search_space import Integer, Range, Real


class Settings(TreeSettings):
    """Of the trees and of the tail. Defaults were chosen on decision times before October 2024."""

    trees: int = Field(150, ge=1)
    learning_rate: float = Field(0.05, gt=0, le=1)
    leaves: int = Field(8, ge=2)
    #: Rows in a leaf at least, times sqrt(h): neighbouring rows share most of a long horizon. Never more
    #: than a fiftieth of the rows, so that a short history is still split.
    min_leaf_rows: int = Field(2000, ge=1)
    #: L2 penalty of a leaf, which pulls the forecast towards the EWMA's.
    leaf_penalty: float = Field(50.0, ge=0)
    #: Labels below this are raised to it: the gamma objective needs y > 0, and some bars do not move.
    label_floor: float = Field(1e-4, gt=0)
    #: Beyond this empirical quantile the tail is generalized Pareto.
    threshold_level: float = Field(0.95, ge=0.5, lt=1)
    shape_bounds: tuple[float, float] = (-0.2, 0.5)


SEARCH_SPACE: Mapping[str, Range] = {
    "trees": Integer(50, 400, log=True),
    "learning_rate": Real(0.01, 0.2, log=True),
    "leaves": Integer(3, 32, log=True),
    "min_leaf_rows": Integer(250, 16000, log=True),
    "leaf_penalty": Real(0.1, 1000.0, log=True),
    "feature_fraction": Real(0.2, 1.0),
    "row_fraction": Real(0.2, 1.0),
    "threshold_level": Real(0.9, 0.98),
}


class GbmModel(TailModel):
    """See the module. ``tails`` has shape (VaR or ES, horizon, side, level)."""

    name: ClassVar[str] = "gbm"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=45)
    calibration: ClassVar[CalibrationSettings | None] = CalibrationSettings()
    settings_class: ClassVar[type[BaseModel] | None] = Settings

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.inputs: tuple[str, ...] = ()
        self.boosters: tuple[Any, ...] = ()
        self.tails: NDArray[np.float64] = np.empty((2, 0, 2, 0))
        self.usual: Usual | None = None

    @classmethod
    def search_space(cls) -> Mapping[str, Range]:
        return SEARCH_SPACE

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return needed_features()

    def fit(self, dataset: Dataset) -> Self:
        features = dataset.features
        inputs = input_names(features.names)
        levels = with_breaker(dataset.levels)
        rows = features.matrix(inputs)
        complete = np.isfinite(rows).all(axis=1).reshape(len(features.times), -1)
        boosters, tails = [], np.empty((2, len(dataset.horizons), len(SIGNS), len(levels)))
        for h, horizon in enumerate(dataset.horizons):
            z = standardised_returns(dataset, horizon)
            y = self._labels(dataset, horizon, z)
            known = np.isfinite(y) & complete
            refuse_unfit(np.where(known, z, np.nan), horizon, self.settings.min_rows)
            bars, s = bars_of(horizon, features), self.settings
            leaf_rows = round(min(s.min_leaf_rows * np.sqrt(bars), known.sum() / 50))
            fit = parameters(s, {"objective": "gamma", "lambda_l2": s.leaf_penalty}, leaf_rows)
            ((booster, log_ratio),) = boost_in_blocks(
                s, [fit], rows[known.ravel()], y[known], np.nonzero(known)[0], bars
            )
            boosters.append(booster)
            residual = z[known] / np.exp(log_ratio / 2)
            for side, sign in enumerate(SIGNS):
                tails[:, h, side] = pareto_tail(
                    sign * residual, levels, self.settings.threshold_level, self.settings.shape_bounds
                )
        self.inputs, self.horizons, self.levels = inputs, dataset.horizons, levels
        self.boosters, self.tails = tuple(boosters), tails
        self.usual = Usual.of(features, inputs)
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma, (known, given) = features[SCALE_FEATURE], complete_rows(features, self.inputs)
        rows, time, symbol = forecast_rows(features, known)
        scale = np.empty((len(rows), len(self.horizons)))
        for h, (horizon, booster) in enumerate(zip(self.horizons, self.boosters, strict=True)):
            log_ratio = raw_score(booster, given)
            scale[:, h] = sigma[time, symbol] * np.sqrt(bars_of(horizon, features) * np.exp(log_ratio))
        return scaled_forecast(rows, self.horizons, self.levels, scale, *self.tails)

    def contributions(self, features: FeatureFrame, cells: Sequence[Cell]) -> Contributions | None:
        """The trees' score is the logarithm of a variance, so that half of a Shapley value is an effect."""
        if self.usual is None:
            return None
        known, given = complete_rows(features, self.inputs)
        places = cell_places(cells, self.horizons, SIDES, self.levels)
        parts = {h: shapley_values(self.boosters[h], given) / 2 for h, _, _ in places}
        effects = np.empty((len(given), len(places), len(self.inputs)))
        log_tail = np.empty(effects.shape[:-1])
        for cell, (h, side, level) in enumerate(places):
            effects[:, cell] = parts[h][:, :-1]
            log_tail[:, cell] = parts[h][:, -1] + np.log(self.tails[1, h, side, level])
        return self.usual.explained(features, known, tuple(cells), log_tail, effects)

    def gain(self) -> Mapping[str, float]:
        return gain_shares(self.inputs, self.boosters)

    def save(self, folder: Path) -> None:
        write_trees([folder / _trees_file(h) for h in self.horizons], self.boosters)
        content = {
            "settings": self.settings.model_dump(),
            "inputs": list(self.inputs),
            "tails": self.tails.tolist(),
            "usual": None if self.usual is None else self.usual.to_json(),
        }
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels, model.inputs = horizons, levels, tuple(content["inputs"])
        model.tails = np.array(content["tails"], dtype="float64")
        model.usual = Usual.from_json(content.get("usual"))
        model.boosters = read_trees([folder / _trees_file(h) for h in horizons])
        return model

    def _labels(self, dataset: Dataset, horizon: pd.Timedelta, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """y of the module over (time, symbol), floored; NaN where z is, or where a bar on the way is
        missing.
        """
        realized = realized_ratio(dataset, horizon)
        y: NDArray[np.float64] = np.maximum((z**2 + realized) / 2, self.settings.label_floor)
        return y


def _trees_file(horizon: pd.Timedelta) -> str:
    return f"trees-{format_duration(horizon)}.txt"
