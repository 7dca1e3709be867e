"""The band (rule 4) and the add-ons (8, 13): what a model's requirement is held to, and what comes on top."""

from __future__ import annotations

import sys
from typing import Final

from models.margin.draft import Draft, rule
from models.margin.types import VALUES, ZEROS, Candidate, Inputs, Rates, is_number, is_time

_MODELS = ("champion", "last_good")
#: No rate rises beyond a number; the cap comes later.
MOST: Final = sys.float_info.max


@rule(4, "band against the rules engine", "band")
def band(case: Inputs, draft: Draft) -> Draft:
    """A model's requirement outside ``band_low`` to ``band_high`` times the rules engine's takes the nearer
    edge; on the ``band_strikes``-th bar in a row on which it is outside by more than ``band_strike_factor``
    the model is struck.

    Without a rules engine that stands there is no band. Bars are counted, not decisions, so that a timer tick
    strikes nothing.
    """
    if draft.rung not in _MODELS or "rules" not in draft.standing:
        return draft
    limits, rules = case.limits, case.candidates.rules
    assert rules is not None
    bounds = [(limits.band_low * need, limits.band_high * need) for need in rules.requirement]
    count, counted_s = case.state.out_of_band
    if all(low <= own <= high for own, (low, high) in zip(draft.required, bounds, strict=True)):
        # A last good model says nothing of the champion's bars in a row.
        return draft._replace(out_of_band=(0, counted_s)) if count and draft.rung == "champion" else draft
    far = limits.band_strike_factor
    if all(
        low <= own * far and own <= high * far
        for own, (low, high) in zip(draft.required, bounds, strict=True)
    ):
        count = 0 if draft.rung == "champion" else count
        draft = draft._replace(out_of_band=(count, counted_s))
    else:
        bar_s = case.market.last_close_s if is_time(case.market.last_close_s) else case.now_s
        count += bar_s > counted_s or count == 0
        draft = draft._replace(out_of_band=(count, bar_s))
        if count >= limits.band_strikes:
            why = f"ALERT: far outside the band against the rules engine on {count} bars in a row"
            return draft.strike(band, (draft.rung,), why)._replace(again=True)
    after, whys = list(draft.rates), [""] * len(VALUES)
    for i, (own, (low, high)) in enumerate(zip(draft.required, bounds, strict=True)):
        if not low <= own <= high:
            edge, factor = (low, limits.band_low) if own < low else (high, limits.band_high)
            # What last_good serves may lie above the band because of what is in force, and stays there.
            after[i] = edge if draft.rates[i] == own else max(edge, draft.rates[i])
            whys[i] = f"ALERT: held at {factor:g} times what the rules engine requires"
    return draft.move(band, after, whys)


@rule(8, "uncertainty costs margin", "add-ons")
def uncertainty(case: Inputs, draft: Draft) -> Draft:
    """A model's requirement times ``1 + uncertainty_surcharge x (1 - confidence)``, confidence within 0 to 1;
    one that is no number counts as none."""
    candidate: Candidate | None = getattr(case.candidates, draft.rung, None)
    if draft.rung not in _MODELS or candidate is None or candidate.confidence == 1:
        return draft
    known = candidate.confidence if is_number(candidate.confidence) else 0.0
    doubt = 1.0 - min(max(known, 0.0), 1.0)
    factor = 1.0 + case.limits.uncertainty_surcharge * doubt
    if factor == 1.0:
        return draft
    why = f"{factor - 1.0:.1%} more, since the forecast's confidence is {known:.2f}"
    return draft.move(uncertainty, [min(factor * r, MOST) for r in draft.rates], [why] * len(VALUES))


@rule(13, "buffer", "add-ons")
def buffer(case: Inputs, draft: Draft) -> Draft:
    """In calm, build ``buffer_ratio`` of each rate on top over ``buffer_build_s``; under stress, spend it
    before the margin rises.

    Stress is a rate above ``buffer_release_multiplier`` times its base. Then the served rate stays where it
    was as long as the buffer carries it; what the buffer gave is gone until calm builds it anew.
    """
    limits, state = case.limits, case.state
    if not limits.buffer_ratio:
        return draft if state.buffer == ZEROS else draft._replace(buffer=ZEROS)
    elapsed_s = case.now_s - state.served[-1].time_s if state.served else 0.0
    built = limits.buffer_ratio * min(elapsed_s / limits.buffer_build_s, 1.0)
    after, whys, left = list(draft.rates), [""] * len(VALUES), list(state.buffer)
    for i, rate in enumerate(draft.rates):
        own = min(state.buffer[i], limits.buffer_ratio)
        if rate <= limits.buffer_release_multiplier * draft.base_rates[i] or state.rates is None:
            left[i] = min(own + built, limits.buffer_ratio)
            after[i] = min(rate * (1.0 + left[i]), MOST)
            whys[i] = f"{left[i]:.1%} of buffer on top" if left[i] else ""
            continue
        after[i] = max(rate, min(rate * (1.0 + own), state.rates[i]))
        left[i] = min(own, after[i] / rate - 1.0)
        if own:
            whys[i] = (
                f"stress spends the buffer, {left[i]:.1%} is left" if left[i] else "the buffer is exhausted"
            )
    for i in (0, 2):  # the buffers of a pair differ; initial margin covers maintenance margin all the same
        after[i] = max(after[i], after[i + 1])
    a, b, c, d = left
    kept: Rates = (a, b, c, d)
    return draft._replace(buffer=kept).move(buffer, after, whys)
