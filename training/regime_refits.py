"""Regimes as they would have been known: learned anew every quarter on all bars before it, and filtered on.

``stability`` asks whether the names mean the same after a refit: on the rows of one quarter, the regimes
learned at its beginning are held against those learned a quarter before. Distances are total variation, half
the sum of |p - q| over the four states, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from features.bars import Market
from features.pipeline import State
from features.regime import LOOK_BACK, learned_regimes, regimes
from features.regime_chain import REGIMES
from features.regime_observations import OBSERVATIONS
from features.volatility import DAY
from features.windows import Array

#: How much history the first quarter's regimes are learned on, at least: the shortest quarter has 90 days.
LEARNS_ON = pd.Timedelta(days=89)
#: Outputs of the two chains begin so.
CHAINS = {"symbol": "regime", "market": "market_regime"}

#: Columns of ``stability``.
STABILITY = ("start", "chain", "rows", "agreement", "distance", "distance_99")


@dataclass(frozen=True)
class Refit:
    """What was learned on bars that closed by ``start``, and is used for decision times ``start <= t <
    end``."""

    start: pd.Timestamp
    end: pd.Timestamp
    state: State


def quarterly_refits(market: Market, observing: Sequence[str] = OBSERVATIONS) -> tuple[Refit, ...]:
    """Refits at the beginning of every quarter that has ``LEARNS_ON`` of history before it and a day after
    it.

    Raises ``ValueError`` where there is none.
    """
    times = market.times
    starts = pd.date_range(times[0], times[-1] - DAY, freq="QS", normalize=True)
    starts = starts[starts - times[0] >= LEARNS_ON]
    if starts.empty:
        raise ValueError(
            f"the bars, {times[0]} to {times[-1]}, hold no beginning of a quarter with {LEARNS_ON.days} days "
            f"before it to learn on; give a longer history"
        )
    ends = [*starts[1:], times[-1] + market.interval]
    return tuple(
        Refit(start, end, learned_regimes(market.until(start), observing))
        for start, end in zip(starts, ends, strict=True)
    )


def followed(market: Market, refits: Sequence[Refit]) -> dict[str, pd.DataFrame]:
    """Every output of ``features.regime`` at the decision times of the refits, each by the refit of its
    quarter."""
    parts = [_within(market, refit.state, refit) for refit in refits]
    return {name: pd.concat([part[name] for part in parts]) for name in parts[0]}


def _within(market: Market, state: State, rows: Refit) -> dict[str, pd.DataFrame]:
    before_end = rows.end - market.interval
    window = market.until(before_end).since(rows.start - LOOK_BACK)
    return {name: frame.loc[rows.start :] for name, frame in regimes(window, state).items()}


def stability(market: Market, refits: Sequence[Refit]) -> pd.DataFrame:
    """A row per chain and refit but the first, on the rows of its quarter: ``start``, ``chain``; ``rows``;
    ``agreement``, the share whose likeliest regime is the same by the refit before; ``distance``, mean total
    variation, and ``distance_99``, its 99 % quantile. Only rows that are past warm-up count; no row of a
    single refit."""
    found = []
    for before, now in pairwise(refits):
        earlier, later = _within(market, before.state, now), _within(market, now.state, now)
        for chain, prefix in CHAINS.items():
            p, q = _stacked(earlier, prefix), _stacked(later, prefix)
            known = np.isfinite(p).all(axis=-1) & np.isfinite(q).all(axis=-1)
            if chain == "market":  # one number at a time, shown by whichever symbols have a bar
                first = known.argmax(axis=1)[:, np.newaxis]
                known = known & (np.arange(known.shape[1]) == first)
            p, q = p[known], q[known]
            distance = np.abs(p - q).sum(axis=-1) / 2
            found.append(
                {
                    "start": now.start,
                    "chain": chain,
                    "rows": len(p),
                    "agreement": float((p.argmax(axis=-1) == q.argmax(axis=-1)).mean()),
                    "distance": float(distance.mean()),
                    "distance_99": float(np.quantile(distance, 0.99)),
                }
            )
    return pd.DataFrame(found, columns=list(STABILITY))


def _stacked(frames: dict[str, pd.DataFrame], prefix: str) -> Array:
    return np.stack([frames[f"{prefix}_{name}"].to_numpy() for name in REGIMES], axis=-1)


def tense(frames: dict[str, pd.DataFrame], prefix: str) -> pd.DataFrame:
    """P(stressed or crisis), time x symbol."""
    return frames[f"{prefix}_stressed"] + frames[f"{prefix}_crisis"]
