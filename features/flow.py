"""Who trades, how much and with what effect: activity, taker imbalance, toxicity and price impact.

Levels of volume and activity drift over years, so every feature is measured against its own last 30 days: a
logarithm of a ratio (held within +-``LOG_RATIO_BOUND``) or a difference in units of its own deviation (held
within +-``SCORE_BOUND``). None has a unit. Signs: positive imbalance is buying by takers, positive impact
moves the price with the taker. Window means take the known bars; NaN while fewer than half are known, at a
missing bar, and where nothing traded in the window at all.

With v = volume, b = taker-buy volume, s = 2 b - v the signed volume, r the one-bar log return:

Sources: Easley, Lopez de Prado and O'Hara 2012 (VPIN; here over bars of time, not of volume); Amihud 2002;
Kyle 1985 (lambda as the slope of r on s); Hasbrouck and Seppi 2001 (persistence of signed flow).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.pipeline import Feature, State
from features.volatility import LOG_RATIO_BOUND, LONG_LOOK_BACK, bars_in, log_returns
from features.windows import Array, lag, log_ratio, quotient, rolling_mean

SCORE_BOUND = 10.0
#: Every average that a flow feature is held against covers this window.
USUAL = "1m"


def _column(market: Market, name: str) -> Array:
    return market[name].to_numpy(dtype="float64")


def _against_usual(market: Market, values: Array, window: str) -> Array:
    """ln(mean over the window / mean over 30 days)."""
    recent = rolling_mean(values, bars_in(window, market.interval))
    return log_ratio(recent, rolling_mean(values, bars_in(USUAL, market.interval)), LOG_RATIO_BOUND)


VOLUME_WINDOWS = ("1h", "4h", "1d", "1w")


def _volume(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Volume against its usual: ln(mean v over the window / mean v over 30 days)."""
    v = _column(market, "volume")
    return market.frames({f"volume_{w}": _against_usual(market, v, w) for w in VOLUME_WINDOWS})


TRADE_WINDOWS = ("1h", "4h", "1d")


def _trades(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Trade intensity, ln of trades against their usual number, and trade size, ln of volume a trade against
    its usual (mean v / mean trades, over the window and over 30 days)."""
    trades, v = _column(market, "trades"), _column(market, "volume")
    usual = bars_in(USUAL, market.interval)
    usual_size = quotient(rolling_mean(v, usual), rolling_mean(trades, usual))
    out = {}
    for w in TRADE_WINDOWS:
        bars = bars_in(w, market.interval)
        size = quotient(rolling_mean(v, bars), rolling_mean(trades, bars))
        out[f"trade_intensity_{w}"] = _against_usual(market, trades, w)
        out[f"trade_size_{w}"] = log_ratio(size, usual_size, LOG_RATIO_BOUND)
    return market.frames(out)


IMBALANCE_WINDOWS = ("1h", "4h", "1d", "1w")


def imbalance_scores(market: Market) -> dict[str, Array]:
    """By window: taker imbalance I_w = sum s / sum v over the window, against its usual: (I_w - I_1m)
    sqrt(bars of w) / D, with D the root mean square over 30 days of the one-bar imbalance s / v. About +-1 is
    ordinary."""
    v = _column(market, "volume")
    s = 2 * _column(market, "taker_buy_volume") - v
    usual = bars_in(USUAL, market.interval)
    mean = quotient(rolling_mean(s, usual), rolling_mean(v, usual))
    deviation = np.sqrt(rolling_mean(quotient(s, v) ** 2, usual, least=1))
    out = {}
    for w in IMBALANCE_WINDOWS:
        bars = bars_in(w, market.interval)
        recent = quotient(rolling_mean(s, bars), rolling_mean(v, bars))
        score = quotient((recent - mean) * np.sqrt(bars), deviation)
        out[w] = score.clip(-SCORE_BOUND, SCORE_BOUND)
    return out


def _imbalance(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Taker imbalance against its usual, see ``imbalance_scores``."""
    return market.frames({f"imbalance_{w}": score for w, score in imbalance_scores(market).items()})


PERSISTENCE_WINDOWS = ("1d", "1w")


def _persistence(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Persistence of signed volume: mean s[t] s[t-1] / mean s^2 over the window less the same over 30 days,
    each held within +-1; 0 where all volume was balanced. Positive where takers keep to one side more than
    usual."""
    s = 2 * _column(market, "taker_buy_volume") - _column(market, "volume")
    products, squares = s * lag(s, 1), s**2

    def autocorrelation(window: str) -> Array:
        bars = bars_in(window, market.interval)
        covariance, variance = rolling_mean(products, bars), rolling_mean(squares, bars)
        ratio = np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0)
        return np.where(np.isnan(covariance + variance), np.nan, ratio.clip(-1, 1))

    usual = autocorrelation(USUAL)
    return market.frames({f"flow_persistence_{w}": autocorrelation(w) - usual for w in PERSISTENCE_WINDOWS})


TOXICITY_WINDOWS = ("4h", "1d", "1w")


def _toxicity(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Toxicity: the share of volume that one side took alone, V_w = sum |s| / sum v, as ln(V_w / V_1m)."""
    v = _column(market, "volume")
    one_sided = np.abs(2 * _column(market, "taker_buy_volume") - v)

    def share(window: str) -> Array:
        bars = bars_in(window, market.interval)
        return quotient(rolling_mean(one_sided, bars), rolling_mean(v, bars))

    usual = share(USUAL)
    return market.frames(
        {f"toxicity_{w}": log_ratio(share(w), usual, LOG_RATIO_BOUND) for w in TOXICITY_WINDOWS}
    )


IMPACT_WINDOWS = ("4h", "1d", "1w")


def _amihud(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Amihud's illiquidity, mean of |r| / (v close) over the bars that traded, as ln against its usual. High
    where little volume moves the price far."""
    turnover = _column(market, "volume") * _column(market, "close")
    illiquidity = quotient(np.abs(log_returns(market)), turnover)
    return market.frames({f"illiquidity_{w}": _against_usual(market, illiquidity, w) for w in IMPACT_WINDOWS})


def _kyle(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Kyle's lambda by regression through the origin, lambda_w = mean r s / mean s^2 over the window, against
    its usual in standard units: (lambda_w - lambda_1m) rms(s) / rms(r), both rms over 30 days."""
    r = log_returns(market)
    s = 2 * _column(market, "taker_buy_volume") - _column(market, "volume")
    s = np.where(np.isnan(r), np.nan, s)
    products, squares = r * s, s**2
    usual = bars_in(USUAL, market.interval)
    unit = quotient(np.sqrt(rolling_mean(squares, usual)), np.sqrt(rolling_mean(r**2, usual)))

    def slope(bars: int) -> Array:
        return quotient(rolling_mean(products, bars), rolling_mean(squares, bars))

    usual_slope = slope(usual)
    return market.frames(
        {
            f"impact_{w}": ((slope(bars_in(w, market.interval)) - usual_slope) * unit).clip(
                -SCORE_BOUND, SCORE_BOUND
            )
            for w in IMPACT_WINDOWS
        }
    )


_TAKER = ("close", "volume", "taker_buy_volume")

FEATURES = (
    Feature(
        tuple(f"volume_{w}" for w in VOLUME_WINDOWS), "flow", LONG_LOOK_BACK, ("close", "volume"), _volume
    ),
    Feature(
        tuple(f"{part}_{w}" for w in TRADE_WINDOWS for part in ("trade_intensity", "trade_size")),
        *("flow", LONG_LOOK_BACK, ("close", "volume", "trades"), _trades),
    ),
    Feature(tuple(f"imbalance_{w}" for w in IMBALANCE_WINDOWS), "flow", LONG_LOOK_BACK, _TAKER, _imbalance),
    Feature(
        tuple(f"flow_persistence_{w}" for w in PERSISTENCE_WINDOWS),
        *("flow", LONG_LOOK_BACK, _TAKER, _persistence),
    ),
    Feature(tuple(f"toxicity_{w}" for w in TOXICITY_WINDOWS), "flow", LONG_LOOK_BACK, _TAKER, _toxicity),
    Feature(
        tuple(f"illiquidity_{w}" for w in IMPACT_WINDOWS),
        *("flow", LONG_LOOK_BACK, ("close", "volume"), _amihud),
    ),
    Feature(tuple(f"impact_{w}" for w in IMPACT_WINDOWS), "flow", LONG_LOOK_BACK, _TAKER, _kyle),
)
