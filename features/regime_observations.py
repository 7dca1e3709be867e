"""What the regime chains observe of each symbol: volatility, toxicity of the flow, liquidity, and how much
the symbols move together.

Everything is held against what is usual for the symbol, has no unit and is bounded. An hour, 4 hours, a day
and a week are of the bars before and at the row (one bar at least), and means take those that are known.

    volatility    ln(sqrt(mean Parkinson variance of the hour) / the usual one, which is learned)
    toxicity      ln(V of 4 h / V of a week), V = sum |signed volume| / sum volume over the bars
    illiquidity   ln(mean of a day / mean of a week) of Amihud's |r| / (volume close)
    spread        ln(mean of 4 h / mean of a week) of the quoted spread
    depth         mean of 4 h less mean of a week of ln(depth over five levels)
    togetherness  artanh of the average correlation of two symbols over 4 h, one number for all

Sources: Parkinson 1980; Easley, Lopez de Prado and O'Hara 2012 (VPIN; here over bars of time); Amihud 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import window_bars
from features.volatility import DAY, HOUR, LOG_RATIO_BOUND, log_returns, parkinson_variance
from features.windows import Array, log_ratio, quotient, rolling_mean

#: What toxicity, illiquidity, spread and depth are held against; the longest window here.
WEEK = 7 * DAY
SHORT = 4 * HOUR
#: Of the logarithms; that of volatility has the bound of its family.
BOUND = 3.0
_CORRELATION_BOUND = 0.99


def step_bars(interval: pd.Timedelta) -> int:
    """Rows between two steps of a chain: an hour, a bar where bars are longer."""
    return window_bars(HOUR, interval)


def step_volatility(market: Market) -> Array:
    """sqrt(mean Parkinson variance) of the last step, per bar; NaN where less than half of it is known."""
    variance = rolling_mean(parkinson_variance(market), step_bars(market.interval))
    return np.sqrt(variance)


def observations(market: Market, usual: Array) -> dict[str, Array]:
    """What the columns of the market allow to observe, by name, arrays (time, symbol).

    ``usual`` is the usual ``step_volatility`` by symbol. Volatility comes first; it is NaN at a missing bar
    and where less than half of the step is known. The others are NaN there as well, and where less than half
    of a window is known or nothing was traded in it.
    """
    volatility = log_ratio(step_volatility(market), usual[np.newaxis], LOG_RATIO_BOUND)
    volatility = np.where(market.close.notna().to_numpy(), volatility, np.nan)
    found = {"volatility": volatility}
    for name, (columns, observe) in _FURTHER.items():
        if all(c in market for c in columns):
            found[name] = np.where(np.isnan(volatility), np.nan, observe(market, usual))
    return found


def over_symbols(values: Array) -> Array:
    """Mean of the known symbols, shape (time, 1); NaN where none is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
    return quotient(total, known.sum(axis=1, keepdims=True).astype("float64"))


def _mean(values: Array, window: pd.Timedelta, market: Market) -> Array:
    return rolling_mean(values, window_bars(window, market.interval))


def _column(market: Market, name: str) -> Array:
    return market[name].to_numpy(dtype="float64")


def _toxicity(market: Market, _: Array) -> Array:
    v = _column(market, "volume")
    one_sided = np.abs(2 * _column(market, "taker_buy_volume") - v)

    def share(window: pd.Timedelta) -> Array:
        return quotient(_mean(one_sided, window, market), _mean(v, window, market))

    return log_ratio(share(SHORT), share(WEEK), BOUND)


def _illiquidity(market: Market, _: Array) -> Array:
    turnover = _column(market, "volume") * _column(market, "close")
    per_turnover = quotient(np.abs(log_returns(market)), turnover)
    return log_ratio(_mean(per_turnover, DAY, market), _mean(per_turnover, WEEK, market), BOUND)


def _spread(market: Market, _: Array) -> Array:
    spread = _column(market, "book_spread")
    return log_ratio(_mean(spread, SHORT, market), _mean(spread, WEEK, market), BOUND)


def _depth(market: Market, _: Array) -> Array:
    depth = _column(market, "book_depth_5")
    return (_mean(depth, SHORT, market) - _mean(depth, WEEK, market)).clip(-BOUND, BOUND)


def _togetherness(market: Market, usual: Array) -> Array:
    """With z = r / usual and n symbols known, at least two: the mean over the window of
    ((sum z)^2 - sum z^2) / (n (n - 1)), the mean product of two, over that of sum z^2 / n."""
    z = log_returns(market) / usual
    known = ~np.isnan(z)
    n = known.sum(axis=1, keepdims=True).astype("float64")
    z = np.where(known, z, 0.0)
    square, squares = z.sum(axis=1, keepdims=True) ** 2, (z**2).sum(axis=1, keepdims=True)
    products = quotient(square - squares, n * (n - 1))
    variances = np.where(np.isnan(products), np.nan, quotient(squares, n))
    correlation = quotient(_mean(products, SHORT, market), _mean(variances, SHORT, market))
    found: Array = np.arctanh(correlation.clip(-_CORRELATION_BOUND, _CORRELATION_BOUND))
    return found


#: Besides volatility: the columns that each needs besides prices, and how it is made.
_FURTHER: Mapping[str, tuple[tuple[str, ...], Callable[[Market, Array], Array]]] = {
    "toxicity": (("volume", "taker_buy_volume"), _toxicity),
    "illiquidity": (("volume",), _illiquidity),
    "spread": (("book_spread",), _spread),
    "depth": (("book_depth_5",), _depth),
    "togetherness": ((), _togetherness),
}
OBSERVATIONS = ("volatility", *_FURTHER)
#: The columns that are read where the market has them.
USED_COLUMNS = tuple(dict.fromkeys(c for columns, _ in _FURTHER.values() for c in columns))
