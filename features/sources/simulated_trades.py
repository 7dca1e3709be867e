"""Trades that add up to simulated bars, from a seed: for demonstrations, tests and measurements.

In each bar that traded: sides come in runs, with the bar's share of taker buying on average; the price
starts at the open, ends at the close, touches the high with a buy and the low with a sale, and otherwise
bounces by a spread around a bridge between them that takers move and that stays for a few trades at a time;
sizes are lognormal and add up to the bar's taker-buy volume and the rest; trades come in bursts. Prices,
volume and taker-buy volume of the bars come back out of ``features.trades.TradeBars``, prices exactly; quote
volume and number of trades are the trades' own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.bars import Market
from features.trades.arrays import Array, Trades, Whole

#: A bar needs an open, a high, a low and a close.
LEAST_TRADES = 4
_NEW_SIDE, _NEW_PRICE, _BURST = 0.35, 0.45, 0.6
_SIZE_DEVIATION = 1.5
# In units of the bar's range over the root of its trades, the ordinary move of the mid from trade to trade.
_HALF_SPREAD = 1.0


def simulate_trades(market: Market, symbol: str, seed: int = 7, most_per_bar: int = 200) -> Trades:
    """Trades of one symbol, with ids that count up from 1.

    Args:
        market: simulated bars, or any that have ``trades`` and ``taker_buy_volume``.
        symbol: one of its symbols.
        seed: of everything random; the same arguments give the same trades.
        most_per_bar: a bar has as many trades as it says, at least 4 and at most these.

    Raises ``ValueError`` where ``most_per_bar`` is below 4 or the market lacks a column.
    """
    if most_per_bar < LEAST_TRADES:
        raise ValueError(f"most_per_bar is {most_per_bar}; give at least {LEAST_TRADES}")
    absent = [c for c in ("trades", "taker_buy_volume") if c not in market]
    if absent:
        raise ValueError(f"the market lacks the columns {absent}; give bars that have them")
    rng = np.random.default_rng(seed)
    bars = market.bars(symbol)
    bars = bars[bars["volume"] > 0]
    per_bar = bars["trades"].clip(LEAST_TRADES, most_per_bar).to_numpy().astype("int64")
    firsts: Whole = np.cumsum(per_bar) - per_bar
    bar = np.repeat(np.arange(len(bars)), per_bar)
    column = {c: bars[c].to_numpy(dtype="float64") for c in bars.columns if c != "open_time"}

    # High and low lie at two different trades between the first and the last.
    highs = firsts + 1 + (rng.random(len(bars)) * (per_bar - 2)).astype("int64")
    shift = 1 + (rng.random(len(bars)) * (per_bar - 3)).astype("int64")
    lows = firsts + 1 + (highs - firsts - 1 + shift) % (per_bar - 2)

    share = column["taker_buy_volume"] / column["volume"]
    drawn = _held(rng.random(len(bar)), rng.random(len(bar)) < _NEW_SIDE, firsts)
    buy = drawn < share[bar]
    buy[highs], buy[lows] = True, False

    side = np.where(buy, 1.0, -1.0)
    width = ((column["high"] - column["low"]) / np.sqrt(per_bar))[bar]
    mid = _bridge(np.abs(rng.standard_normal(len(bar))) * side, column, width, per_bar, firsts, bar)
    price = _held(mid, rng.random(len(bar)) < _NEW_PRICE, firsts) + _HALF_SPREAD * width * side
    price = np.clip(price, column["low"][bar], column["high"][bar])
    price[highs], price[lows] = column["high"], column["low"]
    price[firsts], price[firsts + per_bar - 1] = column["open"], column["close"]

    size = rng.lognormal(0.0, _SIZE_DEVIATION, len(bar))
    for taken, volume in (
        (buy, column["taker_buy_volume"]),
        (~buy, column["volume"] - column["taker_buy_volume"]),
    ):
        drawn_volume = np.bincount(bar[taken], size[taken], minlength=len(bars))
        size[taken] *= (volume / drawn_volume)[bar[taken]]

    waits = rng.exponential(1.0, len(bar)) * np.where(rng.random(len(bar)) < _BURST, 0.05, 1.0)
    reached = np.cumsum(waits)
    since = reached - (reached[firsts] - waits[firsts])[bar]
    whole = since[firsts + per_bar - 1] + rng.exponential(1.0, len(bars))
    within_us = (since / whole[bar] * (market.interval / pd.Timedelta(1, unit="us"))).astype("int64")
    opens_ns: Whole = bars["open_time"].to_numpy(dtype="int64")
    keep = size > 0  # a bar all of one side
    return Trades(
        (opens_ns[bar] + within_us * 1000)[keep], price[keep], size[keep], buy[keep],
        np.arange(1, 1 + int(keep.sum())),
    )  # fmt: skip


def _held(values: Array, new: np.ndarray, firsts: Whole) -> Array:
    """Each value kept until the next ``new`` one; a bar begins with one of its own."""
    new = new.copy()
    new[firsts] = True
    held: Array = values[np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))]
    return held


def _bridge(
    steps: Array, column: dict[str, Array], width: Array, per_bar: Whole, firsts: Whole, bar: Whole
) -> Array:
    """In each bar a path from its open to its close by these steps, in units of ``width``."""
    steps = steps.copy()
    steps[firsts] = 0.0
    walk = np.cumsum(steps)
    walk -= walk[firsts][bar]
    share = (np.arange(len(bar)) - firsts[bar]) / (per_bar[bar] - 1)
    walk -= share * walk[firsts + per_bar - 1][bar]
    path: Array = column["open"][bar] + share * (column["close"] - column["open"])[bar] + walk * width
    return path
