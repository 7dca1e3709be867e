"""``ewma``: EWMA-filtered historical simulation, the baseline, and the rules rung's method as a model.

The volatility is the EWMA's per bar (decay 0.94 an hour), the same for every horizon; the tail is that of the
standardised losses over the trailing two years (see ``_historical``).

Sources: Barone-Adesi, Giannopoulos, Vosper (1999); Hull, White (1998).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.pipeline import FeatureFrame
from models.forecast._historical import HistoricalSimulation
from models.forecast._historical import Settings as Settings
from models.forecast._residuals import SCALE_FEATURE


class EwmaModel(HistoricalSimulation):
    """See the module."""

    name: ClassVar[str] = "ewma"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=7)
    trains_on: ClassVar[pd.Timedelta | None] = pd.Timedelta(days=730)

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return (SCALE_FEATURE,)

    @staticmethod
    def volatility(features: FeatureFrame, horizon: pd.Timedelta) -> NDArray[np.float64]:  # noqa: ARG004
        return features[SCALE_FEATURE]
