"""What takers did in the newest bars, on the decision grid and on the finer grids beneath it (see ``fine``
for names, windows and grids).

Levels of volume and activity drift for years, and a model that reads levels forecasts badly once they leave
what it was trained on. So everything is held against the same symbol's last day, most of which was known
before the window began. With v = volume, s = 2 taker-buy volume - v, n trades, r the log return, of one bar
of the grid; over the last w against the last day, logarithms held within +-``LOG_RATIO_BOUND``:

- ``turnover``: ln(mean v / its day's), ``activity``: ln(mean n / its day's);
- ``ticket``: ln of the mean size of a trade, sum v / sum n, against its day's;
- ``push``: sum s / sum v x sqrt(bars) / (root mean square of s / v over the day), within +-``SCORE_BOUND``;
about
  +-1 is ordinary, positive is buying by takers; ``one_sided`` is its absolute value;
- ``price_impact``: ln(mean |r| / v / its day's), over bars that traded (Amihud 2002).

NaN while fewer than half of the bars are known, where nothing traded, and at a missing decision bar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import parse_duration, window_bars
from features.fine import FINE_WINDOWS, at_decisions, grid_beneath, suffix, windows_on
from features.flow import SCORE_BOUND
from features.pipeline import Feature, State
from features.resample import RESOLUTIONS
from features.volatility import DAY, HOUR, LOG_RATIO_BOUND, log_returns
from features.windows import Array, log_ratio, quotient, rolling_mean

_PARTS = ("turnover", "activity", "ticket", "push", "one_sided", "price_impact")


def _outputs(resolution: pd.Timedelta | None) -> tuple[str, ...]:
    return tuple(
        f"{part}_{w}{suffix(resolution)}" for part in _PARTS for w in windows_on(resolution, FINE_WINDOWS)
    )


def _computed(resolution: pd.Timedelta | None) -> Callable[[Market, State], Mapping[str, pd.DataFrame]]:
    end = suffix(resolution)

    def compute(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
        """See the module."""
        grid, k = grid_beneath(market, resolution)
        v, n, bought = (grid[c].to_numpy(dtype="float64") for c in ("volume", "trades", "taker_buy_volume"))
        s = 2 * bought - v
        impact = quotient(np.abs(log_returns(grid)), v)

        def mean(values: Array, bars: int) -> Array:
            return at_decisions(rolling_mean(values, bars), k)

        day = window_bars(DAY, grid.interval)
        day_v, day_n, day_impact = mean(v, day), mean(n, day), mean(impact, day)
        ordinary = np.sqrt(at_decisions(rolling_mean(quotient(s, v) ** 2, day, least=1), k))
        out = {}
        for w in windows_on(resolution, FINE_WINDOWS):
            bars = window_bars(parse_duration(w), grid.interval)
            mean_v, mean_n = mean(v, bars), mean(n, bars)
            push = quotient(quotient(mean(s, bars), mean_v) * np.sqrt(bars), ordinary)
            found = {
                "turnover": log_ratio(mean_v, day_v, LOG_RATIO_BOUND),
                "activity": log_ratio(mean_n, day_n, LOG_RATIO_BOUND),
                "ticket": log_ratio(quotient(mean_v, mean_n), quotient(day_v, day_n), LOG_RATIO_BOUND),
                "push": push.clip(-SCORE_BOUND, SCORE_BOUND),
                "one_sided": np.abs(push).clip(None, SCORE_BOUND),
                "price_impact": log_ratio(mean(impact, bars), day_impact, LOG_RATIO_BOUND),
            }
            out.update({f"{part}_{w}{end}": values for part, values in found.items()})
        return market.frames({name: out[name] for name in _outputs(resolution)})

    return compute


FEATURES = tuple(
    Feature(
        _outputs(resolution),
        *("fine_flow", 3 * DAY, ("close", "volume", "trades", "taker_buy_volume"), _computed(resolution)),
        resolution=resolution,
        below=HOUR if resolution is None else None,
    )
    for resolution in (None, *RESOLUTIONS)
)
