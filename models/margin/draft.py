"""What passes from rule to rule: the answer as drafted so far, and what a rule is.

A rule is a pure function ``(case, draft) -> draft``. The case is what the decision was given, with its clock
settled; it never changes. The draft is the answer in the making, and what will be remembered of it. A rule
that has nothing to do returns the draft it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from models.margin.codec import is_pair
from models.margin.limits import Limits
from models.margin.types import RUNGS, VALUES, Health, Inputs, Rates, RuleTrace, is_number

#: The order in which rules apply; within a stage, the order in ``engine.RULES``.
STAGES: Final = ("validity", "choice", "band", "add-ons", "path", "overrides", "pairing", "bounds")

HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0


class Draft(NamedTuple):
    """The answer so far (a named tuple, which is made anew in less time than a dataclass).

    Attributes:
        standing: the rungs that may still answer, best first; ``cap`` always may.
        base_rates: those that are used.
        close: the newest close, the median of what the sources say; None where there is none.
        mode: how alive the feed is.
        hold: why no rate may fall now; empty where it may.
        urgent: why rates may rise at once (rule 12); empty where they may not.
        rung, required, rates, var, model_version, valid_until_s: the answer, once a rung is chosen.
        again: the rung was refused as a whole; choose once more among those that stand.
        traces: what the rules did so far.
        asked: what rule 11 was given, where it waits.
        out_of_band ... health: what ``EngineState`` will remember under that name.
    """

    standing: tuple[str, ...]
    base_rates: Rates
    close: float | None
    mode: str
    hold: str
    urgent: str
    rung: str
    required: Rates
    rates: Rates
    var: Rates | None
    model_version: str
    valid_until_s: float
    again: bool
    traces: tuple[RuleTrace, ...]
    asked: Rates | None
    out_of_band: tuple[int, float]
    breaker_until_s: float | None
    resumed_s: float | None
    waiting_s: tuple[float | None, float | None, float | None, float | None]
    buffer: Rates
    health: Health

    def note(self, rule: Rule, why: str) -> Draft:
        """Record what a rule did that moved no rate."""
        trace = RuleTrace(rule.number, rule.name, None, None, None, None, why)
        return self._replace(traces=(*self.traces, trace))

    def strike(self, rule: Rule, rungs: Sequence[str], why: str) -> Draft:
        """Take rungs off the ladder; those that do not stand are passed over in silence."""
        struck = [r for r in rungs if r in self.standing]
        if not struck:
            return self
        left = tuple(r for r in self.standing if r not in struck)
        return self._replace(standing=left).note(rule, f"{', '.join(struck)} refused: {why}")

    def holding(self, why: str) -> Draft:
        """Let nothing fall; the first reason stands."""
        return self if self.hold else self._replace(hold=why)

    def move(self, rule: Rule, rates: Sequence[float], whys: Sequence[str]) -> Draft:
        """Put these rates in place of the present ones, with a trace for each value that has a ``why``."""
        traces = [
            RuleTrace(rule.number, rule.name, *VALUES[i], self.rates[i], rates[i], why)
            for i, why in enumerate(whys)
            if why
        ]
        if not traces:
            return self
        long_initial, long_maintenance, short_initial, short_maintenance = rates
        moved = (long_initial, long_maintenance, short_initial, short_maintenance)
        return self._replace(rates=moved, traces=(*self.traces, *traces))


@dataclass(frozen=True)
class Rule:
    """One safety rule: its number in ``docs/safety.md``, its name, its stage, and the function that applies
    it.
    """

    number: int
    name: str
    stage: str
    apply: Callable[[Inputs, Draft], Draft]

    def __call__(self, case: Inputs, draft: Draft) -> Draft:
        return self.apply(case, draft)


def rule(number: int, name: str, stage: str) -> Callable[[Callable[[Inputs, Draft], Draft]], Rule]:
    """Make a function a rule. The ladder, which chooses the rung, is number 0."""
    if stage not in STAGES:
        raise ValueError(f"rule {number} names stage {stage!r}; it must be one of {STAGES}")

    def make(function: Callable[[Inputs, Draft], Draft]) -> Rule:
        return Rule(number, name, stage, function)

    return make


def is_worse(rung: str, than: str) -> bool:
    """Whether a rung lies further down the ladder."""
    return RUNGS.index(rung) > RUNGS.index(than)


def cap_rates(base_rates: Rates, limits: Limits) -> Rates:
    """The most that rule 3 allows: ``min(cap_rate, cap_multiplier x base)``."""
    most, times = limits.cap_rate, limits.cap_multiplier
    a, b, c, d = base_rates
    return min(most, times * a), min(most, times * b), min(most, times * c), min(most, times * d)


def known_interval_s(case: Inputs) -> float | None:
    """The bar interval in seconds; None where it is not within 0 to a day."""
    interval_s = case.market.interval_s
    return interval_s if is_number(interval_s) and 0 < interval_s <= DAY_S else None


def known_horizons_s(case: Inputs) -> tuple[float, float] | None:
    """The horizons of initial and of maintenance margin in seconds; None where they are not two numbers above
    0.
    """
    horizons_s = case.market.horizons_s
    return horizons_s if is_pair(horizons_s) else None


def validity_s(interval_s: float, limits: Limits, *, bars: float | None = None) -> float:
    """How long a forecast is good: ``forecast_valid_bars`` bars or ``forecast_valid_s``, the longer.

    A forecast of the rules rung takes ``bars=limits.dead_after_bars``: it exists to answer over a feed that
    is silent, and rule 6 ends it.
    """
    return max((limits.forecast_valid_bars if bars is None else bars) * interval_s, limits.forecast_valid_s)
