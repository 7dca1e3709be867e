"""What the newest bars say, on the decision grid and on the finer grids beneath it: volatility over seconds
to a day.

A feature ``high_low_30m_at_15m`` reads bars of 15 minutes over the last 30 minutes, beneath decisions of an
hour say; ``high_low_30m`` reads the bars that the decisions are made on. Every grid has the same features,
over the windows that are no shorter than its bars. Those without a resolution that are shorter than a bar are
one bar, and so say nothing new on coarse bars.

Conventions. r is the log return of one bar of the grid, and s the scale of ``volatility.sigma`` brought to
it, sigma sqrt(bar / decision interval), so that everything is without unit and about one, or zero in
logarithms, in an ordinary hour. ``LEAST_MOVE`` is added under logarithms, since a fine bar often does not
move at all. Window means take the known bars, NaN while fewer than half are; the row of a missing decision
bar is NaN.

Sources: Andersen, Bollerslev (1998) on realized volatility from finer returns; Parkinson (1980);
Barndorff-Nielsen and Shephard (2004, bipower variation); Barndorff-Nielsen, Kinnebrock and Shephard (2010,
semivariance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import format_duration, parse_duration, window_bars
from features.pipeline import Feature, State
from features.resample import RESOLUTIONS
from features.spillover import mean_over_symbols
from features.volatility import (
    DAY,
    EWMA_LOOK_BACK,
    HOUR,
    LEAST_MOVE,
    log_returns,
    parkinson_variance,
    sigma,
)
from features.windows import Array, lag, quotient, rolling_mean

#: Windows of the families that read fine bars, shortest first, by the name that features carry.
FINE_WINDOWS = ("10s", "30s", "1m", "2m", "5m", "15m", "30m", "1h", "2h", "4h", "1d")
LEAN_WINDOWS = ("15m", "1h", "4h", "1d")
JUMP_WINDOWS = ("4h", "1d")


def windows_on(resolution: pd.Timedelta | None, windows: Iterable[str]) -> tuple[str, ...]:
    """Those that are no shorter than a bar of the grid; all of them on the decision grid, whatever its
    bars."""
    return tuple(w for w in windows if resolution is None or parse_duration(w) >= resolution)


def suffix(resolution: pd.Timedelta | None) -> str:
    """What the name of a feature ends with."""
    return "" if resolution is None else f"_at_{format_duration(resolution)}"


def grid_beneath(market: Market, resolution: pd.Timedelta | None) -> tuple[Market, int]:
    """The market of this resolution, and how many of its bars lie beneath one decision bar."""
    if resolution is None:
        return market, 1
    return market.finer[resolution], int(market.interval // resolution)


def at_decisions(values: Array, bars: int) -> Array:
    """The rows that close with a decision bar, of which each has ``bars``."""
    return values[bars - 1 :: bars]


def _size(variance: Array, scale: Array) -> Array:
    """ln(sqrt(variance) / scale + ``LEAST_MOVE``)."""
    logarithm: Array = np.log(quotient(np.sqrt(variance), scale) + LEAST_MOVE)
    return logarithm


def _computed(resolution: pd.Timedelta | None) -> Callable[[Market, State], Mapping[str, pd.DataFrame]]:
    end = suffix(resolution)

    def compute(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
        """Over the last w, with n its bars: realized volatility, sqrt(mean r^2), and that of the bars'
        ranges, sqrt(mean Parkinson variance), as ln(. / s + ``LEAST_MOVE``), and the mean of the latter over
        symbols; how far the price travelled, |mean r| sqrt(n) / s; how the realized variance leans, (rises -
        falls) / all of mean r^2, from -1 (falls alone) to 1; and the part of it that jumps are, max(0, 1 -
        bipower / realized)."""
        grid, k = grid_beneath(market, resolution)
        r, ranges = log_returns(grid), parkinson_variance(grid)
        squared, signed = r**2, np.sign(r) * r**2
        products = np.pi / 2 * np.abs(r) * np.abs(lag(r, 1))
        scale, here = sigma(market) / np.sqrt(k), market.close.notna().to_numpy()

        def mean(values: Array, window: str) -> Array:
            return at_decisions(rolling_mean(values, window_bars(parse_duration(window), grid.interval)), k)

        out = {}
        for w in windows_on(resolution, FINE_WINDOWS):
            n = window_bars(parse_duration(w), grid.interval)
            out[f"realized_{w}{end}"] = _size(mean(squared, w), scale)
            out[f"travel_{w}{end}"] = quotient(np.abs(mean(r, w)) * np.sqrt(n), scale)
            spread = np.where(here, _size(mean(ranges, w), scale), np.nan)
            out[f"high_low_{w}{end}"] = spread
            out[f"market_high_low_{w}{end}"] = np.broadcast_to(mean_over_symbols(spread), spread.shape)
        for w in windows_on(resolution, LEAN_WINDOWS):
            out[f"lean_{w}{end}"] = _share(mean(signed, w), mean(squared, w), -1.0)
        for w in windows_on(resolution, JUMP_WINDOWS):
            realized = mean(squared, w)
            out[f"jump_part_{w}{end}"] = _share(realized - mean(products, w), realized, 0.0)
        return market.frames({name: out[name] for name in _outputs(resolution)})

    return compute


def _share(part: Array, whole: Array, least: float) -> Array:
    """part / whole held within [least, 1]; 0 where nothing moved."""
    ratio = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.where(np.isnan(part + whole), np.nan, ratio.clip(least, 1.0))


def _outputs(resolution: pd.Timedelta | None) -> tuple[str, ...]:
    names = [
        *(
            f"{part}_{w}"
            for part in ("realized", "high_low", "market_high_low", "travel")
            for w in windows_on(resolution, FINE_WINDOWS)
        ),
        *(f"lean_{w}" for w in windows_on(resolution, LEAN_WINDOWS)),
        *(f"jump_part_{w}" for w in windows_on(resolution, JUMP_WINDOWS)),
    ]
    return tuple(name + suffix(resolution) for name in names)


FEATURES = tuple(
    Feature(
        _outputs(resolution),
        *("fine", EWMA_LOOK_BACK + DAY, ("high", "low", "close"), _computed(resolution)),
        resolution=resolution,
        below=HOUR if resolution is None else None,
    )
    for resolution in (None, *RESOLUTIONS)
)
