"""What is usual of a symbol's trades: the size beyond which a trade is large, and the volume of a day.

Both come from the past alone. Time is cut into spans of ``usual_refresh_s``; when one ends, what was seen in
it joins a memory that halves every ``usual_half_life_s``, and the levels are set anew for the whole next
span. Sizes are remembered as a histogram with 16 bins an octave, so that a quantile is known to 1/16 of its
value or better and the memory is small whatever was traded. A hole (see ``TradeSettings.longest_silence_s``)
is no time in which nothing was traded: it does not count.

Sizes in base currency, times in nanoseconds since 1970 UTC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.trades.arrays import Array, Whole
from features.trades.settings import TradeSettings

NS = 1_000_000_000
_DAY_S = 86400.0

# The leading 16 bits of a positive float64 are its exponent and 4 bits of mantissa: equal steps within an
# octave, one integer shift a trade.
_SHIFT = 48


class Usual:
    """The levels that hold now: ``large_size`` (None: unknown) and ``day_volume`` (None: unknown)."""

    def __init__(self, settings: TradeSettings) -> None:
        self._settings = settings
        self.refresh_ns = round(settings.usual_refresh_s * NS)
        self.large_size: float | None = None
        self.day_volume: float | None = None
        # Memory of the spans that have ended: weight by bin, volume and seconds.
        self._weights: NDArray[np.float64] = np.zeros(0)
        self._first_bin = 0
        self._volume = self._seconds = 0.0
        # The span under way.
        self._since_ns: int | None = None
        self._seen: Whole = np.zeros(0, dtype="int64")
        self._seen_first = 0

    def span_end_ns(self, time_ns: int) -> int:
        """When the span that holds this time ends."""
        return (time_ns // self.refresh_ns + 1) * self.refresh_ns

    def begin(self, time_ns: int) -> None:
        """The first trade after nothing or after a hole."""
        self._since_ns = time_ns

    def see(self, sizes: Array) -> None:
        """Sizes of trades of the span under way."""
        bins = sizes.view("int64") >> _SHIFT
        least = int(bins.min())
        counts = np.bincount(bins - least)
        self._seen, self._seen_first = _added(self._seen, self._seen_first, counts, least)

    def end(self, time_ns: int, volume: float) -> None:
        """The span under way ended at ``time_ns``; ``volume`` was traded in it. Sets the levels."""
        assert self._since_ns is not None
        seconds = (time_ns - self._since_ns) / NS
        keep = 0.5 ** (seconds / self._settings.usual_half_life_s)
        self._weights, self._first_bin = _added(
            self._weights * keep, self._first_bin, self._seen.astype("float64"), self._seen_first
        )
        self._volume = self._volume * keep + volume
        self._seconds = self._seconds * keep + seconds
        self._since_ns, self._seen = time_ns, np.zeros(0, dtype="int64")
        if self._seconds >= self._settings.usual_warm_up_s:
            self.large_size = self._size_beyond(1 - self._settings.large_quantile)
            self.day_volume = self._volume * _DAY_S / self._seconds

    def _size_beyond(self, share: float) -> float:
        """The least edge of a bin at and above which lies at most this share of the trades."""
        above = np.cumsum(self._weights[::-1])[::-1]
        rare = above <= share * above[0]
        # Where no bin is rare enough (all trades of one size), large is what lies above them all.
        edge = self._first_bin + (int(rare.argmax()) if rare.any() else len(above))
        return float(np.array([edge << _SHIFT], dtype="int64").view("float64")[0])

    def to_json(self) -> dict[str, Any]:
        return {
            "large_size": self.large_size,
            "day_volume": self.day_volume,
            "weights": self._weights.tolist(),
            "first_bin": self._first_bin,
            "volume": self._volume,
            "seconds": self._seconds,
            "since_ns": self._since_ns,
            "seen": self._seen.tolist(),
            "seen_first": self._seen_first,
        }

    @classmethod
    def from_json(cls, settings: TradeSettings, content: dict[str, Any]) -> Usual:
        usual = cls(settings)
        usual.large_size, usual.day_volume = content["large_size"], content["day_volume"]
        usual._weights, usual._first_bin = np.array(content["weights"], dtype="float64"), content["first_bin"]
        usual._volume, usual._seconds = content["volume"], content["seconds"]
        usual._since_ns = content["since_ns"]
        usual._seen, usual._seen_first = np.array(content["seen"], dtype="int64"), content["seen_first"]
        return usual


def _added(counts: NDArray[Any], first: int, more: NDArray[Any], more_first: int) -> tuple[NDArray[Any], int]:
    """Two histograms, each with the number of its first bin, as one."""
    if len(counts) == 0 or len(more) == 0:
        return (more, more_first) if len(counts) == 0 else (counts, first)
    least = min(first, more_first)
    total = np.zeros(max(first + len(counts), more_first + len(more)) - least, dtype=counts.dtype)
    total[first - least : first - least + len(counts)] += counts
    total[more_first - least : more_first - least + len(more)] += more
    return total, least
