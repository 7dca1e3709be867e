"""What is foreseen of one contract: VaR and ES by horizon, side and level, and the candidates made of them.

Losses are log returns over the horizon against the side, positive is a loss, as in ``models.forecast.base``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.durations import format_duration
from models.forecast.base import BREAKER_LEVEL
from models.margin.limits import Limits
from models.margin.requirement import candidate
from models.margin.types import SIDES, Candidate, Tail
from models.settings import MarginSettings
from serving.inputs import Known

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """VaR and ES of one contract, each (horizon, side, level), as some model or rung gave them.

    ``factor``, (VaR or ES, horizon, side, level), is what the calibration multiplied a model's by, already
    within ``var`` and ``es``, which were put in order afterwards; None where nothing was calibrated.
    ``confidence`` and ``drift`` are those of the candidate (``models.forecast.confidence``).
    """

    horizons_s: tuple[float, ...]
    levels: tuple[float, ...]
    var: Array
    es: Array
    factor: Array | None = None
    confidence: float = 1.0
    drift: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "horizons_s": list(self.horizons_s),
            "levels": list(self.levels),
            "var": self.var.tolist(),
            "es": self.es.tolist(),
            "factor": None if self.factor is None else self.factor.tolist(),
            "confidence": self.confidence,
            "drift": self.drift,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Forecast:
        factor = content.get("factor")  # absent from what was stored before there was calibration
        return cls(
            tuple(content["horizons_s"]),
            tuple(content["levels"]),
            np.array(content["var"], dtype="float64"),
            np.array(content["es"], dtype="float64"),
            None if factor is None else np.array(factor, dtype="float64"),
            float(content.get("confidence", 1.0)),  # absent from what was stored before forecasts were judged
            float(content.get("drift", 0.0)),
        )

    @property
    def flaw(self) -> str | None:
        """What is wrong with it, in words; a model may write into its arrays after they were checked."""
        if not (np.isfinite(self.var).all() and np.isfinite(self.es).all()):
            return "VaR or ES is not finite"
        if (self.var <= 0).any():
            return "VaR is not above 0"
        return "ES is below VaR" if (self.es < self.var).any() else None

    def by_horizon(self, side: str) -> list[dict[str, Any]]:
        """One entry a horizon and level: ``horizon`` ("4h"), ``level``, ``var``, ``es``."""
        s = SIDES.index(side)
        return [
            {
                "horizon": format_duration(pd.Timedelta(seconds=horizon_s)),
                "level": level,
                "var": float(self.var[h, s, k]),
                "es": float(self.es[h, s, k]),
            }
            for h, horizon_s in enumerate(self.horizons_s)
            for k, level in enumerate(self.levels)
        ]


def trusted(
    forecasts: Mapping[str, Forecast], trust: Mapping[str, tuple[float, float]]
) -> dict[str, Forecast]:
    """Forecasts by symbol with the confidence and drift of each; those of which ``trust`` says nothing as
    they are."""
    return {
        symbol: forecast
        if symbol not in trust
        else replace(forecast, confidence=trust[symbol][0], drift=trust[symbol][1])
        for symbol, forecast in forecasts.items()
    }


@dataclass(frozen=True)
class Needs:
    """What a requirement is made of: each kind's tail, and the horizons and levels that hold them."""

    initial: Tail
    maintenance: Tail
    limits: Limits

    @classmethod
    def of(cls, margin: MarginSettings) -> Needs:
        return cls(
            Tail(margin.initial.level, float(margin.initial.horizon_s)),
            Tail(margin.maintenance.level, float(margin.maintenance.horizon_s)),
            margin.limits,
        )

    @property
    def horizons_s(self) -> tuple[float, ...]:
        return tuple(sorted({self.initial.horizon_s, self.maintenance.horizon_s}))

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(sorted({self.initial.level, self.maintenance.level, BREAKER_LEVEL}))

    def candidate(
        self, rung: str, forecast: Forecast, made_at_s: float, interval_s: float, version: str
    ) -> Candidate:
        """The rung's requirement. Raises ``models.margin.requirement.RequirementError`` where the forecast
        lacks a kind's horizon or level."""
        made = candidate(
            rung,
            forecast.var,
            forecast.es,
            horizons_s=forecast.horizons_s,
            levels=forecast.levels,
            initial=self.initial,
            maintenance=self.maintenance,
            made_at_s=made_at_s,
            interval_s=interval_s,
            limits=self.limits,
            model_version=version,
        )
        return replace(made, confidence=forecast.confidence, drift=forecast.drift)


@dataclass(frozen=True)
class Seen:
    """What one rung foresees: its forecast, and the candidate that the engine gets."""

    candidate: Candidate
    forecast: Forecast


@dataclass(frozen=True)
class Outlook:
    """What is foreseen of a contract at a close; None where a rung has nothing to say. ``regime`` holds the
    filtered probabilities by name, empty where the model in use has none. ``explanation`` says why the
    champion asks what it asks (``serving.explain``), None where nothing does. ``known`` is what the champion
    knew and did not know beyond the bars."""

    champion: Seen | None = None
    rules: Seen | None = None
    regime: Mapping[str, float] = field(default_factory=dict)
    explanation: list[dict[str, Any]] | None = None
    known: Known = field(default_factory=Known)
