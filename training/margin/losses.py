"""What a contract loses over a horizon, and the static rate that such losses would have asked for.

In rate terms, fractions of notional of a linear contract: a long loses ``1 - exp(-loss)`` and a short
``exp(loss) - 1`` of a log loss, which is ``1 - P(t+h)/P(t)`` and ``P(t+h)/P(t) - 1``. Positive is a loss. A
loss is unknown, NaN, where it has not matured by the market's last bar or the bar at either end is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.durations import parse_duration, whole_bars
from models.forecast.base import SIDES
from models.margin.fhs import tail_quantiles
from models.margin.types import KINDS
from training.margin.requirements import HORIZONS, MARGIN_COLUMNS, rates_of

Array = NDArray[np.float64]

#: The series that stands still: ES of all losses before a time, per symbol and side.
STATIC = "static"
LEVEL = 0.99


def log_losses(market: Market, horizon: str | pd.Timedelta) -> Array:
    """Log losses over the horizon from each close on, shape (time, symbol, side); sides as in ``SIDES``.

    Raises ``ValueError`` for a horizon that is not a whole number of bars.
    """
    bars = whole_bars(parse_duration(horizon), market.interval)
    log_close = np.log(market.close.to_numpy(dtype="float64"))
    forward = np.full_like(log_close, np.nan)
    forward[:-bars] = log_close[bars:] - log_close[:-bars]
    return np.stack([-forward, forward], axis=2)


def rate_losses(market: Market, horizon: str | pd.Timedelta) -> Array:
    """The same losses in rate terms, shape (time, symbol, side)."""
    return rates_of(log_losses(market, horizon), _LONG)


_LONG = np.array([side == SIDES[0] for side in SIDES])


def static_rates(
    market: Market, before: pd.Timestamp, horizon: str | pd.Timedelta, level: float = LEVEL
) -> Array:
    """Margin rate of the ES of all losses that had matured by ``before``, shape (symbol, side).

    Losses overlap, a new one begins at every bar; ES is the mean of those that rank at or beyond the
    quantile. Raises ``ValueError`` where a symbol has no matured loss by then.
    """
    known = market.until(before)
    losses = log_losses(known, horizon) if len(known.times) else np.empty((0, len(market.symbols), 2))
    found = np.empty((len(market.symbols), len(SIDES)))
    for column, symbol in enumerate(market.symbols):
        short = losses[:, column, 1]
        if not np.isfinite(short).any():
            raise ValueError(
                f"{symbol} has no loss over {horizon} that had matured by {before:%Y-%m-%d %H:%M}; "
                f"give bars from before, or leave the symbol out"
            )
        found[column] = tail_quantiles(short, (level,))[1][:, 0]
    return rates_of(found, _LONG)


def static_table(
    market: Market,
    times: pd.DatetimeIndex,
    *,
    before: pd.Timestamp | None = None,
    horizons: Mapping[str, str] = HORIZONS,
    level: float = LEVEL,
) -> pd.DataFrame:
    """The margin table of the static rate at these decision times, all symbols of the market.

    Args:
        before: only losses that had matured by then; default the first of the times.
        horizons: of each kind; initial margin is at least maintenance margin.

    Columns as in ``MARGIN_COLUMNS``; the multiplier is 1, ``mode``, ``rung`` and ``rules`` are empty.
    """
    kinds = [kind for kind in KINDS if kind in horizons]
    since = times.min() if before is None else before
    rates = np.stack([static_rates(market, since, horizons[kind], level) for kind in kinds], axis=2)
    if len(kinds) == len(KINDS):
        rates[:, :, 0] = rates.max(axis=2)
    keys = pd.MultiIndex.from_product(
        [times, market.symbols, SIDES, kinds], names=["time", "symbol", "side", "kind"]
    )
    served = np.tile(rates.ravel(), len(times))
    table = keys.to_frame(index=False).assign(
        series=STATIC, mode="", base_rate=served, required_rate=served, served_rate=served, multiplier=1.0
    )
    return table.assign(rung="", rules="")[MARGIN_COLUMNS]
