"""How far losses went beyond a margin, and how many stayed within.

The shortfall of a row is ``max(loss - rate, 0)``, a fraction of notional; tables give it per million of
notional. Arrays have any shape, rows first. A row counts where its rate and its loss are known; others are
left out. Losses over more than one bar overlap, so one crash is counted once at each decision that it
reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.margin.served import ServedMargin

Array = NDArray[np.float64]

#: Shortfall and gap are told per million of notional.
MILLION = 1e6


@dataclass(frozen=True)
class Shortfall:
    """Of all rows that count; NaN where none does.

    Attributes:
        rows: how many count.
        exceptions: losses beyond the rate.
        coverage: share of losses within it.
        mean_margin: mean rate.
        mean, worst, total: of the shortfall, fractions of notional; the mean is over all rows, not over
            exceptions alone.
        half_rows: the fewest rows that hold half of the total; the fewer, the less one span can tell.
    """

    rows: int
    exceptions: int
    coverage: float
    mean_margin: float
    mean: float
    worst: float
    total: float
    half_rows: int


def shortfalls(loss: Array, rate: Array) -> Array:
    """Shape as given; NaN where rate or loss is unknown."""
    beyond: Array = np.maximum(loss - rate, 0.0)  # maximum keeps NaN
    return beyond


def shortfall_of(loss: Array, rate: Array) -> Shortfall:
    """All rows taken together. Raises ``ValueError`` where the shapes differ."""
    if loss.shape != rate.shape:
        raise ValueError(f"losses have shape {loss.shape} and rates {rate.shape}; give one rate a loss")
    beyond = shortfalls(loss, rate)
    known = ~np.isnan(beyond)
    rows = int(known.sum())
    if rows == 0:
        nan = float("nan")
        return Shortfall(0, 0, nan, nan, nan, nan, nan, 0)
    largest = np.sort(beyond[beyond > 0])[::-1]
    total = float(largest.sum())
    half = int(np.searchsorted(np.cumsum(largest), total / 2)) + 1 if largest.size else 0
    return Shortfall(
        rows=rows,
        exceptions=largest.size,
        coverage=1 - largest.size / rows,
        mean_margin=float(rate[known].mean()),
        mean=total / rows,
        worst=float(largest[0]) if largest.size else 0.0,
        total=total,
        half_rows=half,
    )


def shortfall_row(margin: ServedMargin, columns: list[int] | slice = slice(None)) -> dict[str, object]:
    """``shortfall_of`` some contracts of a margin as a row of a table, per million of notional.

    ``total`` alone stays in units of one notional.
    """
    found = shortfall_of(margin.loss[:, columns], margin.rate[:, columns])
    return {
        "rows": found.rows,
        "mean_margin": found.mean_margin,
        "coverage": found.coverage,
        "exceptions": found.exceptions,
        "mean_shortfall": MILLION * found.mean,
        "worst_shortfall": MILLION * found.worst,
        "total_shortfall": found.total,
        "half_rows": found.half_rows,
    }


def by_series(margins: Mapping[tuple[str, str], ServedMargin]) -> pd.DataFrame:
    """A row per series and kind, all contracts together."""
    return pd.DataFrame(
        [{"series": s, "kind": k, **shortfall_row(margin)} for (s, k), margin in margins.items()]
    )


def by_contract(margins: Mapping[tuple[str, str], ServedMargin]) -> pd.DataFrame:
    """A row per series, kind, symbol and side."""
    return pd.DataFrame(
        [
            {"series": s, "kind": k, "symbol": symbol, "side": side, **shortfall_row(margin, [column])}
            for (s, k), margin in margins.items()
            for column, (symbol, side) in enumerate(margin.contracts)
        ]
    )
