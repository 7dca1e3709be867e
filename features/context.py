"""What other markets say: funding, implied volatility, open interest, liquidations.

Made of the columns of group ``context`` (``features.columns``), which stand for what was known at the bar's
close (``features.sources.as_of``). Every feature is measured against the symbol's own last 30 days or its own
volatility: a logarithm of a ratio (held within +-``LOG_RATIO_BOUND``) or a difference in units of its own
deviation (held within +-``SCORE_BOUND``). None has a unit. NaN where the series is not known (too old, not of
this symbol), at a missing bar, and while less than half of a window is known (warm-up).

Sources: Bollerslev, Tauchen and Zhou 2009 (implied over realized volatility: the variance risk premium).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.flow import SCORE_BOUND
from features.pipeline import Feature, State
from features.volatility import DAY, LOG_RATIO_BOUND, LONG_LOOK_BACK, bars_in, sigma
from features.windows import Array, lag, log_ratio, quotient, rolling_mean

YEAR = 365 * DAY
#: Funding stays at its base rate for weeks; deviations below a tenth of it do not count as unusual.
FUNDING_UNIT = 1e-5


def _column(market: Market, name: str) -> Array:
    return market[name].to_numpy(dtype="float64")


def _usual(market: Market, values: Array) -> Array:
    """Mean of the known values of the last 30 days."""
    return rolling_mean(values, bars_in("1m", market.interval))


def _bounded(score: Array) -> Array:
    return score.clip(-SCORE_BOUND, SCORE_BOUND)


def _before(market: Market, values: Array, window: str) -> Array:
    """What the values were one window ago: the mean of those known in the half window that ended then, so
    that one missing bar is not missed again a window later."""
    bars = bars_in(window, market.interval)
    return lag(rolling_mean(values, max(1, bars // 2), least=1), bars)


def _funding(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Funding f of 8 h, with m and D its mean and standard deviation over 30 days, D at least
    ``FUNDING_UNIT``: (f - m) / D, its mean over a week (mean_1w - m) / D, and its change over a day
    (f - f of a day before) / D. Positive where longs pay more than usual."""
    f = _column(market, "funding_rate")
    mean = _usual(market, f)
    variance = np.maximum(_usual(market, f**2) - mean**2, 0.0)
    deviation = np.maximum(np.sqrt(variance), FUNDING_UNIT)
    week = rolling_mean(f, bars_in("1w", market.interval))
    return market.frames(
        {
            "funding": _bounded((f - mean) / deviation),
            "funding_1w": _bounded((week - mean) / deviation),
            "funding_change_1d": _bounded((f - _before(market, f, "1d")) / deviation),
        }
    )


IMPLIED_WINDOWS = ("1h", "1d")


def _implied(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Implied volatility v (annualised): the premium p = ln(v sqrt(interval / year) / sigma), with sigma the
    symbol's own; the same less its mean of 30 days; ln(v / mean of 30 days); and ln(v / v of w before)."""
    implied = _column(market, "implied_volatility")
    premium = log_ratio(implied * np.sqrt(market.interval / YEAR), sigma(market), LOG_RATIO_BOUND)
    against = (premium - _usual(market, premium)).clip(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    out = {
        "implied_premium": premium,
        "implied_premium_against_usual": against,
        "implied_level": log_ratio(implied, _usual(market, implied), LOG_RATIO_BOUND),
    }
    for w in IMPLIED_WINDOWS:
        out[f"implied_change_{w}"] = log_ratio(implied, _before(market, implied, w), LOG_RATIO_BOUND)
    return market.frames(out)


OPEN_INTEREST_WINDOWS = ("1h", "1d")


def _open_interest(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Open interest i: ln(i / mean of 30 days), and c / root mean square of c over 30 days, with c = ln(i / i
    of w before). Positive where positions are being opened."""
    i = _column(market, "open_interest")
    out = {"open_interest_level": log_ratio(i, _usual(market, i), LOG_RATIO_BOUND)}
    for w in OPEN_INTEREST_WINDOWS:
        change = log_ratio(i, _before(market, i, w), LOG_RATIO_BOUND)
        out[f"open_interest_change_{w}"] = _bounded(quotient(change, np.sqrt(_usual(market, change**2))))
    return market.frames(out)


LIQUIDATION_WINDOWS = ("1h", "4h", "1d")


def _liquidations(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """With L and S the longs and shorts closed by force: their size, ln(mean (L + S) over w / mean of 30
    days), and side, mean (L - S) over w / mean (L + S) of 30 days: positive where longs are closed. NaN
    where 30 days saw none."""
    longs, shorts = _column(market, "liquidations_long"), _column(market, "liquidations_short")
    usual = _usual(market, longs + shorts)
    out = {}
    for w in LIQUIDATION_WINDOWS:
        bars = bars_in(w, market.interval)
        size, side = rolling_mean(longs + shorts, bars), rolling_mean(longs - shorts, bars)
        out[f"liquidations_{w}"] = log_ratio(size, usual, LOG_RATIO_BOUND)
        out[f"liquidation_side_{w}"] = _bounded(quotient(side, usual))
    return market.frames(out)


FEATURES = (
    Feature(
        ("funding", "funding_1w", "funding_change_1d"),
        *("context", LONG_LOOK_BACK, ("close", "funding_rate"), _funding),
    ),
    Feature(
        (
            *("implied_premium", "implied_premium_against_usual", "implied_level"),
            *(f"implied_change_{w}" for w in IMPLIED_WINDOWS),
        ),
        # The oldest premium of the 30 days looks back for its own sigma.
        *("context", LONG_LOOK_BACK + 10 * DAY, ("close", "implied_volatility"), _implied),
    ),
    Feature(
        ("open_interest_level", *(f"open_interest_change_{w}" for w in OPEN_INTEREST_WINDOWS)),
        # The oldest change of the 30 days looks back for what was before.
        *("context", LONG_LOOK_BACK + DAY, ("close", "open_interest"), _open_interest),
    ),
    Feature(
        tuple(f"{part}_{w}" for w in LIQUIDATION_WINDOWS for part in ("liquidations", "liquidation_side")),
        *("context", LONG_LOOK_BACK, ("close", "liquidations_long", "liquidations_short"), _liquidations),
    ),
)
