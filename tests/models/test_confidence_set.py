"""The model confidence set keeps what cannot be told from the best, and nothing worse."""

import numpy as np
import pytest

from models.confidence_set import confidence_set

HORIZON = 4


def panel(seed: int, times: int = 600) -> np.ndarray:
    """Scores (time, symbol, side) whose cells move together and whose times overlap over the horizon."""
    rng = np.random.default_rng(seed)
    shared = np.convolve(rng.standard_normal(times + HORIZON - 1), np.ones(HORIZON), mode="valid")
    return shared[:, np.newaxis, np.newaxis] + 0.1 * rng.standard_normal((times, 3, 2))


def noise(seed: int) -> np.ndarray:
    return 0.3 * np.random.default_rng(seed).standard_normal((600, 3, 2))


def test_a_dominated_model_is_excluded_and_equals_are_kept() -> None:
    best = panel(1)
    scores = {
        "best": best,
        "copy": best.copy(),
        "near": best + noise(2) + 0.001,
        "bad": best + noise(3) + 0.2,
    }
    found = confidence_set(scores, HORIZON)
    assert list(found) == list(scores)
    assert found["bad"] < 0.01
    assert found["best"] == found["copy"] > 0.1
    assert found["near"] > 0.1


def test_equal_models_alone_are_all_kept() -> None:
    assert confidence_set({"a": panel(1), "b": panel(1)}, HORIZON) == {"a": 1.0, "b": 1.0}


def test_models_that_differ_by_noise_alone_are_mostly_kept() -> None:
    left_out = 0
    for seed in range(40):
        base, rng = panel(seed, 200), np.random.default_rng(100 + seed)
        models = {name: base + 0.3 * rng.standard_normal((200, 3, 2)) for name in ("a", "b", "c")}
        left_out += min(confidence_set(models, HORIZON, replicas=200, seed=seed).values()) < 0.1
    assert left_out <= 10


def test_the_order_of_models_and_copies_of_cells_change_nothing() -> None:
    scores = {"a": panel(1), "b": panel(1) + noise(4) + 0.005}
    found = confidence_set(scores, HORIZON)
    turned = confidence_set(dict(reversed(scores.items())), HORIZON)
    assert turned == pytest.approx(found)
    repeated = {name: np.repeat(values, 2, axis=2) for name, values in scores.items()}
    assert confidence_set(repeated, HORIZON) == pytest.approx(found)


def test_a_cell_that_one_model_lacks_counts_for_none() -> None:
    scores = {"a": panel(1), "b": panel(1) + noise(4) + 0.005}
    holed = {"a": scores["a"].copy(), "b": scores["b"].copy()}
    holed["a"][5, 0, 0] = np.nan
    both = {name: values.copy() for name, values in scores.items()}
    for values in both.values():
        values[5, 0, 0] = np.nan
    assert confidence_set(holed, HORIZON) == confidence_set(both, HORIZON)
    holed["b"][7] = np.nan
    with pytest.raises(ValueError, match="1 times have no cell"):
        confidence_set(holed, HORIZON)


def test_a_seed_gives_one_answer() -> None:
    scores = {"a": panel(1), "b": panel(1) + noise(4) + 0.005}
    found = [confidence_set(scores, HORIZON, seed=s) for s in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_what_cannot_be_compared_is_refused() -> None:
    a = panel(1)
    with pytest.raises(ValueError, match="1 models given"):
        confidence_set({"a": a}, HORIZON)
    with pytest.raises(ValueError, match="same rows"):
        confidence_set({"a": a, "b": a[1:]}, HORIZON)
    with pytest.raises(ValueError, match="blocks of 2 bars do not suit a horizon of 4"):
        confidence_set({"a": a, "b": a + noise(1)}, HORIZON, block_bars=2)
    with pytest.raises(ValueError, match="blocks of 800 bars do not suit"):
        confidence_set({"a": a, "b": a + noise(1)}, 400)
    with pytest.raises(ValueError, match=r"a and b differ by -0\.5"):
        confidence_set({"a": a, "b": a + 0.5}, HORIZON)
    with pytest.raises(ValueError, match="infinite"):
        confidence_set({"a": a, "b": np.where(a > a.max() - 1e-9, np.inf, a)}, HORIZON)
