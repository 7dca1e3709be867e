"""Two properties of single decisions, for any memory: what is served does not fall as the requirement rises,
and bad input that changes the rung lowers nothing. What holds over whole histories: ``test_machine.py``.
"""

import math
from dataclasses import fields, replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.overrides import Override, Overrides
from models.margin.types import (
    RUNGS,
    ZEROS,
    Candidate,
    Candidates,
    EngineState,
    MarketState,
    Open,
    Rates,
    Served,
)

T0 = 1_700_000_000.0
HOUR = 3600.0
BASE = (0.1, 0.05, 0.1, 0.05)
VAR = (0.08, 0.04, 0.08, 0.04)
SETTINGS = settings(
    deadline=None, max_examples=400, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
RATE = st.floats(0.03, 1.2) | st.floats(1e-9, 1e3)
#: Within the bounds, as what was served is.
IN_FORCE = st.floats(0.06, 1.0)
#: Rules 13, 14 and 18 are off: a buffer, a grace and a budget may serve less where more is asked for.
LIMITS = st.sampled_from(
    [
        Limits(),
        Limits(publish_step=0.5),
        Limits(release_ratio=0.0, publish_step=0.0, down_limit_1h=0.05),
        Limits(release_ratio=0.0, fall_after_s=6 * HOUR),
        Limits(maintenance_delay_s=HOUR, up_limit_1h=0.0),
        Limits(band_strikes=1000, band_high=1.0, band_low=1.0),
        Limits(uncertainty_surcharge=10.0, floor_of_base=1.0),
    ]
)
ORDERS = st.sampled_from(
    [
        *[()] * 5,
        (Override("o", "freeze", "because", 1e11),),
        (Override("o", "floor", "because", 1e11, 2.0),),
        (Override("o", "cap", "because", 1e11, 1.5),),
        (Override("o", "kill", "because", 1e11),),
    ]
)


def ordered(value: st.SearchStrategy[float]) -> st.SearchStrategy[Rates]:
    """Initial at least maintenance on both sides."""
    return st.tuples(value, value, value, value).map(
        lambda r: (max(r[0], r[1]), min(r[0], r[1]), max(r[2], r[3]), min(r[2], r[3]))
    )


@st.composite
def memories(draw: st.DrawFn, rung: str) -> EngineState:
    """What a contract may remember at ``T0``, its last answer from this rung."""
    ages = sorted(draw(st.lists(st.floats(0.0, 90000.0), min_size=1, max_size=4)), reverse=True)
    served = tuple(Served(T0 - age, draw(ordered(IN_FORCE)), draw(st.none() | ordered(RATE))) for age in ages)
    times = st.none() | st.floats(T0 - 2 * HOUR, T0)
    opened = Open(T0 - draw(st.floats(0.0, 15000.0)), 100.0, VAR, draw(st.none() | st.just((0.1, 0.1))))
    return EngineState(
        served=served,
        open=(opened,),
        rates=served[-1].rates,
        rung=rung,
        mode="fresh",
        model_version="v",
        valid_until_s=T0 + HOUR,
        base_rates=BASE,
        out_of_band=(draw(st.integers(0, 2)), T0 - HOUR),
        breaker_until_s=draw(st.sampled_from([None, None, T0 + 60])),
        waiting_s=draw(st.tuples(times, times, times, times)),
        since_s=draw(st.none() | st.just((T0 - 600,) * 4)),
    )


@st.composite
def markets(draw: st.DrawFn) -> MarketState:
    long_run = draw(st.sampled_from([ZEROS, (0.3, 0.1, 0.05, 0.02)]))
    return MarketState(
        known_symbol=True,
        interval_s=draw(st.sampled_from([60.0, HOUR])),
        last_close_s=T0 - draw(st.sampled_from([0.0, 0.0, 0.0, 100.0])),
        bars=1000,
        close=draw(st.sampled_from([100.0, 100.0, 95.0, 91.0, 80.0, 106.0])),
        base_rates=BASE,
        long_run_var=long_run,
        horizons_s=(4 * HOUR, HOUR),
        other_closes=draw(st.sampled_from([(), (), (100.0, 103.0)])),
        stressed_rates=draw(st.sampled_from([ZEROS, (0.3, 0.15, 0.2, 0.2)])),
    )


@SETTINGS
@given(st.data(), ordered(RATE), ordered(st.floats(0.0, 1.0) | st.just(0.0)), LIMITS, ORDERS)
def test_what_is_served_does_not_fall_as_the_requirement_rises(data, low, more, limits, orders) -> None:
    rung = data.draw(st.sampled_from(RUNGS[:3]))
    state, market = data.draw(memories(rung)), data.draw(markets())
    rules = data.draw(st.none() | ordered(RATE))
    confidence = data.draw(st.sampled_from([1.0, 1.0, 0.5]))
    high = tuple(a + b for a, b in zip(low, more, strict=True))

    def served_for(requirement: Rates):
        made = {rung: Candidate(rung, requirement, VAR, T0, T0 + 7200, "v", None, confidence)}
        if rules is not None and rung != "rules":
            made["rules"] = Candidate("rules", rules, VAR, T0, T0 + 7200, "v")
        return decide(Candidates(**made), market, limits, Overrides(orders), state, T0)[0]

    lower, higher = served_for(low), served_for(high)
    assume(lower.rung == higher.rung)
    assert not any(t.rule == 16 for d in (lower, higher) for t in d.traces)  # pairs that came in order
    assert all(a <= b for a, b in zip(lower.served_rates, higher.served_rates, strict=True))


JUNK = st.sampled_from(
    [math.nan, math.inf, -1.0, 0.0, 1e13, None, "x", (), (0.1,), (math.nan,) * 4, (0.0,) * 4, [0.1] * 4, {}]
)


@SETTINGS
@given(st.data(), ordered(RATE), ordered(RATE), LIMITS)
def test_a_change_of_rung_caused_by_bad_input_lowers_nothing(data, asks, rules, limits) -> None:
    """One or two fields of what arrives are spoiled, anywhere; if another rung answers, no rate falls."""
    state = data.draw(memories("champion"))
    market = data.draw(markets())
    made = {
        "champion": Candidate("champion", asks, VAR, T0, T0 + 7200, "v"),
        "last_good": Candidate("last_good", asks, VAR, T0, T0 + 7200, "v"),
        "rules": Candidate("rules", rules, VAR, T0, T0 + 7200, "v"),
    }
    for name in data.draw(st.lists(st.sampled_from([*made, "market"]), min_size=1, max_size=2, unique=True)):
        thing = market if name == "market" else made[name]
        spoilt = {data.draw(st.sampled_from([f.name for f in fields(thing)])): data.draw(JUNK)}
        if name == "market":
            market = replace(market, **spoilt)
        else:
            made[name] = replace(made[name], **spoilt)
    decision, _ = decide(Candidates(**made), market, limits, Overrides(), state, T0)
    if decision.rung != "champion":
        before = (min(r, cap) for r, cap in zip(state.rates, caps(decision, limits), strict=True))
        assert all(a >= b for a, b in zip(decision.served_rates, before, strict=True))


def caps(decision, limits: Limits) -> list[float]:
    return [min(limits.cap_rate, limits.cap_multiplier * base) for base in decision.base_rates]
