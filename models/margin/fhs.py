"""EWMA-filtered historical simulation: the baseline model and the rules rung, with numpy alone.

Scale: a truncated EWMA of squared one-bar log returns. Shape: the empirical tail of past returns over the
horizon, each divided by the scale that was known when it began. Forecast: today's scale times that tail.

    sigma_t^2 = sum_k lambda^k r_(t-k)^2 / sum_k lambda^k           over the bars of the window that exist
    z_t       = (ln P_(t+h) - ln P_t) / (sigma_t sqrt(h))           matured ones only
    VaR, ES   = sigma_T sqrt(h) x (quantile of the losses -z or z, mean beyond it)

Source: Barone-Adesi, Giannopoulos, Vosper (1999), "VaR without correlations for portfolios of derivative
securities"; the decay is that of RiskMetrics (1996), per hour instead of per day. Losses are log returns
against the side (long: -z, short: z), fractions, positive is a loss. NaN marks a missing bar and makes
nothing but its own returns missing. The model ``ewma`` is the same method fitted ahead of time; a test holds
the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DECAY_PER_HOUR: Final = 0.94
WINDOW_S: Final = 10 * 86400.0
#: How far back residuals are taken from.
RESIDUALS_S: Final = 730 * 86400.0
#: The scale rests on at least a day of returns, and on at least so many.
MINIMUM_RETURNS: Final = 6
#: No forecast from fewer matured residuals of a horizon ...
MINIMUM_RESIDUALS: Final = 200
#: ... nor from a sample that spans fewer horizons, since overlapping residuals repeat each other.
MINIMUM_HORIZONS: Final = 5
#: The scale is never below it (log return a bar): where it would be, the price did not move.
VOLATILITY_FLOOR: Final = 1e-6
#: The least VaR, a hundredth of a basis point, so that a flat price too has a forecast above 0.
LOSS_FLOOR: Final = 1e-6


class TooShortError(ValueError):
    """The history cannot carry a forecast; the message says how much there is and how much is needed."""


def logarithms(closes: Array) -> Array:
    """ln of the closes; NaN stays NaN. Raises ``ValueError`` for one that is not a finite number above 0."""
    impossible = (closes <= 0) | np.isinf(closes)
    if impossible.any():
        row = int(np.argmax(impossible))
        raise ValueError(f"close {closes[row]} in row {row} is not a finite number above 0; repair the bars")
    found: Array = np.log(closes)
    return found


def ewma_volatility(returns: Array, decay: float, window_bars: int, *, minimum_returns: int = 1) -> Array:
    """Root of the truncated EWMA of squared one-bar log returns, known at each bar's close.

    Args:
        returns: (T,) or (T, S); NaN where a bar is missing.
        decay: weight of a return relative to that of the bar after it, within (0, 1).
        window_bars: how many bars, the newest included, have a weight.
        minimum_returns: NaN where the window holds fewer returns than this.

    Shape as given; never below ``VOLATILITY_FLOOR``. Weights are normalised over the returns that exist;
    nothing older than the window has any effect, not even on the last bit. Raises ``ValueError`` for a decay
    or window out of range.
    """
    if not 0 < decay < 1:
        raise ValueError(f"decay is {decay}; it must lie within 0 and 1, 0.94 an hour say")
    if window_bars < 1:
        raise ValueError(f"window_bars is {window_bars}; it must be at least 1")
    known = np.isfinite(returns)
    weights = known.astype("float64")
    variance = _decayed_sum(np.where(known, returns, 0.0) ** 2, decay, window_bars)
    mass = _decayed_sum(weights, decay, window_bars)
    enough = _decayed_sum(weights, 1.0, window_bars) >= max(minimum_returns, 1)
    volatility: Array = np.full(returns.shape, np.nan)
    np.divide(variance, mass, out=volatility, where=enough & (mass > 0))
    return np.maximum(np.sqrt(volatility), VOLATILITY_FLOOR)


def window_in_bars(interval_s: float) -> int:
    """How many returns the scale looks back on: those between the closes of ``WINDOW_S``."""
    return max(1, math.ceil(WINDOW_S / interval_s) - 1)


def scale(closes: Array, interval_s: float) -> Array:
    """The EWMA volatility a bar at each close, (T,) or (T, S), as the forecast uses it.

    The last row depends on the newest ``window_in_bars + 1`` closes alone. NaN while less than a day of
    returns (at least ``MINIMUM_RETURNS``) is known; at a missing bar, what the returns before it give. Raises
    ``ValueError`` for a close that is not a finite number above 0.
    """
    log_closes = logarithms(closes)
    returns = np.full_like(log_closes, np.nan)
    returns[1:] = log_closes[1:] - log_closes[:-1]
    window_bars = window_in_bars(interval_s)
    least = min(window_bars, max(MINIMUM_RETURNS, math.ceil(86400.0 / interval_s)))
    decay = DECAY_PER_HOUR ** (interval_s / 3600.0)
    return ewma_volatility(returns, decay, window_bars, minimum_returns=least)


def _decayed_sum(values: Array, decay: float, window: int) -> Array:
    """``sum_(k < window) decay^k values[t-k]``: the windows of 1, 2, 4, ... bars, put together as ``window``
    needs.

    Nothing is subtracted, so a crash that has left the window leaves no rounding error behind.
    """
    total = np.zeros_like(values)
    block, size, covered = values, 1, 0  # block[t] is the sum over the ``size`` bars up to t
    while size <= window and covered < len(values):
        if window & size:
            total[covered:] += block[: len(values) - covered] * decay**covered
            covered += size
        longer = block.copy()
        longer[size:] += block[:-size] * decay**size
        block, size = longer, 2 * size
    return total


def standardised_losses(log_closes: Array, volatility: Array, horizon_bars: int) -> Array:
    """The short's loss over the horizon from each bar on, in units of its scale; the long's is its negative.

    Shape as given, (T,) or (T, S). NaN where the loss has not matured (the last ``horizon_bars``), where
    either close is missing, and where the scale is unknown. A scale at ``VOLATILITY_FLOOR`` measures nothing:
    no move is then 0, and a move NaN instead of some million scales.
    """
    z: Array = np.full(log_closes.shape, np.nan)
    if 0 < horizon_bars < len(log_closes):
        change = log_closes[horizon_bars:] - log_closes[:-horizon_bars]
        scale = volatility[:-horizon_bars]
        measurable = (scale > VOLATILITY_FLOOR) | ((scale == VOLATILITY_FLOOR) & (change == 0))
        np.divide(change, scale * math.sqrt(horizon_bars), out=z[:-horizon_bars], where=measurable)
    return z


def tail_quantiles(z: Array, levels: Sequence[float]) -> tuple[Array, Array]:
    """Empirical VaR and ES of both sides, shape (side, level), in units of the scale; NaN in ``z`` are left
    out.

    VaR is the quantile of the side's losses, linear between order statistics; ES is the mean of those that
    rank at or beyond it. So ES >= VaR and both are monotone in the level. They may be 0 or negative where
    prices went one way only; whoever scales them to a forecast applies ``floored``.

    Raises ``ValueError`` for an empty sample or levels that do not ascend within (0.5, 1).
    """
    if list(levels) != sorted(set(levels)) or not all(0.5 < p < 1 for p in levels):
        raise ValueError(f"levels are {list(levels)}; give them ascending, each within 0.5 and 1")
    sample = np.sort(z[np.isfinite(z)])
    if len(sample) == 0:
        raise ValueError("no residual is known; give a longer history")
    var, es = np.empty((2, len(levels))), np.empty((2, len(levels)))
    for side, losses in enumerate((-sample[::-1], sample)):
        var[side] = np.quantile(losses, levels)
        for i, p in enumerate(levels):
            # By rank, not by value: of a hundred losses that tie with the quantile only the last count.
            first = math.ceil(p * (len(losses) - 1) - 1e-9)
            es[side, i] = losses[first:].mean()
    return var, np.maximum.accumulate(np.maximum(es, var), axis=1)  # beyond rounding these are in order


def floored(var: Array, es: Array) -> tuple[Array, Array]:
    """VaR at least ``LOSS_FLOOR``, ES at least VaR (log losses); the order over the levels is kept."""
    var = np.maximum(var, LOSS_FLOOR)
    return var, np.maximum(es, var)


def needed_residuals(horizon_bars: int) -> int:
    """How many matured residuals carry a forecast over this horizon."""
    return max(MINIMUM_RESIDUALS, MINIMUM_HORIZONS * horizon_bars)


def horizon_in_bars(horizon_s: float, interval_s: float) -> int:
    """A horizon in bars. Raises ``ValueError`` where it is not a whole number of them."""
    bars = round(horizon_s / interval_s)
    if bars < 1 or abs(bars * interval_s - horizon_s) > 1e-6:
        raise ValueError(
            f"horizon {horizon_s:g} s is not a whole number of {interval_s:g} s bars; "
            f"choose a multiple of the bar interval"
        )
    return bars


def filtered_historical_simulation(
    closes: Array, interval_s: float, horizons_s: Sequence[float], levels: Sequence[float]
) -> tuple[Array, Array]:
    """VaR and ES as of the newest close, each (horizon, side, level), log losses; the rules rung's forecast.

    Args:
        closes: (T,) on the regular grid of bars, NaN where one is missing; what is older than two years and
        ten
            days has no effect.
        interval_s: bar length in seconds.
        horizons_s: multiples of it.
        levels: ascending, within (0.5, 1).

    0 < VaR <= ES, both non-decreasing in the level, a flat price included (``LOSS_FLOOR``). Raises
    ``TooShortError`` where a horizon has too few residuals (``needed_bars``) and the price did move, and
    ``ValueError`` for a close that is not above 0 or a horizon that is not a whole number of bars.
    """
    if closes.ndim != 1:
        raise ValueError(f"closes have shape {closes.shape}; give one contract, shape (T,)")
    residual_bars = math.ceil(RESIDUALS_S / interval_s) + 1
    closes = closes[-(residual_bars + window_in_bars(interval_s)) :]
    log_closes, volatility = logarithms(closes), scale(closes, interval_s)
    if len(closes) == 0 or np.isnan(volatility[-1]):
        raise TooShortError(
            f"less than a day of returns (or {MINIMUM_RETURNS}) is known within the newest "
            f"{window_in_bars(interval_s)} bars ({len(closes)} closes were given); give a longer history"
        )
    shape = (len(horizons_s), 2, len(levels))
    var, es = np.empty(shape), np.empty(shape)
    for h, horizon_s in enumerate(horizons_s):
        bars = horizon_in_bars(horizon_s, interval_s)
        z = standardised_losses(log_closes, volatility, bars)[-residual_bars:]
        known, needed = int(np.isfinite(z).sum()), needed_residuals(bars)
        if known < needed:
            raise TooShortError(
                f"{known} matured residuals over {horizon_s:g} s are known and {needed} needed; "
                f"give {needed - known} more bars"
            )
        today = float(volatility[-1]) * math.sqrt(bars)
        multiples = tail_quantiles(z, levels)
        var[h], es[h] = floored(today * multiples[0], today * multiples[1])
    return var, es
