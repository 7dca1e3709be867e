"""Durations as people write them ("15m", "4h", "1d") and as the code holds them (``pandas.Timedelta``)."""

import re

import pandas as pd

_PATTERN = re.compile(r"^\s*(\d+)\s*(s|m|min|h|d)\s*$", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_duration(text: str | pd.Timedelta) -> pd.Timedelta:
    """Read a positive whole duration; ``m`` is minutes. Raises ``ValueError`` naming the text and the
    form."""
    if isinstance(text, pd.Timedelta):
        return text
    match = _PATTERN.match(text)
    if match is None or int(match[1]) == 0:
        raise ValueError(
            f"duration {text!r} is not understood; write a positive number and s, m, h or d, as in '15m'"
        )
    return pd.Timedelta(seconds=int(match[1]) * _SECONDS[match[2].lower()])


def format_duration(duration: pd.Timedelta) -> str:
    """The shortest exact text: 3600 s is ``1h``, 5400 s is ``90m``, 86400 s is ``24h``; days start at two."""
    seconds = int(duration.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0 and (unit != "d" or seconds > size):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def whole_bars(duration: pd.Timedelta, interval: pd.Timedelta) -> int:
    """How many bars make up a horizon. Raises ``ValueError`` where it is not a whole number of bars."""
    bars, rest = divmod(duration, interval)
    if bars < 1 or rest != pd.Timedelta(0):
        raise ValueError(
            f"horizon {format_duration(duration)} is not a whole number of {format_duration(interval)} bars; "
            f"choose a multiple of the bar interval"
        )
    return int(bars)


def window_bars(duration: pd.Timedelta, interval: pd.Timedelta) -> int:
    """How many bars a look-back window covers: rounded up, at least one."""
    return max(1, -int(-duration // interval))
