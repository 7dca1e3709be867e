"""Inputs of a model in the words of a trader: "taker selling over 1 h 3.1 standard deviations above normal".

An input's name is read as ``[market_|leader_]base[_window][_at_resolution]``: whose it is, what is measured,
over how long, and from which finer bars. ``models.phrases`` has a phrase a base, and a name that cannot be
read so is refused, so that no input is without words. "Normal" is the mean of the training window; the
deviations are those of that window.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache

from models.phrases import MONTHLY, PHRASES, RELATIVE, Phrase

_OWNERS = {"market_": "the market's ", "leader_": "the leading contract's "}
_DURATION = r"(\d+(?:s|min|m|h|d|w))"
#: ``now`` is the newest bar.
_WINDOW = r"now|\d+(?:s|min|m|h|d|w)"
_UNITS = {"s": "s", "m": "min", "min": "min", "h": "h", "d": "day", "w": "week"}


@cache
def phrase_of(name: str) -> Phrase:
    """The phrase of an input, its window filled in. Raises ``ValueError`` for a name that cannot be read."""
    found = re.fullmatch(rf"(.+)_at_{_DURATION}", name)
    if found is not None:
        return _with(phrase_of(found[1]), "", f" on {_length(found[2])} bars")
    own = _irregular(name) or _regular(name)
    if own is not None:
        return own
    for prefix, owner in _OWNERS.items():
        rest = name.removeprefix(prefix)
        measured = None if rest == name else _regular(rest)
        if measured is not None:
            return _with(measured, owner, "")
    raise ValueError(
        f"input {name!r} has no words; write a phrase for what it measures into models/phrases.py, or name "
        f"it [market_|leader_]base[_window][_at_resolution] with a base that has one"
    )


def _irregular(name: str) -> Phrase | None:
    """Names that hold more than a window."""
    if found := re.fullmatch(rf"usual_{_DURATION}_{_DURATION}", name):
        return Phrase(
            f"moves in the same {_length(found[1])} of the {_length(found[2])} before", against=RELATIVE
        )
    if found := re.fullmatch(r"move_lag_(\d+)", name):
        bars = "1 bar" if found[1] == "1" else f"{found[1]} bars"
        return Phrase(f"size of the move {bars} before the newest", against=RELATIVE)
    if found := re.fullmatch(r"new_york_(\d+)h", name):
        hours = f"{found[1]} to {int(found[1]) + 1} o'clock in New York"
        return Phrase(hours, f"not {hours}", "flag")
    if found := re.fullmatch(r"(market_)?regime_([a-z]+)", name):
        return Phrase(f"probability of {found[2]}{' in the market' if found[1] else ''}", form="probability")
    if found := re.fullmatch(rf"market_correlation_{_DURATION}", name):
        return Phrase(f"correlation within the market over {_length(found[1])}")
    if found := re.fullmatch(rf"(book_(?:depth|imbalance|one_sidedness))_(\d+)_({_WINDOW})", name):
        levels = " at the best prices" if found[2] == "1" else f" in the best {found[2]} levels"
        return _with(_filled(PHRASES[found[1]], _words_of(found[3])), "", levels)
    if name == "hour_profile":
        return _filled(PHRASES[name], _words_of("1h"))
    return None


def _regular(name: str) -> Phrase | None:
    whole = PHRASES.get(name)
    if whole is not None and "{w}" not in whole.text:
        return whole
    found = re.fullmatch(rf"(.+)_({_WINDOW})", name)
    base = None if found is None else PHRASES.get(found[1])
    if found is None or base is None or "{w}" not in base.text:
        return None
    month = found[1] in MONTHLY and found[2] == "1m"
    return _filled(base, "30 days" if month else _words_of(found[2]))


def _filled(phrase: Phrase, words: str) -> Phrase:
    def fill(text: str) -> str:
        return text.format(w=words).replace("over now", "now")

    opposite = None if phrase.opposite is None else fill(phrase.opposite)
    return replace(phrase, text=fill(phrase.text), opposite=opposite)


def _with(phrase: Phrase, before: str, after: str) -> Phrase:
    opposite = None if phrase.opposite is None else f"{before}{phrase.opposite}{after}"
    return replace(phrase, text=f"{before}{phrase.text}{after}", opposite=opposite)


def _words_of(window: str) -> str:
    return "now" if window == "now" else _length(window)


def _length(duration: str) -> str:
    found = re.fullmatch(r"(\d+)(\D+)", duration)
    assert found is not None, duration
    number, unit = found[1], _UNITS[found[2]]
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
            return phrase.words(effect < 0)
        case "flag":
            return phrase.words(value < 0.5)
        case "probability":
            return f"{phrase.text} {value:.2f}"
        case "times":
            return f"{phrase.text} {math.exp(effect):.1f} times its usual"
        case "deviations":
            return _deviations(phrase, value, score)


def _deviations(phrase: Phrase, value: float, score: float) -> str:
    if math.isnan(value):
        return f"{phrase.words()} unknown"
    text = phrase.words(value < 0)
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
