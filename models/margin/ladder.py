"""The ladder: the best rung that still stands answers.

1 ``champion``: the promoted model. 2 ``last_good``: the last good model forecast, upwards only, until it
expires. 3 ``rules``: filtered historical simulation (``fhs``). 4 ``static``: base rate times the stress
factor. 5 ``cap``: as much as rule 3 allows. The first three are candidates; the last two need nothing but the
base rate.
"""

from __future__ import annotations

from models.margin.bounds import floor_rates
from models.margin.draft import Draft, cap_rates, is_worse, known_interval_s, rule, validity_s
from models.margin.types import RUNGS, Candidate, Inputs


@rule(0, "ladder", "choice")
def ladder(case: Inputs, draft: Draft) -> Draft:
    """Take the requirement of the best rung that stands. A step down the ladder lowers no rate by itself.

    So a model that goes bad in a crisis cannot loosen the margin by going bad; from the next decision on, the
    answer falls as fast as rules 10 and 11 let it.
    """
    rung = draft.standing[0]
    limits, in_force = case.limits, case.state.rates
    valid_until_s = case.now_s + validity_s(known_interval_s(case) or 0.0, limits)
    candidate: Candidate | None = getattr(case.candidates, rung, None)
    version, var = "", None
    if candidate is not None:
        required, var, version = candidate.requirement, candidate.var, candidate.model_version
        if rung != "rules":
            valid_until_s = max(case.now_s, min(valid_until_s, candidate.valid_until_s))
    elif rung == "static":
        stressed = (limits.static_stress_factor * base for base in draft.base_rates)
        # What rule 2 will ask in any case is asked here, so that the gap to what is required is none.
        a, b, c, d = map(max, stressed, floor_rates(case, draft.base_rates))
        required = (a, b, c, d)
    else:
        required = cap_rates(draft.base_rates, limits)
    hold, before = draft.hold, case.state.rung
    if not hold and before is not None and is_worse(rung, before):
        hold = f"the answer stepped down the ladder from {before} to {rung}"
    draft = draft._replace(
        rung=rung,
        required=required,
        rates=required,
        var=var,
        model_version=version,
        valid_until_s=valid_until_s,
        hold=hold,
        again=False,
    )
    if rung == "champion":
        return draft
    if rung == "last_good" and in_force is not None:
        rates = [max(need, served) for need, served in zip(required, in_force, strict=True)]
        whys = [
            "" if a == b else "a last good model lowers nothing" for a, b in zip(rates, required, strict=True)
        ]
        draft = draft.move(ladder, rates, whys)
    absent = [r for r in RUNGS[: min(RUNGS.index(rung), 3)] if getattr(case.candidates, r, None) is None]
    return draft.note(ladder, f"{rung} answers" + (f"; no forecast by {', '.join(absent)}" if absent else ""))
