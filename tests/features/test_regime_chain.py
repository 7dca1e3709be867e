"""The chain and its filter against a loop over full Gaussian densities, and what must hold of what it
learns."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from features.regime_chain import (
    LAGS,
    REGIMES,
    RIDGE,
    STATE_SHARE,
    Chain,
    filter_probabilities,
    learned_chain,
    likelihoods,
    typical_chain,
)

CHAIN: Chain = {
    "observations": ["volatility", "toxicity", "illiquidity"],
    "mean": [[-0.3, 0.1, 0.0], [0.2, 0.0, 0.1], [0.7, 0.0, 0.4], [1.2, -0.2, 0.5]],
    "covariance": [[0.25, -0.05, 0.02], [-0.05, 0.16, 0.01], [0.02, 0.01, 0.3]],
    "transition": [[0.9, 0.08, 0.01, 0.01], [0.05, 0.9, 0.04, 0.01], [0, 0.1, 0.8, 0.1], [0, 0, 0.1, 0.9]],
}


def slow_filter(y: np.ndarray, steps: int, step_bars: int) -> np.ndarray:
    """Hamilton's filter for one row and symbol at a time, with the density of what is known."""
    mean, covariance = np.array(CHAIN["mean"]), np.array(CHAIN["covariance"])
    transition = np.array(CHAIN["transition"])
    out = np.empty((*y.shape[1:], 4))
    for t, i in product(range(y.shape[1]), range(y.shape[2])):
        p = STATE_SHARE
        for lag in range((steps - 1) * step_bars, -1, -step_bars):
            p = p @ transition
            now = y[:, t - lag, i] if t >= lag else np.full(len(y), np.nan)
            known = np.isfinite(now)
            if known[0]:
                part = covariance[np.ix_(known, known)]
                p = p * [multivariate_normal(m[known], part).pdf(now[known]) for m in mean]
            p = p / p.sum()
        out[t, i] = p
    return out


@pytest.mark.parametrize(("steps", "step_bars"), [(1, 1), (5, 1), (6, 4)])
def test_the_filter_agrees_with_a_loop(steps: int, step_bars: int) -> None:
    rng = np.random.default_rng(9)
    y = rng.standard_normal((3, 40, 2))
    y[rng.random(y.shape) < 0.15] = np.nan
    fast = filter_probabilities(y, CHAIN, steps, step_bars)
    np.testing.assert_allclose(fast, slow_filter(y, steps, step_bars), rtol=1e-9)


def test_columns_beyond_one_block_are_filtered_alike() -> None:
    y = np.random.default_rng(2).standard_normal((3, 5000, 4))  # 20,000 columns
    whole = filter_probabilities(y, CHAIN, 6, 2)
    np.testing.assert_allclose(filter_probabilities(y[:, :700], CHAIN, 6, 2), whole[:700], atol=1e-14)
    np.testing.assert_allclose(filter_probabilities(y[:, -50:], CHAIN, 6, 2)[-1], whole[-1], atol=1e-14)


def test_where_nothing_is_known_the_chain_moves_on_by_itself() -> None:
    transition = np.array(CHAIN["transition"])
    found = filter_probabilities(np.full((3, 5, 1), np.nan), CHAIN, 3, 1)
    np.testing.assert_allclose(found[-1, 0], STATE_SHARE @ transition @ transition @ transition)


@pytest.mark.parametrize("others", [(0.0, 0.0), (3.0, -3.0), (-3.0, 3.0), (np.nan, 3.0), (np.nan, np.nan)])
def test_a_more_violent_hour_is_never_read_as_calmer(others: tuple[float, float]) -> None:
    y = np.empty((3, 60, 1))
    y[0, :, 0] = np.linspace(-3, 5, 60)
    y[1:] = np.array(others)[:, np.newaxis, np.newaxis]
    p = filter_probabilities(y, CHAIN, 1, 1)[:, 0]
    for k in range(1, 4):
        assert (np.diff(p[:, k:].sum(axis=1)) >= -1e-12).all()
    assert p[-1, 3] > 0.95


def test_an_extreme_observation_leaves_probabilities_finite() -> None:
    y = np.array([[[5.0]], [[-3.0]], [[3.0]]]) * np.ones((3, 200, 1))
    y[:, 100:] *= -1
    p = filter_probabilities(y, CHAIN, 48, 1)
    np.testing.assert_allclose(p.sum(axis=-1), 1.0)


def labelled(rng: np.random.Generator, steps: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Observations of two series that hold each state for 20 steps, about known means."""
    label = np.repeat(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=(steps // 20, 2)), 20, axis=0)
    mean = np.array([[-0.5, 0.0], [0.0, 0.3], [0.5, 0.1], [1.5, 0.6]])
    noise = np.einsum("de,ets->dts", np.array([[0.4, 0], [0.1, 0.2]]), rng.standard_normal((2, steps, 2)))
    return mean[label].transpose(2, 0, 1) + noise, label


def test_a_learned_chain_has_the_means_covariance_and_transitions_of_the_labels() -> None:
    y, label = labelled(np.random.default_rng(3))
    chain = learned_chain(["volatility", "toxicity"], y, label)
    assert chain is not None
    assert chain["observations"] == ["volatility", "toxicity"]
    for k in range(4):
        np.testing.assert_allclose(chain["mean"][k], y[:, label == k].mean(axis=1))
    expected = np.array([[0.16, 0.04], [0.04, 0.05]]) + RIDGE * np.diag([0.16, 0.05])
    np.testing.assert_allclose(chain["covariance"], expected, atol=0.02)
    transition = np.array(chain["transition"])
    np.testing.assert_allclose(transition.sum(axis=1), 1.0)
    assert (np.diag(transition) > 0.9).all()


def test_what_several_steps_see_together_is_counted_once() -> None:
    """Each residual stays for two steps, r1 r1 r2 r2 ...: lag 1 has half of the variance as its covariance,
    so the long-run variance is v (1 + 2 (1 - 1/4) / 2) = 1.75 v."""
    rng = np.random.default_rng(4)
    label = np.repeat(rng.choice(4, size=2000), 40)[:, np.newaxis]
    noise = np.repeat(rng.standard_normal(40000), 2)[:, np.newaxis]
    y = (label + 0.5 * noise)[np.newaxis].astype("float64")
    chain = learned_chain(["volatility"], y, label)
    assert chain is not None
    assert LAGS == 4
    assert chain["covariance"][0][0] == pytest.approx(1.75 * 0.25 * (1 + RIDGE), rel=0.03)


def test_a_step_of_which_something_is_unknown_teaches_nothing() -> None:
    y, label = labelled(np.random.default_rng(5))
    spoilt, fewer = y.copy(), label.copy()
    spoilt[1, 5:300] = np.nan
    fewer[5:300] = -1
    assert learned_chain(["volatility", "toxicity"], spoilt, label) == learned_chain(
        ["volatility", "toxicity"], y, fewer
    )


def test_no_chain_where_volatility_speaks_for_the_calmer_state() -> None:
    """With v = state + e and o = 3 state + e + a little, the state is best told by o - v: v counts
    against."""
    rng = np.random.default_rng(6)
    label = labelled(rng)[1]
    noise, little = rng.standard_normal((2, *label.shape))
    y = np.stack([label + noise, 3 * label + noise + 0.1 * little])
    assert learned_chain(["volatility"], y[:1], label) is not None
    assert learned_chain(["volatility", "toxicity"], y, label) is None
    assert learned_chain(["volatility"], -y[:1], label) is None


def test_no_chain_where_a_state_was_hardly_seen() -> None:
    y, label = labelled(np.random.default_rng(7))
    label[label == 3] = 2
    label[:9] = 3
    assert learned_chain(["volatility", "toxicity"], y, label) is None


def test_the_typical_chain_is_of_volatility_alone() -> None:
    chain = typical_chain()
    assert chain["mean"] == [[-0.3], [0.25], [0.75], [1.3]]
    np.testing.assert_allclose(np.sum(chain["transition"], axis=1), 1.0)
    # In equilibrium its states are as frequent as their names say.
    np.testing.assert_allclose(STATE_SHARE @ np.array(chain["transition"]), STATE_SHARE, atol=0.02)
    # Half way between the means of the outer states, both are as likely.
    found = likelihoods(np.array([[[0.5]]]), chain)[:, 0]
    assert found[0] == pytest.approx(found[3])
    assert len(found) == len(REGIMES)
