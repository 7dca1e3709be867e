"""What feeds and clocks have done: a pause, the same bar again, an hour's delay, a clock that jumps back.

Bars are of a quarter of an hour; the engine decides at every close and every five minutes between.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.margin.scenarios.background import (
    Background,
    background,
    hours,
    newest_bar,
    seconds,
    seen_at,
    ticks,
)
from training.margin.scenarios.calm import HOUR_S
from training.margin.scenarios.tape import Tape

EVERY_S = 300.0


def resume_after_a_pause() -> Tape:
    """75 minutes without a trade; then the price is 0.6 % lower, and the champion asks for 1.7 times as
    much."""
    made = _market(7, "2026-02-03 07:00", "2026-02-03 16:00")
    halt, resumed = made.bar("2026-02-03 10:00"), made.bar("2026-02-03 11:15")
    start = float(made.closes[halt])
    made = made.led_through([("2026-02-03 10:00", start), ("2026-02-03 11:15", 0.994 * start)])
    made.closes[halt + 1 : resumed] = np.nan
    volatility = made.volatility.copy()
    volatility[resumed:] *= 1.7
    contract = made.contract(volatility, bars_late=0)
    times = ticks("2026-02-03 07:00", "2026-02-03 16:00", EVERY_S)
    found = [seen_at(contract, newest_bar(contract, t), float(t)) for t in times]
    return Tape(
        name="resume-after-a-pause",
        title="Resume after a pause",
        contract="constructed",
        moments=tuple(found),
        side="long",
        marks=((float(made.times_s[halt]), "halt"), (float(made.times_s[resumed]), "trading again")),
    )


def repeated_bar() -> Tape:
    """For three hours the feed sends the bar of 10:00 again and again, each time as if it were new. To the
    champion that looks like a price that has come to rest: it asks for a tenth less each time."""
    made = _market(1, "2026-02-03 06:00", "2026-02-03 18:00")
    stuck, free = made.bar("2026-02-03 10:00"), made.bar("2026-02-03 13:00")
    contract = made.contract(made.volatility, bars_late=0)
    found = []
    for now_s in ticks("2026-02-03 06:00", "2026-02-03 18:00", EVERY_S):
        true = newest_bar(contract, float(now_s))
        moment = seen_at(contract, stuck if stuck <= true < free else true, float(now_s))
        if stuck < true < free and moment.champion is not None:
            less = 0.9 ** (true - stuck)
            asked = moment.champion
            a, b, c, d = (less * rate for rate in asked.requirement)
            moment = replace(
                moment,
                champion=replace(asked, requirement=(a, b, c, d), made_at_s=float(made.times_s[true])),
            )
        found.append(moment)
    return Tape(
        name="repeated-bar",
        title="A feed that repeats the same bar",
        contract="constructed",
        moments=tuple(found),
        side="long",
        marks=(
            (float(made.times_s[stuck]), "same bar from here"),
            (float(made.times_s[free]), "feed is back"),
        ),
        price_of="true price, USD",
    )


def feed_one_hour_behind() -> Tape:
    """From 10:00 to 16:00 every bar arrives an hour late; from 12:00 to 12:30 the price falls by 3 %."""
    made = _market(11, "2026-02-03 06:00", "2026-02-03 22:00")
    late, caught_up = made.bar("2026-02-03 10:00"), made.bar("2026-02-03 16:00")
    start = float(made.closes[made.bar("2026-02-03 12:00")])
    made = made.led_through([("2026-02-03 12:00", start), ("2026-02-03 12:30", 0.97 * start)])
    volatility = made.volatility.copy()
    fell = made.bar("2026-02-03 12:00")
    since = np.arange(len(volatility) - fell) * made.interval_s / HOUR_S
    volatility[fell:] *= 1 + 0.8 * 0.5 ** (since / 2)
    contract = made.contract(volatility)
    found = []
    for now_s in ticks("2026-02-03 06:00", "2026-02-03 22:00", EVERY_S):
        true = newest_bar(contract, float(now_s))
        behind = true if true < late or true >= caught_up else max(true - 4, late - 1)
        found.append(seen_at(contract, behind, float(now_s)))
    return Tape(
        name="feed-one-hour-behind",
        title="A feed one hour behind",
        contract="constructed",
        moments=tuple(found),
        side="long",
        marks=(
            (float(made.times_s[late]), "an hour late"),
            (float(made.times_s[fell]), "falls 3 %"),
            (float(made.times_s[caught_up]), "on time"),
        ),
        price_of="true price, USD",
    )


def clock_that_jumps_back() -> Tape:
    """In the middle of a raise the clock is set back by 50 minutes; an hour later it is right again."""
    made = _market(5, "2026-02-03 06:00", "2026-02-03 18:00")
    volatility = made.volatility.copy()
    rise = made.bar("2026-02-03 09:00")
    volatility[rise:] *= 1.8
    contract = made.contract(volatility, bars_late=0)
    back_s, right_s, wrong_s = seconds("2026-02-03 09:30"), seconds("2026-02-03 10:30"), hours(5 / 6)
    found = []
    for now_s in ticks("2026-02-03 06:00", "2026-02-03 18:00", EVERY_S):
        moment = seen_at(contract, newest_bar(contract, float(now_s)), float(now_s))
        if back_s <= now_s < right_s:
            moment = replace(moment, now_s=float(now_s) - wrong_s, true_s=float(now_s))
        found.append(moment)
    return Tape(
        name="clock-that-jumps-back",
        title="A clock that jumps back",
        contract="constructed",
        moments=tuple(found),
        side="long",
        marks=(
            (float(made.times_s[rise]), "asks 1.8 x"),
            (back_s, "50 min back"),
            (right_s, "right again"),
        ),
    )


def _market(seed: int, begins: str, ends: str) -> Background:
    return background(begins, ends, seed=seed, hourly_volatility=0.005)
