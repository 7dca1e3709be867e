"""Model health (rule 19): a model keeps its rung by being right, live."""

from __future__ import annotations

import math

from models.margin.draft import Draft, known_horizons_s, known_interval_s, rule
from models.margin.types import MAINTENANCE, SIDES, Health, Inputs, Judged, is_number, is_rates, is_time

_MODELS = ("champion", "last_good")


@rule(19, "model health", "validity")
def health(case: Inputs, draft: Draft) -> Draft:
    """Count live breaches of the champion's maintenance VaR, of forecasts that matured one after the other;
    yellow holds the rates, red strikes the models until the count is below yellow again. The same for the
    drift of the inputs, as long as it lasts.

    The champion is judged while it is struck, too: so it earns its way back. A new model version goes on with
    the count, since a bad process of training makes a bad model every night. A forecast whose horizon ended
    in a hole of the feed is not judged.
    """
    before, limits = case.state.health, case.limits
    after = _waiting(case, draft, _judged(case, draft, before))
    counts = [len(b) for b in after.breaches]
    worst = max(counts)
    red = worst >= limits.health_red_breaches or (
        before.distrusted and worst >= min(limits.health_yellow_breaches, limits.health_red_breaches)
    )
    if red != after.distrusted:
        after = after._replace(distrusted=red)
    if after is not before:
        draft = draft._replace(health=after)
    if worst >= limits.health_yellow_breaches:
        side = SIDES[counts.index(worst)]
        why = f"{worst} {side} breaches in the last {min(after.judged, limits.health_window)} forecasts"
        draft = draft.holding(why).note(health, f"{'red' if red else 'yellow'}: {why}")
        if red:
            draft = draft.strike(health, _MODELS, why)
    return _drift(case, draft)


def _drift(case: Inputs, draft: Draft) -> Draft:
    drift, limits = getattr(case.candidates.champion, "drift", 0.0), case.limits
    if is_number(drift) and drift < limits.drift_yellow:
        return draft
    shown = f"{drift:.2f}" if is_number(drift) else repr(drift)
    why = f"the inputs have drifted by {shown} from what the model was fitted on"
    draft = draft.holding(why).note(health, why)
    # Only this forecast is in doubt: the last good one was made on inputs that were not.
    return draft if is_number(drift) and drift < limits.drift_red else draft.strike(health, _MODELS[:1], why)


def _judged(case: Inputs, draft: Draft, known: Health) -> Health:
    """Whether the forecast that waits has matured, and how."""
    waiting, bar_s, horizons_s = known.waiting, case.market.last_close_s, known_horizons_s(case)
    if waiting is None or horizons_s is None or not is_time(bar_s):
        return known
    late_s = bar_s - waiting.time_s - horizons_s[1]
    if late_s < 0 and bar_s >= waiting.time_s:
        return known
    if draft.close is None or not 0 <= late_s < (known_interval_s(case) or 0.0):
        return known._replace(waiting=None)
    rise = math.log(draft.close) - math.log(waiting.close)
    number, oldest = known.judged + 1, known.judged + 1 - case.limits.health_window
    (long, short), (long_var, short_var) = known.breaches, waiting.var
    breaches = (
        _counted(long, -rise > long_var, number, oldest),
        _counted(short, rise > short_var, number, oldest),
    )
    return Health(number, breaches, None, known.distrusted)


def _counted(old: tuple[int, ...], breached: bool, number: int, oldest: int) -> tuple[int, ...]:
    """The numbers of the breaches within the window, with this one where it is one."""
    if old and old[0] <= oldest:
        old = tuple(n for n in old if n > oldest)
    return (*old, number) if breached else old


def _waiting(case: Inputs, draft: Draft, known: Health) -> Health:
    """Put the champion's forecast of the newest bar on trial, where none is."""
    champion, bar_s = case.candidates.champion, case.market.last_close_s
    if known.waiting is not None or champion is None or draft.close is None or not is_time(bar_s):
        return known
    if getattr(champion, "made_at_s", None) != bar_s or not is_rates(champion.var):
        return known
    judged = Judged(bar_s, draft.close, (champion.var[MAINTENANCE[0]], champion.var[MAINTENANCE[1]]))
    return known._replace(waiting=judged)
