"""How fast features are built: ``python benchmarks/features.py [DIR] [--finer DIR]`` (a folder of bars,
and folders of finer ones beneath; default: simulated).

Prints seconds and ratios: reading, fitting and computing all features over the whole history, one online row,
and the window sums against the usual ways to write them in pandas, on the same array. The least of a few runs
is told.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.bars import Market
from features.durations import format_duration, window_bars
from features.pipeline import Pipeline
from features.sources.market import MarketSource, read_market
from features.sources.simulated import simulate
from features.windows import decayed_mean, rolling_mean

T = TypeVar("T")


def timed(work: Callable[[], T], runs: int = 3) -> tuple[float, T]:
    """The least seconds of a few runs, and the result."""
    best, result = np.inf, None
    for _ in range(runs):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    assert result is not None
    return best, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of SYMBOL.parquet files")
    parser.add_argument(
        "--finer", type=Path, action="append", default=[], help="folder of finer bars beneath, with a folder"
    )
    arguments = parser.parse_args()
    folder, finer = arguments.folder, tuple(arguments.finer)
    if finer and folder is None:
        parser.error("--finer needs the folder of bars that they lie beneath")

    def ready() -> Market:
        if folder is None:
            return simulate(symbols=7, days=1369)
        return read_market(MarketSource(folder, finer=finer))

    seconds, market = timed(ready, runs=1)
    rows = int(market.close.notna().to_numpy().sum())
    print(
        f"{folder or 'simulated'}: {rows:,} bars of {format_duration(market.interval)}, "
        f"{len(market.symbols)} symbols"
    )
    print(f"  bars ready                       {seconds:8.3f} s")

    fit, pipeline = timed(lambda: Pipeline.fit(market))
    batch, frame = timed(lambda: pipeline.batch(market))
    recent = market.last(window_bars(pipeline.look_back, market.interval))
    online, newest = timed(lambda: pipeline.online(recent), runs=5)
    difference = np.nanmax(np.abs(newest.values[0] - frame.values[-1]))
    print(f"  fit {len(pipeline.names)} features                 {fit:8.3f} s")
    print(f"  batch                            {batch:8.3f} s   {rows / batch:12,.0f} bars/s")
    print(f"  online, one decision time        {1e3 * online:8.1f} ms  largest difference {difference:.1e}")
    again = online * len(market.times) / batch
    print(f"  a history row by row would take  {online * len(market.times):8.0f} s   {again:12,.0f} x batch")

    returns = market.log_returns()
    squares = returns.to_numpy() ** 2
    month = window_bars(pd.Timedelta(days=30), market.interval)
    print("windows, against pandas on the same array")
    compare(
        "mean over 30 days, rolling().mean()",
        lambda: rolling_mean(squares, month),
        lambda: pd.DataFrame(squares).rolling(month, min_periods=month // 2).mean().to_numpy(),
    )
    # The EWMA with a finite memory, which is what batch == online asks for; pandas has no such window but
    # apply.
    ten_days = window_bars(pd.Timedelta(days=10), market.interval) - 1
    decay = 0.94 ** (market.interval / pd.Timedelta(hours=1))
    weights = decay ** np.arange(ten_days)[::-1]
    some = squares[1 : 1 + min(len(squares) - 1, ten_days + 2000), :1]
    compare(
        f"EWMA over 10 days, rolling().apply(), {len(some):,} rows of one symbol",
        lambda: decayed_mean(some, ten_days, decay, ten_days),
        lambda: (
            pd.DataFrame(some)
            .rolling(ten_days)
            .apply(np.average, raw=True, kwargs={"weights": weights})
            .to_numpy()
        ),
    )
    compare(
        "EWMA, ewm().mean() (endless memory)",
        lambda: decayed_mean(squares, ten_days, decay, 24),
        lambda: pd.DataFrame(squares).ewm(alpha=1 - decay, ignore_na=False).mean().to_numpy(),
    )
    return 0


def compare(name: str, ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray]) -> None:
    fast, a = timed(ours)
    slow, b = timed(theirs, runs=1 if "apply" in name else 3)
    apart = np.nanmax(np.abs(a / b - 1)[np.isfinite(a) & np.isfinite(b) & (b > 0)])
    print(
        f"  {name}: {1e3 * fast:.2f} ms, pandas {1e3 * slow:.2f} ms, {slow / fast:.1f} x, apart {apart:.0e}"
    )


if __name__ == "__main__":
    sys.exit(main())
