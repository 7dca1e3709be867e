"""What was usual in the training window: mean and deviation of each input, and each symbol's volatility.

An explanation is told against it. The usual volatility of a symbol is exp(mean ln sigma), per bar, over its
known rows; a symbol that was not in the window has the mean over all. An input that was never known, or never
moved, has deviation 1, so that it is never far from its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.pipeline import FeatureFrame
from models.explanations import Array, Cell, Contributions
from models.forecast._residuals import SCALE_FEATURE, bars_of, forecast_rows

_LEAST_DEVIATION = 1e-12


@dataclass(frozen=True)
class Usual:
    """``mean`` and ``deviation`` are (input,); ``log_scale`` is by symbol, ``log_scale_all`` that of all
    together, with their deviation about it."""

    inputs: tuple[str, ...]
    mean: Array
    deviation: Array
    log_scale: Mapping[str, float]
    log_scale_all: float
    log_scale_deviation: float

    @classmethod
    def of(cls, features: FeatureFrame, inputs: tuple[str, ...]) -> Self:
        """Of the rows of a training window. Raises ``ValueError`` where no scale is known in it."""
        known = np.isfinite(features[SCALE_FEATURE]) & (features[SCALE_FEATURE] > 0)
        if not known.any():
            raise ValueError(f"no {SCALE_FEATURE} is known in the training window; give more history")
        logs = np.log(np.where(known, features[SCALE_FEATURE], 1.0))
        own = {
            s: float(logs[known[:, i], i].mean()) for i, s in enumerate(features.symbols) if known[:, i].any()
        }
        usual = np.array([own.get(s, 0.0) for s in features.symbols])
        deviation = float(np.sqrt(np.mean((logs - usual)[known] ** 2)))
        mean, spread = _moments(features.matrix(inputs)[known.ravel()])
        return cls(inputs, mean, spread, own, float(np.mean(list(own.values()))), _divisor(deviation))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which ``from_json`` rebuilds it to the bit."""
        return {
            "mean": dict(zip(self.inputs, self.mean.tolist(), strict=True)),
            "deviation": dict(zip(self.inputs, self.deviation.tolist(), strict=True)),
            "log_scale": dict(self.log_scale),
            "log_scale_all": self.log_scale_all,
            "log_scale_deviation": self.log_scale_deviation,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> Self | None:
        """None where there is none: a model that an earlier version saved forecasts and explains nothing."""
        if content is None:
            return None
        return cls(
            tuple(content["mean"]),
            np.array(list(content["mean"].values()), dtype="float64"),
            np.array([content["deviation"][name] for name in content["mean"]], dtype="float64"),
            content["log_scale"],
            content["log_scale_all"],
            content["log_scale_deviation"],
        )

    def explained(
        self,
        features: FeatureFrame,
        known: NDArray[np.bool_],
        cells: tuple[Cell, ...],
        log_tail: Array,
        effects: Array,
    ) -> Contributions:
        """Contributions to ln ES = ln sigma + ln sqrt(h) + ln tail.

        Args:
            features: of the forecast.
            known: (time, symbol), the rows that are explained.
            cells: what is explained.
            log_tail: (row, cell), the baseline of ln tail.
            effects: (row, cell, input) on ln tail.
        """
        rows, time, symbol = forecast_rows(features, known)
        values = features.matrix(self.inputs)[known.ravel()]
        sigma = features[SCALE_FEATURE][time, symbol]
        usual = np.array([self.log_scale.get(s, self.log_scale_all) for s in features.symbols])[symbol]
        raised = np.log(sigma) - usual
        steps = np.log([bars_of(cell.horizon, features) for cell in cells]) / 2
        return Contributions(
            rows,
            cells,
            (SCALE_FEATURE, *self.inputs),
            np.column_stack([sigma, values]),
            np.column_stack([raised / self.log_scale_deviation, (values - self.mean) / self.deviation]),
            usual[:, np.newaxis] + steps + log_tail,
            np.concatenate(
                [np.broadcast_to(raised[:, np.newaxis, np.newaxis], (*log_tail.shape, 1)), effects], axis=-1
            ),
        )


def _moments(rows: Array) -> tuple[Array, Array]:
    """Mean and deviation over the known rows of each column."""
    known = np.isfinite(rows)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, rows, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, rows - mean, 0.0) ** 2).sum(axis=0) / count)
    return mean, np.where(spread > _LEAST_DEVIATION, spread, 1.0)


def _divisor(deviation: float) -> float:
    return deviation if deviation > _LEAST_DEVIATION else 1.0
