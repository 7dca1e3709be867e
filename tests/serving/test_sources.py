"""Closes of other sources, and the closes on which all sources agree."""

import math

import numpy as np
import pytest

from models.margin.limits import Limits
from models.margin.types import Candidates, EngineState, Inputs, MarketState, Overrides
from models.margin.validity import feeds, open_case
from serving.sources import SourceCloses, agreed_closes

HOUR = 3600
NAN = math.nan


def times(*rows: int) -> np.ndarray:
    return HOUR * (1000 + np.array(rows))


def made(bars: int = 10) -> SourceCloses:
    closes = SourceCloses(HOUR, bars, ("second", "third"))
    closes.write("second", "A", times(0, 1, 3), np.array([1.0, 2.0, 4.0]))
    closes.write("third", "A", times(1, 2), np.array([20.0, 30.0]))
    return closes


def test_closes_lie_beside_those_of_the_grid_that_asks() -> None:
    closes = made()
    wanted = [[NAN, 1.0, 2.0, NAN, 4.0, NAN], [NAN, NAN, 20.0, 30.0, NAN, NAN]]
    np.testing.assert_array_equal(closes.beside("A", 1004 * HOUR, 6), wanted)
    np.testing.assert_array_equal(closes.beside("A", 1002 * HOUR, 2), [[2.0, NAN], [20.0, 30.0]])
    assert np.isnan(closes.beside("A", 900 * HOUR, 3)).all()
    assert np.isnan(closes.beside("A", 1100 * HOUR, 3)).all()
    assert np.isnan(closes.beside("B", 1002 * HOUR, 3)).all()
    assert np.isnan(SourceCloses(HOUR, 10, ("second",)).beside("A", 1002 * HOUR, 3)).all()


def test_only_sources_that_know_the_close_speak() -> None:
    closes = made()
    assert closes.at("A", 1001 * HOUR) == (2.0, 20.0)
    assert closes.at("A", 1002 * HOUR) == (30.0,)
    assert closes.at("A", 1004 * HOUR) == ()
    assert closes.newest_by_source() == {"second": 1003 * HOUR, "third": 1002 * HOUR}


def test_a_source_is_waited_for_where_it_told_the_close_before() -> None:
    closes = made()
    assert [closes.lacks("A", t * HOUR) for t in (1000, 1001, 1002, 1003, 1004, 1005)] == [
        *(False, False, True, True, True, False)
    ]
    assert not closes.lacks("B", 1002 * HOUR)


def test_what_is_older_than_the_grid_is_not_taken() -> None:
    closes = made(bars=3)
    closes.write("third", "A", times(5), np.array([60.0]))
    closes.write("third", "A", times(2, 4), np.array([7.0, 50.0]))
    assert closes.at("A", 1004 * HOUR) == (50.0,)
    assert closes.at("A", 1002 * HOUR) == (30.0,), "as it was said in time"
    closes.write("second", "A", times(5000), np.array([5.0]))
    assert np.isnan(closes.beside("A", 1005 * HOUR, 6)).all()


def test_two_of_three_outvote_a_wrong_print() -> None:
    own = np.array([1.0, 1.0, 0.65, 1.0, 1.0])
    others = np.array([[1.001, 0.999, 0.998, NAN, 1.0], [1.002, 1.0, 1.0, 1.03, NAN]])
    # 1.03 and 1.0 alone: 1.5 % from their mean of 1.015, so that the own close stands.
    np.testing.assert_allclose(agreed_closes(own, others, 0.02), [1.0, 1.0, 0.998, 1.0, 1.0], rtol=1e-15)


def test_two_sources_meet_half_way() -> None:
    found = agreed_closes(np.array([0.65, 1.0]), np.array([[1.0, 0.99]]), 0.02)
    np.testing.assert_allclose(found, [0.825, 1.0], rtol=1e-15)


def test_a_wrong_print_elsewhere_changes_nothing_by_much() -> None:
    found = agreed_closes(np.array([1.0]), np.array([[1.001], [0.65]]), 0.02)
    np.testing.assert_allclose(found, [1.0])


def test_a_missing_bar_stays_missing() -> None:
    found = agreed_closes(np.array([NAN, 1.0]), np.array([[1.0, NAN], [2.0, NAN]]), 0.02)
    np.testing.assert_array_equal(found, [NAN, 1.0])
    np.testing.assert_array_equal(agreed_closes(np.empty(0), np.empty((2, 0)), 0.02), [])


@pytest.mark.parametrize("sources", [1, 2, 3, 4])
def test_the_median_is_the_one_of_rule_7(sources: int) -> None:
    rng = np.random.default_rng(sources)
    for _ in range(50):
        closes = np.exp(rng.normal(0, 0.03, sources + 1))
        market = MarketState(
            known_symbol=True,
            interval_s=3600.0,
            last_close_s=0.0,
            bars=1000,
            close=float(closes[0]),
            base_rates=(0.1, 0.05, 0.1, 0.05),
            long_run_var=(0.0, 0.0, 0.0, 0.0),
            horizons_s=(14400.0, 3600.0),
            other_closes=tuple(closes[1:].tolist()),
        )
        case = Inputs(Candidates(), market, Limits(), Overrides(), EngineState(), 0.0)
        after = feeds.apply(*open_case(case))
        found = agreed_closes(closes[:1], closes[1:, np.newaxis], Limits().feeds_degraded_ratio)[0]
        assert found == (after.close if after.mode == "degraded" else closes[0])
