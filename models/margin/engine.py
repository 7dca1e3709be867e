"""The safety engine: candidates of each rung in, one bounded decision for the four values of a contract out.

``decide`` is a pure state machine. It reads no clock, no file and no global, so the same inputs give the same
decision to the bit, from the audit trail as in a backtest. Whatever arrives (NaN, infinity, a negative,
nothing at all) the answer lies between floor and cap, initial >= maintenance. Each rule's reason and source:
``docs/safety.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from models.margin.addons import band, buffer, uncertainty
from models.margin.bounds import cap, floor
from models.margin.breaker import breaker
from models.margin.codec import is_pair
from models.margin.draft import Draft, Rule, known_horizons_s
from models.margin.health import health
from models.margin.ladder import ladder
from models.margin.limits import MEMORY_S, Limits
from models.margin.orders import forced_rung, override
from models.margin.overrides import Overrides
from models.margin.pairing import pairing
from models.margin.path import (
    impact,
    in_force_at,
    initial_first,
    publish_step,
    release,
    resume_grace,
    step_limits,
)
from models.margin.types import (
    Candidates,
    Decision,
    EngineState,
    Inputs,
    MarketState,
    Open,
    Rates,
    Served,
    is_time,
)
from models.margin.validity import expiry, feed_age, feeds, numbers, open_case, usable_base_rates, warm_up

#: Every rule, in the order of application. A new rule is a function in its stage's file and a line here.
RULES: Final[tuple[Rule, ...]] = (
    numbers,  # validity
    expiry,
    feed_age,
    feeds,
    warm_up,
    health,
    forced_rung,
    ladder,  # choice
    band,  # band
    uncertainty,  # add-ons
    buffer,
    breaker,  # path
    release,
    step_limits,
    initial_first,
    resume_grace,
    impact,
    publish_step,
    override,  # overrides
    pairing,  # pairing
    floor,  # bounds
    cap,
)
_CHOICE: Final = RULES.index(ladder)


def decide(
    candidates: Candidates,
    market: MarketState,
    limits: Limits,
    overrides: Overrides,
    state: EngineState,
    now_s: float,
) -> tuple[Decision, EngineState]:
    """Decide one contract at ``now_s`` and say what to remember for the next time. Raises nothing for bad
    data.

    Validity first (which rungs may answer), then the best rung that stands, band, add-ons, path, overrides,
    the check of the whole, and floor and cap last. Where a rule refuses the rung, the next one is tried; the
    static rung always passes.
    """
    inputs = Inputs(candidates, market, limits, overrides, state, now_s)
    case, draft = open_case(inputs)
    for rule in RULES[:_CHOICE]:
        draft = rule.apply(case, draft)
    draft = _answer(case, draft)
    while draft.again:
        draft = _answer(case, draft)
    return _decision(case, draft, inputs), _remember(case, draft)


def _answer(case: Inputs, draft: Draft) -> Draft:
    for rule in RULES[_CHOICE:]:
        draft = rule.apply(case, draft)
        if draft.again:
            break
    return draft


def _decision(case: Inputs, draft: Draft, inputs: Inputs) -> Decision:
    low, high = case.limits.floor_of_base, case.limits.cap_multiplier
    # (limit x base) / base may miss the limit by the last bit.
    a, b, c, d = [
        max(low, min(r / base, high)) for r, base in zip(draft.rates, draft.base_rates, strict=True)
    ]
    return Decision(
        decided_at_s=case.now_s,
        bar_close_s=case.market.last_close_s if is_time(case.market.last_close_s) else None,
        valid_until_s=draft.valid_until_s,
        rung=draft.rung,
        mode=draft.mode,
        base_rates=draft.base_rates,
        required_rates=draft.required,
        served_rates=draft.rates,
        multipliers=(a, b, c, d),
        var=draft.var,
        model_version=draft.model_version,
        traces=draft.traces,
        inputs=inputs,
    )


def _remember(case: Inputs, draft: Draft) -> EngineState:
    step_s = case.limits.memory_step_s
    return EngineState(
        served=_with(case.state.served, Served(case.now_s, draft.rates, draft.asked), step_s),
        open=_open(case, draft),
        rates=draft.rates,
        rung=draft.rung,
        mode=draft.mode,
        model_version=draft.model_version,
        valid_until_s=draft.valid_until_s,
        base_rates=usable_base_rates(case),
        out_of_band=draft.out_of_band,
        breaker_until_s=draft.breaker_until_s,
        resumed_s=draft.resumed_s,
        waiting_s=draft.waiting_s,
        since_s=_since(case, draft.rates),
        buffer=draft.buffer,
        health=draft.health,
    )


def _with(served: tuple[Served, ...], newest: Served, step_s: float) -> tuple[Served, ...]:
    """Append a decision; thin the older ones to one a step (the lowest rates, the highest asked for), drop
    those out of every window.
    """
    if len(served) > 1 and served[-2].time_s // step_s == served[-1].time_s // step_s:
        first, last = served[-2:]
        asked = None if first.asked is None or last.asked is None else _by(max, first.asked, last.asked)
        served = (*served[:-2], Served(first.time_s, _by(min, first.rates, last.rates), asked))
    served = (*served, newest)
    start = in_force_at(served, newest.time_s - MEMORY_S)
    return served[start:] if start else served


def _since(case: Inputs, rates: Rates) -> Rates:
    """Since when each rate has been in force."""
    state, now_s = case.state, case.now_s
    if state.rates is None or state.since_s is None:
        return now_s, now_s, now_s, now_s
    if rates == state.rates:
        return state.since_s
    changed = zip(rates, state.rates, state.since_s, strict=True)
    a, b, c, d = [since_s if rate == before else now_s for rate, before, since_s in changed]
    return a, b, c, d


def _by(choose: Callable[[float, float], float], one: Rates, other: Rates) -> Rates:
    a, b, c, d = map(choose, one, other)
    return a, b, c, d


def _open(case: Inputs, draft: Draft) -> tuple[Open, ...]:
    """The decisions whose horizon may run on, one a step; a decision that stood on no forecast is none."""
    entries, now_s, step_s = case.state.open, case.now_s, case.limits.memory_step_s
    longest_s = max(known_horizons_s(case) or (math.inf,))  # where it is unknown none is forgotten
    first = 0
    while first < len(entries) and entries[first].time_s < now_s - longest_s:
        first += 1
    entries = entries[first:]
    if draft.var is None or draft.close is None:
        return entries
    if entries and entries[-1].time_s // step_s == now_s // step_s:
        return entries
    breaker = getattr(getattr(case.candidates, draft.rung, None), "breaker", None)
    return (*entries, Open(now_s, draft.close, draft.var, breaker if is_pair(breaker) else None))
