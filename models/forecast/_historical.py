"""What the models of filtered historical simulation share: a volatility per horizon, and an empirical tail.

    VaR = sigma_t(h) sqrt(h) q,    ES = sigma_t(h) sqrt(h) e

with sigma_t(h) the model's volatility per bar over the horizon of h bars, and q, e the empirical quantile of
the losses so standardised over the trailing window and the mean of those at or beyond it
(``models.margin.fhs``, the one definition of both). One pair per symbol, side, horizon and level. A symbol
with fewer than ``min_rows`` standardised losses, or never seen, gets those of all symbols pooled.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from features.pipeline import FeatureFrame
from models.forecast._files import read_content, write_content
from models.forecast._residuals import (
    bars_of,
    forecast_rows,
    refuse_unfit,
    scaled_forecast,
    symbol_tails,
    tail_rows,
    trailing,
    with_breaker,
)
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.margin.fhs import standardised_losses


class Settings(BaseModel):
    """How much history makes a symbol's own quantiles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Standardised losses that a symbol needs for quantiles of its own, and all symbols together for any.
    min_rows: int = Field(1000, ge=100)


class HistoricalSimulation(TailModel):
    """A model that is a volatility.

    ``tails`` has shape (VaR or ES, symbol, horizon, side, level); symbol 0 is pooled.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.symbols: tuple[str, ...] = ()
        self.tails: NDArray[np.float64] = np.empty((2, 0, 0, 2, 0))

    @staticmethod
    @abstractmethod
    def volatility(features: FeatureFrame, horizon: pd.Timedelta) -> NDArray[np.float64]:
        """sigma_t(h), (time, symbol), log return per bar; NaN or 0 where there is none."""

    def fit(self, dataset: Dataset) -> Self:
        data = trailing(dataset, self.trains_on)
        features, levels = data.features, with_breaker(dataset.levels)
        tails = np.empty((2, len(features.symbols) + 1, len(data.horizons), len(SIDES), len(levels)))
        for h, horizon in enumerate(data.horizons):
            sigma = self.volatility(features, horizon)
            z = standardised_losses(data.log_close, sigma, bars_of(horizon, features))
            refuse_unfit(z, horizon, self.settings.min_rows)
            tails[:, :, h] = symbol_tails(z, levels, self.settings.min_rows)
        self.symbols, self.horizons, self.levels, self.tails = features.symbols, data.horizons, levels, tails
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma = np.stack([self.volatility(features, h) for h in self.horizons], axis=-1)
        known: NDArray[np.bool_] = np.all(np.isfinite(sigma) & (sigma > 0), axis=-1)
        rows, time, symbol = forecast_rows(features, known)
        steps = np.sqrt([bars_of(h, features) for h in self.horizons])
        var, es = self.tails[:, tail_rows(self.symbols, features.symbols)[symbol]]
        return scaled_forecast(rows, self.horizons, self.levels, sigma[time, symbol] * steps, var, es)

    def save(self, folder: Path) -> None:
        content = {
            "settings": self.settings.model_dump(),
            "symbols": list(self.symbols),
            "tails": self.tails.tolist(),
        }
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels = horizons, levels
        model.symbols, model.tails = tuple(content["symbols"]), np.array(content["tails"], dtype="float64")
        return model
