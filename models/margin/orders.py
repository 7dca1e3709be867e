"""Overrides in force (rule 17): what people ordered, before floor and cap and after every other rule."""

from __future__ import annotations

from models.margin.draft import Draft, rule
from models.margin.types import RUNGS, VALUES, Inputs


@rule(17, "forced rung", "validity")
def forced_rung(case: Inputs, draft: Draft) -> Draft:
    """Strike what is better than the forced rung; the kill switch leaves static and cap."""
    if not case.overrides.orders:
        return draft
    for order in case.overrides.standing("rung", case.now_s):
        better = RUNGS[: RUNGS.index(order.rung)] if order.rung in RUNGS else ()
        draft = draft.strike(forced_rung, better, f"override {order.id}: {order.reason}")
    for order in case.overrides.standing("kill", case.now_s):
        draft = draft.strike(forced_rung, RUNGS[:3], f"kill switch {order.id}: {order.reason}")
    return draft


@rule(17, "override", "overrides")
def override(case: Inputs, draft: Draft) -> Draft:
    """Freeze, then floor, then cap; the kill switch wins over them and over the path: the static rates, at
    once. Floors and caps are multiples of the base rate; of several the tightest counts."""
    if not case.overrides.orders:
        return draft
    now_s, orders = case.now_s, case.overrides
    if killed := orders.standing("kill", now_s):
        why = f"kill switch {killed[0].id}: {killed[0].reason}"
        return draft.move(override, draft.required, [why] * len(VALUES))
    frozen = orders.standing("freeze", now_s)
    if frozen and case.state.rates is not None:
        why = f"frozen by {frozen[0].id}: {frozen[0].reason}"
        draft = draft.move(override, case.state.rates, [why] * len(VALUES))
    for kind, tightest in (("floor", max), ("cap", min)):
        standing = orders.standing(kind, now_s)
        if not standing:
            continue
        order = tightest(standing, key=lambda o: o.multiplier or 0.0)
        bounds = [(order.multiplier or 0.0) * base for base in draft.base_rates]
        after = [tightest(rate, bound) for rate, bound in zip(draft.rates, bounds, strict=True)]
        words = f"{kind} of {order.multiplier:g} times the base rate by {order.id}: {order.reason}"
        whys = [words if a != b else "" for a, b in zip(after, draft.rates, strict=True)]
        draft = draft.move(override, after, whys)
    return draft
