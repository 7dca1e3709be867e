"""Times as they are typed."""

from __future__ import annotations

import pandas as pd


def parse_time(text: str) -> pd.Timestamp:
    """A time in ISO 8601; without a zone it is UTC. Raises ``ValueError``."""
    try:
        time = pd.Timestamp(text)
    except ValueError as error:
        raise ValueError(f"time {text!r} is not understood; write 2025-09-01 or 2025-09-01T12:00Z") from error
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")


def parse_day(text: str) -> str:
    """A day as ``2025-09-01``. Raises ``ValueError``."""
    time = parse_time(text)
    if time != time.normalize():
        raise ValueError(f"day {text!r} has a time of day; write 2025-09-01")
    return str(time.date().isoformat())
