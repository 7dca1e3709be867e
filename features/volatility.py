"""How much the price moves: volatility over windows, its signed and jump parts, ranges, trends and drawdowns.

Conventions of the family. r is the one-bar log return, as a fraction; one whose bar or bar before is missing
is unknown. sigma is ``ewma_volatility``, per bar. Window means take the known values of the window and are
NaN (warm-up) while fewer than half of its bars are known; the row of a missing bar is NaN. Windows shorter
than a bar are one bar. Everything but ``log_volatility`` is relative to sigma and has no unit, so it means
the same for every symbol, year and interval. Ratios of volatilities are logarithms held within
+-``LOG_RATIO_BOUND``.

Sources: RiskMetrics Technical Document (1996), 5.2 (EWMA); Corsi 2009 (HAR); Barndorff-Nielsen, Kinnebrock
and Shephard 2010 (semivariance); Barndorff-Nielsen and Shephard 2004 (bipower variation); Parkinson 1980;
Garman and Klass 1980; Rogers and Satchell 1991.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import window_bars
from features.pipeline import Feature, State
from features.windows import (
    Array,
    decayed_mean,
    lag,
    log_ratio,
    quotient,
    rolling_max,
    rolling_mean,
    rolling_min,
)

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
#: The windows of the project, by the name that features carry.
WINDOWS = {"1h": HOUR, "4h": 4 * HOUR, "1d": DAY, "1w": 7 * DAY, "1m": 30 * DAY}
#: The longest window and, at any interval up to a day, the bar before its first return.
LONG_LOOK_BACK = WINDOWS["1m"] + DAY

EWMA_DECAY_PER_HOUR = 0.94
EWMA_LOOK_BACK = 10 * DAY
#: EWMA volatility is never below this, per bar: a price that does not move must not make a scale of zero.
VOLATILITY_FLOOR = 1e-6
#: Logarithms of volatility ratios stay within +-5: a bar without a move is e^-5 of normal, not minus
#: infinity.
LOG_RATIO_BOUND = 5.0


def bars_in(window: str, interval: pd.Timedelta) -> int:
    """Length of a named window in bars, at least one."""
    return window_bars(WINDOWS[window], interval)


def log_returns(market: Market) -> Array:
    """r[t] = ln(close[t] / close[t-1]), shape (time, symbol); NaN where either bar is missing."""
    log_close: Array = np.log(market.close.to_numpy(dtype="float64"))
    return log_close - lag(log_close, 1)


def sigma(market: Market) -> Array:
    """EWMA volatility per bar: sqrt(sum_j d^j r[t-j]^2 / sum_j d^j), d = 0.94 ^ (interval / 1 h).

    The sums run over the known returns between the closes of the last 10 days. NaN while fewer than a day of
    returns (at least 6) are known; never below ``VOLATILITY_FLOOR``. At a missing bar it is the value that
    the returns before it give.
    """
    bars = max(1, window_bars(EWMA_LOOK_BACK, market.interval) - 1)
    decay = EWMA_DECAY_PER_HOUR ** (market.interval / HOUR)
    least = min(bars, max(6, window_bars(DAY, market.interval)))
    variance = decayed_mean(log_returns(market) ** 2, bars, decay, least)
    return np.maximum(np.sqrt(variance), VOLATILITY_FLOOR)


def long_volatility(market: Market) -> Array:
    """Root mean square of r over 30 days, per bar; never below ``VOLATILITY_FLOOR``."""
    variance = rolling_mean(log_returns(market) ** 2, bars_in("1m", market.interval))
    return np.maximum(np.sqrt(variance), VOLATILITY_FLOOR)


def parkinson_variance(market: Market) -> Array:
    """Parkinson's variance of each bar, ln(high / low)^2 / (4 ln 2)."""
    ratio = market["high"].to_numpy(dtype="float64") / market["low"].to_numpy(dtype="float64")
    spread: Array = np.log(ratio)
    return spread**2 / (4 * float(np.log(2)))


def _log_relative(variance: Array, scale: Array) -> Array:
    """ln(sqrt(variance) / scale), bounded. Estimators that may turn negative (Garman-Klass) count as zero
    there."""
    return log_ratio(np.sqrt(np.maximum(variance, 0.0)), scale, LOG_RATIO_BOUND)


def _ewma_volatility(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    return market.frames({"ewma_volatility": sigma(market)})


def _log_volatility(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """ln of sigma brought to one hour, ln(sigma sqrt(1 h / interval)): the one feature of level."""
    return market.frames({"log_volatility": np.log(sigma(market) * np.sqrt(HOUR / market.interval))})


HAR_WINDOWS = ("1h", "4h", "1d", "1w", "1m")


def har(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """HAR terms in logs: ln(realized volatility / sigma), realized volatility = sqrt(mean r^2 over the
    window)."""
    squared, scale = log_returns(market) ** 2, sigma(market)
    return market.frames(
        {
            f"har_{w}": _log_relative(rolling_mean(squared, bars_in(w, market.interval)), scale)
            for w in HAR_WINDOWS
        }
    )


RETURN_WINDOWS = ("1h", "4h", "1d", "1w", "1m")


def _returns(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Signed returns: sum of the known r over the window / (sigma sqrt(their number)); positive is a rise."""
    r, scale = log_returns(market), sigma(market)
    out = {}
    for w in RETURN_WINDOWS:
        bars = bars_in(w, market.interval)
        out[f"return_{w}"] = quotient(rolling_mean(r, bars) * np.sqrt(bars), scale)
    return market.frames(out)


SEMIVARIANCE_WINDOWS = ("4h", "1d", "1w")


def semivariances(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Down- and upside: sqrt(2 mean r^2 1{r < 0} over the window) / sigma, and the same for r > 0; the 2
    makes both one for a symmetric price at its usual volatility. No logarithm: one side is often zero."""
    r, scale = log_returns(market), sigma(market)
    falls, rises = np.minimum(r, 0.0) ** 2, np.maximum(r, 0.0) ** 2
    out = {}
    for w in SEMIVARIANCE_WINDOWS:
        bars = bars_in(w, market.interval)
        out[f"downside_{w}"] = quotient(np.sqrt(2 * rolling_mean(falls, bars)), scale)
        out[f"upside_{w}"] = quotient(np.sqrt(2 * rolling_mean(rises, bars)), scale)
    return market.frames(out)


JUMP_WINDOWS = ("1d", "1w")


def _jumps(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Bipower variation BV = (pi / 2) mean |r[t]| |r[t-1]|: ln(sqrt(BV) / sigma); the jump share of the
    realized variance, max(0, 1 - BV / RV), 0 where nothing moved; and the largest move, ln(max |r| /
    sigma)."""
    r, scale = log_returns(market), sigma(market)
    products = np.pi / 2 * np.abs(r) * np.abs(lag(r, 1))
    out = {}
    for w in JUMP_WINDOWS:
        bars = bars_in(w, market.interval)
        bipower, realized = rolling_mean(products, bars), rolling_mean(r**2, bars)
        share = 1 - np.divide(bipower, realized, out=np.ones_like(bipower), where=realized > 0)
        out[f"bipower_{w}"] = _log_relative(bipower, scale)
        out[f"jump_share_{w}"] = np.where(np.isnan(realized + bipower), np.nan, np.clip(share, 0.0, 1.0))
        # As NaN as the mean over the same window, so that warm-up means one thing.
        largest = np.where(np.isnan(realized), np.nan, rolling_max(np.abs(r), bars))
        out[f"largest_move_{w}"] = log_ratio(largest, scale, LOG_RATIO_BOUND)
    return market.frames(out)


RANGE_WINDOWS = ("1h", "4h", "1d", "1w")


def ranges(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Volatility from the bars' ranges, ln(sqrt(mean over the window) / sigma), with h, l, c = ln(high, low,
    close / open): Parkinson (h - l)^2 / (4 ln 2); Garman-Klass (h - l)^2 / 2 - (2 ln 2 - 1) c^2;
    Rogers-Satchell h (h - c) + l (l - c), which a trend does not bias."""
    opening, high, low, close = (
        np.log(market[c].to_numpy(dtype="float64")) for c in ("open", "high", "low", "close")
    )
    h, lo, c = high - opening, low - opening, close - opening
    estimators = {
        "parkinson": parkinson_variance(market),
        "garman_klass": (h - lo) ** 2 / 2 - (2 * np.log(2) - 1) * c**2,
        "rogers_satchell": h * (h - c) + lo * (lo - c),
    }
    scale = sigma(market)
    return market.frames(
        {
            f"{name}_{w}": _log_relative(rolling_mean(values, bars_in(w, market.interval)), scale)
            for name, values in estimators.items()
            for w in (RANGE_WINDOWS if name == "parkinson" else ("4h", "1d"))
        }
    )


EXTREME_WINDOWS = ("1d", "1w", "1m")


def extremes(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Drawdown ln(close / highest close of the window) <= 0 and rally ln(close / lowest close) >= 0, both
    over sigma sqrt(bars of the window). NaN while fewer than half of the window's closes are known."""
    close, scale = np.log(market.close.to_numpy(dtype="float64")), sigma(market)
    out = {}
    for w in EXTREME_WINDOWS:
        bars = bars_in(w, market.interval)
        warm = ~np.isnan(rolling_mean(close, bars))
        unit = np.where(warm, scale * np.sqrt(bars), np.nan)
        out[f"drawdown_{w}"] = quotient(close - rolling_max(close, bars), unit)
        out[f"rally_{w}"] = quotient(close - rolling_min(close, bars), unit)
    return market.frames(out)


SHADOW_WINDOWS = ("1h", "4h", "1d")


def _shadows(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """How far the close lies above the window's lowest low, ln(close / low) >= 0, and below its highest high,
    ln(high / close) >= 0, both over sigma sqrt(bars of the window). Where prices were and did not stay. NaN
    while fewer than half of the window's bars are known."""
    close, high, low = (np.log(market[c].to_numpy(dtype="float64")) for c in ("close", "high", "low"))
    scale, out = sigma(market), {}
    for w in SHADOW_WINDOWS:
        bars = bars_in(w, market.interval)
        warm = ~np.isnan(rolling_mean(close, bars)) & ~np.isnan(close)
        unit = np.where(warm, scale * np.sqrt(bars), np.nan)
        out[f"above_low_{w}"] = quotient(close - rolling_min(low, bars), unit)
        out[f"below_high_{w}"] = quotient(rolling_max(high, bars) - close, unit)
    return market.frames(out)


#: Added to |r| / sigma under the logarithm: a bar without a move is ln(0.05), not minus infinity.
LEAST_MOVE = 0.05
MOVE_LAGS = (1, 2, 3)


def _dynamics(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """The size of single moves, ln(|r| / sigma + ``LEAST_MOVE``) of 1, 2 and 3 bars before the newest; and
    the volatility of volatility, the root mean square of the changes of ln sigma over a day. A move is
    measured by the sigma of its own bar."""
    scale = sigma(market)
    size = np.log(quotient(np.abs(log_returns(market)), scale) + LEAST_MOVE)
    changes = np.diff(np.log(scale), axis=0, prepend=np.nan) ** 2
    out = {f"move_lag_{k}": lag(size, k) for k in MOVE_LAGS}
    out["volatility_of_volatility_1d"] = np.sqrt(rolling_mean(changes, bars_in("1d", market.interval)))
    return market.frames(out)


def _autocorrelation(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """First-order autocorrelation of r, mean r[t] r[t-1] / mean r^2 over the window, held within +-1:
    positive in a trend, negative when moves are taken back. 0 where nothing moved."""
    r = log_returns(market)
    products = r * lag(r, 1)
    out = {}
    for w in ("1d", "1w"):
        bars = bars_in(w, market.interval)
        covariance, variance = rolling_mean(products, bars), rolling_mean(r**2, bars)
        share = np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0)
        out[f"autocorrelation_{w}"] = np.where(np.isnan(covariance + variance), np.nan, np.clip(share, -1, 1))
    return market.frames(out)


_CLOSE = ("close",)
_OHLC = ("open", "high", "low", "close")


def _named(template: str, windows: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(template.format(w) for w in windows)


FEATURES = (
    Feature(("ewma_volatility",), "volatility", EWMA_LOOK_BACK, _CLOSE, _ewma_volatility),
    Feature(("log_volatility",), "volatility", EWMA_LOOK_BACK, _CLOSE, _log_volatility),
    Feature(_named("har_{}", HAR_WINDOWS), "volatility", LONG_LOOK_BACK, _CLOSE, har),
    Feature(_named("return_{}", RETURN_WINDOWS), "volatility", LONG_LOOK_BACK, _CLOSE, _returns),
    Feature(
        tuple(f"{part}_{w}" for w in SEMIVARIANCE_WINDOWS for part in ("downside", "upside")),
        *("volatility", EWMA_LOOK_BACK, _CLOSE, semivariances),
    ),
    Feature(
        tuple(f"{part}_{w}" for w in JUMP_WINDOWS for part in ("bipower", "jump_share", "largest_move")),
        *("volatility", EWMA_LOOK_BACK, _CLOSE, _jumps),
    ),
    Feature(
        (
            *_named("parkinson_{}", RANGE_WINDOWS),
            *_named("garman_klass_{}", ("4h", "1d")),
            *_named("rogers_satchell_{}", ("4h", "1d")),
        ),
        *("volatility", EWMA_LOOK_BACK, _OHLC, ranges),
    ),
    Feature(
        tuple(f"{part}_{w}" for w in EXTREME_WINDOWS for part in ("drawdown", "rally")),
        *("volatility", LONG_LOOK_BACK, _CLOSE, extremes),
    ),
    Feature(
        tuple(f"{part}_{w}" for w in SHADOW_WINDOWS for part in ("above_low", "below_high")),
        *("volatility", EWMA_LOOK_BACK, ("high", "low", "close"), _shadows),
    ),
    Feature(
        (*_named("move_lag_{}", tuple(str(k) for k in MOVE_LAGS)), "volatility_of_volatility_1d"),
        *("volatility", EWMA_LOOK_BACK + 4 * DAY, _CLOSE, _dynamics),
    ),
    Feature(
        _named("autocorrelation_{}", ("1d", "1w")), "volatility", EWMA_LOOK_BACK, _CLOSE, _autocorrelation
    ),
)
