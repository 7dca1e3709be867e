"""Online calibration: slow factors on VaR and ES that follow what matured losses did to them.

Two numbers a horizon, side and level, pooled over contracts: what is forecast at a time is served as

    VaR = exp(theta_v) x VaR of the model,      ES = exp(theta_e) x ES of the model, at least VaR.

When a bar closes, the losses L of what was forecast exactly h bars before have matured. With means over the
contracts whose forecast and loss are known (the others do not count), VaR and ES scaled, and a = 1 - level,

    theta_v <- theta_v + var_step / h x mean(1{L > VaR} - a)
    theta_e <- theta_e + es_step / h x mean(1{L > VaR} min(L / ES - 1, MOST_EXCESS)),

each held within +-theta_max, and only then the forecast of that close is scaled. The first follows how often
VaR is exceeded, the second how far beyond ES such losses are on average; a level that sees no loss beyond its
VaR leaves its theta_e alone. Losses over h bars overlap, so that each bar counts one h-th. Steps are per hit
and the same at every level: the noise in theta is alike then (about sqrt(step / (2 x tail index)) if
contracts moved as one), and a rarer level takes longer. Steps have to be small: a large one has perfect
coverage and is worse, because it follows what the model already knows.

**Long-run bound.** Off its bounds, theta_v gains var_step / h x (p - a) at each close that counts, p being
the share of contracts beyond VaR. Over T of them the sum telescopes, whatever the losses are:

    mean(p) - a = h (theta_T - theta_0) / (var_step T),   so   |mean(p) - a| <= 2 theta_max h / (var_step T).

Held at the lower bound, theta_v only would have fallen further, so mean(p) exceeds a by no more than that
still. At the upper bound hits are given up on, on purpose: a broken feed may not scale margin without end.
It is out of reach where losses stay below exp(theta_max - var_step / h) VaR, since theta_v rises with hits
only, and by less than var_step / h. A loss counts at its maturity, against theta of the close before: for
h = 1 that is what its forecast was served with, otherwise one h - 1 closes younger.

The order of the levels is restored after scaling by the running maximum, which only raises; hits count
against the value before that, so that theta follows its own level.

Sources: Angelopoulos, Candes, Tibshirani (2023), quantile tracking, here of ln(L / VaR); Gibbs, Candes (2021)
for the bound; McNeil, Frey (2000) for the mean excess over ES given a hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from features.durations import format_duration, parse_duration, whole_bars
from models.forecast._residuals import SIGNS
from models.forecast.base import SIDES, TailForecast

Array = NDArray[np.float64]

#: A loss counts as at most five times its ES: one wrong print may not decide for months.
MOST_EXCESS: Final = 4.0


class CalibrationSettings(BaseModel):
    """How fast the factors move, and how far. Steps and bound are of their logarithms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Rise of theta_v where every contract is beyond its VaR for a horizon; a of it is how it falls without.
    var_step: FiniteFloat = Field(0.005, gt=0, le=0.2)
    #: Rise of theta_e where every contract loses twice its ES for a horizon. 0: ES has no factor of its own.
    es_step: FiniteFloat = Field(0.02, ge=0, le=0.2)
    #: Factors lie within exp(-theta_max) and exp(theta_max).
    theta_max: FiniteFloat = Field(0.5, gt=0, le=1)


@dataclass(frozen=True)
class CalibrationState:
    """Where a calibration stands: ``theta``, of shape (VaR or ES, horizon, side, level), after the losses
    that matured by the close ``until`` (None: after none).

    Raises ``ValueError`` where theta has another shape, is not finite, or exceeds ``theta_max``.
    """

    settings: CalibrationSettings
    interval: pd.Timedelta
    horizons: tuple[pd.Timedelta, ...]
    levels: tuple[float, ...]
    until: pd.Timestamp | None
    theta: Array

    def __post_init__(self) -> None:
        shape, most = (2, len(self.horizons), len(SIDES), len(self.levels)), self.settings.theta_max
        if self.theta.shape != shape:
            raise ValueError(
                f"theta has shape {self.theta.shape}; (VaR, ES) x horizons x sides x levels is {shape}; "
                f"train the model anew"
            )
        if not (np.abs(self.theta) <= most).all():
            raise ValueError(
                f"theta is {self.theta.tolist()}; each lies within +-{most}: train the model anew"
            )

    @classmethod
    def neutral(
        cls,
        settings: CalibrationSettings,
        interval: pd.Timedelta,
        horizons: tuple[pd.Timedelta, ...],
        levels: tuple[float, ...],
    ) -> Self:
        """Before any loss: every factor is 1."""
        theta = np.zeros((2, len(horizons), len(SIDES), len(levels)))
        return cls(settings, interval, horizons, levels, None, theta)

    @cached_property
    def factor(self) -> Array:
        """exp(theta), of theta's shape."""
        found: Array = np.exp(self.theta)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which ``from_json`` rebuilds theta to the bit."""
        return {
            "settings": self.settings.model_dump(),
            "interval": format_duration(self.interval),
            "horizons": [format_duration(h) for h in self.horizons],
            "levels": list(self.levels),
            "until": None if self.until is None else self.until.isoformat(),
            "theta": self.theta.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` where it is not
        one.
        """
        until = content["until"]
        return cls(
            CalibrationSettings(**content["settings"]),
            parse_duration(content["interval"]),
            tuple(parse_duration(h) for h in content["horizons"]),
            tuple(float(level) for level in content["levels"]),
            None if until is None else pd.Timestamp(until),
            np.array(content["theta"], dtype="float64"),
        )


def calibrated(forecast: TailForecast, state: CalibrationState) -> TailForecast:
    """The forecast times the factors of ``state``, every row alike.

    Raises ``ValueError`` where the state is of other horizons or levels.
    """
    _refuse_others(forecast, state)
    return _scaled(forecast, state.factor[:, np.newaxis])


def absorb(state: CalibrationState, forecast: TailForecast, closes: pd.DataFrame) -> CalibrationState:
    """The state after the losses that matured at the closes after ``state.until``.

    ``forecast`` is what the model said, before calibration, times ascending. ``closes``, (time, symbol), are
    the prices on the regular grid, NaN where a bar is missing; its last row is the new ``until``. So that all
    that matures can count, both reach back by the largest horizon from ``state.until``. Raises
    ``ValueError`` where the state is of other horizons or levels, or ``closes`` lack a time or symbol of the
    forecast, or a row of the grid.
    """
    thetas = _thetas(state, forecast, closes)
    return replace(state, until=closes.index[-1], theta=thetas[-1]) if len(thetas) else state


def track(
    forecast: TailForecast, closes: pd.DataFrame, interval: pd.Timedelta, settings: CalibrationSettings
) -> tuple[TailForecast, CalibrationState]:
    """A forecast over time, calibrated from a neutral start as it would have been close by close, and where
    that ends.

    To the bit what ``absorb`` and ``calibrated`` give one close after the other: no row depends on a price
    after its time. ``closes`` have a row every ``interval``. Arguments and errors otherwise as there.
    """
    start = CalibrationState.neutral(settings, interval, forecast.horizons, forecast.levels)
    thetas = _thetas(start, forecast, closes)
    row_time = closes.index.get_indexer(forecast.rows.get_level_values("time"))
    factors = np.exp(thetas).swapaxes(0, 1)[:, row_time]
    return _scaled(forecast, factors), replace(start, until=closes.index[-1], theta=thetas[-1])


def _thetas(state: CalibrationState, forecast: TailForecast, closes: pd.DataFrame) -> Array:
    """theta after each close that is later than ``state.until``, shape (close, *theta.shape)."""
    _refuse_others(forecast, state)
    times, settings = pd.DatetimeIndex(closes.index), state.settings
    row_time = times.get_indexer(forecast.rows.get_level_values("time"))
    column = closes.columns.get_indexer(forecast.rows.get_level_values("symbol"))
    if (row_time < 0).any() or (column < 0).any() or (np.diff(row_time) < 0).any():
        raise ValueError(
            "forecasts have times or symbols that the closes lack, or are not in the order of time; "
            "give closes of the same market, and rows with times ascending"
        )
    if (np.diff(times) != state.interval).any():
        raise ValueError(
            f"closes do not follow each other by {format_duration(state.interval)}; give the regular grid, "
            f"NaN where a bar is missing"
        )
    first_row = np.searchsorted(row_time, np.arange(len(times) + 1))
    bars = [whole_bars(h, state.interval) for h in state.horizons]
    forward = [_forward_returns(closes, b)[row_time, column] for b in bars]
    known = [np.bincount(row_time, np.isfinite(r), minlength=len(times)) for r in forward]
    losses = [r[:, np.newaxis, np.newaxis] * SIGNS[:, np.newaxis] for r in forward]
    a = 1 - np.array(state.levels)
    start = 0 if state.until is None else int(times.searchsorted(state.until, side="right"))
    theta, found = state.theta.copy(), np.empty((len(times) - start, *state.theta.shape))
    for close in range(start, len(times)):
        for h, b in enumerate(bars):
            made = close - b
            if made < 0 or not known[h][made]:
                continue
            rows = slice(first_row[made], first_row[made + 1])
            factor_v, factor_e = np.exp(theta[:, h])
            loss, var = losses[h][rows], forecast.var[rows, h] * factor_v
            hit = loss > var
            share: Array | float = 0.0
            if hit.any():
                share = hit.sum(axis=0) / known[h][made]
                excess = loss / np.maximum(forecast.es[rows, h] * factor_e, var) - 1
                excess = np.where(hit, np.minimum(excess, MOST_EXCESS), 0).sum(axis=0) / known[h][made]
                theta[1, h] = _held(theta[1, h] + settings.es_step / b * excess, settings.theta_max)
            theta[0, h] = _held(theta[0, h] + settings.var_step / b * (share - a), settings.theta_max)
        found[close - start] = theta
    return found


def _held(theta: Array, most: float) -> Array:
    held: Array = np.minimum(most, np.maximum(-most, theta))
    return held


def _forward_returns(closes: pd.DataFrame, bars: int) -> Array:
    """ln(close ``bars`` later / close), (time, symbol): the short's loss; NaN where either is unknown."""
    log_close: Array = np.log(closes.to_numpy(dtype="float64"))
    forward = np.full_like(log_close, np.nan)
    forward[:-bars] = log_close[bars:] - log_close[:-bars]
    return forward


def _scaled(forecast: TailForecast, factor: Array) -> TailForecast:
    """VaR and ES times factors that broadcast to (VaR or ES, row, horizon, side, level), in order again."""
    var = np.maximum.accumulate(forecast.var * factor[0], axis=-1)
    es = np.maximum(np.maximum.accumulate(forecast.es * factor[1], axis=-1), var)
    return TailForecast(forecast.rows, forecast.horizons, forecast.levels, var, es)


def _refuse_others(forecast: TailForecast, state: CalibrationState) -> None:
    if (forecast.horizons, forecast.levels) != (state.horizons, state.levels):
        raise ValueError(
            f"the calibration is of horizons {[format_duration(h) for h in state.horizons]} and levels "
            f"{list(state.levels)}, the forecast of {[format_duration(h) for h in forecast.horizons]} and "
            f"{list(forecast.levels)}; calibrate the model's own forecasts"
        )
