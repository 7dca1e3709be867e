"""Every input of every model has words, and they say what the numbers say."""

from __future__ import annotations

import math

import pytest

from features.pipeline import all_features
from models.forecast.discovery import model_class, model_names
from models.wording import consequence, phrase_of, state

NAN = float("nan")


def test_every_feature_has_words() -> None:
    wordless = []
    for name in (output for feature in all_features() for output in feature.outputs):
        try:
            assert phrase_of(name).text
        except ValueError:
            wordless.append(name)
    assert not wordless, "write their phrases into models/phrases.py"


@pytest.mark.parametrize("name", model_names())
def test_every_input_of_every_model_has_words(name: str) -> None:
    for asked in model_class(name).feature_names() or ():
        assert state(asked, 1.0, 2.0, 0.1)


@pytest.mark.parametrize(
    "name",
    ["nonsense", "har", "har_5x", "hour_sin_1h", "market_nonsense_1h", "imbalance_1h_at", "nonsense_at_15m"],
)
def test_a_name_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"has no words; write a phrase"):
        phrase_of(name)


@pytest.mark.parametrize(
    ("name", "value", "score", "words"),
    [
        ("imbalance_1h", -2.9, -3.14, "taker selling over 1 h 3.1 SD above normal"),
        ("imbalance_1h", 2.9, 3.14, "taker buying over 1 h 3.1 SD above normal"),
        ("imbalance_1h", 0.2, -0.5, "taker buying over 1 h 0.5 SD below normal"),
        ("imbalance_1h", -0.2, 0.5, "taker selling over 1 h 0.5 SD below normal"),
        ("imbalance_4h_at_15m", -1.0, -2.0, "taker selling over 4 h on 15 min bars 2.0 SD above normal"),
        (
            "market_imbalance_1d",
            1.0,
            1.04,
            "the market's taker buying over 1 day 1.0 standard deviation above normal",
        ),
        (
            "leader_return_1w",
            0.3,
            2.0,
            "the leading contract's rise over 1 week relative to volatility 2.0 SD above normal",
        ),
        ("har_1m", -0.3, -2.0, "volatility over 30 days against its current level 2.0 SD below normal"),
        ("har_15m", 0.3, 0.01, "volatility over 15 min against its current level as normal"),
        (
            "drawdown_1w",
            -3.0,
            -2.0,
            "fall from the highest close of 1 week relative to volatility 2.0 SD above normal",
        ),
        (
            "drawdown_1w",
            -0.1,
            1.5,
            "fall from the highest close of 1 week relative to volatility 1.5 SD below normal",
        ),
        (
            "usual_1h_20d",
            0.3,
            2.0,
            "moves in the same 1 h of the 20 days before relative to volatility 2.0 SD above normal",
        ),
        (
            "move_lag_1",
            0.3,
            2.0,
            "size of the move 1 bar before the newest relative to volatility 2.0 SD above normal",
        ),
        ("market_correlation_1d", 0.3, 2.0, "correlation within the market over 1 day 2.0 SD above normal"),
        ("push_1m_at_1m", -2.0, -2.0, "taker selling over 1 min on 1 min bars 2.0 SD above normal"),
        ("book_spread_10min", 0.3, 2.0, "bid-ask spread over 10 min 2.0 SD above normal"),
        ("book_depth_1_1h", -0.3, -2.0, "depth over 1 h at the best prices 2.0 SD below normal"),
        (
            "book_imbalance_5_now",
            -0.3,
            -2.0,
            "book leaning to sellers now in the best 5 levels 2.0 SD above normal",
        ),
        ("book_ofi_now", -1.0, -2.0, "order flow of sellers at the best prices now 2.0 SD above normal"),
        ("book_ofi_4h", 0.3, 2.0, "order flow of buyers at the best prices over 4 h 2.0 SD above normal"),
        ("funding_1w", 2.0, 2.0, "funding over 1 week 2.0 SD above normal"),
        ("liquidation_side_4h", -2.0, -2.0, "liquidations of shorts over 4 h 2.0 SD above normal"),
        (
            *("realized_1h_at_15m", 0.3, 2.0),
            "volatility over 1 h on 15 min bars against its current level 2.0 SD above normal",
        ),
        ("tape_large_push_15m", -1.0, -2.0, "large trades selling over 15 min 2.0 SD above normal"),
        ("weekend", 1.0, 1.6, "a weekend"),
        ("weekend", 0.0, -0.6, "no weekend"),
        ("new_york_14h", 0.0, -0.2, "not 14 to 15 o'clock in New York"),
        ("hour_sin", 0.4, 0.5, "the hour of the day"),
        ("regime_crisis", 0.834, 4.0, "probability of crisis 0.83"),
        ("market_regime_stressed", 0.5, 4.0, "probability of stressed in the market 0.50"),
        ("hour_profile", 0.2, 1.5, "usual size of moves in the coming 1 h 1.5 SD above normal"),
        ("har_1h", NAN, NAN, "volatility over 1 h against its current level unknown"),
    ],
)
def test_the_words_of_a_state(name: str, value: float, score: float, words: str) -> None:
    assert state(name, value, score, 0.1) == words.replace("SD", "standard deviations")


def test_the_scale_is_told_as_a_multiple() -> None:
    assert state("ewma_volatility", 0.01, 1.2, math.log(1.84)) == "volatility 1.8 times its usual"


def test_a_calibration_is_told_by_what_it_did() -> None:
    assert state("calibration", NAN, NAN, 0.1) == "more losses beyond the forecast of late"
    assert state("calibration", NAN, NAN, -0.1) == "fewer losses beyond the forecast of late"


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (0.1234, "raises the 1h margin of longs by 12 %"),
        (-0.0301, "lowers the 1h margin of longs by 3.0 %"),
        (0.0997, "raises the 1h margin of longs by 10 %"),
        (1.5, "raises the 1h margin of longs by 150 %"),
        (-0.0004, "hardly moves the 1h margin of longs"),
    ],
)
def test_the_words_of_a_consequence(effect: float, words: str) -> None:
    assert consequence(effect, "1h", "long") == words
