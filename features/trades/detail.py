"""The trade columns of a bar (see ``features.columns``) from its sums.

With n trades in the bar, prices p_i, sizes v_i, signed sizes s_i (positive: the taker bought), changes
d_i = p_i - p_(i-1) and times between trades g_i (seconds, i from 2, both within the bar alone), and VWAP the
mean price weighed by size:

- ``large_trade_share``: volume of trades of at least the usual large size / volume;
  ``large_trade_imbalance``: those bought less those sold / volume.
- ``size_dispersion``, ``trade_gap_dispersion``: standard deviation / mean of v and of g.
- ``run_mean``, ``run_longest``: lengths of runs, trades in a row on one side; a bar begins a new run.
- ``kyle_lambda``: slope of d_i on s_i, i from 2, with intercept, / VWAP (Kyle 1985).
- ``roll_spread``: 2 sqrt(-cov(d_i, d_(i-1))) / VWAP; NaN where the covariance is positive (Roll 1984).
- ``flow_autocorrelation``: sum (s_i - m)(s_(i-1) - m) / sum (s_i - m)^2, m the mean of s.
- ``buy_sell_gap``: VWAP of taker buys / VWAP of taker sells - 1; NaN where one side is next to nothing.

All are NaN where they say nothing: dispersions below 3 trades, the last four but the gap below
``LEAST_TRADES``, ratios over what is 0 or lost in rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.trades.arrays import Array, Whole

#: Regressions and covariances within a bar need this many trades.
LEAST_TRADES = 10

#: The sums that ``BarSums`` keeps of a bar, in this order. The last five are over i from 2.
SUMS = (
    *("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"),
    *("large_volume", "large_buy_volume", "squared_sizes"),
    *("change_by_size", "change_by_lagged", "squared_changes", "size_by_lagged", "squared_gaps"),
)

# A difference of sums below this share of them is rounding.
_ROUNDING = 1e-9
# Below this share of the volume the mean price of a side is lost in rounding.
_LEAST_SIDE = 1e-6


@dataclass(frozen=True)
class Ends:
    """Of each bar: its first and last trade, arrays of one length. ``change_2`` is d_2 and ``change_n`` d_n,
    0 where there is one trade; ``signed_1`` and ``signed_n`` are s_1 and s_n."""

    trades: Whole
    price_1: Array
    price_n: Array
    change_2: Array
    change_n: Array
    signed_1: Array
    signed_n: Array
    seconds: Array


def detail(sums: Array, ends: Ends) -> dict[str, Array]:
    """Trade columns from the sums (sum, bar) and the ends of bars, without runs and VPIN."""
    total = dict(zip(SUMS, sums, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        vwap = total["quote_volume"] / total["volume"]
        return {
            "large_trade_share": np.minimum(total["large_volume"] / total["volume"], 1.0),
            "large_trade_imbalance": np.clip(
                (2 * total["large_buy_volume"] - total["large_volume"]) / total["volume"], -1.0, 1.0
            ),
            "size_dispersion": _dispersion(total["volume"], total["squared_sizes"], ends.trades, ends.trades),
            "trade_gap_s": np.where(ends.trades > 1, ends.seconds / (ends.trades - 1), np.nan),
            "trade_gap_dispersion": _dispersion(
                ends.seconds, total["squared_gaps"], ends.trades - 1, ends.trades
            ),
            "kyle_lambda": _slope(total, ends) / vwap,
            "roll_spread": _roll(total, ends) / vwap,
            "flow_autocorrelation": _autocorrelation(total, ends),
            "buy_sell_gap": _gap(total),
        }


def _dispersion(total: Array, squares: Array, count: Whole, trades: Whole) -> Array:
    mean = total / count
    variance = squares / count - mean**2
    variance = np.where(variance > _ROUNDING * mean**2, variance, 0.0)
    return np.where((trades >= 3) & (mean > 0), np.sqrt(variance) / mean, np.nan)


def _signed(total: dict[str, Array]) -> Array:
    return 2 * total["taker_buy_volume"] - total["volume"]


def _slope(total: dict[str, Array], ends: Ends) -> Array:
    count = ends.trades - 1
    sizes = _signed(total) - ends.signed_1
    squares = total["squared_sizes"] - ends.signed_1**2
    spread = count * squares - sizes**2
    rise = count * total["change_by_size"] - sizes * (ends.price_n - ends.price_1)
    known = (ends.trades >= LEAST_TRADES) & (spread > _ROUNDING * count * squares)
    known &= squares > _ROUNDING * total["squared_sizes"]
    return np.where(known, rise / spread, np.nan)


def _roll(total: dict[str, Array], ends: Ends) -> Array:
    count = ends.trades - 2
    move = ends.price_n - ends.price_1
    mean = move / (ends.trades - 1)
    # Of the sums over d_i and over d_(i-1), i from 3, each leaves out one change.
    lagged = mean * (2 * move - ends.change_2 - ends.change_n)
    covariance = total["change_by_lagged"] - lagged + count * mean**2
    # Prices are not exact floats: a trend of equal ticks wobbles in the sixteenth digit.
    rounding = _ROUNDING * total["squared_changes"]
    covariance = np.where(np.abs(covariance) > rounding, covariance, 0.0) / count
    known = (ends.trades >= LEAST_TRADES) & (covariance <= 0)
    return np.where(known, 2 * np.sqrt(np.abs(covariance)), np.nan)


def _autocorrelation(total: dict[str, Array], ends: Ends) -> Array:
    signed = _signed(total)
    mean = signed / ends.trades
    variance = total["squared_sizes"] - ends.trades * mean**2
    products = total["size_by_lagged"] - mean * (2 * signed - ends.signed_1 - ends.signed_n)
    products += (ends.trades - 1) * mean**2
    known = (ends.trades >= LEAST_TRADES) & (variance > _ROUNDING * total["squared_sizes"])
    return np.where(known, np.clip(products / variance, -1.0, 1.0), np.nan)


def _gap(total: dict[str, Array]) -> Array:
    bought, sold = total["taker_buy_volume"], total["volume"] - total["taker_buy_volume"]
    sold_quote = total["quote_volume"] - total["taker_buy_quote_volume"]
    known = np.minimum(bought, sold) > _LEAST_SIDE * total["volume"]
    return np.where(known, (total["taker_buy_quote_volume"] / bought) / (sold_quote / sold) - 1, np.nan)
