"""How fast the regimes are: ``python benchmarks/regimes.py``.

Prints milliseconds of one online row (the look-back of 10 days, filtered as a whole) and of a whole history,
on simulated bars. The least of a few runs is told.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.durations import format_duration, window_bars
from features.regime import LOOK_BACK, learned_regimes, regimes
from features.sources.simulated import simulate


def milliseconds(work: Callable[[], object], runs: int = 9) -> float:
    """The least of a few runs."""
    best = np.inf
    for _ in range(runs):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def main() -> int:
    for minutes, symbols, days in ((60, 7, 1369), (15, 7, 270), (1, 1, 30), (1, 4, 30), (1, 7, 30)):
        interval = pd.Timedelta(minutes=minutes)
        market = simulate(symbols=symbols, days=days, interval=interval)
        state = learned_regimes(market)
        newest = market.last(window_bars(LOOK_BACK, interval))
        online = milliseconds(lambda market=newest, state=state: regimes(market, state))
        batch = milliseconds(lambda market=market, state=state: regimes(market, state), runs=3)
        rows = len(market.times) * symbols
        print(
            f"{format_duration(interval):>4} bars, {symbols} symbols: online {online:6.1f} ms, "
            f"{rows:,} bars {batch:8.1f} ms ({1e3 * rows / batch:,.0f} bars/s)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
