"""``garch``: GJR-GARCH(1,1,1) with skewed t errors, its tail by filtered historical simulation; a baseline.

    V_t(h) = sum of the expected variances of the next h bars, each v <- omega + p v from the bar before
    VaR    = sqrt(V_t(h)) q,    ES = sqrt(V_t(h)) e

with the variance v of the next bar, omega and the persistence p from the features (``features.garch``, where
the maximum likelihood fit is), and q, e the empirical quantile of the losses over h bars, each divided by the
sqrt(V(h)) that was known when it began, over the trailing two years, and the mean of those at or beyond it
(``models.margin.fhs``). One pair per symbol, side, horizon and level. A symbol with fewer than ``min_rows``
standardised losses, or never seen, gets those of all symbols pooled. Losses are log returns against the side,
fractions; rows whose variance is in warm-up or whose bar is missing are left out.

Sources: Glosten, Jagannathan, Runkle (1993); Hansen (1994); Barone-Adesi, Giannopoulos, Vosper (1999).
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
from models.margin.fhs import VOLATILITY_FLOOR, standardised_losses

#: Next bar's variance, omega and persistence, in this order.
INPUTS = ("garch_variance", "garch_omega", "garch_persistence")
#: Within this of 1, per horizon, the limit for persistence 1 is nearer than what rounding leaves.
_NEAR_ONE = 1e-6


class Settings(BaseModel):
    """How much history makes a symbol's own quantiles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Standardised losses that a symbol needs for quantiles of its own, and all symbols together for any.
    min_rows: int = Field(1000, ge=100)


def variance_over(
    variance: NDArray[np.float64], omega: NDArray[np.float64], persistence: NDArray[np.float64], bars: int
) -> NDArray[np.float64]:
    """Expected variance over the next ``bars`` bars, the sum of v, omega + p v, ... in closed form.

    With A = (1 - p^h) / (1 - p) it is v A + omega (h - A) / (1 - p), and v h + omega h (h - 1) / 2 for p = 1.
    Arrays of one shape, variances per bar; NaN where an argument is NaN.
    """
    gap = 1 - persistence
    near = np.abs(gap) * bars < _NEAR_ONE
    gap = np.where(near, 1.0, gap)  # a stand-in, where the limit is taken
    with np.errstate(divide="ignore"):  # the logarithm of persistence 0, whose power is rightly 0
        weight = np.where(near, bars, -np.expm1(bars * np.log1p(-gap)) / gap)
    later = np.where(near, bars * (bars - 1) / 2, (bars - weight) / gap)
    total: NDArray[np.float64] = variance * weight + omega * later
    return total


class GarchModel(TailModel):
    """See the module. Quantiles: ``tails`` has shape (VaR or ES, symbol, horizon, side, level); symbol 0 is
    pooled.
    """

    name: ClassVar[str] = "garch"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)
    trains_on: ClassVar[pd.Timedelta | None] = pd.Timedelta(days=730)

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.symbols: tuple[str, ...] = ()
        self.tails: NDArray[np.float64] = np.empty((2, 0, 0, 2, 0))

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return INPUTS

    def fit(self, dataset: Dataset) -> Self:
        data = trailing(dataset, self.trains_on)
        levels, symbols = with_breaker(dataset.levels), data.features.symbols
        tails = np.empty((2, len(symbols) + 1, len(data.horizons), len(SIDES), len(levels)))
        for h, horizon in enumerate(data.horizons):
            z = standardised_losses(
                data.log_close, _volatility(data.features, horizon), bars_of(horizon, data.features)
            )
            refuse_unfit(z, horizon, self.settings.min_rows)
            tails[:, :, h] = symbol_tails(z, levels, self.settings.min_rows)
        self.symbols, self.horizons, self.levels, self.tails = symbols, data.horizons, levels, tails
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        known = np.all([np.isfinite(features[name]) for name in INPUTS], axis=0)
        rows, time, symbol = forecast_rows(features, known & (features["garch_variance"] > 0))
        tail = tail_rows(self.symbols, features.symbols)[symbol]
        scale = np.stack(
            [_volatility(features, h)[time, symbol] * np.sqrt(bars_of(h, features)) for h in self.horizons],
            axis=-1,
        )
        var, es = self.tails[:, tail]
        return scaled_forecast(rows, self.horizons, self.levels, scale, var, es)

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


def _volatility(features: FeatureFrame, horizon: pd.Timedelta) -> NDArray[np.float64]:
    """sqrt(V(h) / h), (time, symbol): the forecast over the horizon, as a volatility per bar."""
    bars = bars_of(horizon, features)
    variance, omega, persistence = (features[name] for name in INPUTS)
    mean = variance_over(variance, omega, persistence, bars) / bars
    volatility: NDArray[np.float64] = np.maximum(np.sqrt(mean), VOLATILITY_FLOOR)
    return volatility
