"""What the market has done since the last decisions: breaches (for rule 10), and the circuit breaker (12)."""

from __future__ import annotations

import math

from models.margin.draft import Draft, known_horizons_s, rule
from models.margin.types import MAINTENANCE, SIDES, VALUES, Inputs, is_number, is_rates, is_time


@rule(12, "circuit breaker", "path")
def breaker(case: Inputs, draft: Draft) -> Draft:
    """After a move beyond what was held possible: nothing falls for ``breaker_s``, rates may rise at once,
    and are at least the contract's ``stressed_rates``.

    Such a move is a loss so far beyond the 99.9 % VaR of a decision whose maintenance horizon is still
    running, or a newest bar beyond ``extreme_losses``, the contract's own history.
    """
    until_s, why = case.state.breaker_until_s, "a bar moved beyond what was held possible"
    bar_s = case.market.last_close_s if is_time(case.market.last_close_s) else case.now_s
    found = _extreme_bar(case) or breach(case, draft.close, breaker=True)
    if found and min(bar_s, case.now_s) + case.limits.breaker_s >= (until_s or -math.inf):
        until_s, why = min(bar_s, case.now_s) + case.limits.breaker_s, found
    if until_s is None:
        return draft
    if case.now_s >= until_s:
        return draft._replace(breaker_until_s=None)
    draft = draft._replace(breaker_until_s=until_s, urgent=f"circuit breaker: {why}")
    draft = draft.holding(f"circuit breaker: {why}")
    stressed = case.market.stressed_rates
    if not is_rates(stressed):
        return draft.note(breaker, why)
    after = list(draft.rates)
    for i in range(len(VALUES)):
        least = max(stressed[i], stressed[i + 1]) if i not in MAINTENANCE else stressed[i]
        after[i] = max(after[i], least)
    whys = [
        "" if a == b else f"at least as in stress, since {why}"
        for a, b in zip(after, draft.rates, strict=True)
    ]
    return draft.move(breaker, after, whys) if any(whys) else draft.note(breaker, why)


def _extreme_bar(case: Inputs) -> str:
    move, beyond = case.market.last_return, case.market.extreme_losses
    if not is_number(move) or not isinstance(beyond, tuple) or len(beyond) != 2:
        return ""
    for side, loss, least in zip(SIDES, (-move, move), beyond, strict=True):
        if is_number(least) and 0 < least < loss:
            return f"the {side} loss of {loss:.2%} in one bar is beyond {least:.2%}, the contract's extreme"
    return ""


def breach(case: Inputs, close: float | None, *, breaker: bool = False) -> str:
    """Which decision's VaR the loss so far exceeds, in words; empty where none does.

    The loss so far of a decision is the log return from its close to the newest close, against the side; it
    counts while the kind's horizon runs. With ``breaker`` the VaR is that of 99.9 %, over the maintenance
    horizon. A decision that stood on no forecast has no VaR and cannot be breached.
    """
    horizons_s = known_horizons_s(case)
    if close is None or not case.state.open or horizons_s is None:
        return ""
    longest_s = horizons_s[1] if breaker else max(horizons_s)
    log_close = math.log(close)
    for entry in reversed(case.state.open):
        age_s = case.now_s - entry.time_s
        if age_s > longest_s:
            break
        rise = log_close - math.log(entry.close)
        losses = (-rise, rise)
        bounds: list[tuple[int, float, str]]
        if breaker:
            bounds = [(side, bound, "99.9 %") for side, bound in enumerate(entry.breaker or ())]
        else:
            bounds = [
                (i // 2, v, VALUES[i][1]) for i, v in enumerate(entry.var) if age_s <= horizons_s[i % 2]
            ]
        for side, bound, name in bounds:
            if losses[side] > bound:
                return (
                    f"the {SIDES[side]} loss of {losses[side]:.2%} over the last {age_s:g} s is beyond the "
                    f"{name} VaR of {bound:.2%}"
                )
    return ""
