"""Reasons, by hand: what is strongest, what is told together, and what it does to the rate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from models.explanations import Cell, Contributions
from models.margin.requirement import margin_rate
from models.reasons import reasons

HOUR = pd.Timedelta(hours=1)
INPUTS = ("ewma_volatility", "hour_sin", "imbalance_1h", "hour_cos", "har_1h")


def contributions(effects: list[float], side: str = "long") -> Contributions:
    return Contributions(
        pd.MultiIndex.from_tuples([(pd.Timestamp("2024-01-01", tz="UTC"), "A")], names=["time", "symbol"]),
        (Cell(HOUR, side, 0.99),),
        INPUTS,
        np.array([[0.01, 0.5, -2.0, 0.1, np.nan]]),
        np.array([[1.2, 0.4, -3.1, 0.1, np.nan]]),
        np.array([[math.log(0.02)]]),
        np.array([[effects]]),
    )


def test_the_strongest_come_first_and_are_told_on_the_rate() -> None:
    found = contributions([math.log(1.5), 0.0, 0.2, 0.0, 0.0])
    es = 0.02 * 1.5 * math.exp(0.2)
    first, second = reasons(found, 0, 0, es, margin_rate, 5)
    assert first.inputs == ("ewma_volatility",)
    assert first.log_effect == pytest.approx(math.log(1.5))
    # 1 - exp(-ES) with and without the volatility.
    assert first.rate_effect == pytest.approx((1 - math.exp(-es)) / (1 - math.exp(-es / 1.5)) - 1)
    assert first.words == "volatility 1.5 times its usual: raises the 1h margin of longs by 49 %"
    assert (second.inputs, second.value, second.score) == (("imbalance_1h",), -2.0, -3.1)
    assert second.words == (
        "taker selling over 1 h 3.1 standard deviations above normal: raises the 1h margin of longs by 22 %"
    )


def test_a_short_is_told_on_its_own_rate() -> None:
    found = contributions([0.5, 0.0, 0.0, 0.0, 0.0], "short")
    es = 0.02 * math.exp(0.5)
    (only,) = reasons(found, 0, 0, es, margin_rate, 5)
    assert only.rate_effect == pytest.approx(math.expm1(es) / math.expm1(0.02) - 1)
    assert only.words.endswith("margin of shorts by 66 %")


def test_the_clock_is_one_reason() -> None:
    found = contributions([0.0, 0.3, 0.1, -0.15, 0.0])
    first, second = reasons(found, 0, 0, float(np.exp(found.log_es[0, 0])), margin_rate, 5)
    assert (first.inputs, first.value, first.score) == (("hour_sin", "hour_cos"), None, None)
    assert first.log_effect == pytest.approx(0.15)
    assert first.words.startswith("the hour of the day: raises")
    assert second.inputs == ("imbalance_1h",)


def test_what_calibration_did_is_a_reason() -> None:
    found = contributions([0.1, 0.0, 0.0, 0.0, 0.0])
    es = float(np.exp(found.log_es[0, 0]))
    first, second = reasons(found, 0, 0, 0.8 * es, margin_rate, 5)
    assert (first.inputs, first.value) == (("calibration",), None)
    assert first.log_effect == pytest.approx(math.log(0.8))
    assert first.words.startswith("fewer losses beyond the forecast of late: lowers")
    assert second.inputs == ("ewma_volatility",)


def test_only_so_many_and_none_without_effect() -> None:
    found = contributions([0.5, 0.1, 0.2, 0.0, -0.3])
    es = float(np.exp(found.log_es[0, 0]))
    assert [r.inputs[0] for r in reasons(found, 0, 0, es, margin_rate, 3)] == [
        *("ewma_volatility", "har_1h", "imbalance_1h"),
    ]
    assert reasons(contributions([0.0] * 5), 0, 0, 0.02, margin_rate, 5) == []
