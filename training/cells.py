"""Statistical tests of one cell at a time: a symbol, side, horizon and level of one model.

Losses over h bars overlap, so every test is made on each of the h series of every h-th decision time, and
what the h answers say together is judged as if it were one of them, which is conservative.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from features.durations import parse_duration, whole_bars
from models.es_regression import LEAST_HITS, esr_intercept
from training.evaluation import cell_coverage


def cell_tests(scored: pd.DataFrame, model: str, interval: pd.Timedelta) -> pd.DataFrame:
    """``training.evaluation.cell_coverage`` with ``model`` in front, ``fz0`` (mean, percent units) and
    ``es_p``.

    ``es_p`` is one-sided and small where ES is too small (``models.es_regression.esr_intercept``); NaN where
    a series promises fewer than ten hits, which is too few to tell.
    """
    own = scored[scored["model"] == model]
    table = cell_coverage(own, model, interval)
    keys = ["horizon", "level", "symbol", "side"]
    lines = []
    for key, rows in own.sort_values("time").groupby(keys):
        horizon, level, symbol, side = cast(tuple[str, float, str, str], key)
        bars = whole_bars(parse_duration(horizon), interval)
        p = _es_p(rows["loss"].to_numpy(), rows["es"].to_numpy(), level, bars)
        cell = {"horizon": horizon, "level": level, "symbol": symbol, "side": side}
        lines.append({**cell, "fz0": float(rows["fz0"].mean()), "es_p": p})
    found = table.merge(pd.DataFrame(lines), on=keys, how="left", validate="1:1")
    found.insert(0, "model", model)
    return found


def _es_p(loss: NDArray[np.float64], es: NDArray[np.float64], level: float, bars: int) -> float:
    if len(loss) // bars * (1 - level) < LEAST_HITS:
        return float("nan")
    tests = [esr_intercept(loss[first::bars], es[first::bars], level) for first in range(bars)]
    return float(stats.norm.sf(np.mean([test.intercept / test.error for test in tests])))
