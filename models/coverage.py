"""Statistical tests of VaR and of scores: were there as many hits as promised, spread as promised, and does
one model score better than another? Tests of ES are in ``expected_shortfall`` and ``es_regression``.

A hit is a loss above VaR. Losses are positive when bad, ``level`` is the confidence, ``a = 1 - level``.
Series are in time order, one contract and side each.

Overlap: an h-bar loss shares bars with its neighbours, so every likelihood-ratio test here is valid only on
rows h bars apart. ``by_offset`` runs a test on each of the h interleaved series; report ``worst`` or
``averaged`` of them. Diebold-Mariano takes the overlapping series and corrects by HAC lags instead.

NaN policy: refused with ``ValueError``; drop the rows that have not matured before testing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import xlogy

from models._series import checked_level, checked_series

# Basel Committee (1996): yellow begins where the cumulative probability reaches 95 %, red where it reaches
# 99.99 %.
_YELLOW_PROBABILITY, _RED_PROBABILITY = 0.95, 0.9999


@dataclass(frozen=True)
class CoverageTest:
    """A chi-squared test: statistic, its degrees of freedom, and the probability of at least that under the
    null.
    """

    statistic: float
    degrees: int

    @property
    def p_value(self) -> float:
        return float(stats.chi2.sf(self.statistic, self.degrees))


@dataclass(frozen=True)
class Christoffersen:
    """Unconditional coverage (POF), independence of the next hit from the last, and both together."""

    pof: CoverageTest
    independence: CoverageTest
    conditional_coverage: CoverageTest


@dataclass(frozen=True)
class ScoreDifference:
    """Mean score difference (first minus second: negative favours the first), its HAC t and the lags used."""

    mean: float
    t: float
    lags: int


def _hits(hits: ArrayLike) -> NDArray[np.float64]:
    array = checked_series("hits", hits)
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError("hits has values other than 0 and 1; give loss > VaR row by row")
    return array


def _log_likelihood(misses: float, hits: float, probability: float) -> float:
    return float(xlogy(misses, 1 - probability) + xlogy(hits, probability))


def kupiec(hits: int, rows: int, level: float) -> CoverageTest:
    """Proportion of failures: ``-2 ln[(1-a)^(T-x) a^x / ((1-x/T)^(T-x) (x/T)^x)]`` ~ chi2(1), x hits in T
    rows.

    Zero and T hits are ordinary values (0 ln 0 = 0). Raises ``ValueError`` unless 0 <= x <= T and T >= 1.
    Source: Kupiec (1995).
    """
    a = 1 - checked_level(level)
    if rows < 1 or not 0 <= hits <= rows:
        raise ValueError(f"{hits} hits in {rows} rows; give at least one row and hits between 0 and the rows")
    ratio = _log_likelihood(rows - hits, hits, a) - _log_likelihood(rows - hits, hits, hits / rows)
    return CoverageTest(max(0.0, -2 * ratio), 1)


def christoffersen(
    hits: ArrayLike, level: float, *, rows: Literal["published", "conditional"] = "published"
) -> Christoffersen:
    """Independence ~ chi2(1) and conditional coverage ~ chi2(2) of a series of hits (0 or 1) in time order.

    Independence compares P(hit | hit before) with P(hit | no hit before) over the T - 1 transitions.
    Conditional coverage is POF plus independence, and two conventions are in use: ``published`` adds a POF
    over all T rows; ``conditional`` leaves the first row out of the POF too, so that both are likelihoods of
    the same T - 1 rows. Where a state is never left (no hits, all hits), independence says nothing: statistic
    0. Needs two rows. Source: Christoffersen (1998).
    """
    series = _hits(hits)
    if series.size < 2:
        raise ValueError(f"hits has {series.size} row; independence needs at least two")
    if rows not in ("published", "conditional"):
        raise ValueError(f"rows is {rows!r}; choose 'published' or 'conditional'")
    before, after = series[:-1], series[1:]
    n11 = float((before * after).sum())
    n10, n01 = float(before.sum()) - n11, float(after.sum()) - n11
    n00 = before.size - n11 - n10 - n01
    pooled = _log_likelihood(n00 + n10, n01 + n11, (n01 + n11) / before.size)
    split = sum(
        _log_likelihood(misses, found, found / (misses + found) if misses + found else 0.0)
        for misses, found in ((n00, n01), (n10, n11))
    )
    independence = CoverageTest(max(0.0, -2 * (pooled - split)), 1)
    tested = series if rows == "published" else after
    pof = kupiec(int(tested.sum()), tested.size, level)
    return Christoffersen(pof, independence, CoverageTest(pof.statistic + independence.statistic, 2))


def traffic_light(hits: int, rows: int, level: float) -> Literal["green", "yellow", "red"]:
    """Basel's zones for any number of rows: yellow where P(X <= hits) >= 95 %, red where >= 99.99 %, X
    binomial.

    At 99 % and 250 rows: green up to 4 hits, red from 10. Source: Basel Committee (1996).
    """
    a = 1 - checked_level(level)
    if rows < 1 or not 0 <= hits <= rows:
        raise ValueError(f"{hits} hits in {rows} rows; give at least one row and hits between 0 and the rows")
    reached = float(stats.binom.cdf(hits, rows, a))
    if reached >= _RED_PROBABILITY:
        return "red"
    return "yellow" if reached >= _YELLOW_PROBABILITY else "green"


def dynamic_quantile(loss: ArrayLike, var: ArrayLike, level: float, *, lags: int = 4) -> CoverageTest:
    """Do past hits or VaR itself predict hits? Regress ``y = h - a`` on a constant, ``lags`` lagged y and
    VaR.

    ``y'X (X'X)^-1 X'y / (a (1 - a))`` ~ chi2(rank of X), which is lags + 2 unless a regressor is redundant
    (no hits at all, a constant VaR); then the redundant ones are dropped and the degrees say so. Needs more
    rows than regressors. Source: Engle, Manganelli (2004).
    """
    losses = checked_series("loss", loss)
    v = checked_series("var", var, losses.size)
    a = 1 - checked_level(level)
    if lags < 0 or losses.size - lags <= lags + 2:
        raise ValueError(f"{losses.size} rows are too few for {lags} lags; give more than {2 * lags + 2}")
    y = (losses > v).astype("float64") - a
    n = y.size - lags
    X = np.column_stack(
        [np.ones(n), *(y[lags - j : y.size - j] for j in range(1, lags + 1)), v[lags:] / v[lags:].mean()]
    )
    target = y[lags:]
    coefficients, _, rank, _ = np.linalg.lstsq(X, target, rcond=1e-10)
    return CoverageTest(float(target @ X @ coefficients / (a * (1 - a))), int(rank))


def by_offset(test: Callable[..., CoverageTest], step: int, *series: ArrayLike) -> tuple[CoverageTest, ...]:
    """Run ``test`` on every ``step``-th row, once from each of the ``step`` offsets.

    ``test`` gets the thinned series in the order given, for example
    ``by_offset(lambda hits: christoffersen(hits, 0.99).conditional_coverage, 24, hits)``.
    """
    if step < 1:
        raise ValueError(f"step is {step}; give the horizon in bars, at least 1")
    arrays = [np.asarray(s) for s in series]
    if any(a.shape[0] < step for a in arrays):
        raise ValueError(f"series have fewer rows than the {step} offsets; give at least one row an offset")
    return tuple(test(*(a[offset::step] for a in arrays)) for offset in range(step))


def worst(tests: Sequence[CoverageTest]) -> CoverageTest:
    """The test with the smallest p-value."""
    return min(tests, key=lambda t: t.p_value)


def averaged(tests: Sequence[CoverageTest]) -> CoverageTest:
    """The mean statistic, judged as if it were one of them: conservative, since a mean of several varies
    less.
    """
    degrees = {t.degrees for t in tests}
    if len(degrees) != 1:
        raise ValueError(f"tests have degrees of freedom {sorted(degrees)}; average tests of one kind only")
    return CoverageTest(float(np.mean([t.statistic for t in tests])), degrees.pop())


def newey_west_lags(rows: int, horizon_bars: int) -> int:
    """The larger of the horizon (its losses overlap that far) and ``4 (T / 100)^(2/9)``, at most T - 1."""
    return min(rows - 1, max(horizon_bars, int(4 * (rows / 100) ** (2 / 9))))


def diebold_mariano(
    first: ArrayLike, second: ArrayLike, horizon_bars: int, *, lags: int | None = None
) -> ScoreDifference:
    """Do two models' scores differ in the mean? Both on the same rows, in time order, consecutive decision
    times.

    Scores of shape (time,) or (time, cell, ...): cells (symbol, side) of one time move together, so their
    differences are averaged within each time first; a NaN cell is left out of its time, a time with no cell
    at all is refused. t is the mean over its Newey-West (1987) error with Bartlett weights ``1 - j / (lags +
    1)``; ``lags`` defaults to ``newey_west_lags``. Constant differences have no error: t is 0 where they are
    0, else infinite. Source: Diebold, Mariano (1995).
    """
    a, b = np.asarray(first, dtype="float64"), np.asarray(second, dtype="float64")
    if a.shape != b.shape or a.ndim < 1:
        raise ValueError(f"scores have shapes {a.shape} and {b.shape}; score both models on the same rows")
    cells = (a - b).reshape(a.shape[0], -1)
    counts = (~np.isnan(cells)).sum(axis=1)
    if a.shape[0] < 2 or not counts.all():
        raise ValueError(
            f"{a.shape[0]} times, {int((counts == 0).sum())} of them without a score in both models; "
            f"give at least two times and drop the empty ones"
        )
    difference = np.nansum(cells, axis=1) / counts
    T = difference.size
    used = newey_west_lags(T, horizon_bars) if lags is None else lags
    if not 0 <= used < T:
        raise ValueError(f"lags is {used} for {T} times; give at least 0 and fewer than the times")
    mean = float(difference.mean())
    u = difference - mean
    variance = float(u @ u) / T
    # Rounding leaves a residue where the differences are all the same; it is not a variance.
    if variance <= (1e-12 * abs(mean)) ** 2:
        return ScoreDifference(mean, 0.0 if mean == 0 else float(np.copysign(np.inf, mean)), used)
    for j in range(1, used + 1):
        variance += 2 * (1 - j / (used + 1)) * float(u[j:] @ u[:-j]) / T
    return ScoreDifference(mean, mean / float(np.sqrt(variance / T)), used)
