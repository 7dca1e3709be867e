"""What single trades tell of the newest bars: large trades, runs, toxicity, impact, bursts; on the decision
grid and on the finer grids beneath it (see ``fine`` for names, windows and grids).

Made of the columns of group ``trades`` (``features.columns``; what each is: ``features.trades.detail``).
Their levels drift with tick size, fees and fashion, so each is held against the same symbol's own last week,
or as much of it as there is, half a day at least. With x a column, m_w its mean over the window w, m its mean
over the week and d its standard deviation there:

- a *ratio*, ln(m_w / m), within +-``LOG_RATIO_BOUND``: ``tape_vpin``, ``tape_runs`` (mean run),
  ``tape_long_runs``, ``tape_sizes`` and ``tape_bursts`` (dispersion of sizes and of times between trades),
  ``tape_spread`` (Roll);
- a *score*, (m_w - m) sqrt(bars of w) / d, within +-``SCORE_BOUND``, about +-1 in an ordinary hour:
  ``tape_large`` (share of large trades), ``tape_large_push`` (their imbalance, positive: bought),
  ``tape_impact`` (Kyle's lambda), ``tape_persistence`` (autocorrelation of signed sizes), ``tape_gap`` (what
  buyers paid over sellers).

None has a unit. Means take the known bars: many columns have none where too little was traded; NaN while
fewer than a quarter of a window are known, where a column does not vary, and at a missing decision bar.

Sources: Easley, Lopez de Prado and O'Hara 2012; Kyle 1985; Roll 1984; Barclay and Warner 1993 (which sizes
move prices).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import parse_duration, window_bars
from features.fine import at_decisions, grid_beneath, suffix, windows_on
from features.flow import SCORE_BOUND
from features.pipeline import Feature, State
from features.resample import RESOLUTIONS
from features.volatility import DAY, LOG_RATIO_BOUND
from features.windows import Array, log_ratio, quotient, rolling_mean

TAPE_WINDOWS = ("1m", "5m", "15m", "1h", "4h")
USUAL, USUAL_NEEDS = 7 * DAY, DAY / 2
#: Share of a window's bars that must be known.
LEAST_SHARE = 0.25

#: Feature, column and how it is held against its usual; first those that need no side.
_UNSIDED = (
    ("tape_large", "large_trade_share", "score"),
    ("tape_sizes", "size_dispersion", "ratio"),
    ("tape_bursts", "trade_gap_dispersion", "ratio"),
    ("tape_spread", "roll_spread", "ratio"),
)
_SIDED = (
    ("tape_large_push", "large_trade_imbalance", "score"),
    ("tape_vpin", "vpin", "ratio"),
    ("tape_runs", "run_mean", "ratio"),
    ("tape_long_runs", "run_longest", "ratio"),
    ("tape_impact", "kyle_lambda", "score"),
    ("tape_persistence", "flow_autocorrelation", "score"),
    ("tape_gap", "buy_sell_gap", "score"),
)
_Parts = tuple[tuple[str, str, str], ...]
# A variance below this share of the mean square is rounding.
_VARIES = 1e-12


def _outputs(parts: _Parts, resolution: pd.Timedelta | None) -> tuple[str, ...]:
    windows = windows_on(resolution, TAPE_WINDOWS)
    return tuple(f"{part}_{w}{suffix(resolution)}" for part, _, _ in parts for w in windows)


def _mean(values: Array, bars: int) -> Array:
    return rolling_mean(values, bars, least=max(1, int(np.ceil(LEAST_SHARE * bars))))


def _computed(
    parts: _Parts, resolution: pd.Timedelta | None
) -> Callable[[Market, State], Mapping[str, pd.DataFrame]]:
    def compute(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
        """See the module."""
        grid, k = grid_beneath(market, resolution)
        week, needs = window_bars(USUAL, grid.interval), window_bars(USUAL_NEEDS, grid.interval)
        out = {}
        for part, column, kind in parts:
            x = grid[column].to_numpy(dtype="float64")
            usual = at_decisions(rolling_mean(x, week, least=needs), k)
            squares = at_decisions(rolling_mean(x**2, week, least=needs), k)
            variance = squares - usual**2
            deviation = np.sqrt(np.where(variance > _VARIES * squares, variance, 0.0))
            for w in windows_on(resolution, TAPE_WINDOWS):
                bars = window_bars(parse_duration(w), grid.interval)
                recent = at_decisions(_mean(x, bars), k)
                if kind == "ratio":
                    found = log_ratio(recent, usual, LOG_RATIO_BOUND)
                else:
                    found = quotient((recent - usual) * np.sqrt(bars), deviation)
                    found = found.clip(-SCORE_BOUND, SCORE_BOUND)
                out[f"{part}_{w}{suffix(resolution)}"] = found
        return market.frames(out)

    return compute


FEATURES = tuple(
    Feature(
        _outputs(parts, resolution),
        *("order_flow", USUAL, ("close", *(column for _, column, _ in parts)), _computed(parts, resolution)),
        resolution=resolution,
    )
    for resolution in (None, *RESOLUTIONS)
    for parts in (_UNSIDED, _SIDED)
)
