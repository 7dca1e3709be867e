"""Validity (rules 1, 5, 6, 7, 9): which rungs may answer, judged before any number is used.

Also ``open_case``, which settles the clock: a rule may rely on a time that is a number and never runs
backwards within what the engine remembers.
"""

from __future__ import annotations

from dataclasses import replace

from models.margin.draft import Draft, known_interval_s, rule, validity_s
from models.margin.types import (
    MODES,
    RUNGS,
    VALUES,
    ZEROS,
    Candidate,
    EngineState,
    Inputs,
    Rates,
    is_number,
    is_rates,
    is_time,
)


def open_case(inputs: Inputs) -> tuple[Inputs, Draft]:
    """The case with its clock settled, and an empty draft.

    A clock that jumped back takes the memory with it: all remembered times move back by the jump, so that the
    windows of rule 10 neither empty nor fill, and nothing falls at this decision. Without a clock the feed
    counts as dead, and time stands still.
    """
    state, now_s = inputs.state, inputs.now_s
    mode, hold = "fresh", ""
    if not is_time(now_s):
        mode, hold = "dead", f"the clock shows {now_s!r}, which is not a time"
        now_s = state.served[-1].time_s if state.served else 0.0
    elif state.served and now_s < state.served[-1].time_s:
        jump_s = state.served[-1].time_s - now_s
        mode, hold = "degraded", f"the clock jumped back by {jump_s:g} s"
        state = _earlier(state, jump_s, now_s)
    case = replace(inputs, state=state, now_s=now_s) if hold else inputs
    forecast = tuple(r for r in RUNGS[:3] if getattr(inputs.candidates, r, None) is not None)
    draft = Draft(
        standing=(*forecast, "static", "cap"),
        base_rates=ZEROS,
        close=inputs.market.close if is_number(inputs.market.close) and inputs.market.close > 0 else None,
        mode=mode,
        hold=hold,
        urgent="",
        rung="cap",
        required=ZEROS,
        rates=ZEROS,
        var=None,
        model_version="",
        valid_until_s=now_s,
        again=False,
        traces=(),
        asked=None,
        out_of_band=state.out_of_band,
        breaker_until_s=state.breaker_until_s,
        resumed_s=state.resumed_s,
        waiting_s=state.waiting_s,
        buffer=state.buffer,
        health=state.health,
    )
    return case, draft


def _earlier(state: EngineState, jump_s: float, now_s: float) -> EngineState:
    """The state with every remembered time moved back by the jump, but those of bars, which name the bar."""

    def back(time_s: float | None) -> float | None:
        return None if time_s is None else time_s - jump_s

    a, b, c, d = map(back, state.waiting_s)
    since_s = state.since_s
    if since_s is not None:
        e, f, g, h = (time_s - jump_s for time_s in since_s)
        since_s = e, f, g, h
    return replace(
        state,
        # The last entry lands on now exactly; rounding may not leave the others behind it.
        served=tuple(s._replace(time_s=min(s.time_s - jump_s, now_s)) for s in state.served),
        open=tuple(o._replace(time_s=min(o.time_s - jump_s, now_s)) for o in state.open),
        valid_until_s=back(state.valid_until_s),
        breaker_until_s=back(state.breaker_until_s),
        resumed_s=back(state.resumed_s),
        waiting_s=(a, b, c, d),
        since_s=since_s,
    )


@rule(1, "refuse what is not a number", "validity")
def numbers(case: Inputs, draft: Draft) -> Draft:
    """Strike a rung whose requirement, VaR or times are not finite and positive; with nothing usable, leave
    the cap.

    An unknown symbol leaves only the cap. Unusable base rates (not finite, not positive, above the cap rate,
    maintenance above initial) are replaced by the last usable ones; where none were ever known only the cap
    is left, and the base is taken to be ``cap_rate / cap_multiplier``, so that rate and multiplier are both
    at their caps.
    """
    market, limits = case.market, case.limits
    for rung in ("champion", "last_good", "rules"):
        candidate = getattr(case.candidates, rung, None)
        fault = "" if candidate is None else _fault(candidate, rung)
        if fault:
            draft = draft.strike(numbers, (rung,), fault)
    base = usable_base_rates(case)
    if base != market.base_rates:
        instead = "the last usable ones stand in" if base else "there are none to stand in"
        draft = draft.note(numbers, f"base rates {market.base_rates!r} are not usable; {instead}")
    if base is None:
        unknown = limits.cap_rate / limits.cap_multiplier
        base = (unknown, unknown, unknown, unknown)
        draft = draft.strike(numbers, RUNGS[:-1], "no base rate is known")
    if market.known_symbol is not True:
        draft = draft.strike(numbers, RUNGS[:-1], "the symbol is unknown")
    return draft._replace(base_rates=base)


def _fault(candidate: object, rung: str) -> str:
    if not isinstance(candidate, Candidate):
        return f"{candidate!r} is not a candidate"
    if candidate.rung != rung:
        return f"it says it is the {candidate.rung!r} rung"
    for name, values in (("requirement", candidate.requirement), ("VaR", candidate.var)):
        if is_rates(values):
            continue
        if not isinstance(values, tuple) or len(values) != len(VALUES):
            return f"{name} has to be {len(VALUES)} numbers and is {values!r}"
        i = next(i for i, v in enumerate(values) if not (is_number(v) and v > 0))
        return f"{name} of {' '.join(VALUES[i])} is {values[i]!r}, not a finite number above 0"
    for name, time_s in (("made_at_s", candidate.made_at_s), ("valid_until_s", candidate.valid_until_s)):
        if not is_time(time_s):
            return f"{name} is {time_s!r}, not a time in seconds"
    version: object = candidate.model_version
    if not isinstance(version, str):
        return f"model_version is {version!r}, not a text"
    return ""


def usable_base_rates(case: Inputs) -> Rates | None:
    """The base rates that arrived; if they cannot be used, the last that could; None where there were
    none.
    """
    for base in (case.market.base_rates, case.state.base_rates):
        if is_rates(base) and max(base) <= case.limits.cap_rate and base[0] >= base[1] and base[2] >= base[3]:
            return base
    return None


@rule(5, "prediction expires", "validity")
def expiry(case: Inputs, draft: Draft) -> Draft:
    """Strike a forecast past its own ``valid_until_s``, or past the longest that the limits allow.

    The time is the newest instant that is known, the clock or the newest bar, so that a clock behind the bars
    does not make a forecast younger. One made further ahead of that instant than a forecast lasts is struck
    too.
    """
    now_s = case.now_s
    if is_time(case.market.last_close_s):
        now_s = max(now_s, case.market.last_close_s)
    interval_s = known_interval_s(case) or 0.0
    for rung in draft.standing[: RUNGS.index("static")]:
        candidate = getattr(case.candidates, rung, None)
        if candidate is None:
            continue
        bars = case.limits.dead_after_bars if rung == "rules" else None
        lasts_s = validity_s(interval_s, case.limits, bars=bars)
        until_s = min(candidate.valid_until_s, candidate.made_at_s + lasts_s)
        if now_s > until_s:
            draft = draft.strike(expiry, (rung,), f"it expired {now_s - until_s:g} s ago")
        elif candidate.made_at_s > now_s + lasts_s:
            ahead_s = candidate.made_at_s - now_s
            draft = draft.strike(expiry, (rung,), f"it was made {ahead_s:g} s ahead of the clock")
    return draft


@rule(6, "stale feed", "validity")
def feed_age(case: Inputs, draft: Draft) -> Draft:
    """Set the mode by the age of the newest bar; unless it is fresh nothing falls, and stale rungs are
    struck.

    Just before the next bar the newest one is an interval old, and a little older until that next one has
    arrived (``feed_grace_bars``). Stale strikes the models, dead also the rules rung. A newest bar ahead of
    the clock says that the clock is behind: degraded, no worse.
    """
    market, limits = case.market, case.limits
    interval_s = known_interval_s(case)
    if interval_s is None:
        mode, why = "dead", f"the bar interval is {market.interval_s!r}, which is not within 0 to a day"
    elif not is_time(market.last_close_s):
        mode, why = "dead", "there is no bar"
    else:
        bars_old = (case.now_s - market.last_close_s) / interval_s
        mode, why = "dead", f"the newest bar is {bars_old:.2f} bars old"
        past = bars_old - limits.feed_grace_bars
        if bars_old < -limits.feed_grace_bars:
            mode, why = "degraded", f"the newest bar is {-bars_old:.2f} bars ahead of the clock"
        elif past <= limits.degraded_after_bars:
            mode, why = "fresh", ""
        elif past <= limits.stale_after_bars:
            mode = "degraded"
        elif past <= limits.dead_after_bars:
            mode = "stale"
    if draft.hold and MODES.index(mode) <= MODES.index(draft.mode):
        mode, why = draft.mode, draft.hold
    if mode == "fresh":
        return draft
    draft = draft._replace(mode=mode, hold=why).note(feed_age, f"the feed is {mode}: {why}")
    if mode in ("stale", "dead"):
        draft = draft.strike(feed_age, ("champion", "last_good"), f"the feed is {mode}")
    if mode == "dead":
        draft = draft.strike(feed_age, ("rules",), "the feed is dead")
    return draft


@rule(7, "feeds disagree", "validity")
def feeds(case: Inputs, draft: Draft) -> Draft:
    """Take the median of what the sources say for the newest close; where one lies more than
    ``feeds_degraded_ratio`` from it nothing falls, beyond ``feeds_refused_ratio`` no model is believed."""
    others = case.market.other_closes
    if not others or not isinstance(others, tuple):
        return draft
    own = () if draft.close is None else (draft.close,)
    closes = sorted([*own, *(c for c in others if is_number(c) and c > 0)])
    if len(closes) < 2:
        return draft
    middle = len(closes) // 2
    below = closes[middle] if len(closes) % 2 else closes[middle - 1]
    median = below + (closes[middle] - below) / 2.0  # of two huge ones, no sum that overflows
    apart = max(closes[-1] / median - 1.0, 1.0 - closes[0] / median)
    draft = draft._replace(close=median)
    if apart <= case.limits.feeds_degraded_ratio:
        return draft
    why = f"sources lie up to {apart:.2%} from their median of {median:g}"
    mode = draft.mode if draft.mode != "fresh" else "degraded"
    draft = draft._replace(mode=mode).holding(why).note(feeds, why)
    if apart > case.limits.feeds_refused_ratio:
        draft = draft.strike(feeds, ("champion", "last_good"), why)
    return draft


@rule(9, "warm-up", "validity")
def warm_up(case: Inputs, draft: Draft) -> Draft:
    """Strike the models below ``model_warm_up_bars`` bars of history, the rules rung below
    ``rules_warm_up_bars``.
    """
    bars = case.market.bars if is_number(case.market.bars) else 0
    limits = case.limits
    if bars < limits.model_warm_up_bars:
        why = f"{bars} bars of history, a model needs {limits.model_warm_up_bars}"
        draft = draft.strike(warm_up, ("champion", "last_good"), why)
    if bars < limits.rules_warm_up_bars:
        why = f"{bars} bars of history, the rules rung needs {limits.rules_warm_up_bars}"
        draft = draft.strike(warm_up, ("rules",), why)
    return draft
