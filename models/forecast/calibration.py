"""Online calibration: slow factors on VaR and ES that follow what matured losses did to them.

VaR has a number for each contract, horizon, side and level, ES one for each horizon, side and level, pooled
over contracts: what is forecast at a time is served as

    VaR = exp(theta_v) x VaR of the model,      ES = exp(theta_e) x ES of the model, at least VaR.

When a bar closes, the losses L of what was forecast exactly h bars before have matured. With VaR and ES
scaled and a = 1 - level, for each contract whose forecast and loss are known

    theta_v <- theta_v + var_step / h x (1{L > VaR} - a),

and with the mean over those contracts

    theta_e <- theta_e + es_step / h x mean(1{L > VaR} min(L / ES - 1, MOST_EXCESS)),

each held within +-theta_max, and only then the forecast of that close is scaled. A contract whose forecast or
loss is unknown keeps its theta_v; one of which no loss ever counted has 0. The first follows how often VaR is
exceeded, the second how far beyond ES such losses are on average; a level that sees no loss beyond its VaR
leaves its theta_e alone. A model may be right on average and wrong for one contract, which is why VaR has a
factor for each; the mean beyond VaR takes more losses than one contract has. Losses over h bars overlap, so
that each bar counts one h-th. Steps are per hit and the same at every level: the noise in theta_v is alike
then, about sqrt(step / (2 x tail index)), and a rarer level takes longer. Steps have to be small: a large one
has perfect coverage and is worse, because it follows what the model already knows.

**Long-run bound, of each contract.** Off its bounds, theta_v gains var_step / h x (p - a) at each close that
counts for the contract, p being 1 where its loss is beyond VaR, else 0. Over T of them the sum telescopes,
whatever the losses are:

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

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
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

_STORED = {"settings", "interval", "horizons", "levels", "until", "theta_v", "theta_e"}


class CalibrationSettings(BaseModel):
    """How fast the factors move, and how far. Steps and bound are of their logarithms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Rise of a contract's theta_v where it is beyond its VaR for a horizon; a of it is how it falls without.
    var_step: FiniteFloat = Field(0.005, gt=0, le=0.2)
    #: Rise of theta_e where every contract loses twice its ES for a horizon. 0: ES has no factor of its own.
    es_step: FiniteFloat = Field(0.02, ge=0, le=0.2)
    #: Factors lie within exp(-theta_max) and exp(theta_max).
    theta_max: FiniteFloat = Field(0.5, gt=0, le=1)


@dataclass(frozen=True)
class CalibrationState:
    """Where a calibration stands after the losses that matured by the close ``until`` (None: after none).

    ``theta_v``, of shape (contract, horizon, side, level), is of the ``contracts`` of which a loss has
    counted, names ascending; ``theta_e``, of shape (horizon, side, level), is of all. Raises ``ValueError``
    where a theta has another shape, is not finite, or exceeds ``theta_max``, or the contracts are not in
    order.
    """

    settings: CalibrationSettings
    interval: pd.Timedelta
    horizons: tuple[pd.Timedelta, ...]
    levels: tuple[float, ...]
    until: pd.Timestamp | None
    contracts: tuple[str, ...]
    theta_v: Array
    theta_e: Array

    def __post_init__(self) -> None:
        if list(self.contracts) != sorted(set(self.contracts)):
            raise ValueError(f"contracts are {list(self.contracts)}; give each once, names ascending")
        shape, most = (len(self.horizons), len(SIDES), len(self.levels)), self.settings.theta_max
        for name, theta, expected, axes in (
            ("theta_v", self.theta_v, (len(self.contracts), *shape), "contracts x horizons x sides x levels"),
            ("theta_e", self.theta_e, shape, "horizons x sides x levels"),
        ):
            if theta.shape != expected:
                raise ValueError(
                    f"{name} has shape {theta.shape}; {axes} is {expected}: train the model anew"
                )
            if not (np.abs(theta) <= most).all():
                raise ValueError(
                    f"{name} is {theta.tolist()}; each lies within +-{most}: train the model anew"
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
        theta_e = np.zeros((len(horizons), len(SIDES), len(levels)))
        return cls(settings, interval, horizons, levels, None, (), np.empty((0, *theta_e.shape)), theta_e)

    def theta_v_of(self, contracts: Iterable[str]) -> Array:
        """theta_v of each of ``contracts``, in their order, 0 where no loss has counted."""
        known = dict(zip(self.contracts, self.theta_v, strict=True))
        none = np.zeros_like(self.theta_e)
        return np.array([known.get(contract, none) for contract in contracts]).reshape(-1, *none.shape)

    def factor(self, contracts: Iterable[str]) -> Array:
        """What VaR and ES of each of ``contracts`` are multiplied by: exp(theta), of shape (VaR or ES,
        contract, horizon, side, level)."""
        theta_v = self.theta_v_of(contracts)
        found: Array = np.exp(np.stack([theta_v, np.broadcast_to(self.theta_e, theta_v.shape)]))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which ``from_json`` rebuilds both thetas to the bit."""
        return {
            "settings": self.settings.model_dump(),
            "interval": format_duration(self.interval),
            "horizons": [format_duration(h) for h in self.horizons],
            "levels": list(self.levels),
            "until": None if self.until is None else self.until.isoformat(),
            "theta_v": dict(zip(self.contracts, self.theta_v.tolist(), strict=True)),
            "theta_e": self.theta_e.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` where it is not
        one.
        """
        if set(content) != _STORED:
            raise ValueError(
                f"a calibration consists of {sorted(_STORED)}, and {sorted(content)} was found, as another "
                f"version may have written it: train the model anew with this one"
            )
        until, theta_v = content["until"], content["theta_v"]
        contracts = tuple(sorted(theta_v))
        theta_e = np.array(content["theta_e"], dtype="float64")
        return cls(
            CalibrationSettings(**content["settings"]),
            parse_duration(content["interval"]),
            tuple(parse_duration(h) for h in content["horizons"]),
            tuple(float(level) for level in content["levels"]),
            None if until is None else pd.Timestamp(until),
            contracts,
            np.array([theta_v[c] for c in contracts], dtype="float64")
            if contracts
            else np.empty((0, *theta_e.shape)),
            theta_e,
        )


def calibrated(forecast: TailForecast, state: CalibrationState) -> TailForecast:
    """The forecast times the factors of ``state``, every row of a contract alike.

    Raises ``ValueError`` where the state is of other horizons or levels.
    """
    _refuse_others(forecast, state)
    contract, names = forecast.rows.get_level_values("symbol").factorize()
    return _scaled(forecast, state.factor(names)[:, contract])


def absorb(state: CalibrationState, forecast: TailForecast, closes: pd.DataFrame) -> CalibrationState:
    """The state after the losses that matured at the closes after ``state.until``.

    ``forecast`` is what the model said, before calibration, times ascending. ``closes``, (time, symbol), are
    the prices on the regular grid, NaN where a bar is missing; its last row is the new ``until``. So that all
    that matures can count, both reach back by the largest horizon from ``state.until``. Raises
    ``ValueError`` where the state is of other horizons or levels, or ``closes`` lack a time or symbol of the
    forecast, or a row of the grid.
    """
    matured = _matured(state, forecast, closes)
    last = deque(_thetas(state, matured), maxlen=1)
    return _ended(state, matured, closes.index[-1], *last.pop()) if last else state


def track(
    forecast: TailForecast, closes: pd.DataFrame, interval: pd.Timedelta, settings: CalibrationSettings
) -> tuple[TailForecast, CalibrationState]:
    """A forecast over time, calibrated from a neutral start as it would have been close by close, and where
    that ends.

    To the bit what ``absorb`` and ``calibrated`` give one close after the other: no row depends on a price
    after its time. ``closes`` have a row every ``interval``. Arguments and errors otherwise as there.
    """
    start = CalibrationState.neutral(settings, interval, forecast.horizons, forecast.levels)
    matured = _matured(start, forecast, closes)
    row_time = closes.index.get_indexer(forecast.rows.get_level_values("time"))
    first_row = np.searchsorted(row_time, np.arange(len(closes) + 1))
    factor, end = np.empty((2, *forecast.var.shape)), start
    for close, (theta_v, theta_e) in enumerate(_thetas(start, matured)):
        rows = slice(first_row[close], first_row[close + 1])
        factor[0, rows], factor[1, rows] = np.exp(theta_v)[matured.row_contract[rows]], np.exp(theta_e)
        if close == len(closes) - 1:
            end = _ended(start, matured, closes.index[-1], theta_v, theta_e)
    return _scaled(forecast, factor), end


@dataclass(frozen=True)
class _Matured:
    """What matures at each close that a state has not seen: the loss, and the VaR and ES that were forecast.

    ``loss`` has shape (close, contract, horizon, side, 1) and is NaN where forecast or loss is unknown;
    ``var`` and ``es`` have (close, contract, horizon, side, level) and are 1 there. Contracts are the
    forecast's and the state's, names ascending: theta_e moves by a sum, whose last bits depend on the order.
    ``row_contract`` says which of them each row of the forecast is of.
    """

    contracts: tuple[str, ...]
    row_contract: NDArray[np.intp]
    loss: Array
    var: Array
    es: Array

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(close, contract, horizon): what counts."""
        found: NDArray[np.bool_] = np.isfinite(self.loss[..., 0, 0])
        return found


def _matured(state: CalibrationState, forecast: TailForecast, closes: pd.DataFrame) -> _Matured:
    _refuse_others(forecast, state)
    times, symbols = pd.DatetimeIndex(closes.index), forecast.rows.get_level_values("symbol")
    row_time = times.get_indexer(forecast.rows.get_level_values("time"))
    code, names = symbols.factorize()
    column = closes.columns.get_indexer(pd.Index(names))[code]
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
    contracts = tuple(sorted({*state.contracts, *names}))
    contract = np.array([contracts.index(name) for name in names], dtype=np.intp)[code]
    log_close = np.log(closes.to_numpy(dtype="float64"))
    start = 0 if state.until is None else int(times.searchsorted(state.until, side="right"))
    shape = (len(times) - start, len(contracts), *state.theta_e.shape)
    loss, var, es = np.full((*shape[:-1], 1), np.nan), np.ones(shape), np.ones(shape)
    for h, horizon in enumerate(state.horizons):
        at = row_time + whole_bars(horizon, state.interval)
        rows = np.flatnonzero((at >= start) & (at < len(times)))
        place = at[rows] - start, contract[rows], h
        # The short's loss; the long's is its negative.
        rise = log_close[at[rows], column[rows]] - log_close[row_time[rows], column[rows]]
        loss[place] = (rise[:, np.newaxis] * SIGNS)[..., np.newaxis]
        var[place], es[place] = forecast.var[rows, h], forecast.es[rows, h]
    return _Matured(contracts, contract, loss, var, es)


def _thetas(state: CalibrationState, matured: _Matured) -> Iterator[tuple[Array, Array]]:
    """theta_v of the contracts of ``matured``, and theta_e, after each close."""
    settings = state.settings
    bars = np.array([whole_bars(h, state.interval) for h in state.horizons])[:, np.newaxis, np.newaxis]
    a, most = 1 - np.array(state.levels), settings.theta_max
    theta_v, theta_e = state.theta_v_of(matured.contracts), state.theta_e
    for loss, var, es, known in zip(matured.loss, matured.var, matured.es, matured.known, strict=True):
        served = var * np.exp(theta_v)
        hit = loss > served
        if hit.any():
            beyond = loss / np.maximum(es * np.exp(theta_e), served) - 1
            excess = np.where(hit, np.minimum(beyond, MOST_EXCESS), 0).sum(axis=0)
            count = np.maximum(known.sum(axis=0), 1)[:, np.newaxis, np.newaxis]
            theta_e = _held(theta_e + settings.es_step / bars * (excess / count), most)
        moved = _held(theta_v + settings.var_step / bars * (hit - a), most)
        theta_v = np.where(known[..., np.newaxis, np.newaxis], moved, theta_v)
        yield theta_v, theta_e


def _ended(
    state: CalibrationState, matured: _Matured, until: pd.Timestamp, theta_v: Array, theta_e: Array
) -> CalibrationState:
    """The state gone on to ``until``, with the contracts of which a loss has counted by then."""
    counted = matured.known.any(axis=(0, 2)) | np.isin(matured.contracts, state.contracts)
    contracts = tuple(c for c, kept in zip(matured.contracts, counted, strict=True) if kept)
    return replace(state, until=until, contracts=contracts, theta_v=theta_v[counted], theta_e=theta_e)


def _held(theta: Array, most: float) -> Array:
    held: Array = np.minimum(most, np.maximum(-most, theta))
    return held


def _scaled(forecast: TailForecast, factor: Array) -> TailForecast:
    """VaR and ES times factors of shape (VaR or ES, row, horizon, side, level), in order again."""
    var = np.maximum.accumulate(forecast.var * factor[0], axis=-1)
    es = np.maximum(np.maximum.accumulate(forecast.es * factor[1], axis=-1), var)
    return replace(forecast, var=var, es=es)


def _refuse_others(forecast: TailForecast, state: CalibrationState) -> None:
    if (forecast.horizons, forecast.levels) != (state.horizons, state.levels):
        raise ValueError(
            f"the calibration is of horizons {[format_duration(h) for h in state.horizons]} and levels "
            f"{list(state.levels)}, the forecast of {[format_duration(h) for h in forecast.horizons]} and "
            f"{list(forecast.levels)}; calibrate the model's own forecasts"
        )
