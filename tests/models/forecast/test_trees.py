"""Blocks of time are scored by trees that saw neither them nor the horizon on either side."""

import numpy as np
import pytest

from models.forecast._trees import TreeSettings, boost_in_blocks, gain_shares, parameters, raw_score

SETTINGS = TreeSettings(trees=10, learning_rate=0.3, leaves=4, min_rows=500, fit_threads=1)
TIME = np.arange(3000, dtype="intp")
ROWS = np.random.default_rng(1).standard_normal((3000, 3))
LABEL = np.abs(ROWS[:, 0]) + 0.1 * np.random.default_rng(2).standard_normal(3000)
#: The horizon, and the middle one of three blocks.
BARS, MIDDLE = 5, slice(1000, 1999)


def scores(label: np.ndarray, bars: int = BARS) -> np.ndarray:
    fit = parameters(SETTINGS, {"objective": "regression"}, 50)
    ((_, score),) = boost_in_blocks(SETTINGS, [fit], ROWS, label, TIME, bars)
    return score


def disturbed(first: int, end: int) -> np.ndarray:
    label = LABEL.copy()
    label[first:end] += 100.0
    return label


def test_a_block_is_scored_without_its_own_labels_and_those_that_reach_into_it() -> None:
    plain = scores(LABEL)
    unseen = scores(disturbed(MIDDLE.start - BARS, MIDDLE.stop + BARS))
    assert np.array_equal(unseen[MIDDLE], plain[MIDDLE])
    assert not np.isclose(unseen[: MIDDLE.start], plain[: MIDDLE.start]).any()


@pytest.mark.parametrize("edge", [(MIDDLE.start - BARS - 20, MIDDLE.start - BARS), (2004, 2024)])
def test_rows_just_beyond_the_horizon_are_learned_from(edge: tuple[int, int]) -> None:
    assert not np.array_equal(scores(disturbed(*edge))[MIDDLE], scores(LABEL)[MIDDLE])


def test_scores_out_of_sample_follow_what_can_be_learned() -> None:
    assert np.corrcoef(scores(LABEL), np.abs(ROWS[:, 0]))[0, 1] > 0.9


def test_fits_with_leaves_of_their_own_come_back_in_order() -> None:
    """Side by side, or each alone, from a dataset binned for the smallest leaf."""
    fits = [
        parameters(SETTINGS, {"objective": "quantile", "alpha": a}, n) for a, n in ((0.9, 200), (0.1, 20))
    ]
    both = boost_in_blocks(SETTINGS, fits, ROWS, LABEL, TIME, BARS)
    alone = [boost_in_blocks(SETTINGS, [fit], ROWS, LABEL, TIME, BARS)[0] for fit in fits]
    for (booster, score), (own_booster, own_score) in zip(both, alone, strict=True):
        assert np.array_equal(score, own_score)
        assert np.array_equal(raw_score(booster, ROWS), raw_score(own_booster, ROWS))
    assert (both[0][1] > both[1][1]).all()


def test_no_row_has_no_score() -> None:
    fit = parameters(SETTINGS, {"objective": "regression"}, 50)
    ((booster, _),) = boost_in_blocks(SETTINGS, [fit], ROWS, LABEL, TIME, BARS)
    assert raw_score(booster, ROWS[:0]).shape == (0,)


def test_a_horizon_that_leaves_too_little_is_refused() -> None:
    # Around the middle block, 50 rows before and 51 after it are farther than that.
    with pytest.raises(ValueError, match="only 101 rows remain outside a block of time and 950 bars"):
        scores(LABEL, bars=950)


def test_gain_goes_to_what_was_learned_from() -> None:
    fit = parameters(SETTINGS, {"objective": "regression"}, 50)
    ((booster, _),) = boost_in_blocks(SETTINGS, [fit], ROWS, LABEL, TIME, BARS)
    ((unlearned, _),) = boost_in_blocks(SETTINGS, [fit], ROWS, np.ones(3000), TIME, BARS)
    shares = gain_shares(("first", "second", "third"), [booster])
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["first"] > 0.9
    # Trees that never split have no say in it, and without any that did there is no gain.
    assert gain_shares(("first", "second", "third"), [unlearned, booster]) == shares
    assert gain_shares(("first", "second", "third"), [unlearned]) == dict.fromkeys(shares, 0.0)
