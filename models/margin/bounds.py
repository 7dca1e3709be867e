"""The bounds (rules 2 and 3), always last: whatever the others did, the answer lies between floor and cap.

Floor and cap of initial margin are never below those of maintenance margin, and clamping a pair that is in
order between bounds that are in order leaves it in order.
"""

from __future__ import annotations

from models.margin.draft import Draft, cap_rates, rule
from models.margin.types import VALUES, ZEROS, Inputs, Rates, is_number, is_rates


@rule(2, "absolute floor", "bounds")
def floor(case: Inputs, draft: Draft) -> Draft:
    """At least ``floor_of_base`` x base rate, and ``floor_scale`` x the long-run normal VaR where that is
    known.
    """
    limits = case.limits
    after, whys = list(draft.rates), [""] * len(VALUES)
    long_run = case.market.long_run_var
    if not is_rates(long_run):
        long_run = _usable(long_run)
    for i, (_, kind) in enumerate(VALUES):
        # The longer horizon's VaR is the larger; insist, so that the floors are in order.
        normal = max(long_run[i], long_run[i + 1]) if kind == "initial" else long_run[i]
        by_base, by_variance = limits.floor_of_base * draft.base_rates[i], limits.floor_scale * normal
        if draft.rates[i] < max(by_base, by_variance):
            after[i] = max(by_base, by_variance)
            whys[i] = (
                f"raised to {limits.floor_of_base:g} times the base rate"
                if by_base >= by_variance
                else f"raised to {limits.floor_scale:g} times the long-run normal VaR"
            )
    return draft.move(floor, after, whys)


def _usable(rates: object) -> Rates:
    """What of four rates is a number above 0, and 0 for the rest."""
    if not isinstance(rates, tuple) or len(rates) != len(VALUES):
        return ZEROS
    a, b, c, d = (r if is_number(r) and r > 0 else 0.0 for r in rates)
    return a, b, c, d


@rule(3, "absolute cap", "bounds")
def cap(case: Inputs, draft: Draft) -> Draft:
    """At most ``cap_rate`` of notional, and ``cap_multiplier`` x base rate."""
    limits = case.limits
    after, whys = list(draft.rates), [""] * len(VALUES)
    for i, highest in enumerate(cap_rates(draft.base_rates, limits)):
        if draft.rates[i] > highest:
            after[i] = highest
            whys[i] = (
                f"lowered to {limits.cap_rate:.0%} of notional"
                if highest == limits.cap_rate
                else f"lowered to {limits.cap_multiplier:g} times the base rate"
            )
    return draft.move(cap, after, whys)
