"""``har``: a heterogeneous autoregression of the volatility in logs, and filtered historical simulation.

One least-squares regression a horizon, pooled over symbols, of what the variance of the next h bars is
relative to what the EWMA scale promises:

    ln max(RV_h / (sigma^2 h), floor) = a + sum_w b_w har_w + sum_k c_k profile_k + e

with RV_h the sum of the h squared one-bar returns to come, har_w = ln(realized volatility over the window w /
sigma) for an hour, four hours, a day, a week and a month, and the profiles the usual size of moves in the
hours to come and in those just past. Dividing by sigma on both sides gives the EWMA the weight that the
windows leave, keeps levels out, and lets all symbols share one intercept. The exponential of a mean of logs
is too small for a mean, so the variance is corrected by what was left over, s = mean(z^2 / exp(fit)), z the
standardised return of h bars: the scale

    sigma_t sqrt(h s exp(fit_t))

is right in mean of squares over the training window. VaR and ES are that scale times the empirical tail of
the returns standardised by it, per symbol and side, as in ``ewma`` (``models.margin.fhs``): a symbol with few
losses of its own, or never seen, gets the pooled tail. A row needs all of its terms, and is left out
otherwise.

Sources: Corsi (2009), "A simple approximate long-memory model of realized volatility"; Andersen, Bollerslev,
Diebold (2007) for its logarithms; Duan (1983) for the correction; Barone-Adesi, Giannopoulos, Vosper (1999).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from features.pipeline import FeatureFrame
from models.forecast._files import read_content, write_content
from models.forecast._inputs import input_names
from models.forecast._residuals import (
    SCALE_FEATURE,
    bars_of,
    complete_rows,
    forecast_rows,
    realized_ratio,
    refuse_unfit,
    scaled_forecast,
    standardised_returns,
    symbol_tails,
    tail_rows,
    with_breaker,
)
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.search_space import Range, Real

TERMS = (
    *("har_1h", "har_4h", "har_1d", "har_1w", "har_1m"),
    *("hour_profile", "hour_profile_4h", "hour_profile_1d", "hour_profile_past"),
)


class Settings(BaseModel):
    """Of the regression and of the tails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Realized variance relative to the scale's is raised to this: the logarithm of a bar that hardly moved
    #: would otherwise outweigh all others.
    label_floor: float = Field(1e-2, gt=0, lt=1)
    #: Matured losses that a symbol needs for a tail of its own, and all symbols together for a fit.
    min_rows: int = Field(1000, ge=100)


SEARCH_SPACE: Mapping[str, Range] = {"label_floor": Real(1e-4, 0.5, log=True)}


class HarModel(TailModel):
    """See the module. ``coefficients`` has shape (horizon, intercept and ``TERMS``), the correction ln s
    within the intercept; ``tails`` (VaR or ES, symbol, horizon, side, level), symbol 0 pooled.
    """

    name: ClassVar[str] = "har"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=30)
    settings_class: ClassVar[type[BaseModel] | None] = Settings

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.symbols: tuple[str, ...] = ()
        self.coefficients: NDArray[np.float64] = np.empty((0, 1 + len(TERMS)))
        self.tails: NDArray[np.float64] = np.empty((2, 0, 0, 2, 0))

    @classmethod
    def search_space(cls) -> Mapping[str, Range]:
        return SEARCH_SPACE

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return (SCALE_FEATURE, *TERMS)

    def fit(self, dataset: Dataset) -> Self:
        features, levels = dataset.features, with_breaker(dataset.levels)
        terms = features.matrix(input_names(features.names, TERMS))
        complete = np.isfinite(terms).all(axis=1).reshape(len(features.times), -1)
        coefficients = np.empty((len(dataset.horizons), 1 + len(TERMS)))
        tails = np.empty((2, len(features.symbols) + 1, len(dataset.horizons), len(SIDES), len(levels)))
        for h, horizon in enumerate(dataset.horizons):
            z = standardised_returns(dataset, horizon)
            ratio = realized_ratio(dataset, horizon)
            known = np.isfinite(z) & np.isfinite(ratio) & complete
            z = np.where(known, z, np.nan)
            refuse_unfit(z, horizon, self.settings.min_rows)
            used = _with_intercept(terms[known.ravel()])
            label = np.log(np.maximum(ratio[known], self.settings.label_floor))
            coefficients[h] = np.linalg.lstsq(used, label)[0]
            log_ratio = used @ coefficients[h]
            correction = np.log(np.mean(z[known] ** 2 / np.exp(log_ratio)))
            coefficients[h, 0] += correction
            z[known] /= np.exp((log_ratio + correction) / 2)
            tails[:, :, h] = symbol_tails(z, levels, self.settings.min_rows)
        self.symbols, self.horizons, self.levels = features.symbols, dataset.horizons, levels
        self.coefficients, self.tails = coefficients, tails
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma, (known, terms) = features[SCALE_FEATURE], complete_rows(features, TERMS)
        rows, time, symbol = forecast_rows(features, known)
        log_ratio = _with_intercept(terms) @ self.coefficients.T
        steps = np.sqrt([bars_of(h, features) for h in self.horizons])
        scale = sigma[time, symbol, np.newaxis] * steps * np.exp(log_ratio / 2)
        var, es = self.tails[:, tail_rows(self.symbols, features.symbols)[symbol]]
        return scaled_forecast(rows, self.horizons, self.levels, scale, var, es)

    def save(self, folder: Path) -> None:
        content = {
            "settings": self.settings.model_dump(),
            "symbols": list(self.symbols),
            "terms": list(TERMS),
            "coefficients": self.coefficients.tolist(),
            "tails": self.tails.tolist(),
        }
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        if tuple(content["terms"]) != TERMS:
            raise ValueError(
                f"{folder} was fitted on the terms {content['terms']} and this version uses {list(TERMS)}; "
                f"train and save it again"
            )
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels = horizons, levels
        model.symbols = tuple(content["symbols"])
        model.coefficients = np.array(content["coefficients"], dtype="float64")
        model.tails = np.array(content["tails"], dtype="float64")
        return model


def _with_intercept(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(terms)), terms])
