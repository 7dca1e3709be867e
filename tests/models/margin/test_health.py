"""Rule 19: a model keeps its rung by being right, live. Bars are hourly, the maintenance horizon is an hour,
the maintenance VaR 4 %. Yellow begins at two breaches of the last four forecasts, red at three.
"""

import math

import pytest

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import Candidates, EngineState, Health, Judged, Overrides

ASKS = (0.20, 0.10, 0.20, 0.10)
HOUR = 3600.0
FOUR = Limits(health_window=4, health_yellow_breaches=2, health_red_breaches=3)
VAR = (0.08, 0.04, 0.08, 0.04)


def after(fall: float) -> float:
    """The close after a log fall from 100."""
    return 100.0 * math.exp(-fall)


@pytest.fixture
def live(step, candidate, market, t0):
    """Hourly decisions over closes; yields (rung, health) after each. The rules engine asks for the same."""

    def make(*closes, state=None, limits=FOUR, start=0):
        seen = []
        for hour, close in enumerate(closes, start):
            now_s = t0 + HOUR * hour
            given = candidate(ASKS, made_at_s=now_s), candidate(ASKS, "rules", made_at_s=now_s)
            decision, state = step(
                *given, now_s=now_s, state=state, seen=market(now_s, close=close), limits=limits
            )
            seen.append((decision, state))
        return seen

    return make


def test_a_forecast_is_put_on_trial_and_judged_at_its_horizon(live, t0) -> None:
    [(_, first), (_, second)] = live(100.0, after(0.041))
    assert first.health == Health(0, ((), ()), Judged(t0, 100.0, (0.04, 0.04)), False)
    assert second.health.judged == 1
    assert second.health.breaches == ((1,), ())
    # The next one waits at once: one after the other, without a gap.
    assert second.health.waiting == Judged(t0 + HOUR, after(0.041), (0.04, 0.04))


@pytest.mark.parametrize(
    ("close", "breaches"),
    [
        (after(0.041), ((1,), ())),
        (after(0.039), ((), ())),
        (after(-0.039), ((), ())),
        (after(-0.041), ((), (1,))),
        (100.0, ((), ())),
    ],
)
def test_each_side_is_judged_by_its_own_maintenance_var(live, close, breaches) -> None:
    assert live(100.0, close)[-1][1].health.breaches == breaches


def test_a_loss_of_exactly_the_var_is_no_breach(step, candidate, market, t0) -> None:
    loss = math.log(80.0) - math.log(100.0)
    for var, breaches in ((-loss, ()), (math.nextafter(-loss, 0), (1,))):
        state = EngineState(health=Health(waiting=Judged(t0 - HOUR, 100.0, (var, 0.04))))
        _, state = step(candidate(ASKS), state=state, seen=market(close=80.0))
        assert state.health.breaches[0] == breaches


def test_yellow_holds_the_rates_and_red_strikes_the_models(live) -> None:
    fall = [100.0 * 0.95**n for n in range(6)]
    seen = live(*fall)
    assert [len(s.health.breaches[0]) for _, s in seen] == [0, 1, 2, 3, 4, 4]  # the window holds four
    assert [d.rung for d, _ in seen] == ["champion"] * 3 + ["rules"] * 3
    assert [s.health.distrusted for _, s in seen] == [False] * 3 + [True] * 3
    whys = [[t.why for t in d.traces if t.rule == 19] for d, _ in seen]
    assert whys == [
        [],
        [],
        ["yellow: 2 long breaches in the last 2 forecasts"],
        [
            "red: 3 long breaches in the last 3 forecasts",
            "champion refused: 3 long breaches in the last 3 forecasts",
        ],
        [
            "red: 4 long breaches in the last 4 forecasts",
            "champion refused: 4 long breaches in the last 4 forecasts",
        ],
        [
            "red: 4 long breaches in the last 4 forecasts",
            "champion refused: 4 long breaches in the last 4 forecasts",
        ],
    ]


def test_nothing_falls_while_yellow(step, candidate, served, t0) -> None:
    state = served(ASKS, health=Health(10, ((), (9, 10))))
    low = candidate((0.10, 0.05, 0.10, 0.05), made_at_s=t0 + HOUR)
    decision, _ = step(low, now_s=t0 + HOUR, state=state, limits=FOUR)
    assert decision.served_rates == ASKS
    assert decision.traces[-1].why == "does not fall: 2 short breaches in the last 4 forecasts"
    one = served(ASKS, health=Health(10, ((9,), (10,))))  # one a side: still green
    assert step(low, now_s=t0 + HOUR, state=one, limits=FOUR)[0].served_rates[0] < 0.20


def test_red_strikes_the_last_good_model_too(step, candidate) -> None:
    given = candidate(ASKS), candidate(ASKS, "last_good"), candidate(ASKS, "rules")
    decision, _ = step(*given, state=EngineState(health=Health(4, ((1, 2, 3), ()))), limits=FOUR)
    assert decision.rung == "rules"


def test_red_stays_until_the_count_is_green_again(live) -> None:
    state = EngineState(health=Health(4, ((2, 3, 4), ()), None, True))
    seen = live(*[100.0] * 5, state=state)
    # Each hour a forecast is judged and found good; 2 leaves with the sixth, 3 with the seventh: then green.
    assert [(len(s.health.breaches[0]), s.health.distrusted, d.rung) for d, s in seen] == [
        (3, True, "rules"),
        (3, True, "rules"),
        (2, True, "rules"),
        (1, False, "champion"),
        (0, False, "champion"),
    ]
    assert next(t.why for t in seen[2][0].traces if t.rule == 19).startswith("red: 2 long breaches")


def test_more_breaches_than_red_are_red_too(step, candidate) -> None:
    for distrusted in (False, True):
        state = EngineState(health=Health(4, ((1, 2, 3, 4), ()), None, distrusted))
        decision, after = step(candidate(ASKS), candidate(ASKS, "rules"), state=state, limits=FOUR)
        assert (decision.rung, after.health.distrusted) == ("rules", True)


def test_between_yellow_and_red_distrust_stays(step, candidate) -> None:
    limits = Limits(health_window=9, health_yellow_breaches=2, health_red_breaches=4)
    for distrusted, rung in ((True, "rules"), (False, "champion")):
        state = EngineState(health=Health(9, ((7, 8, 9), ()), None, distrusted))
        assert step(candidate(ASKS), candidate(ASKS, "rules"), state=state, limits=limits)[0].rung == rung


def test_what_is_older_than_the_window_is_dropped(step, candidate, market, t0) -> None:
    waiting = Judged(t0 - HOUR, 100.0, (0.04, 0.04))
    state = EngineState(health=Health(8, ((1, 2, 5, 6), (8,)), waiting))
    _, after = step(candidate(ASKS), state=state, seen=market(close=90.0), limits=FOUR)
    assert (after.health.judged, after.health.breaches) == (9, ((6, 9), (8,)))


def test_each_sides_maintenance_var_is_put_on_trial(step, candidate) -> None:
    _, state = step(candidate(ASKS, var=(0.5, 0.04, 0.6, 0.07)))
    assert state.health.waiting.var == (0.04, 0.07)


def test_two_breaches_are_yellow_unless_red_came_before(live) -> None:
    yellow = EngineState(health=Health(4, ((3, 4), ()), None, False))
    assert live(100.0, state=yellow)[0][0].rung == "champion"


def test_the_champion_is_judged_while_it_is_struck(live) -> None:
    state = EngineState(health=Health(4, ((2, 3, 4), ()), None, True))
    assert live(100.0, state=state)[0][1].health.waiting is not None


def test_a_new_version_goes_on_with_the_count(step, candidate) -> None:
    state = EngineState(health=Health(4, ((2, 3, 4), ()), None, True))
    given = candidate(ASKS, model_version="v2"), candidate(ASKS, "rules")
    assert step(*given, state=state, limits=FOUR)[0].rung == "rules"


@pytest.mark.parametrize(
    ("bar_s", "judged", "waits"),
    [
        (HOUR - 1, 0, True),  # not yet
        (HOUR, 1, False),
        (2 * HOUR - 1, 1, False),  # late, by less than a bar
        (2 * HOUR, 0, False),  # in a hole of the feed: not judged
        (3 * HOUR, 0, False),
        (-1.0, 0, False),  # the bars went back behind the forecast
        (0.0, 0, True),
    ],
)
def test_when_a_forecast_is_judged(step, candidate, market, t0, bar_s, judged, waits) -> None:
    waiting = Judged(t0, 100.0, (0.04, 0.04))
    state = EngineState(health=Health(waiting=waiting))
    late = candidate(ASKS, made_at_s=t0 - 7000)  # not of this bar: takes no place on trial
    _, state = step(late, now_s=t0 + bar_s, state=state, seen=market(t0 + bar_s))
    assert (state.health.judged, state.health.waiting) == (judged, waiting if waits else None)


@pytest.mark.parametrize("change", [{"close": None}, {"interval_s": None}])
def test_a_forecast_whose_outcome_is_unknown_is_not_judged(step, candidate, market, t0, change) -> None:
    state = EngineState(health=Health(waiting=Judged(t0 - HOUR, 100.0, (0.04, 0.04))))
    _, state = step(candidate(ASKS, made_at_s=t0 - 60), state=state, seen=market(**change))
    assert state.health == Health()


@pytest.mark.parametrize(
    "change",
    [
        {"horizons_s": None},
        {"horizons_s": ()},
        {"horizons_s": (HOUR,)},
        {"horizons_s": (HOUR, math.nan)},
        {"horizons_s": (HOUR, "1h")},
        {"horizons_s": (HOUR, 0.0)},
        {"last_close_s": None},
    ],
)
def test_without_a_horizon_or_a_bar_it_waits(step, candidate, market, t0, change) -> None:
    waiting = Health(waiting=Judged(t0 - HOUR, 100.0, (0.04, 0.04)))
    _, state = step(candidate(ASKS), state=EngineState(health=waiting), seen=market(**change))
    assert state.health == waiting


@pytest.mark.parametrize(
    "change",
    [{"made_at_s": 1.0}, {"var": (0.1, math.nan, 0.1, 0.1)}, {"var": None}],
)
def test_what_is_not_put_on_trial(step, candidate, change) -> None:
    _, state = step(candidate(ASKS, **change))
    assert state.health == Health()


def test_nothing_is_put_on_trial_without_a_champion_a_close_or_a_bar(step, candidate, market) -> None:
    assert step(candidate(ASKS, "last_good"))[1].health == Health()
    assert step(candidate(ASKS), seen=market(close=None))[1].health == Health()
    assert step(candidate(ASKS), seen=market(last_close_s=None))[1].health == Health()


def test_the_defaults(step, candidate) -> None:
    rungs = []
    for count in (7, 8, 9, 10):
        state = EngineState(health=Health(250, ((), tuple(range(1, count + 1)))))
        decision, _ = step(candidate(ASKS), candidate(ASKS, "rules"), state=state)
        rungs.append((decision.rung, bool([t for t in decision.traces if t.rule == 19])))
    assert rungs == [("champion", False), ("champion", True), ("champion", True), ("rules", True)]


@pytest.mark.parametrize(
    ("drift", "held", "rung"),
    [
        (0.0, False, "champion"),
        (-1.0, False, "champion"),
        (math.nextafter(0.25, 0), False, "champion"),
        (0.25, True, "champion"),
        (math.nextafter(0.5, 0), True, "champion"),
        (0.5, True, "last_good"),
        (9.0, True, "last_good"),
        (math.nan, True, "last_good"),
        (math.inf, True, "last_good"),
        (None, True, "last_good"),
        ("far", True, "last_good"),
    ],
)
def test_drift_of_the_inputs(answer, candidate, served, t0, drift, held, rung) -> None:
    now_s = t0 + HOUR
    low = (0.10, 0.05, 0.10, 0.05)
    given = candidate(low, made_at_s=now_s, drift=drift), candidate(low, "last_good", made_at_s=now_s)
    decision = answer(*given, now_s=now_s, state=served(ASKS))
    assert (decision.rung, decision.served_rates == ASKS) == (rung, held)
    whys = [t.why for t in decision.traces if t.rule == 19]
    shown = f"{drift:.2f}" if isinstance(drift, float) and math.isfinite(drift) else repr(drift)
    assert whys[:1] == (
        [f"the inputs have drifted by {shown} from what the model was fitted on"] if held else []
    )
    assert len(whys) == held + (rung == "last_good")


def test_drift_lasts_as_long_as_it_lasts(step, candidate, t0) -> None:
    _, state = step(candidate(ASKS, drift=9.0))
    now_s = t0 + HOUR
    assert step(candidate(ASKS, made_at_s=now_s), now_s=now_s, state=state)[0].rung == "champion"


def test_a_thing_that_is_no_candidate_has_no_drift(market, t0) -> None:
    decision, _ = decide(Candidates(champion="x"), market(), Limits(), Overrides(), EngineState(), t0)
    assert decision.rung == "static"
    assert decision.traces[0].why == "champion refused: 'x' is not a candidate"


def test_a_clock_that_jumps_back_leaves_the_times_of_bars(step, candidate, served, t0) -> None:
    waiting = Health(waiting=Judged(t0 + 600, 100.0, (0.04, 0.04)))
    _, state = step(
        candidate(ASKS), now_s=t0, state=served(ASKS, t0 + 900, health=waiting, out_of_band=(1, t0))
    )
    assert state.out_of_band == (1, t0)
    assert state.health.judged == 0
