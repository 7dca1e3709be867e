"""Pairing (rule 16): the values of a contract are served together or not at all."""

from __future__ import annotations

from models.margin.draft import Draft, rule
from models.margin.types import SIDES, Inputs, Rates


@rule(16, "whole or not at all", "pairing")
def pairing(case: Inputs, draft: Draft) -> Draft:
    """Initial >= maintenance on both sides; else the old decision stands until it expires, then the next
    rung.

    Both as a whole: never one value of the new decision beside one of the old (on 10 March 2026 one of two
    paired values was rate-limited and the other not, and sound positions were liquidated).
    """
    side = crossed(draft.rates)
    if side is None:
        return draft
    i = 2 * SIDES.index(side)
    initial, maintenance = draft.rates[i], draft.rates[i + 1]
    what = f"{draft.rung} puts {side} initial {initial:.6g} below maintenance {maintenance:.6g}"
    state = case.state
    old = state.rates if state.rates is not None and not crossed(state.rates) else None
    if old and state.rung and state.valid_until_s is not None and case.now_s <= state.valid_until_s:
        why = f"{what}; the old decision stands until it expires"
        draft = draft.move(pairing, old, [why] * len(old))
        return draft._replace(
            rung=state.rung,
            var=None,
            model_version=state.model_version,
            valid_until_s=state.valid_until_s,
        )
    if draft.rung == "cap":  # only a memory that no decision wrote leads here; there is no next rung
        return draft.move(pairing, draft.required, [what] * len(draft.required))
    return draft.strike(pairing, (draft.rung,), what)._replace(again=True)


def crossed(rates: Rates) -> str | None:
    """The first side whose initial margin lies below its maintenance margin; None where both are in order."""
    return next((side for i, side in enumerate(SIDES) if rates[2 * i] < rates[2 * i + 1]), None)
