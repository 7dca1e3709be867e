"""Standardised returns, which every scale model here shares: z = forward return / (scale sqrt(h)).

z has no unit and is about one in size; the short's standardised loss is z, the long's -z (``SIGNS``). A scale
model forecasts VaR and ES as scale x sqrt(h) x a tail of z.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.durations import format_duration, whole_bars, window_bars
from features.pipeline import FeatureFrame
from features.windows import rolling_max, rolling_sum
from models.forecast.base import BREAKER_LEVEL, SIDES, Dataset, TailForecast
from models.margin.fhs import floored, standardised_losses, tail_quantiles

#: What turns a forward return into the loss of each side, in the order of ``SIDES``.
SIGNS = np.array([{"long": -1.0, "short": 1.0}[side] for side in SIDES])
#: The EWMA scale that standardises everything, per bar.
SCALE_FEATURE = "ewma_volatility"
#: A price that has not moved for so long, and for so many bars at least, stands still.
_STILL_FOR, _STILL_BARS = pd.Timedelta(days=1), 6
#: A training window whose standardised returns are nearly all zero carries no tail.
_FLAT_SHARE = 0.9


def with_breaker(levels: tuple[float, ...]) -> tuple[float, ...]:
    """The levels in ascending order, with the circuit breaker's among them."""
    return tuple(sorted({*levels, BREAKER_LEVEL}))


def bars_of(horizon: pd.Timedelta, features: FeatureFrame) -> int:
    return whole_bars(horizon, features.interval)


def trailing(dataset: Dataset, window: pd.Timedelta | None) -> Dataset:
    """The newest ``window`` of the training data; None: all of it."""
    if window is None or dataset.closes.empty:
        return dataset
    start = dataset.features.times[-1] - window
    features = dataset.features.between(start, None)
    first = features.times[0]
    ranges = None if dataset.ranges is None else dataset.ranges.loc[first:]
    return Dataset(features, dataset.closes.loc[first:], dataset.horizons, dataset.levels, ranges)


def standardised_returns(dataset: Dataset, horizon: pd.Timedelta) -> NDArray[np.float64]:
    """z over (time, symbol); NaN where the loss has not matured, a bar is missing, the scale is in warm-up or
    the price stood still over the day before.

    A halted contract or a dead feed says nothing of a market that trades, and would say it in many rows, each
    with a scale that shrinks towards none.
    """
    bars = bars_of(horizon, dataset.features)
    z = standardised_losses(dataset.log_close, dataset.features[SCALE_FEATURE], bars)
    return np.where(stands_still(dataset), np.nan, z)


def stands_still(dataset: Dataset) -> NDArray[np.bool_]:
    """Where the price did not move over the day before, (time, symbol)."""
    moves = np.abs(np.diff(dataset.log_close, axis=0, prepend=np.nan))
    day = max(_STILL_BARS, window_bars(_STILL_FOR, dataset.features.interval))
    return np.asarray(rolling_max(moves, day) == 0)


def realized_ratio(dataset: Dataset, horizon: pd.Timedelta) -> NDArray[np.float64]:
    """Sum of the h squared one-bar returns to come, over sigma^2 h, shape (time, symbol): as z^2 on average,
    and less noisy. NaN where one of them is unknown, a bar on the way missing say, or the scale is.
    """
    bars = bars_of(horizon, dataset.features)
    one_bar = np.diff(dataset.log_close, axis=0, prepend=np.nan) ** 2
    on_the_way = np.full_like(one_bar, np.nan)
    on_the_way[:-bars] = rolling_sum(np.nan_to_num(one_bar), bars)[bars:]
    unknown = rolling_sum(np.isnan(one_bar).astype("float64"), bars)[bars:] > 0
    on_the_way[:-bars][unknown] = np.nan
    ratio: NDArray[np.float64] = on_the_way / (dataset.features[SCALE_FEATURE] ** 2 * bars)
    return ratio


def symbol_tails(z: NDArray[np.float64], levels: tuple[float, ...], min_rows: int) -> NDArray[np.float64]:
    """Empirical tails of z (time, symbol), NaN left out, of shape (VaR or ES, symbol, side, level).

    Symbol 0 is all symbols pooled, symbol s the s-th; one with fewer than ``min_rows`` values gets the pooled
    tail.
    """
    tails = np.empty((2, z.shape[1] + 1, len(SIDES), len(levels)))
    tails[:, 0] = tail_quantiles(z, levels)
    for s in range(z.shape[1]):
        enough = np.isfinite(z[:, s]).sum() >= min_rows
        tails[:, s + 1] = tail_quantiles(z[:, s], levels) if enough else tails[:, 0]
    return tails


def tail_rows(fitted: tuple[str, ...], asked: tuple[str, ...]) -> NDArray[np.intp]:
    """Where each symbol asked for stands in ``symbol_tails``; 0, the pooled tail, for one never seen."""
    known = {name: i + 1 for i, name in enumerate(fitted)}
    return np.array([known.get(s, 0) for s in asked], dtype="intp")


def refuse_unfit(z: NDArray[np.float64], horizon: pd.Timedelta, min_rows: int) -> None:
    """Raise ``ValueError`` where the matured rows are fewer than ``min_rows``, or prices hardly ever move."""
    known = z[np.isfinite(z)]
    if known.size < min_rows:
        raise ValueError(
            f"the training window has {known.size} matured rows at horizon {format_duration(horizon)} where "
            f"the model needs {min_rows}; give more history or more symbols, whose prices do not stand still"
        )
    flat = float(np.mean(known == 0))
    if flat > _FLAT_SHARE:
        raise ValueError(
            f"{flat:.0%} of the {format_duration(horizon)} returns in the training window are exactly zero; "
            f"a flat price has no tail to learn: check the bars, or leave the symbol out"
        )


def forecast_rows(
    features: FeatureFrame, inputs: NDArray[np.bool_]
) -> tuple[pd.MultiIndex, NDArray[np.intp], NDArray[np.intp]]:
    """The rows (time, symbol) where ``inputs`` is True, as an index and as positions in time and in
    symbols.
    """
    time, symbol = np.nonzero(inputs)
    rows = pd.MultiIndex.from_arrays(
        [features.times[time], pd.Index(features.symbols, dtype=object)[symbol]], names=["time", "symbol"]
    )
    return rows, time, symbol


def complete_rows(
    features: FeatureFrame, inputs: tuple[str, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where all inputs and the EWMA scale are known, (time, symbol), and the inputs of those rows."""
    sigma, matrix = features[SCALE_FEATURE], features.matrix(inputs)
    known = np.isfinite(matrix).all(axis=1).reshape(sigma.shape) & np.isfinite(sigma) & (sigma > 0)
    return known, matrix[known.ravel()]


def scaled_forecast(
    rows: pd.MultiIndex,
    horizons: tuple[pd.Timedelta, ...],
    levels: tuple[float, ...],
    scale: NDArray[np.float64],
    var: NDArray[np.float64],
    es: NDArray[np.float64],
) -> TailForecast:
    """VaR and ES = scale over the horizon, (row, horizon), times tails of z, (row, horizon, side, level).
    Held above zero by the floor of the rules rung, which a price that went one way only may need."""
    unit = scale[:, :, np.newaxis, np.newaxis]
    return TailForecast(rows, horizons, levels, *floored(unit * var, unit * es))
