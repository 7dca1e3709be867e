"""How much this symbol moved at the same time of earlier days and weeks: a seasonality that follows the
market.

The learned hour profile (``calendar``) is one for all of the training window and does not know when clocks
change in New York. These look at the hours that begin now as they were on the 2 to 20 days, or 4 weeks,
before.

With v the realized variance of the w hours that began a whole number of days before t, a bar's at least, and
the mean over those days for which half of the bars are known: ln(sqrt(mean v) / sigma), without unit, held
within +-``LOG_RATIO_BOUND``. NaN where none is known (warm-up), and in the row of a missing bar.

Source: Andersen, Bollerslev (1997) on intraday periodicity.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import window_bars
from features.pipeline import Feature, State
from features.volatility import (
    DAY,
    LOG_RATIO_BOUND,
    LONG_LOOK_BACK,
    bars_in,
    log_returns,
    sigma,
)
from features.windows import Array, lag, log_ratio, rolling_mean

#: Hours that begin now, by name; how many days (or weeks) back; and the name of the latter.
DAILY = (("1h", 2), ("1h", 5), ("1h", 20), ("4h", 2), ("4h", 20))
WEEKLY = (("1h", 4), ("4h", 4), ("1d", 4))


def _usual(variance: Array, ahead: int, period: int, times: int) -> Array:
    """Mean of the variance of the ``ahead`` bars that began 1, 2, ... ``times`` periods before each row."""
    total, known = np.zeros_like(variance), np.zeros_like(variance)
    for k in range(1, times + 1):
        then = lag(variance, max(k * period - ahead, 0))
        total += np.nan_to_num(then)
        known += ~np.isnan(then)
    return np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)


def _same_time(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    squared, scale = log_returns(market) ** 2, sigma(market)
    out = {}
    for names, period, unit in ((DAILY, DAY, "d"), (WEEKLY, 7 * DAY, "w")):
        for window, times in names:
            ahead = bars_in(window, market.interval)
            usual = _usual(rolling_mean(squared, ahead), ahead, window_bars(period, market.interval), times)
            out[f"usual_{window}_{times}{unit}"] = log_ratio(np.sqrt(usual), scale, LOG_RATIO_BOUND)
    return market.frames(out)


FEATURES = (
    Feature(
        (*(f"usual_{w}_{n}d" for w, n in DAILY), *(f"usual_{w}_{n}w" for w, n in WEEKLY)),
        *("seasonality", LONG_LOOK_BACK, ("close",), _same_time),
    ),
)
