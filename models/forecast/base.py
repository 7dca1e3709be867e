"""What every model is (``TailModel``), learns from (``Dataset``) and answers with (``TailForecast``).

Losses are log returns over the horizon against the side, as fractions: positive is a loss. ``long`` loses
when the price falls, ``short`` when it rises. VaR at a level is that quantile of the loss, ES the mean loss
beyond it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from features.durations import format_duration, whole_bars
from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions
from models.search_space import Range

if TYPE_CHECKING:
    from models.forecast.calibration import CalibrationSettings

SIDES = ("long", "short")
#: Always among the levels: the circuit breaker of the safety engine compares bars with it.
BREAKER_LEVEL = 0.999


class ForecastError(ValueError):
    """A forecast breaks an invariant: not finite, VaR <= 0, ES < VaR, or not monotone in the level."""


@dataclass(frozen=True)
class TailForecast:
    """VaR and ES over (row, horizon, side, level), float64 fractions of log return.

    Rows are (time, symbol) pairs, the decision time and the contract. Levels ascend and include 0.999.
    Checked when made: everything finite, 0 < VaR <= ES, both non-decreasing in the level; else
    ``ForecastError``.

    ``spread``, (row,), is how far the members of an ensemble that were trained alike disagree: the standard
    deviation of their ln ES, the mean over horizons, sides and levels. None: the model has no such members.
    """

    rows: pd.MultiIndex
    horizons: tuple[pd.Timedelta, ...]
    levels: tuple[float, ...]
    var: NDArray[np.float64]
    es: NDArray[np.float64]
    spread: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.rows), len(self.horizons), len(SIDES), len(self.levels))
        if list(self.levels) != sorted(set(self.levels)) or BREAKER_LEVEL not in self.levels:
            raise ForecastError(f"levels are {self.levels}; give them ascending and with {BREAKER_LEVEL}")
        for name, array in (("VaR", self.var), ("ES", self.es)):
            if array.shape != shape:
                raise ForecastError(
                    f"{name} has shape {array.shape}; rows x horizons x sides x levels is {shape}"
                )
            self._refuse(~np.isfinite(array), array, f"{name} is not finite")
            falls = np.diff(array, axis=-1, prepend=array[..., :1]) < 0
            self._refuse(falls, array, f"{name} falls as the level rises")
        self._refuse(self.var <= 0, self.var, "VaR is not above 0")
        self._refuse(self.es < self.var, self.es, "ES is below VaR")
        if self.spread is not None and (
            self.spread.shape != shape[:1] or not (np.isfinite(self.spread) & (self.spread >= 0)).all()
        ):
            raise ForecastError(
                f"the spread of the members has shape {self.spread.shape} where there are {shape[0]} rows, "
                f"or is not finite and at least 0 everywhere"
            )

    def _refuse(self, broken: NDArray[np.bool_], values: NDArray[np.float64], rule: str) -> None:
        if broken.any():
            r, h, s, k = (int(i[0]) for i in np.nonzero(broken))
            raise ForecastError(
                f"{rule} at {self.rows[r]}, horizon {format_duration(self.horizons[h])}, side {SIDES[s]}, "
                f"level {self.levels[k]}: {values[r, h, s, k]} ({int(broken.sum())} values)"
            )

    @classmethod
    def joined(cls, parts: Sequence[TailForecast]) -> TailForecast:
        """The rows of several forecasts, one after the other; with a spread where all have one. Raises
        ``ValueError`` where there is none, or their horizons or levels differ."""
        kinds = {(part.horizons, part.levels) for part in parts}
        if len(kinds) != 1:
            raise ValueError(f"forecasts of {len(kinds)} kinds of horizons and levels; join those of one")
        rows = parts[0].rows.append([part.rows for part in parts[1:]])
        var, es = (np.concatenate([getattr(part, name) for part in parts]) for name in ("var", "es"))
        spreads = [part.spread for part in parts if part.spread is not None]
        spread = np.concatenate(spreads) if len(spreads) == len(parts) else None
        return cls(rows, parts[0].horizons, parts[0].levels, var, es, spread)

    def to_table(self, model: str) -> pd.DataFrame:
        """The forecast table: ``time, symbol, horizon, side, level, model, var, es``, a row per value."""
        R, H, S, K = self.var.shape
        row, horizon, side, level = (i.ravel() for i in np.indices((R, H, S, K)))
        labels = np.array([format_duration(h) for h in self.horizons], dtype=object)
        return pd.DataFrame(
            {
                "time": self.rows.get_level_values("time")[row],
                "symbol": self.rows.get_level_values("symbol")[row],
                "horizon": labels[horizon],
                "side": np.array(SIDES, dtype=object)[side],
                "level": np.array(self.levels)[level],
                "model": model,
                "var": self.var.ravel(),
                "es": self.es.ravel(),
            }
        )


@dataclass(frozen=True)
class Dataset:
    """What a model may learn from: features and closes up to one time, and what to forecast.

    Labels come from ``closes`` alone, which end where the training window ends: a loss that had not matured
    by then is NaN, so rows whose label would reach past the window are purged by construction.

    ``ranges`` is Parkinson's variance of each bar (``features.volatility``), a less noisy label than a loss;
    None: unknown, as for a market of closes alone.
    """

    features: FeatureFrame
    closes: pd.DataFrame
    horizons: tuple[pd.Timedelta, ...]
    levels: tuple[float, ...]
    ranges: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if (
            not self.closes.index.equals(self.features.times)
            or tuple(self.closes.columns) != self.features.symbols
        ):
            raise ValueError("closes and features cover different times or symbols; cut both from one market")
        if self.ranges is not None and not (
            self.ranges.index.equals(self.closes.index) and self.ranges.columns.equals(self.closes.columns)
        ):
            raise ValueError("ranges and closes cover different times or symbols; cut both from one market")
        steps = np.diff(self.features.times)
        if (steps != self.features.interval).any():
            broken = int(np.argmax(steps != self.features.interval))
            raise ValueError(
                f"there is not one row every {format_duration(self.features.interval)}: "
                f"{self.features.times[broken]} is followed by {self.features.times[broken + 1]}; keep the "
                f"rows of missing bars, as NaN, so that losses are taken over the horizon and no more"
            )
        for horizon in self.horizons:
            whole_bars(horizon, self.features.interval)

    @cached_property
    def log_close(self) -> NDArray[np.float64]:
        logs: NDArray[np.float64] = np.log(self.closes.to_numpy(dtype="float64"))
        return logs

    @cached_property
    def variance(self) -> NDArray[np.float64]:
        """Of each bar, (time, symbol): from its range, or the squared log return where ranges are unknown."""
        if self.ranges is not None:
            return self.ranges.to_numpy(dtype="float64")
        return np.asarray(np.diff(self.log_close, axis=0, prepend=np.nan) ** 2)

    def forward_returns(self, horizon: pd.Timedelta) -> NDArray[np.float64]:
        """ln(close h later / close), shape (time, symbol); NaN where either is unknown. The short's loss; the
        long's is its negative."""
        bars = whole_bars(horizon, self.features.interval)
        out = np.full_like(self.log_close, np.nan)
        out[:-bars] = self.log_close[bars:] - self.log_close[:-bars]
        return out


@dataclass(frozen=True)
class FamilyTrial:
    """Whether a family of inputs paid at a horizon: HAC ``t`` of what it did to the error on blocks of time
    that it had not seen (below 0: less of it), and whether the fitted model uses it there."""

    horizon: pd.Timedelta
    family: str
    t: float
    used: bool


class TailModel(ABC):
    """A model of the loss tail. Made with settings, fitted on a ``Dataset``, then asked for forecasts.

    A fitted model depends on nothing but the arguments of ``predict``; ``save`` writes plain files (LightGBM
    text, safetensors, JSON, never a pickle) and ``load`` gives a model with bit-equal forecasts.
    """

    #: Registry key; equals the module name in ``models.forecast``.
    name: ClassVar[str]
    #: How often a walk-forward backtest refits it.
    refit_every: ClassVar[pd.Timedelta]
    #: How much history a fit uses at most; None: all.
    trains_on: ClassVar[pd.Timedelta | None] = None
    #: How its forecasts are calibrated by the losses that mature, on top of ``predict`` and wherever they are
    #: judged or served; None: not at all.
    calibration: ClassVar[CalibrationSettings | None] = None
    #: What it is made with: a frozen pydantic model whose defaults are the shipped ones; None: nothing.
    settings_class: ClassVar[type[BaseModel] | None] = None

    horizons: tuple[pd.Timedelta, ...]
    levels: tuple[float, ...]

    def __init__(self, settings: Any = None) -> None:
        if settings is not None:
            raise TypeError(f"model {self.name} takes no settings, and was given {settings!r}")

    def gain(self) -> Mapping[str, float]:
        """How much of what its trees gained in fitting each input brought, shares that sum to 1; empty for a
        model without trees."""
        return {}

    def trials(self) -> tuple[FamilyTrial, ...]:
        """The families of inputs that it tried in fitting, horizon by horizon, in the order of the trials;
        empty for a model that chooses none."""
        return ()

    def reads(self) -> tuple[str, ...] | None:
        """The features that the fitted model looks at, of those that it asked for; None: all of them."""
        return None

    def contributions(
        self,
        features: FeatureFrame,  # noqa: ARG002 # what a model that explains itself looks at
        cells: Sequence[Cell],  # noqa: ARG002
    ) -> Contributions | None:
        """What its own ES of each row that it forecasts is made of, before calibration; None: it cannot tell.

        Exactly additive, up to rounding, wherever the forecast is above the floor that holds a flat price
        above zero. Raises ``ValueError`` for a cell that it does not forecast.
        """
        return None

    @classmethod
    def search_space(cls) -> Mapping[str, Range]:
        """Which of its settings are worth tuning, and where to look; empty: none. Every value within the
        ranges, in every combination, makes valid settings, the defaults among them."""
        return {}

    @classmethod
    @abstractmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        """The features it reads; None: every feature that the bars allow."""

    @classmethod
    def optional_features(cls) -> tuple[str, ...]:
        """The features that it reads where the market allows them, and does without where it does not."""
        return ()

    @abstractmethod
    def fit(self, dataset: Dataset) -> Self:
        """Learn and return self. Raises ``ValueError`` where the data cannot carry a fit (too short, all
        flat).
        """

    @abstractmethod
    def predict(self, features: FeatureFrame) -> TailForecast:
        """Forecast every (time, symbol) row that can be; rows without their inputs are left out, never
        invented.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the fitted model into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
