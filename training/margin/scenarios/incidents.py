"""What prices have done: a paired clamp, 10 October 2025 twice, and a print of 0.0001 twice.

Only the named points of a price are history; the path between them, the volatility and the venue are
constructed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.margin.overrides import Override, Overrides
from training.margin.scenarios.background import (
    Background,
    background,
    closing,
    hours,
    moments,
    seconds,
    seen_at,
)
from training.margin.scenarios.calm import HOUR_S
from training.margin.scenarios.contract import Contract
from training.margin.scenarios.tape import Tape

Array = NDArray[np.float64]

#: How far the champion of the paired clamp raises its forecast, within twice what the rules engine then asks.
PAIRED_RISE = 2.4
#: Beyond so many times the usual volatility the inputs of a model count as drifted, wholly.
FAR_OUT = 5.0
#: Parkinson (1980): the squared range of a bar over its variance.
_PARKINSON = 4 * math.log(2)


def paired_clamp() -> Tape:
    """A fall beyond the VaR of maintenance margin and within that of initial margin, while the champion asks
    for ``PAIRED_RISE`` times as much of both."""
    when = "2026-03-10 12:00"
    made = background("2026-03-10 06:00", "2026-03-10 22:00", seed=10, hourly_volatility=0.006)
    contract = made.contract(made.volatility, bars_late=0)
    at = made.bar(when)
    before = contract.champion(at - 1)
    assert before is not None and before.breaker is not None
    # Midway between the maintenance VaR and the nearer of initial VaR and circuit breaker.
    fall = (before.var[1] + min(before.var[0], before.breaker[0])) / 2
    start = float(made.closes[at - 1])
    made = made.led_through([("2026-03-10 11:45", start), (when, start * math.exp(-fall))])
    # Two hours of alarm, then half of it is gone every hour.
    alarm = np.ones(len(made.times_s))
    since = np.arange(len(alarm) - at) * made.interval_s / HOUR_S
    alarm[at:] = 1 + (PAIRED_RISE - 1) * np.where(since <= 2, 1.0, 0.5 ** (since - 2))
    contract = made.contract(made.volatility * alarm, bars_late=0)
    return Tape(
        name="paired-clamp",
        title="A paired clamp, as on 10 March 2026",
        contract="ETH (constructed)",
        moments=moments(contract),
        side="long",
        marks=((seconds(when), f"falls {-math.expm1(-fall):.1%}"),),
    )


def october_2025_bitcoin() -> Tape:
    """From 21:15 UTC BTC falls from 113,000 to 102,000 within the hour."""
    made = background("2025-10-10 12:00", "2025-10-11 12:00", seed=4, hourly_volatility=0.004)
    made = made.led_through(
        [
            ("2025-10-10 14:45", 121_000.0),
            ("2025-10-10 17:00", 118_500.0),
            ("2025-10-10 21:15", 113_000.0),
            ("2025-10-10 21:45", 105_500.0),
            ("2025-10-10 22:00", 102_000.0),
            ("2025-10-10 23:30", 111_500.0),
            ("2025-10-11 06:00", 112_500.0),
        ]
    )
    contract = made.contract(made.volatility * _crash_volatility(made))
    return Tape(
        name="october-2025-bitcoin",
        title="10 October 2025: BTC",
        contract="BTC (constructed)",
        moments=moments(contract),
        side="long",
        marks=((seconds("2025-10-10 21:15"), "113,000"), (seconds("2025-10-10 22:00"), "102,000")),
    )


def october_2025_usde() -> Tape:
    """One venue marks USDe at 0.65 from its own book, while two other sources stay near par."""
    made = background("2025-10-10 18:00", "2025-10-11 04:00", seed=12, hourly_volatility=0.0004)
    made = made.led_through(
        [
            ("2025-10-10 21:15", 0.9990),
            ("2025-10-10 22:00", 0.9985),
            ("2025-10-10 23:30", 0.9988),
            ("2025-10-11 03:00", 0.9992),
        ]
    )
    other = made.closes * 1.0004
    own = made.closes.copy()
    first, last = made.bar("2025-10-10 21:30"), made.bar("2025-10-10 22:30")
    own[first : last + 1] = (0.93, 0.72, 0.65, 0.81, 0.96)
    believed = np.median([own, made.closes, other], axis=0)
    # The champion reads the venue's own bars and nothing else, so it takes the print for a crash.
    shaken = _ewma(np.diff(np.log(own), prepend=np.log(own[0])) ** 2, made.interval_s)
    contract = Contract(
        made.times_s, own, made.begins, shaken, others=(made.closes, other), believed=believed
    )
    found = []
    for bar, moment in zip(range(made.begins, len(own)), moments(contract), strict=True):
        # Never was a stablecoin as restless: the model's inputs are far outside what it was fitted on.
        drift = float(shaken[bar] > FAR_OUT * made.volatility[bar])
        asked = moment.champion
        assert asked is not None
        found.append(replace(moment, champion=replace(asked, drift=drift)))
    return Tape(
        name="october-2025-usde",
        title="10 October 2025: USDe at 0.65 in one venue's own book",
        contract="USDe (constructed)",
        moments=tuple(found),
        side="long",
        marks=((float(made.times_s[first + 2]), "0.65 here, 0.9985 elsewhere"),),
        price_of="price in the venue's own book, USD",
    )


def print_within_a_bar() -> Tape:
    """LINK, 12 March 2020: a fall by a quarter within two hours, and in it a trade at 0.0001. The champion
    reads the range of the bars, the rules engine only their closes."""
    when = "2020-03-12 11:00"
    made = background(
        "2020-03-12 00:00", "2020-03-13 12:00", interval_s=HOUR_S, seed=2, hourly_volatility=0.009
    )
    made = made.led_through(
        [
            ("2020-03-12 00:00", 3.40),
            ("2020-03-12 10:00", 3.05),
            (when, 2.60),
            ("2020-03-12 12:00", 2.35),
            ("2020-03-13 12:00", 2.10),
        ]
    )
    squares = np.diff(np.log(made.closes), prepend=np.log(made.closes[0])) ** 2
    bar = made.bar(when)
    squares[bar] = math.log(made.closes[bar - 1] / 0.0001) ** 2 / _PARKINSON
    contract = made.contract(_ewma(squares, made.interval_s), bars_late=0)
    return Tape(
        name="print-within-a-bar",
        title="A print of 0.0001 within a bar, as of LINK on 12 March 2020",
        contract="LINK (constructed)",
        moments=moments(contract),
        side="long",
        marks=((seconds(when), "low 0.0001"),),
        price_of="close, USD",
    )


def print_as_a_close() -> Tape:
    """The same print, but as the close of a bar and with no second source. An operator forces the static rung
    until the bar has been corrected."""
    when = "2026-02-03 10:00"
    made = background(
        "2026-02-03 06:00", "2026-02-04 06:00", interval_s=HOUR_S, seed=12, hourly_volatility=0.006
    )
    made = made.led_through([("2026-02-03 09:00", 3.0)])
    bar, corrected = made.bar(when), made.bar("2026-02-03 18:00")
    closes = made.closes.copy()
    closes[bar] = 0.0001

    def seen_with(seen: Array) -> Contract:
        squares = np.diff(np.log(seen), prepend=np.log(seen[0])) ** 2
        return Contract(made.times_s, seen, made.begins, _ewma(squares, made.interval_s))

    wrong, right = seen_with(closes), seen_with(made.closes)
    ordered_s = seconds(when) + hours(0.5)
    order = Override(
        id="ORDER-1",
        kind="rung",
        reason="the close of 10:00 is a misprint; the bar is being corrected",
        expires_s=float(made.times_s[corrected]) + hours(1),
        rung="static",
    )
    found = [closing(wrong if b < corrected else right, b) for b in range(made.begins, len(made.times_s))]
    found.append(seen_at(wrong, bar, ordered_s))
    found = sorted(found, key=lambda m: m.now_s)
    found = [replace(m, overrides=Overrides((order,))) if m.now_s >= ordered_s else m for m in found]
    found = [replace(m, price=0.0001) if m.now_s in (seconds(when), ordered_s) else m for m in found]
    return Tape(
        name="print-as-a-close",
        title="A close of 0.0001, one source, and an order",
        contract="LINK (constructed)",
        moments=tuple(found),
        side="long",
        marks=(
            (seconds(when), "0.0001"),
            (ordered_s, "order"),
            (float(made.times_s[corrected]), "bar corrected"),
        ),
        price_of="close as it was sent, USD",
    )


def _crash_volatility(made: Background) -> Array:
    """Times the calm one: 1.5 after the news of 15:00, 8 in the hour of the crash, halved every 4 hours."""
    factor = np.ones(len(made.times_s))
    news, crash = made.bar("2025-10-10 15:00"), made.bar("2025-10-10 21:15")
    factor[news:crash] = 1.5
    since = np.arange(len(factor) - crash) * made.interval_s / HOUR_S
    factor[crash:] = 1 + 7 * np.where(since <= 1, 1.0, 0.5 ** ((since - 1) / 4))
    return factor


def _ewma(squares: Array, interval_s: float) -> Array:
    """Root of an exponentially weighted mean of squares, half of it the last six hours'."""
    keep = 0.5 ** (interval_s / hours(6))
    variances = np.empty_like(squares)
    variance = float(np.mean(squares[:96]))
    for bar, square in enumerate(squares):
        variance = keep * variance + (1 - keep) * float(square)
        variances[bar] = variance
    volatility: Array = np.sqrt(np.maximum(variances, 1e-14))
    return volatility
