"""The bounds (rules 2 and 3), always last: whatever the others did, the answer lies between floor and cap.

Floor and cap of initial margin are never below those of maintenance margin, and clamping a pair that is in
order between bounds that are in order leaves it in order.
"""

from __future__ import annotations

import sys
from typing import Final

from models.margin.draft import Draft, cap_rates, rule
from models.margin.types import VALUES, ZEROS, Inputs, Rates, is_rates

_LEAST: Final = sys.float_info.min


@rule(2, "absolute floor", "bounds")
def floor(case: Inputs, draft: Draft) -> Draft:
    """At least ``floor_of_base`` x base rate, and ``floor_scale`` x the long-run normal VaR where that is
    known.
    """
    limits = case.limits
    after, whys = list(draft.rates), [""] * len(VALUES)
    for i, lowest in enumerate(floor_rates(case, draft.base_rates)):
        if draft.rates[i] < lowest:
            after[i] = lowest
            whys[i] = (
                f"raised to {limits.floor_of_base:g} times the base rate"
                if lowest == limits.floor_of_base * draft.base_rates[i]
                else f"raised to {limits.floor_scale:g} times the long-run normal VaR"
            )
    return draft.move(floor, after, whys)


def floor_rates(case: Inputs, base_rates: Rates) -> Rates:
    """The least that rule 2 allows; above 0 even where the limits of both its parts are 0."""
    share, scale, known = case.limits.floor_of_base, case.limits.floor_scale, case.market.long_run_var
    a, b, c, d = known if is_rates(known) else ZEROS
    long_initial, long_maintenance, short_initial, short_maintenance = base_rates
    return (
        max(
            share * long_initial, scale * a, scale * b, _LEAST
        ),  # the longer horizon's VaR is the larger; insist
        max(share * long_maintenance, scale * b, _LEAST),
        max(share * short_initial, scale * c, scale * d, _LEAST),
        max(share * short_maintenance, scale * d, _LEAST),
    )


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
