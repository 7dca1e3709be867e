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

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from features.durations import format_duration
from features.pipeline import FeatureFrame
from models.forecast._files import read_content, write_bytes, write_content
from models.forecast._inputs import input_names, needed_features
from models.forecast._pareto import pareto_tail
from models.forecast._residuals import (
    SCALE_FEATURE,
    SIGNS,
    bars_of,
    forecast_rows,
    realized_ratio,
    refuse_unfit,
    scaled_forecast,
    standardised_returns,
    with_breaker,
)
from models.forecast.base import Dataset, TailForecast, TailModel


class Settings(BaseModel):
    """Of the trees and of the tail. Defaults were chosen on decision times before October 2024."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: int = Field(150, ge=1)
    learning_rate: float = Field(0.05, gt=0, le=1)
    leaves: int = Field(8, ge=2)
    #: Rows in a leaf at least, times sqrt(h): neighbouring rows share most of a long horizon. Never more
    #: than a fiftieth of the rows, so that a short history is still split.
    min_leaf_rows: int = Field(2000, ge=1)
    #: L2 penalty of a leaf, which pulls the forecast towards the EWMA's.
    leaf_penalty: float = Field(50.0, ge=0)
    feature_fraction: float = Field(0.5, gt=0, le=1)
    row_fraction: float = Field(0.5, gt=0, le=1)
    bins: int = Field(63, ge=2, le=255)
    #: Labels below this are raised to it: the gamma objective needs y > 0, and some bars do not move.
    label_floor: float = Field(1e-4, gt=0)
    #: Blocks of time that scale the standardised losses out of sample.
    folds: int = Field(3, ge=2)
    #: Beyond this empirical quantile the tail is generalized Pareto.
    threshold_level: float = Field(0.95, ge=0.5, lt=1)
    shape_bounds: tuple[float, float] = (-0.2, 0.5)
    #: Matured rows that a fit needs, all symbols together.
    min_rows: int = Field(2000, ge=500)
    seed: int = 1
    #: Fits side by side. Predicting takes one thread: more cost a single row milliseconds.
    fit_threads: int = Field(2, ge=1)


class GbmModel(TailModel):
    """See the module. ``tails`` has shape (VaR or ES, horizon, side, level)."""

    name: ClassVar[str] = "gbm"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=45)

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.inputs: tuple[str, ...] = ()
        self.boosters: tuple[Any, ...] = ()
        self.tails: NDArray[np.float64] = np.empty((2, 0, 2, 0))

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
            booster, log_ratio = self._boost(
                rows[known.ravel()], y[known], np.nonzero(known)[0], bars_of(horizon, features)
            )
            boosters.append(booster)
            residual = z[known] / np.exp(log_ratio / 2)
            for side, sign in enumerate(SIGNS):
                tails[:, h, side] = pareto_tail(
                    sign * residual, levels, self.settings.threshold_level, self.settings.shape_bounds
                )
        self.inputs, self.horizons, self.levels = inputs, dataset.horizons, levels
        self.boosters, self.tails = tuple(boosters), tails
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma, matrix = features[SCALE_FEATURE], features.matrix(self.inputs)
        complete = np.isfinite(matrix).all(axis=1) & np.isfinite(sigma.ravel()) & (sigma.ravel() > 0)
        rows, time, symbol = forecast_rows(features, complete.reshape(sigma.shape))
        scale = np.empty((len(rows), len(self.horizons)))
        for h, (horizon, booster) in enumerate(zip(self.horizons, self.boosters, strict=True)):
            log_ratio = _raw_score(booster, matrix[complete])
            scale[:, h] = sigma[time, symbol] * np.sqrt(bars_of(horizon, features) * np.exp(log_ratio))
        return scaled_forecast(rows, self.horizons, self.levels, scale, *self.tails)

    def save(self, folder: Path) -> None:
        for horizon, booster in zip(self.horizons, self.boosters, strict=True):
            write_bytes(folder / _trees_file(horizon), booster.model_to_string().encode())
        content = {
            "settings": self.settings.model_dump(),
            "inputs": list(self.inputs),
            "tails": self.tails.tolist(),
        }
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels, model.inputs = horizons, levels, tuple(content["inputs"])
        model.tails = np.array(content["tails"], dtype="float64")
        texts = [(folder / _trees_file(h)).read_text(encoding="utf-8") for h in horizons]
        model.boosters = tuple(lightgbm.Booster(model_str=text) for text in texts)
        return model

    def _labels(self, dataset: Dataset, horizon: pd.Timedelta, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """y of the module over (time, symbol), floored; NaN where z is, or where a bar on the way is
        missing.
        """
        realized = realized_ratio(dataset, horizon)
        y: NDArray[np.float64] = np.maximum((z**2 + realized) / 2, self.settings.label_floor)
        return y

    def _boost(
        self, rows: NDArray[np.float64], y: NDArray[np.float64], time: NDArray[np.intp], bars: int
    ) -> tuple[Any, NDArray[np.float64]]:
        """Trees fitted on all rows, and ln m of each row by trees that did not see its block of time."""
        s = self.settings
        parameters = {
            "objective": "gamma",
            "metric": "None",
            "learning_rate": s.learning_rate,
            "num_leaves": s.leaves,
            "min_data_in_leaf": round(min(s.min_leaf_rows * np.sqrt(bars), len(y) / 50)),
            "lambda_l2": s.leaf_penalty,
            "feature_fraction": s.feature_fraction,
            "bagging_fraction": s.row_fraction,
            "bagging_freq": 1,
            "max_bin": s.bins,
            # One thread a fit, fits side by side: LightGBM's own threads wait for each other in a loop, which
            # on a shared machine costs several times what they gain.
            "num_threads": 1,
            "seed": s.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
        data = lightgbm.Dataset(rows, y, params=parameters, free_raw_data=False).construct()
        edges = np.quantile(time, np.linspace(0, 1, s.folds + 1)).round().astype("intp")
        edges[-1] += 1
        blocks = [(time >= first) & (time < end) for first, end in pairwise(edges)]
        seen = [
            np.flatnonzero((time < first - bars) | (time >= end + bars)) for first, end in pairwise(edges)
        ]
        fewest = min(len(others) for others in seen)
        if fewest < s.min_rows // 2:
            raise ValueError(
                f"only {fewest} rows remain outside a block of time and {bars} bars on either side, "
                f"and {s.min_rows // 2} are needed; give more history, or fewer folds"
            )
        parts = [data, *(data.subset(others).construct() for others in seen)]
        with ThreadPoolExecutor(s.fit_threads) as pool:
            boosters = list(pool.map(lambda part: lightgbm.train(parameters, part, s.trees), parts))
        log_ratio = np.empty(len(y))
        for block, booster in zip(blocks, boosters[1:], strict=True):
            log_ratio[block] = _raw_score(booster, rows[block])
        # Read back from its own text: what is saved is what forecasts.
        return lightgbm.Booster(model_str=boosters[0].model_to_string()), log_ratio


def _raw_score(booster: Any, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln m, shape (row,). LightGBM refuses an empty matrix, which is an ordinary answer here."""
    if len(rows) == 0:
        return np.empty(0)
    return np.asarray(booster.predict(rows, raw_score=True, num_threads=1), dtype="float64")


def _trees_file(horizon: pd.Timedelta) -> str:
    return f"trees-{format_duration(horizon)}.txt"
