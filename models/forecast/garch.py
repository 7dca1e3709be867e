"""``garch``: GJR-GARCH(1,1,1) with skewed t errors, its tail by filtered historical simulation; a baseline.

    V_t(h) = sum of the expected variances of the next h bars, each v <- omega + p v from the bar before
    VaR    = sqrt(V_t(h)) q,    ES = sqrt(V_t(h)) e

with the variance v of the next bar, omega and the persistence p from the features (``features.garch``, where
the maximum likelihood fit is). q and e are the tail of the losses over h bars, each divided by the sqrt(V(h))
that was known when it began, over the trailing two years (see ``_historical``). Losses are log returns
against the side, fractions; rows whose variance is in warm-up or whose bar is missing are left out.

Sources: Glosten, Jagannathan, Runkle (1993); Hansen (1994); Barone-Adesi, Giannopoulos, Vosper (1999).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.pipeline import FeatureFrame
from models.forecast._historical import HistoricalSimulation
from models.forecast._historical import Settings as Settings
from models.forecast._residuals import bars_of
from models.margin.fhs import VOLATILITY_FLOOR

#: Next bar's variance, omega and persistence, in this order.
INPUTS = ("garch_variance", "garch_omega", "garch_persistence")
#: Within this of 1, per horizon, the limit for persistence 1 is nearer than what rounding leaves.
_NEAR_ONE = 1e-6


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


class GarchModel(HistoricalSimulation):
    """See the module."""

    name: ClassVar[str] = "garch"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)
    trains_on: ClassVar[pd.Timedelta | None] = pd.Timedelta(days=730)

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return INPUTS

    @staticmethod
    def volatility(features: FeatureFrame, horizon: pd.Timedelta) -> NDArray[np.float64]:
        """sqrt(V(h) / h): the forecast over the horizon, as a volatility per bar."""
        bars = bars_of(horizon, features)
        variance, omega, persistence = (features[name] for name in INPUTS)
        mean = variance_over(variance, omega, persistence, bars) / bars
        volatility: NDArray[np.float64] = np.maximum(np.sqrt(mean), VOLATILITY_FLOOR)
        return volatility
