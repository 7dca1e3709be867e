"""What time it is: the time of day, or the time of the bars.

Nothing in the room asks the machine for the time but through here. All times are seconds since 1970 UTC.
"""

from __future__ import annotations

import time
from typing import Literal, Protocol


class Clock(Protocol):
    """Tells the time, given the close of the newest bar (None before the first)."""

    #: Whether time passes without bars. Where it does, a bar that closes in the future is refused.
    runs_alone: bool

    def now_s(self, newest_close_s: float | None) -> float: ...


class WallClock:
    """The time of day."""

    runs_alone = True

    def now_s(self, newest_close_s: float | None) -> float:  # noqa: ARG002 - the protocol's form
        return time.time()


class BarsClock:
    """The close of the newest bar, for replays and demos; before the first bar, 1970."""

    runs_alone = False

    def now_s(self, newest_close_s: float | None) -> float:
        return 0.0 if newest_close_s is None else float(newest_close_s)


def clock_named(name: Literal["wall", "bars"]) -> Clock:
    """``wall`` or ``bars``."""
    return WallClock() if name == "wall" else BarsClock()
