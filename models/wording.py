"""Inputs of a model in the words of a trader: "taker selling over 1 h 3.1 standard deviations above normal".

An input's name is read as ``[market_|leader_]base[_window][_at_resolution]``: whose it is, what is measured,
over how long, and from which finer bars. ``_PHRASES`` has a phrase a base, and a name that cannot be read so
is refused, so that no input is without words. "Normal" is the mean of the training window; the deviations are
those of that window.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

#: How the value is told: in standard deviations from normal; not at all, as the sine of an hour, of which
#: several have one phrase and belong together; as one of two words; as a probability; as a multiple.
Form = Literal["deviations", "unmeasured", "flag", "probability", "times"]


@dataclass(frozen=True)
class Phrase:
    """What is measured, ``{w}`` standing for its window. ``opposite`` is what a value below 0 is called (of a
    flag: below one half; of what is not measured: an effect below 0); None: the same."""

    text: str
    opposite: str | None = None
    form: Form = "deviations"


_CURRENT = "against its current level"
_PHRASES: dict[str, Phrase] = {
    # volatility
    "ewma_volatility": Phrase("volatility", form="times"),
    "log_volatility": Phrase("level of volatility"),
    "har": Phrase(f"volatility over {{w}} {_CURRENT}"),
    "return": Phrase("rise over {w}", "fall over {w}"),
    "downside": Phrase("falls over {w}"),
    "upside": Phrase("rises over {w}"),
    "bipower": Phrase(f"volatility without jumps over {{w}} {_CURRENT}"),
    "jump_share": Phrase("share of jumps in the moves over {w}"),
    "largest_move": Phrase("largest move over {w}"),
    "parkinson": Phrase("high-low range over {w}"),
    "garman_klass": Phrase("high-low range (Garman-Klass) over {w}"),
    "rogers_satchell": Phrase("high-low range (Rogers-Satchell) over {w}"),
    # Never above 0: its own opposite.
    "drawdown": Phrase("fall from the highest close of {w}", "fall from the highest close of {w}"),
    "rally": Phrase("rise from the lowest close of {w}"),
    "above_low": Phrase("rebound from the low of {w}"),
    "below_high": Phrase("retreat from the high of {w}"),
    "volatility_of_volatility": Phrase("change of volatility over {w}"),
    "autocorrelation": Phrase("moves that went on over {w}", "moves that were taken back over {w}"),
    # flow
    "volume": Phrase("volume over {w}"),
    "trade_intensity": Phrase("number of trades over {w}"),
    "trade_size": Phrase("size of trades over {w}"),
    "imbalance": Phrase("taker buying over {w}", "taker selling over {w}"),
    "flow_persistence": Phrase("persistence of taker flow over {w}"),
    "toxicity": Phrase("one-sided volume over {w}"),
    "illiquidity": Phrase("price move for the volume over {w}"),
    "impact": Phrase("price impact of takers over {w}"),
    # calendar and sessions
    "hour_sin": Phrase("the hour of the day", form="unmeasured"),
    "hour_cos": Phrase("the hour of the day", form="unmeasured"),
    "new_york_sin": Phrase("the hour of the day", form="unmeasured"),
    "new_york_cos": Phrase("the hour of the day", form="unmeasured"),
    "new_york_sin_2": Phrase("the hour of the day", form="unmeasured"),
    "new_york_cos_2": Phrase("the hour of the day", form="unmeasured"),
    "week_sin": Phrase("the day of the week", form="unmeasured"),
    "week_cos": Phrase("the day of the week", form="unmeasured"),
    "weekend": Phrase("a weekend", "no weekend", "flag"),
    "business_day": Phrase("a business day in New York", "no business day in New York", "flag"),
    "hour_profile": Phrase("usual size of moves in the coming {w}"),
    "hour_profile_past": Phrase("usual size of moves in the past 4 h"),
    # spillover
    "volatility": Phrase("volatility against its 30 days"),
    "relative_volatility": Phrase("volatility raised beyond the market's"),
    "range": Phrase("high-low range over {w}"),
    "dispersion": Phrase("spread between the contracts' returns over {w}"),
    "correlation": Phrase("correlation with the market over {w}"),
    # garch
    "garch_variance": Phrase("GARCH variance"),
    "garch_omega": Phrase("GARCH's level of variance"),
    "garch_persistence": Phrase("GARCH's persistence of variance"),
    # what is no input, but moves a margin
    "calibration": Phrase(
        "more losses beyond the forecast of late", "fewer losses beyond the forecast of late", "unmeasured"
    ),
}
_OWNERS = {"market_": "the market's ", "leader_": "the leading contract's "}
_DURATION = r"(\d+(?:s|m|h|d|w))"
_UNITS = {"s": "s", "m": "min", "h": "h", "d": "day", "w": "week"}
#: A window of the features that is a month, see ``features.volatility.WINDOWS``.
_MONTH = "1m"


@cache
def phrase_of(name: str) -> Phrase:
    """The phrase of an input, its window filled in. Raises ``ValueError`` for a name that cannot be read."""
    found = re.fullmatch(rf"(.+)_at_{_DURATION}", name)
    if found is not None:
        return _with(phrase_of(found[1]), "", f" on {_bars(found[2])} bars")
    own = _irregular(name) or _regular(name)
    if own is not None:
        return own
    for prefix, owner in _OWNERS.items():
        rest = name.removeprefix(prefix)
        measured = None if rest == name else _regular(rest)
        if measured is not None:
            return _with(measured, owner, "")
    raise ValueError(
        f"input {name!r} has no words; write a phrase for what it measures into models/wording.py, or name "
        f"it [market_|leader_]base[_window][_at_resolution] with a base that has one"
    )


def _irregular(name: str) -> Phrase | None:
    """Names that hold more than a window."""
    if found := re.fullmatch(rf"usual_{_DURATION}_{_DURATION}", name):
        return Phrase(f"moves in the same {_window(found[1])} of the {_window(found[2])} before")
    if found := re.fullmatch(r"move_lag_(\d+)", name):
        bars = "1 bar" if found[1] == "1" else f"{found[1]} bars"
        return Phrase(f"size of the move {bars} before the newest")
    if found := re.fullmatch(r"new_york_(\d+)h", name):
        hours = f"{found[1]} to {int(found[1]) + 1} o'clock in New York"
        return Phrase(hours, f"not {hours}", "flag")
    if found := re.fullmatch(r"(market_)?regime_([a-z]+)", name):
        return Phrase(f"probability of {found[2]}{' in the market' if found[1] else ''}", form="probability")
    if found := re.fullmatch(rf"market_correlation_{_DURATION}", name):
        return Phrase(f"correlation within the market over {_window(found[1])}")
    if name == "hour_profile":
        return _filled(_PHRASES[name], "1h")
    return None


def _regular(name: str) -> Phrase | None:
    whole = _PHRASES.get(name)
    if whole is not None and "{w}" not in whole.text:
        return whole
    found = re.fullmatch(rf"(.+)_{_DURATION}", name)
    base = None if found is None else _PHRASES.get(found[1])
    return None if found is None or base is None or "{w}" not in base.text else _filled(base, found[2])


def _filled(phrase: Phrase, window: str) -> Phrase:
    words = _window(window)
    opposite = None if phrase.opposite is None else phrase.opposite.format(w=words)
    return replace(phrase, text=phrase.text.format(w=words), opposite=opposite)


def _with(phrase: Phrase, before: str, after: str) -> Phrase:
    opposite = None if phrase.opposite is None else f"{before}{phrase.opposite}{after}"
    return replace(phrase, text=f"{before}{phrase.text}{after}", opposite=opposite)


def _window(duration: str) -> str:
    return "30 days" if duration == _MONTH else _bars(duration)


def _bars(duration: str) -> str:
    number, unit = duration[:-1], _UNITS[duration[-1]]
    many = number != "1" and unit in ("day", "week")
    return f"{number} {unit}{'s' if many else ''}"


def state(name: str, value: float, score: float, effect: float) -> str:
    """What an input says now.

    Args:
        name: of the input.
        value: as the feature gives it; NaN where it is missing.
        score: in standard deviations from the training mean.
        effect: on ln ES; of the volatility scale, ln(now / usual).
    """
    phrase = phrase_of(name)
    match phrase.form:
        case "unmeasured":
            return phrase.text if effect >= 0 or phrase.opposite is None else phrase.opposite
        case "flag":
            return phrase.text if value >= 0.5 or phrase.opposite is None else phrase.opposite
        case "probability":
            return f"{phrase.text} {value:.2f}"
        case "times":
            return f"{phrase.text} {math.exp(effect):.1f} times its usual"
        case "deviations":
            return _deviations(phrase, value, score)


def _deviations(phrase: Phrase, value: float, score: float) -> str:
    if math.isnan(value):
        return f"{phrase.text} unknown"
    text = phrase.opposite if value < 0 and phrase.opposite is not None else phrase.text
    if abs(score) < 0.05:
        return f"{text} as normal"
    # What has two names is told by how far it lies on the side that it is named for.
    farther = score * (-1 if value < 0 and phrase.opposite is not None else 1)
    unit = "deviation" if f"{abs(score):.1f}" == "1.0" else "deviations"
    return f"{text} {abs(score):.1f} standard {unit} {'above' if farther > 0 else 'below'} normal"


def consequence(rate_effect: float, horizon: str, side: str) -> str:
    """What that does to a margin rate, as a fraction of it: "raises the 1h margin of longs by 12 %"."""
    size = abs(100 * rate_effect)
    if size < 0.05:
        return f"hardly moves the {horizon} margin of {side}s"
    number = f"{size:.0f}" if size >= 9.95 else f"{size:.1f}"
    return f"{'raises' if rate_effect > 0 else 'lowers'} the {horizon} margin of {side}s by {number} %"
