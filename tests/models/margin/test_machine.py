"""Any history at all (requirements, feeds, clocks, orders, positions, restarts, junk in any field): what must
hold of every answer holds.

The machine keeps a record of its own of what was served and when, in full, and checks each answer against
that record and against the traces: where a rate moved faster than rule 10 lets it, or fell while nothing may
fall, the trace has to name the rule that did it.
"""

import json
import math
from dataclasses import fields, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.overrides import Override, Overrides
from models.margin.types import (
    RUNGS,
    VALUES,
    ZEROS,
    Candidate,
    Candidates,
    Decision,
    EngineState,
    Inputs,
    MarketState,
    Rates,
    is_rates,
)

T0 = 1_700_000_000.0
HOUR, DAY = 3600.0, 86400.0
#: Relative room for rounding.
ROOM = 1e-9

NO_NUMBERS = (math.nan, math.inf, -math.inf, 10**400, None, "x", "", True, False, (), [], {}, 1j, 1.7e12)
EDGES = (0.0, -0.0, -1.0, 1e308, -1e308, 5e-324, 1e-300, 1e12)
NO_PAIRS = ((0.1,), (0.1, 0.2), (math.nan, 0.1), (0.0, 0.0), (1e308, 1e308), ((), None))
NO_RATES = (*((v,) * 4 for v in (math.nan, 0.0, math.inf, 1e308, 5e-324, "a")), [0.1] * 4, (0.1, 0.2) * 2)
NO_BOOKS = (
    (((0.1, 0.1),), [(0.1, math.nan)]),
    (((math.nan, math.inf),), ((0.1, -1.0), (0.2, 1e308), (0.2, 1e308))),
    (((1, 2, 3), "ab", None), ()),
)
JUNK = st.sampled_from([*NO_NUMBERS, *EDGES, *NO_PAIRS, *NO_RATES, *NO_BOOKS])
LIMITS = st.sampled_from(
    [
        Limits(),
        Limits(),
        Limits(release_ratio=0.0, fall_after_s=6 * HOUR, down_limit_1h=0.05),
        Limits(release_ratio=0.0, publish_step=0.0, maintenance_delay_s=HOUR, floor_of_base=0.0),
        Limits(buffer_ratio=0.25, buffer_build_s=4 * HOUR, fall_after_s=HOUR, memory_step_s=3600.0),
        Limits(health_window=4, health_yellow_breaches=1, health_red_breaches=2, cap_rate=0.3),
        Limits(impact_budget=0.0, publish_step=0.5, up_limit_1h=0.0, up_limit_24h=0.0, down_limit_1h=0.99),
        Limits(floor_of_base=1.0, floor_scale=1.0, static_stress_factor=10.0, resume_grace_s=DAY),
        Limits(band_strikes=1, breaker_s=DAY, uncertainty_surcharge=10.0),
    ]
)
TIMES = st.sampled_from([0.0, 1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 3600.0, 7200.0, 50000.0, 9e4])
LEVEL = st.one_of(
    st.sampled_from([0.05, 0.08, 0.1, 0.1, 0.12, 0.2, 0.4, 0.9, 3.0]),
    st.floats(1e-3, 2.0),
    st.floats(1e-3, 2.0),
    st.floats(5e-324, 1e308),
)
PART = st.sampled_from([0.3, 0.5, 0.5, 0.7, 1.0])
BOOKS = st.sampled_from(
    [(), ((0.06, 1.0), (0.1, 5.0), (0.3, 1.0)), ((0.11, 1.0), (0.12, 1.0), (0.5, 90.0))],
)


#: A sound feed of a contract in no trouble.
QUIET = MarketState(
    known_symbol=True,
    interval_s=HOUR,
    last_close_s=T0,
    bars=1000,
    close=100.0,
    base_rates=(0.1, 0.05, 0.1, 0.05),
    long_run_var=ZEROS,
    horizons_s=(14400.0, 3600.0),
    extreme_losses=(0.1, 0.1),
)


@st.composite
def four(draw: st.DrawFn) -> Rates:
    """Rates in order (and now and then not)."""
    long, short = draw(LEVEL), draw(LEVEL)
    rates = (long, long * draw(PART) or 5e-324, short, short * draw(PART) or 5e-324)
    return rates if draw(st.integers(0, 15)) else (rates[1], rates[0], rates[2], rates[3])


@st.composite
def rung(draw: st.DrawFn, name: str, bar_s: float, calm: bool) -> Candidate | None:
    if not calm and not draw(st.integers(0, 2)):
        return None
    made = Candidate(
        name,
        draw(four()),
        draw(st.sampled_from([(0.08, 0.04, 0.08, 0.04), (0.08, 0.04, 0.08, 0.04), (1e-6,) * 4, (0.5,) * 4])),
        bar_s,
        bar_s + 7200.0,
        draw(st.sampled_from(["v1", "v2"])),
        draw(st.sampled_from([None, (0.1, 0.1), (0.01, 0.3)])),
    )
    if calm:
        return made
    made_at_s = bar_s - draw(st.sampled_from([0.0, 0.0, 3600.0, 9000.0, -5000.0]))
    made = replace(
        made,
        made_at_s=made_at_s,
        valid_until_s=made_at_s + draw(st.sampled_from([7200.0, 60.0, 1e6])),
        confidence=draw(st.sampled_from([1.0, 0.9, 0.0])),
        drift=draw(st.sampled_from([0.0, 0.0, 0.3, 0.6])),
    )
    return _spoiled(draw, made, 5)


@st.composite
def market(draw: st.DrawFn, now_s: float, calm: bool) -> MarketState:
    close = 100.0 * math.exp(draw(st.sampled_from([0.0, 0.0, 0.01, -0.01, 0.05, -0.05])))
    made = MarketState(
        known_symbol=True,
        interval_s=draw(st.sampled_from([3600.0, 3600.0, 900.0, 60.0])),
        last_close_s=now_s,
        bars=1000,
        close=close,
        base_rates=(0.1, 0.05, 0.1, 0.05),
        long_run_var=(0.06, 0.03, 0.05, 0.02),
        horizons_s=(14400.0, 3600.0),
        extreme_losses=(0.1, 0.15),
        stressed_rates=draw(st.sampled_from([ZEROS, (0.3, 0.15, 0.3, 0.15), (0.1, 0.4, 2.0, 1.0)])),
    )
    if calm:
        return made
    rise = draw(st.sampled_from([0.0, 0.0, 0.3, -0.3, -9.0]))
    others = draw(st.lists(st.sampled_from([1.0, 1.0, 1.01, 0.97, 1.1, 0.5]), max_size=3))
    age = draw(st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.5, 7.0, -2.0]))
    made = replace(
        made,
        known_symbol=bool(draw(st.integers(0, 20))),
        last_close_s=now_s - age * made.interval_s,
        bars=draw(st.sampled_from([1000, 1000, 1000, 300, 10])),
        close=close * math.exp(rise),
        base_rates=draw(st.sampled_from([made.base_rates, (0.2, 0.1, 0.04, 0.04), (1.0,) * 4])),
        long_run_var=draw(st.sampled_from([ZEROS, made.long_run_var, (0.9, 0.3, 0.1, 0.2)])),
        horizons_s=draw(st.sampled_from([(14400.0, 3600.0), (14400.0, 3600.0), (3600.0, 7200.0)])),
        other_closes=tuple(close * other for other in others),
        last_return=draw(st.sampled_from([None, 0.0, 0.01, -0.2, 0.2])),
        positions=(draw(BOOKS), draw(BOOKS)),
    )
    return _spoiled(draw, made, 2)


def _spoiled(draw: st.DrawFn, made: Any, one_in: int) -> Any:
    """Now and then with junk in one of its fields."""
    if draw(st.integers(0, one_in)):
        return made
    field = draw(st.sampled_from([f.name for f in fields(made)]))
    return replace(made, **{field: draw(JUNK)})


@st.composite
def sights(draw: st.DrawFn, now_s: float) -> tuple[Candidates, MarketState]:
    """What one decision sees: every other time a feed and forecasts in order."""
    calm = draw(st.booleans())
    seen = draw(market(now_s, calm))
    known = isinstance(seen.last_close_s, float) and abs(seen.last_close_s) < 1e11
    bar_s = seen.last_close_s if known else now_s
    given = {name: draw(rung(name, bar_s, calm)) for name in RUNGS[:3]}
    if not draw(st.integers(0, 40)):
        given[draw(st.sampled_from(RUNGS[:3]))] = draw(JUNK)
    return Candidates(**given), seen


@st.composite
def orders(draw: st.DrawFn, now_s: float) -> Override:
    kind = draw(st.sampled_from(["freeze", "floor", "cap", "rung", "kill"]))
    return Override(
        "o",
        kind,
        "because",
        now_s + draw(st.sampled_from([-1.0, 1.0, 600.0, 4000.0, 1e6])),
        draw(st.sampled_from([1e-9, 0.5, 1.0, 3.0, 20.0, 1e300])) if kind in ("floor", "cap") else None,
        draw(st.sampled_from(["last_good", "rules", "static", "cap"])) if kind == "rung" else None,
    )


class Engine(RuleBasedStateMachine):
    """One contract and its history."""

    def __init__(self) -> None:
        super().__init__()
        self.state = EngineState()
        self.now_s = T0
        self.orders: tuple[Override, ...] = ()
        self.record: list[tuple[float, Rates]] = []

    @initialize(limits=LIMITS)
    def begin(self, limits: Limits) -> None:
        self.limits = limits

    @rule(order=st.data())
    def give_order(self, order: st.DataObject) -> None:
        self.orders = (*self.orders[-2:], order.draw(orders(self.now_s)))

    @rule()
    def end_orders(self) -> None:
        self.orders = ()

    @rule(limits=LIMITS)
    def change_settings(self, limits: Limits) -> None:
        self.limits = limits

    @rule()
    def restart(self) -> None:
        text = json.dumps(self.state.to_json(), allow_nan=False)
        again = EngineState.from_json(json.loads(text))
        assert again == self.state
        self.state = again

    @rule(sight=st.data(), passed_s=TIMES)
    def decide(self, sight: st.DataObject, passed_s: float) -> None:
        self.now_s += passed_s
        self._decide(*sight.draw(sights(self.now_s)), self.now_s)

    @rule(
        answers=st.sampled_from(RUNGS[:3]),
        passed_s=st.sampled_from([60.0, 600.0, 1800.0, 3600.0, 3600.0]),
        levels=st.lists(st.sampled_from([0.06, 0.1, 0.15, 0.3, 0.6, 0.9]), min_size=2, max_size=8),
        shock=st.sampled_from([0.0, 0.0, -0.2, 0.2]),
        apart=st.sampled_from([1.0, 1.0, 1.0, 1.05]),
    )
    def a_quiet_stretch(
        self, answers: str, passed_s: float, levels: list[float], shock: float, apart: float
    ) -> None:
        """A sound feed and one rung that asks for one level after the other: long ways up and down. The first
        bar may be a shock; one of three sources may differ.
        """
        for n, level in enumerate(levels):
            self.now_s += passed_s
            need = (level, level / 2, level, level / 2)
            made = Candidate(answers, need, (0.9,) * 4, self.now_s, self.now_s + 7200.0, "v")
            seen = replace(
                QUIET,
                last_close_s=self.now_s,
                last_return=0.0 if n else shock,
                other_closes=(100.0, 100.0 * apart),
            )
            self._decide(Candidates(**{answers: made}), seen, self.now_s)

    @rule(sight=st.data(), jump_s=st.sampled_from([1.0, 600.0, 3600.0, 40000.0, 1e6]))
    def clock_jumps_back(self, sight: st.DataObject, jump_s: float) -> None:
        self.now_s -= jump_s
        self._decide(*sight.draw(sights(self.now_s)), self.now_s)

    @rule(sight=st.data(), clock=JUNK)
    def clock_fails(self, sight: st.DataObject, clock: object) -> None:
        if isinstance(clock, float) and abs(clock) < 1e12:  # a time, if a strange one
            return
        self._decide(*sight.draw(sights(self.now_s)), clock)

    def _decide(self, candidates: Candidates, seen: MarketState, now_s: object) -> None:
        before = self.state
        given = Inputs(candidates, seen, self.limits, Overrides(self.orders), before, now_s)
        decision, self.state = decide(*given.arguments())
        self._keep(decision)
        Check(given, decision, self.state, self.record).all()

    def _keep(self, decision: Decision) -> None:
        """Into the record; where the clock went back, all of it goes back by as much."""
        now_s = decision.decided_at_s
        if self.record and now_s < self.record[-1][0]:
            jump_s = self.record[-1][0] - now_s
            self.record = [(time_s - jump_s, rates) for time_s, rates in self.record]
        self.record.append((now_s, decision.served_rates))

    @invariant()
    def remembers_what_is_in_force(self) -> None:
        assert (self.state.rates is None) == (not self.record)
        if self.record:
            assert self.state.rates == self.record[-1][1] == self.state.served[-1].rates


class Check:
    """What must hold of one answer, given what it saw and the record that ends with it."""

    def __init__(
        self,
        given: Inputs,
        decision: Decision,
        after: EngineState,
        record: list[tuple[float, Rates]],
    ) -> None:
        self.given, self.limits, self.decision, self.after = given, given.limits, decision, after
        self.record, self.before = record, given.state
        self.now_s = decision.decided_at_s
        self.killed = bool(given.overrides.standing("kill", self.now_s))

    def all(self) -> None:
        self.bounded()
        self.replayed()
        self.explained()
        if self.before.rates is not None:
            for i in range(len(VALUES)):
                self.rises_no_faster(i)
                self.falls_no_faster(i)
        if self.killed:
            self.serves_static()

    def moved_by(self, value: int, *numbers: int) -> bool:
        """Whether a rule of these numbers moved the value, by its trace."""
        return any(
            (t.side, t.kind) == VALUES[value] and t.rule in numbers and t.before != t.after
            for t in self.decision.traces
        )

    def floor(self, value: int) -> float:
        known = self.given.market.long_run_var
        normal = known if is_rates(known) else (0.0,) * 4
        var = normal[value] if value % 2 else max(normal[value], normal[value + 1])
        return max(self.limits.floor_of_base * self.decision.base_rates[value], self.limits.floor_scale * var)

    def cap(self, value: int) -> float:
        return min(self.limits.cap_rate, self.limits.cap_multiplier * self.decision.base_rates[value])

    def bounded(self) -> None:
        d = self.decision
        for i, rate in enumerate(d.served_rates):
            assert math.isfinite(rate)
            assert rate > 0
            assert min(self.floor(i), self.cap(i)) <= rate <= self.cap(i)
            assert 0 < d.base_rates[i] <= max(self.limits.cap_rate, max(self.before.base_rates or (0.0,)))
            assert 0 < d.required_rates[i] < math.inf
            assert 0 < d.multipliers[i] <= self.limits.cap_multiplier
        assert d.served_rates[0] >= d.served_rates[1]
        assert d.served_rates[2] >= d.served_rates[3]
        assert d.rung in RUNGS
        assert d.valid_until_s >= self.now_s

    def replayed(self) -> None:
        text = json.dumps(self.decision.to_json(), allow_nan=False)
        again, state = decide(*Inputs.from_json(json.loads(text)["inputs"]).arguments())
        assert again.to_json(with_inputs=False) == self.decision.to_json(with_inputs=False)
        assert state == self.after

    def explained(self) -> None:
        """Where what is served is not what was required, a trace says which rule moved it."""
        d = self.decision
        for i, (rate, required) in enumerate(zip(d.served_rates, d.required_rates, strict=True)):
            if rate != required:
                assert self.moved_by(i, *range(20)), (VALUES[i], required, rate)
        assert all(t.why for t in d.traces)

    def rises_no_faster(self, i: int) -> None:
        rate, (_, in_force) = self.decision.served_rates[i], self.record[-2]
        if rate <= in_force[i]:
            return
        ceiling = min(
            self.lowest(i, HOUR) * (1 + self.limits.up_limit_1h),
            self.lowest(i, DAY) * (1 + self.limits.up_limit_24h),
        )
        if rate <= ceiling * (1 + ROOM):
            return
        side, kind = VALUES[i]
        at_once = any(
            (t.rule, t.side, t.kind) == (10, side, kind) and t.why.startswith("rises at once")
            for t in self.decision.traces
        )
        assert at_once or self.moved_by(i, 2, 17) or rate <= self.need(i), (VALUES[i], ceiling, rate)

    def need(self, i: int) -> float:
        """What the rules engine requires, where it stands."""
        whys = (t.why.partition(" refused: ") for t in self.decision.traces)
        refused = any(says and "rules" in rungs for rungs, says, _ in whys)
        rules = self.given.candidates.rules
        if refused or not isinstance(rules, Candidate):
            return 0.0
        return max(rules.requirement[i], 0.0 if i % 2 else rules.requirement[i + 1])

    def falls_no_faster(self, i: int) -> None:
        rate, (last_s, in_force) = self.decision.served_rates[i], self.record[-2]
        if rate >= in_force[i] or self.moved_by(i, 3, 17):
            return
        d, limits = self.decision, self.limits
        assert d.mode == "fresh"
        assert d.rung != "last_good"
        assert RUNGS.index(d.rung) <= RUNGS.index(self.before.rung)
        assert self.after.breaker_until_s is None
        assert not any(t.rule == 7 or (t.rule == 19 and " refused: " not in t.why) for t in d.traces)
        longest_s = max(HOUR, self.given.market.interval_s)
        an_hour = 1 - limits.down_limit_1h
        factor = an_hour ** (min(self.now_s - last_s, longest_s) / HOUR)
        stood_s, least = min(self.now_s - self.since_s(i), longest_s), 1 - limits.publish_step
        if an_hour ** (stood_s / HOUR) <= least * (1 + ROOM):
            factor = min(factor, least)
        assert rate >= in_force[i] * factor * (1 - ROOM), (VALUES[i], in_force[i], rate, factor)

    def lowest(self, i: int, window_s: float) -> float:
        """The lowest in force at any time of the window before this answer."""
        begins_s, lowest = self.now_s - window_s, math.inf
        for time_s, rates in reversed(self.record[:-1]):
            lowest = min(lowest, rates[i])
            if time_s <= begins_s:
                break
        return lowest

    def since_s(self, i: int) -> float:
        """Since when the rate before this answer had been in force."""
        since_s, last = self.record[-2][0], self.record[-2][1][i]
        for time_s, rates in reversed(self.record[:-1]):
            if rates[i] != last:
                break
            since_s = time_s
        return since_s

    def serves_static(self) -> None:
        d = self.decision
        assert d.rung in ("static", "cap")
        for i, rate in enumerate(d.served_rates):
            assert rate == min(max(d.required_rates[i], self.floor(i)), self.cap(i))


TestEngine = Engine.TestCase
TestEngine.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
