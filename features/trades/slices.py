"""What a slice of trades says of its bars: first and last trades, extremes, runs, and the summands.

Row 0 of every array stands for the newest trade before the slice, rows from 1 for its trades; bar 0 is the
one that was open. Where none was open, row 0 and bar 0 are there all the same, and mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.trades.arrays import Array, Trades, Whole
from features.trades.usual import NS

#: Of some bars, arrays of one length by name; see ``SlicedTrades.parts``.
Parts = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class LastTrade:
    """The newest trade; ``signed`` is its size, positive where the taker bought, and ``change`` its price
    less that of the trade before it in its bar (0 for the first)."""

    time_ns: int
    price: float
    signed: float
    change: float
    id: int | None


class SlicedTrades:
    """The trades of a slice with the one before them."""

    def __init__(
        self, trades: Trades, last: LastTrade | None, open_bar: int | None, interval_ns: int
    ) -> None:
        t, rows = trades, len(trades) + 1
        last = last or LastTrade(int(t.time_ns[0]), float(t.price[0]), 0.0, 0.0, None)
        self._trades = trades
        self.price, self.time_ns = _after(last.price, t.price), _after(last.time_ns, t.time_ns)
        self.size, self.bought = _after(0.0, t.size), _after(last.signed > 0, t.buy)
        self.signed = _after(last.signed, t.size * (t.buy * 2.0 - 1.0))
        number = t.time_ns // interval_ns
        self._new = np.diff(number, prepend=-1 if open_bar is None else open_bar) != 0
        starts = np.flatnonzero(self._new) + 1
        #: Of each bar: its first row and its last.
        self.firsts, self.lasts = np.append(0, starts), np.append(starts, rows) - 1
        self.bar = np.append(-1 if open_bar is None else open_bar, number[starts - 1])
        # Changes, times between trades and products with the trade before are within the bar alone.
        self.change = np.diff(self.price, prepend=0.0)
        self.change[0], self.change[starts] = last.change, 0.0

    def summands(self, large_size: float | None) -> tuple[Array, ...]:
        """One array for each of ``features.trades.detail.SUMS``; row 0 is free. All are new but the first."""
        starts, quote = self.firsts[1:], self.price * self.size
        # Where what is large is not known yet, none is; ``TradeBars`` says NaN of such bars.
        large = self.size * (self.size >= (np.inf if large_size is None else large_size))
        seconds = np.diff(self.time_ns, prepend=0) * (1 / NS)
        size_by_lagged, change_by_lagged = np.zeros_like(quote), np.zeros_like(quote)
        np.multiply(self.signed[1:], self.signed[:-1], out=size_by_lagged[1:])
        np.multiply(self.change[1:], self.change[:-1], out=change_by_lagged[1:])
        seconds[starts] = size_by_lagged[starts] = 0.0
        return (
            *(self.size, quote, self.size * self.bought, quote * self.bought),
            *(large, large * self.bought, self.size * self.size),
            *(self.change * self.signed, change_by_lagged),
            *(self.change * self.change, size_by_lagged, seconds * seconds),
        )

    def parts(self, carried: Parts | None) -> Parts:
        """Of each bar what its trades so far tell, but for sums; ``carried`` is the open bar's, as this gave
        it."""
        firsts, lasts = self.firsts, self.lasts
        rows = lasts - firsts + 1
        run_now = 1 if carried is None else int(carried["run_now"][0])
        runs, run_longest, run_last = self._runs(run_now)
        count = self._trades.count
        parts: Parts = {
            "bar": self.bar,
            "rows": rows,
            "count": rows.copy() if count is None else np.add.reduceat(_after(1, count), firsts),
            "high": np.maximum.reduceat(self.price, firsts),
            "low": np.minimum.reduceat(self.price, firsts),
            "runs": runs,
            "run_longest": run_longest,
            "run_now": np.full(len(firsts), run_last),
            "first_ns": self.time_ns[firsts],
            "price_1": self.price[firsts],
            "signed_1": self.signed[firsts],
            "change_2": self.change[np.minimum(firsts + 1, lasts)],
            "last_ns": self.time_ns[lasts],
            "price_n": self.price[lasts],
            "signed_n": self.signed[lasts],
            "change_n": self.change[lasts],
        }
        if carried is not None:
            # Row 0 has been counted as one trade of one run.
            for name in ("rows", "count", "runs"):
                parts[name][0] += carried[name][0] - 1
            for name in ("first_ns", "price_1", "signed_1"):
                parts[name][0] = carried[name][0]
            if carried["rows"][0] > 1 or lasts[0] == 0:
                parts["change_2"][0] = carried["change_2"][0]
            parts["high"][0] = max(parts["high"][0], carried["high"][0])
            parts["low"][0] = min(parts["low"][0], carried["low"][0])
            parts["run_longest"][0] = max(parts["run_longest"][0], carried["run_longest"][0])
        return parts

    def _runs(self, run_now: int) -> tuple[Whole, Whole, int]:
        """Number of runs and the longest of each bar, and the length of the last one. Row 0 ends a run of
        ``run_now`` trades."""
        begins = np.append(0, np.flatnonzero(self._new | (self.bought[1:] != self.bought[:-1])) + 1)
        lengths = np.diff(begins, append=len(self.price))
        lengths[0] += run_now - 1
        first = np.searchsorted(begins, self.firsts)
        return np.diff(first, append=len(begins)), np.maximum.reduceat(lengths, first), int(lengths[-1])


def _after(first: Any, values: NDArray[Any]) -> NDArray[Any]:
    """``first``, then the values, in their type."""
    out = np.empty(len(values) + 1, dtype=values.dtype)
    out[0], out[1:] = first, values
    return out
