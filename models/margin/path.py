"""The path (rules 10, 11, 14, 15, 18): how fast, how far and in which order served rates may move.

Tightening too late loses the venue's money, tightening too abruptly liquidates positions that a slower rise
would have spared, and a limiter that is slow in both directions has blocked urgent reversals elsewhere. So:
up in steps, at once when the market is already beyond what was forecast, and down only when it is worth it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from operator import attrgetter

from models.margin.breaker import breach
from models.margin.draft import DAY_S, HOUR_S, Draft, known_interval_s, rule
from models.margin.types import INITIAL, MAINTENANCE, SIDES, VALUES, Inputs, Rates, Served, is_number

_begins_s = attrgetter("time_s")


@rule(11, "release", "path")
def release(case: Inputs, draft: Draft) -> Draft:
    """A rate falls only where what is asked for lies ``release_ratio`` below it, and has done so during
    ``fall_after_s``: to the highest that was asked for in that time."""
    last, limits = case.state.rates, case.limits
    asked = draft.rates
    if limits.fall_after_s > 0:
        draft = draft._replace(asked=asked)
    falling = [] if last is None else [i for i in range(len(VALUES)) if asked[i] < last[i]]
    if last is None or not falling:
        return draft
    if limits.fall_after_s > 0:
        recent = case.state.served[in_force_at(case.state.served, case.now_s - limits.fall_after_s) :]
        a, b, c, d = map(max, zip(asked, *(entry.asked or entry.rates for entry in recent), strict=True))
        asked = (a, b, c, d)
    after, whys = list(draft.rates), [""] * len(VALUES)
    stays = f"stays: less than {limits.release_ratio:.0%} below is asked for"
    for i in falling:
        if asked[i] > last[i] * (1.0 - limits.release_ratio):
            after[i], whys[i] = last[i], stays
        elif asked[i] > draft.rates[i]:
            after[i] = min(asked[i], last[i])
            whys[i] = f"falls to what was asked for during {limits.fall_after_s / HOUR_S:g} h"
    _keep_pairs(draft.rates, after, whys)
    return draft.move(release, after, whys)


@rule(10, "step limits", "path")
def step_limits(case: Inputs, draft: Draft) -> Draft:
    """Hold each rate within ``up_limit_1h``, ``up_limit_24h`` and ``down_limit_1h`` of what was served.

    Up: at most (1 + limit) times the lowest rate in force at any time of the last hour, and of the last 24
    hours. (Against the rate of exactly an hour ago a fall and a rise within the hour would pass as one small
    step.) The limit never holds a rate below what the rules engine requires, nor pushes one down. No limit
    applies where rates may rise at once: under rule 12, or where the loss so far has breached the VaR of a
    decision whose horizon is still running; then for all four values, since a breach that freed one of a pair
    would part it from the other.

    Down: at most by ``down_limit_1h`` an hour, compounded, pro rata to the time since the last decision; an
    outage of the engine saves up no more than one hour (or one bar, if longer). Where that is less than
    ``publish_step``, by just that once the rate has stood for as long as it takes. Not at all where the draft
    says hold. The first decision of a contract has no path.
    """
    last, limits = case.state.rates, case.limits
    if last is None:
        return draft
    after, whys = list(draft.rates), [""] * len(VALUES)
    rising = [i for i in range(len(VALUES)) if draft.rates[i] > last[i]]
    if rising:
        ceilings = _ceilings(case, draft, last)
        held = [i for i in rising if draft.rates[i] > ceilings[i]]
        urgent = held and (draft.urgent or breach(case, draft.close))
        why = f"rises at once: {urgent}"
        if held and not urgent:
            why = (
                f"rises by no more than {limits.up_limit_1h:.0%} in 1 h and {limits.up_limit_24h:.0%} in "
                f"24 h, unless the rules engine requires more"
            )
        for i in held:
            whys[i] = why
            if not urgent:
                after[i] = ceilings[i]
    falling = [i for i in range(len(VALUES)) if draft.rates[i] < last[i]]
    if falling and draft.hold:
        for i in falling:
            after[i], whys[i] = last[i], f"does not fall: {draft.hold}"
    elif falling:
        factors, why = _falls(case), f"falls by no more than {limits.down_limit_1h:.0%} an hour"
        for i in falling:
            if draft.rates[i] < last[i] * factors[i]:
                after[i], whys[i] = last[i] * factors[i], why
    return draft.move(step_limits, after, whys)


def _falls(case: Inputs) -> list[float]:
    """The factor by which each value may fall now."""
    state, limits = case.state, case.limits
    longest_s = max(HOUR_S, known_interval_s(case) or 0.0)
    an_hour = 1.0 - limits.down_limit_1h
    factor = float(an_hour ** (min(case.now_s - state.served[-1].time_s, longest_s) / HOUR_S))
    # Decisions in quick succession: falls of less than a publish step would be held back for ever.
    least = 1.0 - limits.publish_step
    if factor <= least or state.since_s is None:
        return [factor] * len(VALUES)
    stood_s = [min(case.now_s - since_s, longest_s) for since_s in state.since_s]
    return [least if an_hour ** (s / HOUR_S) <= least else factor for s in stood_s]


def _ceilings(case: Inputs, draft: Draft, last: Rates) -> list[float]:
    served, limits = case.state.served, case.limits
    hour = lowest_since(served, case.now_s - HOUR_S)
    day = lowest_since(served, case.now_s - DAY_S)
    rules = case.candidates.rules if "rules" in draft.standing else None
    ceilings = []
    for i in range(len(VALUES)):
        ceiling = min(hour[i] * (1.0 + limits.up_limit_1h), day[i] * (1.0 + limits.up_limit_24h))
        if rules is not None:
            need = rules.requirement
            # Initial margin may follow the need of its maintenance margin, so that the pair stays a pair.
            ceiling = max(ceiling, need[i], need[i + 1] if i in INITIAL else 0.0)
        ceilings.append(max(ceiling, last[i]))
    return ceilings


@rule(15, "initial first", "path")
def initial_first(case: Inputs, draft: Draft) -> Draft:
    """Maintenance margin rises ``maintenance_delay_s`` after a rise was asked for, so after initial margin,
    but under rule 12; initial margin falls so long after maintenance margin."""
    last, delay_s = case.state.rates, case.limits.maintenance_delay_s
    if last is None or delay_s == 0:
        return draft
    after, whys, waiting = list(draft.rates), [""] * len(VALUES), list(case.state.waiting_s)
    for i, (rate, before) in enumerate(zip(draft.rates, last, strict=True)):
        follows = rate > before and not draft.urgent if i in MAINTENANCE else rate < before
        known_s = waiting[i]
        since_s = case.now_s if known_s is None else known_s
        waiting[i] = since_s if follows else None
        if follows and case.now_s - since_s < delay_s:
            after[i], whys[i] = before, f"follows {delay_s:g} s after the other kind of margin"
    a, b, c, d = waiting
    return draft._replace(waiting_s=(a, b, c, d)).move(initial_first, after, whys)


@rule(14, "resume grace", "path")
def resume_grace(case: Inputs, draft: Draft) -> Draft:
    """No rise of maintenance margin in the first ``resume_grace_s`` after the feed came back from stale or
    dead, but under rule 12."""
    state = case.state
    paused = draft.mode in ("stale", "dead")
    resumed_s = case.now_s if state.mode in ("stale", "dead") and not paused else state.resumed_s
    if resumed_s is None:
        return draft
    if paused or case.now_s - resumed_s >= case.limits.resume_grace_s:
        return draft._replace(resumed_s=None)
    draft = draft._replace(resumed_s=resumed_s)
    if state.rates is None or draft.urgent:
        return draft
    after, whys = list(draft.rates), [""] * len(VALUES)
    for i in MAINTENANCE:
        if draft.rates[i] > state.rates[i]:
            after[i], whys[i] = state.rates[i], f"no rise within {case.limits.resume_grace_s:g} s of a pause"
    return draft.move(resume_grace, after, whys)


@rule(18, "impact budget", "path")
def impact(case: Inputs, draft: Draft) -> Draft:
    """Stage a rise of maintenance margin that would make more than ``impact_budget`` of a side's open
    notional liquidatable at once, but under rule 12: as far as the budget reaches, the rest at later
    decisions.

    A position is liquidatable where its equity, a fraction of its notional, lies below the rate. One that
    lies within ``publish_step`` of the rate in force stages nothing: it would hold the rate back for ever.
    """
    last, books = case.state.rates, case.market.positions
    if last is None or draft.urgent or not isinstance(books, tuple) or len(books) != len(SIDES):
        return draft
    after, whys = list(draft.rates), [""] * len(VALUES)
    for i, book in zip(MAINTENANCE, books, strict=True):
        if not book or not isinstance(book, tuple) or draft.rates[i] <= last[i]:
            continue
        sound = [p for p in book if _is_position(p)]
        passed = last[i] * (1.0 + case.limits.publish_step)
        budget = case.limits.impact_budget * sum(notional for _, notional in sound)
        for equity, notional in sorted(sound):
            if not last[i] <= equity < draft.rates[i]:
                continue
            budget -= notional
            if budget < 0 and equity > passed:
                after[i] = equity
                whys[i] = (
                    f"staged: more than {case.limits.impact_budget:.0%} of open notional would fall short"
                )
                break
    return draft.move(impact, after, whys)


def _is_position(entry: object) -> bool:
    """Equity and notional, numbers, of which a sum is one too; the notional above 0."""
    return (
        isinstance(entry, tuple)
        and len(entry) == 2
        and is_number(entry[0])
        and is_number(entry[1])
        and 0 < entry[1] < 1e300
    )


@rule(11, "publish step", "path")
def publish_step(case: Inputs, draft: Draft) -> Draft:
    """A change below ``publish_step`` is not published."""
    last, step = case.state.rates, case.limits.publish_step
    if last is None:
        return draft
    after, whys = list(draft.rates), [""] * len(VALUES)
    for i, (rate, before) in enumerate(zip(draft.rates, last, strict=True)):
        if rate != before and before * (1.0 - step) < rate < before * (1.0 + step):
            after[i], whys[i] = before, f"stays: a change below {step:.0%} is not published"
    _keep_pairs(draft.rates, after, whys)
    return draft.move(publish_step, after, whys)


def _keep_pairs(before: Rates, after: list[float], whys: list[str]) -> None:
    """Raise initial margin to a maintenance margin that stayed; a pair that came crossed is for rule 16."""
    for i in INITIAL:
        if after[i] < after[i + 1] and before[i] >= before[i + 1]:
            after[i], whys[i] = after[i + 1], "covers the maintenance margin that stays"


def lowest_since(served: Sequence[Served], time_s: float) -> Rates:
    """The lowest of each rate that was in force at any time from ``time_s`` on; ``served`` is not empty."""
    a, b, c, d = map(min, zip(*(entry.rates for entry in served[in_force_at(served, time_s) :]), strict=True))
    return a, b, c, d


def in_force_at(served: Sequence[Served], time_s: float) -> int:
    """Index of the entry in force at a time: the last that began by then; 0 before the first."""
    return max(bisect.bisect_right(served, time_s, key=_begins_s) - 1, 0)
