"""The impulse responses: their definitions on paths by hand, and what the engine's must be like."""

import math

import numpy as np
import pytest

from models.margin.limits import Limits
from training.margin.garch_requirement import fitted, losses_covered
from training.margin.impulse import (
    AFTER,
    BEFORE,
    BURNED,
    DOUBLED,
    ENGINE,
    EWMA,
    GARCH,
    INFORMED,
    JUMPED,
    OUTAGE_HOURS,
    PLAIN_LIMITER,
    SERIES,
    SHOCKS,
    SILENT,
    hours_to_settle,
    measures,
    responses,
)
from training.margin.scenarios.calm import calm

PATHS = 6
LIMITS = Limits()


@pytest.fixture(scope="module")
def found():
    return responses(PATHS, seed=3)


@pytest.fixture(scope="module")
def table(found):
    return measures(found, "maintenance").set_index(["shock", "series"])


class TestTheTimeToSettle:
    def test_of_a_lasting_shock_is_the_first_hour_with_nine_tenths_of_it(self) -> None:
        assert hours_to_settle(np.array([1.0, 1.5, 1.89, 1.91, 2.0]), 2.0) == 3
        assert math.isnan(hours_to_settle(np.array([1.0, 1.5, 1.89]), 2.0))

    def test_of_a_passing_shock_is_the_hour_in_which_a_tenth_is_left(self) -> None:
        assert hours_to_settle(np.array([1.0, 3.0, 2.0, 1.21, 1.2, 1.0]), 1.0) == 4
        assert math.isnan(hours_to_settle(np.array([1.0, 3.0, 2.0]), 1.0))

    def test_is_zero_where_nothing_moved(self) -> None:
        assert hours_to_settle(np.ones(5), 1.0) == 0


class TestResponses:
    def test_are_one_until_the_shock_and_the_same_each_time(self, found) -> None:
        before = found.hours <= 0
        assert found.hours[0] == -BEFORE
        assert found.hours[-1] == AFTER
        for key, response in found.response.items():
            assert response.shape == (PATHS, BEFORE + AFTER + 1), key
            assert (response[:, before] == 1).all(), key
        first = responses(1, seed=5)
        again = responses(1, seed=5)
        for key, response in first.response.items():
            np.testing.assert_array_equal(response, again.response[key])

    def test_there_is_one_of_every_series_to_every_shock_in_both_kinds(self, found) -> None:
        wanted = {(sh, se, k) for sh in SHOCKS for se in SERIES for k in ("initial", "maintenance")}
        assert set(found.response) == wanted
        assert all(np.isfinite(r).all() and (r > 0).all() for r in found.response.values())

    def test_need_a_path(self) -> None:
        with pytest.raises(ValueError, match="paths is 0"):
            responses(0)

    def test_of_ewma_to_a_doubling_is_that_of_its_weights(self, found) -> None:
        # After n hours the newest n squares count four times: with equal squares the response would be
        # sqrt(1 + 3 (1 - 0.94^n)) = 1.90 after 33 hours; it is exactly 2 once nothing calm is left.
        middle = found.middle(DOUBLED, EWMA, "maintenance")[BEFORE:]
        assert middle[33] == pytest.approx(1.90, abs=0.08)
        assert middle[AFTER - 1] == pytest.approx(2.0, rel=1e-6)


class TestTheEngine:
    def test_overshoots_a_doubling_no_more_than_what_it_answers_to(self, table) -> None:
        bare = table.loc[(DOUBLED, EWMA), "overshoot"]
        assert table.loc[(DOUBLED, ENGINE), "overshoot"] <= bare + LIMITS.publish_step
        # Whoever knows it sooner serves it sooner, and holds what is not worth a release.
        assert table.loc[(DOUBLED, INFORMED), "overshoot"] <= bare + LIMITS.release_ratio

    def test_has_nine_tenths_of_a_doubling_within_two_days_and_at_worst_hours_after_ewma(self, table) -> None:
        own = table.loc[(DOUBLED, ENGINE), "hours_to_90"]
        assert own <= 48
        assert own <= table.loc[(DOUBLED, EWMA), "hours_to_90"] + 12

    def test_is_quicker_with_a_champion_that_knows(self, table) -> None:
        for shock in (DOUBLED, BURNED, JUMPED):
            assert table.loc[(shock, INFORMED), "hours_to_90"] < table.loc[(shock, ENGINE), "hours_to_90"]

    def test_takes_no_larger_steps_than_its_requirement_to_a_doubling_and_a_jump(self, table) -> None:
        for shock in (DOUBLED, JUMPED):
            own, bare = (table.loc[(shock, series), "largest_step"] for series in (ENGINE, EWMA))
            assert own <= bare * 1.02

    def test_overreacts_to_a_jump_less_than_ewma_and_garch(self, table) -> None:
        own = table.loc[(JUMPED, ENGINE), "overshoot"]
        assert own < table.loc[(JUMPED, EWMA), "overshoot"] < table.loc[(JUMPED, GARCH), "overshoot"]

    def test_lets_nothing_fall_in_an_outage_and_rises_by_steps(self, found) -> None:
        for series in (ENGINE, INFORMED, PLAIN_LIMITER):
            rates = found.rates[SILENT, series, "maintenance"]
            silent = rates[:, BEFORE : BEFORE + OUTAGE_HOURS + 1]
            grown = silent[:, 1:] / silent[:, :-1]
            # The newest bar is still young in the first hour of silence; from then on nothing falls.
            assert (grown[:, 1:] >= 1).all(), series
            if series != INFORMED:  # which may step to what the rules engine requires
                assert (grown <= 1 + LIMITS.up_limit_1h + 1e-9).all(), series

    def test_goes_to_the_static_rate_by_what_an_hour_allows_once_the_feed_is_dead(self, found) -> None:
        rates = found.rates[SILENT, ENGINE, "maintenance"][:, BEFORE:]
        dead = int(LIMITS.dead_after_bars) + 1  # at that very age the feed is still stale
        static = rates[:, OUTAGE_HOURS]
        for hour in range(dead, OUTAGE_HOURS + 1):
            stepped = np.minimum((1 + LIMITS.up_limit_1h) * rates[:, hour - 1], static)
            np.testing.assert_allclose(rates[:, hour], stepped, rtol=1e-9)
        assert (rates[:, dead + 3] == static).all()

    def test_has_a_doubling_in_less_than_half_the_time_with_a_champion_that_knows(self, table) -> None:
        own, bare = (table.loc[(DOUBLED, series), "hours_to_90"] for series in (INFORMED, EWMA))
        assert own < bare / 2

    def test_is_back_from_an_outage_sooner_than_the_plain_limiter(self, table) -> None:
        assert table.loc[(SILENT, ENGINE), "hours_to_90"] <= OUTAGE_HOURS + 6
        own, plain = (table.loc[(SILENT, s), "hours_to_90"] for s in (ENGINE, PLAIN_LIMITER))
        assert own < plain


class TestGarch:
    def test_answers_in_proportion_where_its_omega_does_not_hold_it_back(self) -> None:
        # With omega 0 and no fixed part a doubling of every return doubles the forecast.
        returns = calm(1200, 3600.0, 1, hourly_volatility=0.005, paths=2).returns
        parameters = {"omega": 0.0, "alpha": 0.1, "gamma": 0.0, "beta": 0.9, "falls": 0.5}
        once, twice = (
            losses_covered(factor * returns, parameters, begins=1000, horizon=4, level=0.99)
            for factor in (1.0, 2.0)
        )
        np.testing.assert_allclose(twice[800:], 2 * once[800:], rtol=1e-12)

    def test_keeps_its_last_number_while_nothing_is_known(self) -> None:
        returns = calm(1200, 3600.0, 2, hourly_volatility=0.005, paths=1).returns
        returns[1100:1110] = np.nan
        parameters = {"omega": 2.5e-7, "alpha": 0.09, "gamma": 0.0, "beta": 0.9, "falls": 0.5}
        covered = losses_covered(returns, parameters, begins=1000, horizon=1, level=0.99)[:, 0]
        assert (covered[1100:1110] == covered[1099]).all()
        assert covered[1110] != covered[1099]

    def test_says_so_where_it_cannot_be_fitted(self) -> None:
        with pytest.raises(ValueError, match="no maximum on 1000 returns"):
            fitted(np.zeros(1000))


def test_calm_has_its_volatility_in_the_long_run_and_refuses_none() -> None:
    made = calm(4000, 900.0, 4, hourly_volatility=0.006, paths=20)
    assert made.returns.std() * 2 == pytest.approx(0.006, rel=0.1)
    with pytest.raises(ValueError, match="must all be above 0"):
        calm(10, 900.0, 4, hourly_volatility=0.0)
