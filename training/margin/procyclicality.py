"""How much a margin moves: what its users must be able to pay at short notice.

For the rates m of one contract and side, on the grid of the bars:

- peak to trough: ``max m / min m``;
- largest rise within n days: ``max over t of m(t) / min of m over [t - n days, t] - 1``, 0 where it only
  falls;
- share of changes: of the pairs of neighbouring bars with a rate, those where it differs at all.

Times without a rate are left out, never filled. The definitions are those of Murphy, Vasios, Vause (2014),
"An investigation into the procyclicality of risk-based initial margin models", with multiplicative n-day
calls.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d

from features.durations import window_bars
from training.margin.served import ServedMargin

Array = NDArray[np.float64]

#: Days over which a rise is measured.
RISE_DAYS = (1, 5, 30)


def largest_rise(rate: Array, bars: int) -> Array:
    """The largest rise within so many bars, shape (contract,) for rates (time, contract).

    NaN where a contract has no rate at all. Raises ``ValueError`` for a window below one bar.
    """
    if bars < 1:
        raise ValueError(f"bars is {bars}; a rise is measured over at least one")
    if len(rate) == 0:
        return np.full(rate.shape[1:], np.nan)
    known = np.where(np.isnan(rate), np.inf, rate)
    window = min(bars, len(rate)) + 1
    # The filter's window ends at its row: it is centred, and moved back by half its length.
    lowest = minimum_filter1d(known, window, axis=0, mode="constant", cval=np.inf, origin=(window - 1) // 2)
    with np.errstate(invalid="ignore"):
        rises = rate / lowest - 1
    return _over_time(rises, "max")


def share_of_changes(rate: Array) -> Array:
    """Shape (contract,) for rates (time, contract); NaN where no two neighbouring bars have a rate."""
    before, after = rate[:-1], rate[1:]
    pairs = (~(np.isnan(before) | np.isnan(after))).sum(axis=0)
    changes = ((before != after) & ~np.isnan(before) & ~np.isnan(after)).sum(axis=0)
    share: Array = np.full(rate.shape[1:], np.nan)
    np.divide(changes, pairs, out=share, where=pairs > 0)
    return share


def procyclicality_by_contract(margins: Mapping[tuple[str, str], ServedMargin]) -> pd.DataFrame:
    """A row per series, kind, symbol and side.

    Columns: ``mean_rate``, ``peak``, ``trough``, ``peak_to_trough``, ``rise_1d``, ``rise_5d``, ``rise_30d``
    and ``changes``; rates are fractions of notional, the others ratios.
    """
    parts = []
    for (series, kind), margin in margins.items():
        peak, trough = _over_time(margin.rate, "max"), _over_time(margin.rate, "min")
        columns = {
            "mean_rate": _over_time(margin.rate, "mean"),
            "peak": peak,
            "trough": trough,
            "peak_to_trough": peak / trough,
            **{
                f"rise_{days}d": largest_rise(
                    margin.rate, window_bars(pd.Timedelta(days=days), margin.interval)
                )
                for days in RISE_DAYS
            },
            "changes": share_of_changes(margin.rate),
        }
        contracts = pd.DataFrame(list(margin.contracts), columns=["symbol", "side"])
        contracts.insert(0, "kind", kind)
        contracts.insert(0, "series", series)
        parts.append(contracts.assign(**columns))
    return pd.concat(parts, ignore_index=True).dropna(subset=["peak"])


def procyclicality(by_contract: pd.DataFrame) -> pd.DataFrame:
    """The mean and the worst over contracts, a row per series and kind; the worst is the largest.

    Columns are those of ``by_contract`` from ``peak_to_trough`` on, each with ``_worst`` beside it.
    """
    columns = ["peak_to_trough", *(f"rise_{days}d" for days in RISE_DAYS), "changes"]
    grouped = by_contract.groupby(["series", "kind"], sort=False)[columns]
    means, worst = grouped.mean(), grouped.max().add_suffix("_worst")
    ordered = [name for column in columns for name in (column, f"{column}_worst")]
    return means.join(worst)[ordered].reset_index()


def _over_time(values: Array, how: str) -> Array:
    """NaN-leaving maximum, minimum or mean over the first axis; NaN where there is nothing."""
    known = ~np.isnan(values)
    some = known.any(axis=0)
    if how == "mean":
        found = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    elif how == "max":
        found = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
    else:
        found = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
    answer: Array = np.where(some, found, np.nan)
    return answer
