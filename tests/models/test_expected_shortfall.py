"""Backtests of ES against published values, plain simulations, and series made by hand."""

import math

import numpy as np
import pytest

from models.expected_shortfall import (
    acerbi_szekely_z1,
    acerbi_szekely_z2,
    critical_value,
    law_tail,
    mcneil_frey,
    p_value,
    simulated,
)


@pytest.mark.parametrize(
    ("level", "dof", "var", "es"),
    [
        (0.95, math.inf, 1.644854, 2.062713),
        (0.975, math.inf, 1.959964, 2.337803),
        (0.99, math.inf, 2.326348, 2.665214),
        (0.99, 4, 3.746947, 5.220584),
    ],
)
def test_law_tail_literal_values(level: float, dof: float, var: float, es: float) -> None:
    assert law_tail(level, dof) == pytest.approx((var, es), abs=1e-6)


def test_a_law_without_es_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 degree of freedom"):
        law_tail(0.99, 1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        law_tail(99, 4)


def test_acerbi_szekely_by_hand() -> None:
    loss = [0.03, -0.01, 0.05, 0.0, 0.01]
    var, es = [0.02] * 5, [0.04] * 5
    # Two hits with L / e of 0.75 and 1.25.
    assert acerbi_szekely_z1(loss, var, es) == pytest.approx(0)
    assert acerbi_szekely_z2(loss, var, es, 0.8) == pytest.approx(1 - 2 / (5 * 0.2))
    assert acerbi_szekely_z2(loss, var, es, 0.6) == pytest.approx(0)
    assert np.isnan(acerbi_szekely_z1([-1.0, -1.0], [1.0, 1.0], [2.0, 2.0]))
    assert acerbi_szekely_z2([-1.0, -1.0], [1.0, 1.0], [2.0, 2.0], 0.99) == 1


@pytest.mark.parametrize(("var", "es"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_a_broken_forecast_is_refused(var: float, es: float) -> None:
    for test in (acerbi_szekely_z1, mcneil_frey):
        with pytest.raises(ValueError, match="1 rows break 0 < VaR <= ES"):
            test([3.0, 3.0], [1.0, var], [1.0, es])
    with pytest.raises(ValueError, match="1 rows break 0 < VaR <= ES"):
        acerbi_szekely_z2([3.0, 3.0], [1.0, var], [1.0, es], 0.99)


@pytest.mark.parametrize(
    ("level", "rows", "test_level", "dof", "published", "within"),
    [
        (0.975, 250, 0.05, math.inf, -0.70, 0.01),
        (0.99, 1000, 0.05, math.inf, -0.55, 0.015),
        (0.99, 1000, 0.05, 3, -0.65, 0.02),
    ],
)
def test_published_critical_values_of_z2(
    level: float, rows: int, test_level: float, dof: float, published: float, within: float
) -> None:
    assert critical_value("z2", level, rows, test_level, dof=dof) == pytest.approx(published, abs=within)


@pytest.mark.parametrize("dof", [math.inf, 3])
def test_drawing_hits_alone_is_drawing_whole_series(dof: float) -> None:
    rng = np.random.default_rng(4)
    losses = rng.standard_normal((20_000, 100)) if math.isinf(dof) else rng.standard_t(dof, (20_000, 100))
    var, es = law_tail(0.95, dof)
    depth = np.where(losses > var, losses / es, 0.0)
    hits = (losses > var).sum(axis=1)
    whole = {
        "z2": 1 - depth.sum(axis=1) / (100 * 0.05),
        "z1": 1 - depth.sum(axis=1)[hits > 0] / hits[hits > 0],
    }
    for statistic, expected in whole.items():
        drawn = simulated(statistic, 0.95, 100, dof=dof, replicas=20_000, seed=2)
        assert np.mean(drawn) == pytest.approx(0, abs=0.015)
        for q, within in ((0.05, 0.04), (0.25, 0.02), (0.5, 0.02), (0.75, 0.02)):
            assert np.quantile(drawn, q) == pytest.approx(np.quantile(expected, q), abs=within)


def test_p_value_is_the_share_of_replicas_at_most_observed() -> None:
    at = critical_value("z2", 0.975, 500, 0.05)
    assert p_value("z2", at, 0.975, 500) == pytest.approx(0.05, abs=1e-3)
    assert p_value("z2", -1e9, 0.975, 500, replicas=999) == 1 / 1000
    assert p_value("z2", 1.0, 0.975, 500, replicas=999) == 1.0
    assert p_value("z1", -0.2, 0.975, 500) < p_value("z1", -0.1, 0.975, 500)


def test_a_seed_gives_one_critical_value() -> None:
    values = [critical_value("z2", 0.99, 250, 0.05, replicas=2000, seed=s) for s in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_simulations_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="'z1' or 'z2'"):
        critical_value("z3", 0.99, 250, 0.05)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="test_level is 5"):
        critical_value("z2", 0.99, 250, 5)
    with pytest.raises(ValueError, match="at least 1 of each"):
        critical_value("z2", 0.99, 0, 0.05)
    with pytest.raises(ValueError, match="no simulated series of 1 rows"):
        critical_value("z1", 0.999999, 1, 0.05, replicas=10)
    with pytest.raises(ValueError, match="nothing to judge"):
        p_value("z1", float("nan"), 0.99, 250)


def t_losses(seed: int, rows: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses of Student's t4 times a volatility that wanders, with the right VaR and ES at 97.5 %."""
    rng = np.random.default_rng(seed)
    scale = 0.01 * np.exp(0.5 * np.sin(np.arange(rows) / 50))
    var, es = law_tail(0.975, 4)
    return scale * rng.standard_t(4, rows), scale * var, scale * es


def test_mcneil_frey_by_a_slow_bootstrap() -> None:
    loss, var, es = t_losses(1)
    residuals = [(x - e) / e for x, v, e in zip(loss, var, es, strict=True) if x > v]
    n, mean = len(residuals), float(np.mean(residuals))
    rng = np.random.default_rng(9)

    def t(values: list[float]) -> float:
        return float(np.mean(values) / np.std(values))

    beyond = 0
    for _ in range(3000):
        again = [residuals[i] - mean for i in rng.integers(n, size=n)]
        beyond += t(again) >= t(residuals)
    assert mcneil_frey(loss, var, es) == pytest.approx(beyond / 3000, abs=0.03)


def test_mcneil_frey_has_its_size_and_sees_too_small_an_es() -> None:
    p = np.array([mcneil_frey(*t_losses(seed), replicas=400) for seed in range(150)])
    assert 0.005 < np.mean(p < 0.05) < 0.12
    assert 0.35 < np.mean(p) < 0.65
    understated = []
    for seed in range(60):
        loss, var, es = t_losses(seed)
        understated.append(mcneil_frey(loss, 0.8 * var, np.maximum(0.6 * es, 0.8 * var), replicas=400))
    assert np.mean(np.array(understated) < 0.05) > 0.8


def test_mcneil_frey_scale_and_seed() -> None:
    loss, var, es = t_losses(3)
    assert mcneil_frey(loss, var, es) == mcneil_frey(loss, var, es)
    assert mcneil_frey(loss, var, es) != mcneil_frey(loss, var, es, seed=2)
    # VaR is a constant share of ES here, so it standardises alike.
    assert mcneil_frey(loss, var, es, scale=var) == pytest.approx(mcneil_frey(loss, var, es))
    with pytest.raises(ValueError, match="scale is at most 0 in 2000 rows"):
        mcneil_frey(loss, var, es, scale=-var)


def test_mcneil_frey_needs_hits_that_differ() -> None:
    ones = np.ones(50)
    with pytest.raises(ValueError, match="0 losses lie beyond VaR and 5 are needed"):
        mcneil_frey(0 * ones, ones, 2 * ones)
    with pytest.raises(ValueError, match=r"all 50 exceedance residuals are 0\.5"):
        mcneil_frey(3 * ones, ones, 2 * ones)
