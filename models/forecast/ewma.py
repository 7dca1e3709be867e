"""``ewma``: EWMA-filtered historical simulation, the baseline, and the rules rung's method as a model.

VaR = sigma_t sqrt(h) q and ES = sigma_t sqrt(h) e, with sigma_t the EWMA volatility per bar (decay 0.94 an
hour), h the horizon in bars, and q, e the empirical quantile of the standardised losses over the trailing two
years and the mean of those at or beyond it
(``models.margin.fhs``, the one definition of both). One pair per symbol, side, horizon and level. A
symbol with fewer than ``min_rows`` standardised losses, or never seen, gets those of all symbols pooled.

Sources: Barone-Adesi, Giannopoulos, Vosper (1999); Hull, White (1998).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from features.pipeline import FeatureFrame
from models.forecast._files import read_content, write_content
from models.forecast._residuals import (
    SCALE_FEATURE,
    bars_of,
    forecast_rows,
    refuse_unfit,
    scaled_forecast,
    standardised_returns,
    symbol_tails,
    tail_rows,
    trailing,
    with_breaker,
)
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel


class Settings(BaseModel):
    """How much history makes a symbol's own quantiles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Standardised losses that a symbol needs for quantiles of its own, and all symbols together for any.
    min_rows: int = Field(1000, ge=100)


class EwmaModel(TailModel):
    """See the module. Quantiles: ``tails`` has shape (VaR or ES, symbol, horizon, side, level); symbol 0 is
    pooled.
    """

    name: ClassVar[str] = "ewma"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=7)
    trains_on: ClassVar[pd.Timedelta | None] = pd.Timedelta(days=730)

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.symbols: tuple[str, ...] = ()
        self.tails: NDArray[np.float64] = np.empty((2, 0, 0, 2, 0))

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return (SCALE_FEATURE,)

    def fit(self, dataset: Dataset) -> Self:
        data = trailing(dataset, self.trains_on)
        levels, symbols = with_breaker(dataset.levels), data.features.symbols
        tails = np.empty((2, len(symbols) + 1, len(data.horizons), len(SIDES), len(levels)))
        for h, horizon in enumerate(data.horizons):
            z = standardised_returns(data, horizon)
            refuse_unfit(z, horizon, self.settings.min_rows)
            tails[:, :, h] = symbol_tails(z, levels, self.settings.min_rows)
        self.symbols, self.horizons, self.levels, self.tails = symbols, data.horizons, levels, tails
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma = features[SCALE_FEATURE]
        rows, time, symbol = forecast_rows(features, np.isfinite(sigma) & (sigma > 0))
        tail = tail_rows(self.symbols, features.symbols)[symbol]
        steps = np.sqrt([bars_of(h, features) for h in self.horizons])
        var, es = self.tails[:, tail]
        return scaled_forecast(
            rows, self.horizons, self.levels, sigma[time, symbol, np.newaxis] * steps, var, es
        )

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
