"""Backtests of ES by what was lost beyond VaR: Acerbi-Szekely with simulated critical values, McNeil-Frey.

A hit is a loss above VaR. Losses are positive when bad, ``level`` is the confidence, ``a = 1 - level``.
Series are in time order, one contract and side each; neighbours whose losses overlap are not independent, so
give every h-th row of an h-bar loss. Regression tests of ES are in ``es_regression``.

NaN policy: refused with ``ValueError``, and so is a forecast that breaks 0 < VaR <= ES.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from models._series import checked_level, checked_series, checked_tail

Statistic = Literal["z1", "z2"]
#: A bootstrapped mean of fewer residuals says more about which were drawn than about ES.
LEAST_HITS = 5


def acerbi_szekely_z1(loss: ArrayLike, var: ArrayLike, es: ArrayLike) -> float:
    """``1 - mean(L / e | hit)``: 0 expected, negative where losses beyond VaR are deeper than ES says.

    NaN where there is no hit, since nothing was seen to judge. Source: Acerbi, Szekely (2014), test 1.
    """
    losses, v, e = checked_tail(loss, var, es)
    hit = losses > v
    return 1 - float((losses / e)[hit].mean()) if hit.any() else float("nan")


def acerbi_szekely_z2(loss: ArrayLike, var: ArrayLike, es: ArrayLike, level: float) -> float:
    """``1 - sum(h L / e) / (T a)``: 0 expected, negative where hits are too many or too deep; 1 with no hit
    at all.

    Critical values depend on T, the level and the law: ``critical_value``. Source: Acerbi, Szekely (2014),
    test 2.
    """
    losses, v, e = checked_tail(loss, var, es)
    hit = losses > v
    return 1 - float((losses / e)[hit].sum()) / (losses.size * (1 - checked_level(level)))


def law_tail(level: float, dof: float) -> tuple[float, float]:
    """VaR and ES of Student's t, unscaled, with ``dof`` degrees of freedom; infinitely many are the normal
    law.

    ``ES = f(v) / a (dof + v^2) / (dof - 1)``, and ``f(v) / a`` in the limit, f the density. Raises
    ``ValueError`` unless dof > 1: else there is no ES. Source: McNeil, Frey, Embrechts (2015), 2.3.4.
    """
    a = 1 - checked_level(level)
    if not dof > 1:
        raise ValueError(f"dof is {dof}; ES needs more than 1 degree of freedom, math.inf for the normal law")
    v = float(stats.t.ppf(level, dof))
    weight = 1.0 if math.isinf(dof) else (dof + v * v) / (dof - 1)
    return v, float(stats.t.pdf(v, dof)) / a * weight


def simulated(
    statistic: Statistic, level: float, rows: int, *, dof: float, replicas: int, seed: int
) -> NDArray[np.float64]:
    """Z1 or Z2 of series of ``rows`` independent losses under a right forecast, one a replica.

    Only hits enter, so only they are drawn: how many of them, binomial, and each from the law beyond VaR.
    Since L / e has no unit, whatever scale was forecast at each row leaves the statistic's law as it is.
    Replicas without a hit have no Z1 and are left out. The same arguments give the same values. Raises
    ``ValueError`` for an unknown statistic, no row or no replica.
    """
    if statistic not in ("z1", "z2"):
        raise ValueError(f"statistic is {statistic!r}; choose 'z1' or 'z2'")
    if rows < 1 or replicas < 1:
        raise ValueError(f"rows is {rows} and replicas is {replicas}; give at least 1 of each")
    _, e = law_tail(level, dof)
    rng = np.random.default_rng(seed)
    hits = rng.binomial(rows, 1 - level, size=replicas)
    # By the upper tail's probability, within (0, a]: the level's own distance from 1 loses digits.
    depth = stats.t.isf((1 - level) * (1 - rng.random(int(hits.sum()))), dof) / e
    total = np.bincount(np.repeat(np.arange(replicas), hits), weights=depth, minlength=replicas)
    return 1 - total[hits > 0] / hits[hits > 0] if statistic == "z1" else 1 - total / (rows * (1 - level))


def critical_value(
    statistic: Statistic,
    level: float,
    rows: int,
    test_level: float,
    *,
    dof: float = math.inf,
    replicas: int = 50_000,
    seed: int = 1,
) -> float:
    """The value below which Z1 or Z2 falls with probability ``test_level`` (0.05, say) although ES is right.

    Reject below it. The law of the losses matters: ``dof`` degrees of freedom of Student's t, infinitely
    many for the normal law. Raises ``ValueError`` for an argument out of range, and where every replica was
    without a hit.
    """
    if not 0 < test_level < 1:
        raise ValueError(f"test_level is {test_level}; give a probability of rejecting wrongly, 0.05 say")
    z = _some(simulated(statistic, level, rows, dof=dof, replicas=replicas, seed=seed), level, rows)
    return float(np.quantile(z, test_level))


def p_value(
    statistic: Statistic,
    observed: float,
    level: float,
    rows: int,
    *,
    dof: float = math.inf,
    replicas: int = 50_000,
    seed: int = 1,
) -> float:
    """The probability of a Z1 or Z2 at most the one observed, although ES is right; small speaks against ES.

    ``(1 + number of replicas at most observed) / (1 + replicas)``, never 0. Raises ``ValueError`` as
    ``critical_value`` does, and for an observed value that is not finite. Source: Davison, Hinkley (1997),
    4.2.
    """
    if not math.isfinite(observed):
        raise ValueError(f"the observed {statistic} is {observed}; without a hit there is nothing to judge")
    z = _some(simulated(statistic, level, rows, dof=dof, replicas=replicas, seed=seed), level, rows)
    return (1 + int((z <= observed).sum())) / (1 + z.size)


def mcneil_frey(
    loss: ArrayLike,
    var: ArrayLike,
    es: ArrayLike,
    *,
    scale: ArrayLike | None = None,
    replicas: int = 10_000,
    seed: int = 1,
) -> float:
    """p-value of the exceedance residuals ``(L - e) / scale`` of the hits having mean 0, against above 0.

    Above 0 ES is too small. ``scale`` makes residuals of calm and wild times alike; by default it is ES, and
    VaR or a volatility serve as well. The t of their mean is compared with that of ``replicas`` resamples of
    the residuals less their mean; hits more than promised are not seen, only deeper ones. The same seed
    gives the same p-value. Raises ``ValueError`` for fewer than ``LEAST_HITS`` hits, hits that are all alike,
    or a scale that is not above 0. Source: McNeil, Frey (2000), 4.2; Efron, Tibshirani (1993), 16.4.
    """
    losses, v, e = checked_tail(loss, var, es)
    unit = e if scale is None else checked_series("scale", scale, losses.size)
    if np.any(unit <= 0):
        raise ValueError(f"scale is at most 0 in {int((unit <= 0).sum())} rows; give ES, VaR or a volatility")
    if replicas < 1:
        raise ValueError(f"replicas is {replicas}; give at least 1")
    hit = losses > v
    residuals = ((losses - e) / unit)[hit]
    if residuals.size < LEAST_HITS:
        raise ValueError(
            f"{residuals.size} losses lie beyond VaR and {LEAST_HITS} are needed; give more rows, or pool "
            f"contracts"
        )
    if np.ptp(residuals) <= 1e-12 * np.abs(residuals).max():
        raise ValueError(f"all {residuals.size} exceedance residuals are {residuals[0]}; check the losses")
    centred = residuals - residuals.mean()
    rng = np.random.default_rng(seed)
    drawn = centred[rng.integers(residuals.size, size=(replicas, residuals.size))]
    with np.errstate(divide="ignore"):  # one residual drawn throughout: t is infinite, with its sign
        t = drawn.mean(axis=1) / drawn.std(axis=1)
    beyond = int((t >= residuals.mean() / residuals.std()).sum())
    return (1 + beyond) / (1 + replicas)


def _some(z: NDArray[np.float64], level: float, rows: int) -> NDArray[np.float64]:
    if z.size == 0:
        raise ValueError(
            f"no simulated series of {rows} rows has a loss beyond the {level} quantile; give more rows or "
            f"replicas"
        )
    return z
