"""The joint regression of VaR and ES against known truths and slow optimisers; ESR's size and power."""

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.regression.quantile_regression import QuantReg

from models.coverage import by_offset, worst
from models.es_regression import esr, esr_intercept, quantile_regression, tail_regression
from models.expected_shortfall import law_tail
from models.scores import fz0


def located(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The losses of Dimitriadis and Bayer's second process, x + (1 + x / 2) N(0, 1), and (1, x)."""
    rng = np.random.default_rng(seed)
    x = rng.chisquare(1, rows)
    return x + (1 + 0.5 * x) * rng.standard_normal(rows), np.column_stack([np.ones(rows), x])


def volatile(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """GARCH(1,1) losses with normal errors, and the right VaR and ES at 97.5 %."""
    z = np.random.default_rng(seed).standard_normal(rows)
    variance = np.empty(rows)
    h = 1e-4
    for t in range(rows):
        variance[t] = h
        h = 4e-6 + (0.1 * z[t] ** 2 + 0.86) * h
    scale = np.sqrt(variance)
    var, es = law_tail(0.975, np.inf)
    return scale * z, scale * var, scale * es


def test_quantile_regression_agrees_with_statsmodels() -> None:
    loss, design = located(800, 1)
    found = quantile_regression(loss, design, 0.9)
    assert found == pytest.approx(QuantReg(loss, design).fit(0.9).params, abs=2e-3)
    by_hand = quantile_regression(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.ones((5, 1)), 0.7)
    assert by_hand == pytest.approx([4.0])


def test_the_regression_finds_published_coefficients() -> None:
    loss, design = located(15_000, 2)
    fit = tail_regression(loss, design, design, 0.975, start=(3.0, 1.0))
    # 1.959964 and 1 + 1.959964 / 2; 2.337803 and 1 + 2.337803 / 2.
    assert fit.quantile == pytest.approx([1.959964, 1.979982], abs=0.15)
    assert fit.es == pytest.approx([2.337803, 2.168901], abs=0.15)


def test_no_other_coefficients_score_better() -> None:
    loss, design = located(600, 3)
    fit = tail_regression(loss, design, design, 0.95, start=(3.0, 1.0))

    def score(parameters: np.ndarray) -> float:
        v, e = design @ parameters[:2], design @ parameters[2:]
        if (e <= 0).any():
            return np.inf
        hit = np.maximum(loss - v, 0) / 0.05
        return float(np.mean((hit + v) / e + np.log(e)) - 1)

    at = np.concatenate([fit.quantile, fit.es])
    assert fit.score == pytest.approx(score(at))
    v, e = design @ fit.quantile, design @ fit.es
    assert fit.score == pytest.approx(fz0(loss, v, e, 0.95, unit="fraction").mean())
    rng = np.random.default_rng(1)
    for start in (at, *(at + 0.3 * rng.standard_normal((6, 4)))):
        tried = optimize.minimize(
            score, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
        )
        assert tried.fun > fit.score - 1e-5


def test_the_covariance_is_that_of_repeated_fits() -> None:
    """Of losses that are alike but for their scale, as the covariance takes them to be."""
    fits = []
    for seed in range(80):
        loss, design = located(1000, seed + 10)
        fits.append(tail_regression(loss - design[:, 1], design, design, 0.95, start=(2.0, 1.0)))
    errors = np.sqrt(np.mean([np.diag(f.es_covariance) for f in fits], axis=0))
    spread = np.std([f.es for f in fits], axis=0)
    assert errors == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("version", ["strict", "auxiliary"])
def test_esr_has_nearly_its_size_and_sees_too_small_an_es(version: str) -> None:
    rejected = {1.0: [], 0.8: []}
    for seed in range(30):
        loss, var, es = volatile(2000, seed)
        for factor, found in rejected.items():
            found.append(esr(loss, factor * var, factor * es, 0.975, version=version).p_value < 0.05)  # type: ignore[arg-type]
    assert np.mean(rejected[1.0]) < 0.21
    assert np.mean(rejected[0.8]) > 0.95


def test_strict_esr_does_not_ask_for_var() -> None:
    loss, var, es = volatile(2000, 5)
    jumbled = np.minimum(var * np.random.default_rng(2).uniform(0.5, 1.1, var.size), es)
    right, wrong = (esr(loss, v, es, 0.975, version="strict") for v in (var, jumbled))
    assert right.statistic == pytest.approx(wrong.statistic)
    assert esr(loss, var, es, 0.975).statistic != pytest.approx(esr(loss, jumbled, es, 0.975).statistic)


def test_esr_does_not_depend_on_the_unit() -> None:
    loss, var, es = volatile(1500, 8)
    percent = esr(100 * loss, 100 * var, 100 * es, 0.975)
    assert percent.statistic == pytest.approx(esr(loss, var, es, 0.975).statistic, rel=1e-6)
    assert percent.degrees == 2


def test_esr_sees_a_slope_that_is_right_on_average() -> None:
    loss, _, es = volatile(4000, 3)
    level_only = np.full(es.size, es.mean()) + 0.2 * (es - es.mean())
    assert esr(loss, 0.8 * level_only, level_only, 0.975).p_value < 1e-4
    assert esr_intercept(loss, es, 0.975).p_value > 0.05


def test_the_intercept_by_hand() -> None:
    # Ratios L / e of 0.1, 0.2, ..., 1.9, 3.0 at 50 %: the quantile is 1.0, the ten beyond it average 1.65.
    ratio = np.append(np.arange(1, 20) / 10, 3.0)
    es = np.linspace(0.01, 0.03, 20)
    found = esr_intercept(ratio * es, es, 0.5)
    beyond = ratio[10:]
    assert found.intercept == pytest.approx(beyond.mean() - 1)
    variance = np.var(beyond, ddof=1) / 0.5 + (beyond.mean() - 1.0) ** 2
    assert found.error == pytest.approx(np.sqrt(variance / 20))
    assert found.p_value == pytest.approx(stats.norm.sf(found.intercept / found.error))


def test_the_intercept_is_one_sided_and_has_its_size() -> None:
    p = {1.0: [], 0.8: [], 1.3: []}
    for seed in range(150):
        loss, _, es = volatile(1000, seed)
        for factor, found in p.items():
            found.append(esr_intercept(loss, factor * es, 0.975).p_value)
    assert np.mean(np.array(p[1.0]) < 0.05) < 0.09
    assert np.mean(np.array(p[0.8]) < 0.05) > 0.95
    assert np.min(p[1.3]) > 0.5


def test_esr_runs_on_every_offset() -> None:
    loss, var, es = volatile(2000, 4)
    tests = by_offset(lambda x, v, e: esr(x, v, e, 0.975), 4, loss, var, es)
    assert len(tests) == 4
    assert worst(tests).p_value == min(t.p_value for t in tests)


def test_what_cannot_be_tested_is_refused() -> None:
    loss, var, es = volatile(500, 1)
    with pytest.raises(ValueError, match="collinear, a constant forecast say"):
        esr(loss, np.full(500, 0.02), np.full(500, 0.03), 0.975)
    with pytest.raises(ValueError, match=r"300 rows promise 7\.5 losses .* give 400 rows"):
        esr(loss[:300], var[:300], es[:300], 0.975)
    with pytest.raises(ValueError, match=r"300 rows promise 7\.5"):
        esr_intercept(loss[:300], es[:300], 0.975)
    with pytest.raises(ValueError, match="'strict' or 'auxiliary'"):
        esr(loss, var, es, 0.975, version="intercept")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="break 0 < VaR <= ES"):
        esr(loss, es, var, 0.975)
    with pytest.raises(ValueError, match="es is at most 0 in 500 rows"):
        esr_intercept(loss, -es, 0.975)
    with pytest.raises(ValueError, match="loss is not finite in 1 rows"):
        esr(np.append(loss[1:], np.nan), var, es, 0.975)
    ones = np.ones((500, 1))
    with pytest.raises(ValueError, match="ES above 0 in every row"):
        tail_regression(loss, ones, ones, 0.975, start=(-1.0,))
    with pytest.raises(ValueError, match="give 500 finite rows"):
        tail_regression(loss, ones[1:], ones, 0.975, start=(1.0,))
    with pytest.raises(ValueError, match="0 losses lie beyond the fitted quantile"):
        tail_regression(ones[:, 0], ones, ones, 0.975, start=(1.0,))
