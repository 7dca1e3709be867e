"""The path (rule 10): how fast a served rate may move.

Tightening too late loses the venue's money, tightening too abruptly liquidates positions that a slower rise
would have spared, and a limiter that is slow in both directions has blocked urgent reversals elsewhere. So:
up in steps, at once when the market is already beyond what was forecast, and down slowly.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from operator import attrgetter

from models.margin.draft import DAY_S, HOUR_S, Draft, known_interval_s, rule
from models.margin.types import SIDES, VALUES, Inputs, Rates, Served, is_number

_begins_s = attrgetter("time_s")


@rule(10, "step limits", "path")
def step_limits(case: Inputs, draft: Draft) -> Draft:
    """Hold each rate within ``up_limit_1h``, ``up_limit_24h`` and ``down_limit_1h`` of what was served.

    Up: at most (1 + limit) times the lowest rate in force at any time of the last hour, and of the last 24
    hours. (Against the rate of exactly an hour ago a fall and a rise within the hour would pass as one small
    step.) The limit never holds a rate below what the rules engine requires, nor pushes one down. No limit
    applies where rates may rise at once: the loss so far has breached the VaR of a decision whose horizon is
    still running; then for all four values, since a breach that freed one of a pair would part it from the
    other.

    Down: at most by ``down_limit_1h`` an hour, compounded, pro rata to the time since the last decision; an
    outage of the engine saves up no more than one hour (or one bar, if longer). Not at all where the draft
    says hold. The first decision of a contract has no path.
    """
    served = case.state.served
    if not served:
        return draft
    last, limits = served[-1], case.limits
    after, whys = list(draft.rates), [""] * len(VALUES)
    rising = [i for i in range(len(VALUES)) if draft.rates[i] > last.rates[i]]
    if rising:
        ceilings = _ceilings(case, draft)
        held = [i for i in rising if draft.rates[i] > ceilings[i]]
        urgent = held and (draft.urgent or breach(case))
        for i in held:
            if urgent:
                whys[i] = f"rises at once: {urgent}"
                continue
            after[i] = ceilings[i]
            whys[i] = (
                f"rises by no more than {limits.up_limit_1h:.0%} in 1 h and {limits.up_limit_24h:.0%} in "
                f"24 h, unless the rules engine requires more"
            )
    for i in range(len(VALUES)):
        if draft.rates[i] >= last.rates[i]:
            continue
        if draft.hold:
            after[i], whys[i] = last.rates[i], f"does not fall: {draft.hold}"
            continue
        lowest = last.rates[i] * _fall(case, last)
        if draft.rates[i] < lowest:
            after[i], whys[i] = lowest, f"falls by no more than {limits.down_limit_1h:.0%} an hour"
    return draft.move(step_limits, after, whys)


def _fall(case: Inputs, last: Served) -> float:
    longest_s = max(HOUR_S, known_interval_s(case) or 0.0)
    elapsed_s = min(case.now_s - last.time_s, longest_s)
    return float((1.0 - case.limits.down_limit_1h) ** (elapsed_s / HOUR_S))


def _ceilings(case: Inputs, draft: Draft) -> list[float]:
    served, limits = case.state.served, case.limits
    hour = lowest_since(served, case.now_s - HOUR_S)
    day = lowest_since(served, case.now_s - DAY_S)
    rules = case.candidates.rules if "rules" in draft.standing else None
    ceilings = []
    for i, (_, kind) in enumerate(VALUES):
        ceiling = min(hour[i] * (1.0 + limits.up_limit_1h), day[i] * (1.0 + limits.up_limit_24h))
        if rules is not None:
            need = rules.requirement
            # Initial margin may follow the need of its maintenance margin, so that the pair stays a pair.
            ceiling = max(ceiling, need[i], need[i + 1] if kind == "initial" else 0.0)
        ceilings.append(max(ceiling, served[-1].rates[i]))
    return ceilings


def lowest_since(served: Sequence[Served], time_s: float) -> Rates:
    """The lowest of each rate that was in force at any time from ``time_s`` on; ``served`` is not empty."""
    a, b, c, d = map(min, zip(*(entry.rates for entry in served[in_force_at(served, time_s) :]), strict=True))
    return a, b, c, d


def in_force_at(served: Sequence[Served], time_s: float) -> int:
    """Index of the entry in force at a time: the last that began by then; 0 before the first."""
    return max(bisect.bisect_right(served, time_s, key=_begins_s) - 1, 0)


def _are_horizons(horizons_s: object) -> bool:
    return isinstance(horizons_s, tuple) and len(horizons_s) == 2 and all(is_number(h) for h in horizons_s)


def breach(case: Inputs) -> str:
    """Which decision's VaR the loss so far exceeds, in words; empty where none does.

    The loss so far of a decision is the log return from its close to the newest close, against the side; it
    counts while the kind's horizon runs. A decision that stood on no forecast has no VaR and cannot be
    breached.
    """
    close = case.market.close
    if not is_number(close) or close <= 0:
        return ""
    initial_s, maintenance_s = case.market.horizons_s if _are_horizons(case.market.horizons_s) else (0.0, 0.0)
    longest_s = {"initial": initial_s, "maintenance": maintenance_s}
    log_close = math.log(close)
    for entry in reversed(case.state.served):
        age_s = case.now_s - entry.time_s
        if age_s > max(initial_s, maintenance_s):
            break
        if entry.close is None or entry.close <= 0 or entry.var is None:
            continue
        rise = log_close - math.log(entry.close)
        for i, (side, kind) in enumerate(VALUES):
            loss = -rise if side == SIDES[0] else rise
            if loss > entry.var[i] and age_s <= longest_s[kind]:
                return (
                    f"the {side} loss of {loss:.2%} over the last {age_s:g} s is beyond the {kind} VaR "
                    f"of {entry.var[i]:.2%}"
                )
    return ""
