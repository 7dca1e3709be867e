"""What the other symbols do: the market as a whole, its leader (the first symbol), and how tightly it moves.

Market values are means over the symbols known at that time, this one included, with equal weights. Where the
leader has no value (missing bar, warm-up), the market's stands in for it, so one missing feed does not blind
the others. z = r / sigma is the standardised one-bar return. No feature has a unit; positive returns are
rises. Window means take the known bars, NaN while fewer than half are known. The row of a missing bar is NaN.
With a single symbol, it is its own market and leader.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.flow import IMBALANCE_WINDOWS, imbalance_scores
from features.pipeline import Feature, State
from features.volatility import (
    LOG_RATIO_BOUND,
    LONG_LOOK_BACK,
    bars_in,
    extremes,
    har,
    log_returns,
    long_volatility,
    parkinson_variance,
    ranges,
    semivariances,
    sigma,
)
from features.windows import Array, log_ratio, quotient, rolling_mean


def mean_over_symbols(values: Array) -> Array:
    """Shape (time, 1); NaN where no symbol is known."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        mean: Array = np.nanmean(values, axis=1, keepdims=True)
    return mean


def _leader(values: Array, market_mean: Array) -> Array:
    first = values[:, :1]
    return np.where(np.isnan(first), market_mean, first)


def _here(market: Market, values: Array) -> Array:
    """Values with NaN where the symbol's bar is missing, so that it adds nothing to the market's mean."""
    return np.where(market.close.notna().to_numpy(), values, np.nan)


def _volatility(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """ln(sigma / volatility over 30 days): the market's mean, the leader's, and this symbol's less the
    market's; and the mean of the last hour's ln(Parkinson volatility / sigma), for the market and the
    leader."""
    scale = sigma(market)
    raised = _here(market, log_ratio(scale, long_volatility(market), LOG_RATIO_BOUND))
    ranged = np.sqrt(rolling_mean(parkinson_variance(market), bars_in("1h", market.interval)))
    latest = _here(market, log_ratio(ranged, scale, LOG_RATIO_BOUND))
    mean, mean_latest = mean_over_symbols(raised), mean_over_symbols(latest)
    shape = raised.shape
    return market.frames(
        {
            "market_volatility": np.broadcast_to(mean, shape),
            "leader_volatility": np.broadcast_to(_leader(raised, mean), shape),
            "relative_volatility": raised - mean,
            "market_range_1h": np.broadcast_to(mean_latest, shape),
            "leader_range_1h": np.broadcast_to(_leader(latest, mean_latest), shape),
        }
    )


RETURN_WINDOWS = ("1h", "4h", "1d")


def _returns(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Standardised return over the window, mean r sqrt(bars) / sigma: the market's mean and the leader's; and
    its dispersion, the root mean square distance of the symbols from the market's mean."""
    r, scale = log_returns(market), sigma(market)
    out = {}
    for w in RETURN_WINDOWS:
        bars = bars_in(w, market.interval)
        moved = _here(market, quotient(rolling_mean(r, bars) * np.sqrt(bars), scale))
        mean = mean_over_symbols(moved)
        out[f"market_return_{w}"] = np.broadcast_to(mean, moved.shape)
        out[f"leader_return_{w}"] = np.broadcast_to(_leader(moved, mean), moved.shape)
        spread = np.sqrt(mean_over_symbols((moved - mean) ** 2))
        out[f"dispersion_{w}"] = np.broadcast_to(spread, moved.shape)
    return market.frames(out)


#: What of other symbols is looked at besides, by its name in ``volatility``.
SHAPES = (
    *("har_4h", "har_1d", "har_1w", "parkinson_4h"),
    *("downside_1d", "upside_1d", "drawdown_1w", "rally_1w"),
)


def _shapes(market: Market, state: State) -> Mapping[str, pd.DataFrame]:
    """Features of ``volatility``: the market's mean and the leader's."""
    found = {**har(market, state), **semivariances(market, state), **ranges(market, state)}
    found |= extremes(market, state)
    out = {}
    for name in SHAPES:
        own = _here(market, found[name].to_numpy())
        mean = mean_over_symbols(own)
        out[f"market_{name}"] = np.broadcast_to(mean, own.shape)
        out[f"leader_{name}"] = np.broadcast_to(_leader(own, mean), own.shape)
    return market.frames(out)


CORRELATION_WINDOWS = ("1d", "1w")


def _correlation(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """How tightly a symbol follows the market, mean z m / sqrt(mean z^2 mean m^2) with m the market's mean z,
    and the market's mean of it; held within +-1, NaN where either did not move at all over the window."""
    z = quotient(log_returns(market), sigma(market))
    m = np.where(np.isnan(z), np.nan, mean_over_symbols(z))
    out = {}
    for w in CORRELATION_WINDOWS:
        bars = bars_in(w, market.interval)
        spread = np.sqrt(rolling_mean(z**2, bars) * rolling_mean(m**2, bars))
        own = _here(market, quotient(rolling_mean(z * m, bars), spread).clip(-1, 1))
        out[f"correlation_{w}"] = own
        out[f"market_correlation_{w}"] = np.broadcast_to(mean_over_symbols(own), own.shape)
    return market.frames(out)


def _imbalance(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """The market's mean and the leader's taker imbalance against its usual (see
    ``flow.imbalance_scores``)."""
    out = {}
    for w, scores in imbalance_scores(market).items():
        score = _here(market, scores)
        mean = mean_over_symbols(score)
        out[f"market_imbalance_{w}"] = np.broadcast_to(mean, score.shape)
        out[f"leader_imbalance_{w}"] = np.broadcast_to(_leader(score, mean), score.shape)
    return market.frames(out)


FEATURES = (
    Feature(
        (
            *("market_volatility", "leader_volatility", "relative_volatility"),
            *("market_range_1h", "leader_range_1h"),
        ),
        *("spillover", LONG_LOOK_BACK, ("close", "high", "low"), _volatility),
    ),
    Feature(
        tuple(
            f"{part}_{w}" for w in RETURN_WINDOWS for part in ("market_return", "leader_return", "dispersion")
        ),
        *("spillover", LONG_LOOK_BACK, ("close",), _returns),
    ),
    Feature(
        tuple(f"{part}_{name}" for name in SHAPES for part in ("market", "leader")),
        *("spillover", LONG_LOOK_BACK, ("open", "high", "low", "close"), _shapes),
    ),
    Feature(
        tuple(f"{part}_{w}" for w in CORRELATION_WINDOWS for part in ("correlation", "market_correlation")),
        *("spillover", LONG_LOOK_BACK, ("close",), _correlation),
    ),
    Feature(
        tuple(f"{part}_{w}" for w in IMBALANCE_WINDOWS for part in ("market_imbalance", "leader_imbalance")),
        *("spillover", LONG_LOOK_BACK, ("close", "volume", "taker_buy_volume"), _imbalance),
    ),
)
