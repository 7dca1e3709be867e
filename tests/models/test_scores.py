"""FZ0 and pinball against expectations under the truth, hand-computed values and degenerate input."""

import numpy as np
import pytest
from scipy import integrate, stats

from models.scores import fz0, pinball

NORMAL = {
    0.95: (1.644854, 2.062713, 0.724022, 0.103136),
    0.975: (1.959964, 2.337803, 0.849212, 0.058445),
    0.99: (2.326348, 2.665214, 0.980284, 0.026652),
}


@pytest.mark.parametrize("level", NORMAL)
def test_expected_scores_under_the_normal_truth(level: float) -> None:
    var, es, expected_fz0, expected_pinball = NORMAL[level]

    def expectation(score) -> float:
        below = integrate.quad(lambda x: float(score(x)) * stats.norm.pdf(x), -12, var)[0]
        return below + integrate.quad(lambda x: float(score(x)) * stats.norm.pdf(x), var, 12)[0]

    assert expectation(lambda x: fz0(x, var, es, level, unit="fraction")) == pytest.approx(
        expected_fz0, abs=2e-6
    )
    assert np.log(es) == pytest.approx(expected_fz0, abs=1e-6)
    assert expectation(lambda x: pinball(x, var, level)) == pytest.approx(expected_pinball, abs=1e-6)


def test_fz0_by_hand() -> None:
    # No hit: 0.02 / 0.04 + ln 4 - 1 in percent; a hit of 0.03 beyond: + (0.05 - 0.02) / (0.01 * 0.04) = 75.
    assert fz0(-0.5, 0.02, 0.04, 0.99) == pytest.approx(0.5 + np.log(4) - 1)
    assert fz0(0.05, 0.02, 0.04, 0.99) == pytest.approx(75 + 0.5 + np.log(4) - 1)
    assert fz0(0.02, 0.02, 0.04, 0.99) == pytest.approx(0.5 + np.log(4) - 1), "a loss at VaR is no hit"


def test_percent_adds_ln_100_whatever_the_forecast() -> None:
    loss, var, es = np.array([-0.01, 0.0, 0.07]), np.array([0.01, 0.02, 0.03]), np.array([0.02, 0.02, 0.05])
    difference = fz0(loss, var, es, 0.975) - fz0(loss, var, es, 0.975, unit="fraction")
    assert difference == pytest.approx(np.log(100))
    assert fz0(loss * 100, var * 100, es * 100, 0.975, unit="fraction") == pytest.approx(
        fz0(loss, var, es, 0.975)
    )


def test_the_truth_scores_better_than_wrong_forecasts() -> None:
    losses = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    var, es = NORMAL[0.99][:2]
    best = fz0(losses, var, es, 0.99).mean()
    for factor in (0.8, 0.9, 1.1, 1.25):
        assert fz0(losses, var * factor, es * factor, 0.99).mean() > best
        assert fz0(losses, var, var + (es - var) * factor, 0.99).mean() > best
        assert pinball(losses, var * factor, 0.99).mean() > pinball(losses, var, 0.99).mean()


def test_pinball_by_hand() -> None:
    assert pinball([0.03, 0.01], 0.02, 0.99) == pytest.approx([0.0099, 0.0001])


def test_nan_stays_nan_and_shapes_broadcast() -> None:
    score = fz0(np.array([[0.0], [np.nan]]), 0.01, np.array([0.02, 0.03]), 0.99)
    assert score.shape == (2, 2)
    assert np.isfinite(score[0]).all()
    assert np.isnan(score[1]).all()
    assert np.isnan(pinball(np.nan, 0.01, 0.99))


@pytest.mark.parametrize(("var", "es"), [(0.0, 0.01), (-0.01, 0.01), (0.02, 0.01)])
def test_a_broken_forecast_is_refused(var: float, es: float) -> None:
    with pytest.raises(ValueError, match="0 < VaR <= ES"):
        fz0(0.0, var, es, 0.99)


@pytest.mark.parametrize("level", [0.0, 1.0, 99.0, float("nan")])
def test_a_level_is_a_confidence(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        fz0(0.0, 0.01, 0.02, level)
    with pytest.raises(ValueError, match="between 0 and 1"):
        pinball(0.0, 0.01, level)


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="'percent' or 'fraction'"):
        fz0(0.0, 0.01, 0.02, 0.99, unit="bp")  # type: ignore[arg-type]
