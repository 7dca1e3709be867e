"""The safety engine: candidates of each rung in, one bounded decision for the four values of a contract out.

``decide`` is a pure state machine. It reads no clock, no file and no global, so the same inputs give the same
decision to the bit, from the audit trail as in a backtest. Whatever arrives (NaN, infinity, a negative,
nothing at all) the answer lies between floor and cap, initial >= maintenance. Each rule's reason and source:
``docs/safety.md``.
"""

from __future__ import annotations

from typing import Final

from models.margin.bounds import cap, floor
from models.margin.draft import DAY_S, Draft, Rule
from models.margin.ladder import ladder
from models.margin.limits import Limits
from models.margin.pairing import pairing
from models.margin.path import in_force_at, step_limits
from models.margin.types import (
    Candidates,
    Decision,
    EngineState,
    Inputs,
    MarketState,
    Overrides,
    Rates,
    Served,
    is_number,
    is_time,
)
from models.margin.validity import expiry, feed_age, numbers, open_case, usable_base_rates, warm_up

#: Every rule, in the order of application. A new rule is a function in its stage's file and a line here.
RULES: Final[tuple[Rule, ...]] = (
    numbers,  # validity
    expiry,
    feed_age,
    warm_up,
    ladder,  # choice
    step_limits,  # path
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

    Validity first (which rungs may answer), then the best rung that stands, its path, the check of the whole,
    and floor and cap last. Where rule 16 refuses the whole, the next rung is tried; the static rung always
    passes.
    """
    inputs = Inputs(candidates, market, limits, overrides, state, now_s)
    case, draft = open_case(inputs)
    for rule in RULES[:_CHOICE]:
        draft = rule(case, draft)
    draft = _answer(case, draft)
    while draft.again:
        draft = _answer(case, draft)
    decision = _decision(case, draft, inputs)
    return decision, _remember(case, draft)


def _answer(case: Inputs, draft: Draft) -> Draft:
    for rule in RULES[_CHOICE:]:
        draft = rule(case, draft)
        if draft.again:
            break
    return draft


def _decision(case: Inputs, draft: Draft, inputs: Inputs) -> Decision:
    low, high = case.limits.floor_of_base, case.limits.cap_multiplier
    # (limit x base) / base may miss the limit by the last bit.
    a, b, c, d = (
        max(low, min(r / base, high)) for r, base in zip(draft.rates, draft.base_rates, strict=True)
    )
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
    close = case.market.close
    newest = Served(case.now_s, draft.rates, close if is_number(close) and close > 0 else None, draft.var)
    return EngineState(
        served=_with(case.state.served, newest, case.limits.memory_step_s),
        rung=draft.rung,
        mode=draft.mode,
        model_version=draft.model_version,
        valid_until_s=draft.valid_until_s,
        base_rates=usable_base_rates(case),
    )


def _with(served: tuple[Served, ...], newest: Served, step_s: float) -> tuple[Served, ...]:
    """Append a decision; thin the older ones to one a step (the lowest rates), drop those out of every
    window.
    """
    kept = list(served)
    if len(kept) > 1 and kept[-2].time_s // step_s == kept[-1].time_s // step_s:
        last, first = kept.pop(), kept.pop()
        a, b, c, d = (min(x, y) for x, y in zip(first.rates, last.rates, strict=True))
        lowest: Rates = (a, b, c, d)
        kept.append(Served(first.time_s, lowest, first.close, first.var))
    kept.append(newest)
    return tuple(kept[in_force_at(kept, newest.time_s - DAY_S) :])
