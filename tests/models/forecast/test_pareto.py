"""The generalized-Pareto tail against its own closed form, and at its edges."""

import numpy as np
import pytest
from scipy.stats import genpareto

from models.forecast._pareto import fit_pareto, pareto_tail

BOUNDS = (-0.2, 0.5)


@pytest.mark.parametrize(("xi", "beta"), [(0.25, 0.6), (0.0, 1.0), (-0.15, 2.0)])
def test_moments_recover_the_parameters(xi: float, beta: float) -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    found = fit_pareto(genpareto.ppf(p, xi, scale=beta), BOUNDS)
    assert found == pytest.approx((xi, beta), abs=0.01)


def test_a_heavier_tail_is_held_at_the_bound_and_keeps_its_mean() -> None:
    p = (np.arange(50_000) + 0.5) / 50_000
    excesses = genpareto.ppf(p, 0.9)
    xi, beta = fit_pareto(excesses, BOUNDS)
    assert xi == 0.5
    assert beta / (1 - xi) == pytest.approx(excesses.mean())
    assert fit_pareto(np.full(100, 2.0), BOUNDS)[0] == -0.2


def test_no_excess_is_refused() -> None:
    for nothing in (np.empty(0), np.zeros(5)):
        with pytest.raises(ValueError, match="no loss lies beyond"):
            fit_pareto(nothing, BOUNDS)


@pytest.mark.parametrize("xi", [0.3, 0.0])
def test_var_and_es_of_a_pareto_tail(xi: float) -> None:
    """Losses are GPD(xi, 1) as a whole, whose quantiles and means beyond them are known at every level."""
    losses = genpareto.ppf((np.arange(400_000) + 0.5) / 400_000, xi)
    levels = (0.9, 0.95, 0.975, 0.99, 0.999)
    var, es = pareto_tail(losses, levels, 0.95, BOUNDS)
    exact = genpareto.ppf(levels, xi)
    assert var == pytest.approx(exact, rel=0.01)
    assert es == pytest.approx((exact + 1) / (1 - xi) if xi else exact + 1, rel=0.01)


def test_levels_on_both_sides_of_the_threshold_are_in_order() -> None:
    losses = np.random.default_rng(1).standard_t(3, 3000)
    levels = (0.6, 0.8, 0.94, 0.95, 0.96, 0.99, 0.999, 0.9999)
    var, es = pareto_tail(losses, levels, 0.95, BOUNDS)
    assert (np.diff(var) > 0).all()
    assert (np.diff(es) > 0).all()
    assert (es > var).all()
    assert var[:4] == pytest.approx(np.quantile(losses, levels[:4]))
    assert es[1] == pytest.approx(losses[losses >= var[1]].mean(), rel=0.02)
