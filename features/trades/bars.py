"""``TradeBars``: bars of one symbol from its trades, as they come.

What a bar holds is told in ``features.bars`` and, for the trade columns, in ``features.trades.detail``,
``.usual`` and ``.buckets``. Every trade is looked at once, in slices that fit the processor's cache; what a
slice leaves open is carried. Nothing depends on how trades were cut into calls: sums go on in a fixed order
(``features.trades.sums``), everything else is exact.

An interval in which nothing was traded has a flat bar: the last price, no volume, as exchange klines have.
Two cases have none, for nothing is known of them: it closes more than ``longest_silence_s`` after the last
trade, or the ids show that trades are missing between the trades around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.durations import format_duration
from features.trades.arrays import Array, Trades, Whole
from features.trades.buckets import VolumeBuckets
from features.trades.detail import SUMS, Ends, detail
from features.trades.settings import TradeSettings
from features.trades.slices import LastTrade, Parts, SlicedTrades
from features.trades.sums import BarSums
from features.trades.tables import NAMES, Table, empty_table, flat_bars, joined, with_silence
from features.trades.usual import NS, Usual

#: Trades worked on at once: arrays of this length stay in the cache.
SLICE = 1 << 15
#: Part of the state, so that a state of another form is refused.
_FORM = 1


class TradeBars:
    """Bars of ``interval``, see the module and the package.

    Raises ``ValueError`` for an interval that is not positive.
    """

    def __init__(self, interval: pd.Timedelta, settings: TradeSettings | None = None) -> None:
        if interval <= pd.Timedelta(0):
            raise ValueError(f"the bar interval is {interval}; give a positive one")
        self.interval = interval
        self.settings = settings or TradeSettings()
        self._interval_ns = int(interval // pd.Timedelta(1, unit="ns"))
        self._silence_ns = round(self.settings.longest_silence_s * NS)
        self._usual = Usual(self.settings)
        self._buckets = VolumeBuckets(self.settings.vpin_buckets)
        self._sums = BarSums(len(SUMS))
        self._last: LastTrade | None = None
        self._open: Parts | None = None
        #: Number (open time / interval) of the bar that is open or, where none is, of the next to come.
        self._next: int | None = None

    @property
    def last_time_ns(self) -> int | None:
        """Time of the newest trade; None before the first."""
        return None if self._last is None else self._last.time_ns

    @property
    def closed_until_ns(self) -> int | None:
        """Trades before this come too late: their bars are closed or past; None before the first trade."""
        return None if self._next is None else self._next * self._interval_ns

    def add(self, trades: Trades) -> Table:
        """Take trades, in order of time; returns the bars that closed.

        Values are not checked here, see ``features.trades.checks``. Raises ``ValueError``, and takes none of
        them, where a trade is earlier than the one before it or belongs to a bar that is closed.
        """
        if len(trades) == 0:
            return empty_table()
        self._refuse_disorder(trades)
        closed = []
        start = 0
        while start < len(trades):
            before = self._buckets.vpin
            end = self._cut(trades.time_ns, start)
            closed.append(self._slice(trades.rows(slice(start, end)), before))
            start = end
        return joined(closed)

    def close_until(self, time_ns: int) -> Table:
        """Close the bars that end at or before this time, flat ones where nothing was traded."""
        closed = []
        bar = time_ns // self._interval_ns
        if self._open is not None and self._open["bar"][0] < bar:
            closed.append(self.finish())
        if self._open is None and self._next is not None and self._next < bar:
            closed.append(self._flat(bar, self._buckets.vpin))
            self._next = bar
        return joined(closed)

    def finish(self) -> Table:
        """Close the open bar, whether or not its time is over; trades of it that come later are refused."""
        if self._open is None:
            return empty_table()
        table = self._table(self._open, self._sums.total()[:, np.newaxis])
        self._next = int(self._open["bar"][0]) + 1
        self._open = None
        self._sums.clear()
        return table

    def _refuse_disorder(self, trades: Trades) -> None:
        times = trades.time_ns
        back = np.flatnonzero(times[1:] < times[:-1])
        newest = self._last.time_ns if self._last is not None else times[0]
        if times[0] < newest or len(back):
            row = 0 if times[0] < newest else int(back[0]) + 1
            raise ValueError(
                f"trade {row} is at {pd.Timestamp(int(times[row]))} UTC, before the trade before it; sort "
                f"trades by time"
            )
        if self._next is not None and times[0] < self._next * self._interval_ns:
            raise ValueError(
                f"trade 0 is at {pd.Timestamp(int(times[0]))} UTC, in a bar of "
                f"{format_duration(self.interval)} that is closed; leave it out"
            )

    def _cut(self, times: Whole, start: int) -> int:
        """Where the slice that begins at ``start`` ends: at the end of a span of ``Usual``, before a hole, or
        when it is long enough. Begins and ends spans."""
        time = int(times[start])
        if self._last is None:
            self._usual.begin(time)
        elif time - self._last.time_ns > self._silence_ns:
            self._usual.end(self._last.time_ns, self._buckets.volume)
            self._usual.begin(time)
            self._buckets.begin_span(self._bucket_size(), after_hole=True)
        elif self._usual.span_end_ns(self._last.time_ns) <= time:
            refresh = self._usual.refresh_ns
            self._usual.end(time // refresh * refresh, self._buckets.volume)
            self._buckets.begin_span(self._bucket_size())
        near = times[start : start + SLICE]
        end = int(np.searchsorted(near, self._usual.span_end_ns(time), side="left"))
        hole = near[1:end] - near[: end - 1] > self._silence_ns
        return start + (int(hole.argmax()) + 1 if hole.any() else end)

    def _bucket_size(self) -> float | None:
        day = self._usual.day_volume
        return None if day is None else day / self.settings.buckets_per_day

    def _silent_until(self, last_ns: Whole | int) -> Whole | int:
        """Number of the first bar after a trade at ``last_ns`` that closes too late to be called silent."""
        return (last_ns + self._silence_ns) // self._interval_ns

    def _flat(self, until: int, vpin: float) -> Table:
        """Flat bars of the silence from the next bar to ``until`` (exclusive), where none is open."""
        assert self._last is not None and self._next is not None
        until = min(until, int(self._silent_until(self._last.time_ns)))
        bars = np.arange(self._next, max(until, self._next), dtype="int64")
        return flat_bars(
            bars * self._interval_ns, np.full(len(bars), self._last.price), np.full(len(bars), vpin)
        )

    def _slice(self, t: Trades, vpin_before: float) -> Table:
        """Take trades of one span without a hole; ``vpin_before`` is from before a hole, if there was one."""
        carried, large_size = self._open, self._usual.large_size
        here = SlicedTrades(
            t, self._last, None if carried is None else int(carried["bar"][0]), self._interval_ns
        )
        parts = here.parts(carried)
        parts["vpin"] = self._vpin(here)
        parts["large_known"] = np.full(len(here.firsts), large_size is not None)
        if carried is not None:
            parts["large_known"][0] &= carried["large_known"][0]
        if here.lasts[0] == 0:
            parts["vpin"][0] = vpin_before
        self._usual.see(t.size)
        totals = self._sums.add(here.summands(large_size), here.firsts, len(t) + 1)

        missing = self._missing_after(t, here)
        began = int(here.bar[min(1, len(here.bar) - 1)])
        flat = empty_table()
        if carried is None and self._next is not None and not missing[0]:
            flat = self._flat(began, vpin_before)
        first = 1 if carried is None else 0
        closed = {name: values[first:-1] for name, values in parts.items()}
        table = self._table(closed, totals[:, first:])
        if len(closed["bar"]):
            until = np.minimum(here.bar[first + 1 :], self._silent_until(closed["last_ns"]))
            silent = np.maximum(until - closed["bar"] - 1, 0) * ~missing[first:]
            table = with_silence(table, silent, self._interval_ns)

        self._open = {name: values[-1:].copy() for name, values in parts.items()}
        self._next = int(here.bar[-1])
        self._last = LastTrade(
            int(here.time_ns[-1]),
            float(here.price[-1]),
            float(here.signed[-1]),
            float(here.change[-1]),
            None if t.id is None else int(t.id[-1]),
        )
        return joined([flat, table])

    def _vpin(self, here: SlicedTrades) -> Array:
        """VPIN at the end of each bar."""
        before = self._buckets.vpin
        filling, after = self._buckets.fill(here.size[1:], here.signed[1:])
        values: Array = np.append(before, after)[np.searchsorted(filling + 1, here.lasts, side="right")]
        return values

    def _missing_after(self, t: Trades, here: SlicedTrades) -> NDArray[np.bool_]:
        """Of each bar but the last: whether ids show that trades are missing between it and the next."""
        if t.id is None:
            return np.zeros(len(here.firsts) - 1, dtype=bool)
        last = None if self._last is None else self._last.id
        ids = np.append(t.id[0] - 1 if last is None else last, t.id)
        jumps: NDArray[np.bool_] = ids[here.firsts[1:]] != ids[here.firsts[1:] - 1] + 1
        return jumps

    def _table(self, parts: Parts, sums: Array) -> Table:
        """The columns of bars from their parts and their sums (sum, bar)."""
        ends = Ends(
            trades=parts["rows"],
            seconds=(parts["last_ns"] - parts["first_ns"]) * (1 / NS),
            **{n: parts[n] for n in ("price_1", "price_n", "change_2", "change_n", "signed_1", "signed_n")},
        )
        columns: Table = {
            "open_time_ns": parts["bar"] * self._interval_ns,
            **{
                "open": parts["price_1"],
                "high": parts["high"],
                "low": parts["low"],
                "close": parts["price_n"],
            },
            **dict(zip(SUMS, sums, strict=True)),
            **detail(sums, ends),
            "trades": parts["count"].astype("float64"),
            "run_mean": parts["rows"] / parts["runs"],
            "run_longest": parts["run_longest"].astype("float64"),
            "vpin": parts["vpin"],
        }
        for name in ("large_trade_share", "large_trade_imbalance"):
            columns[name] = np.where(parts["large_known"], columns[name], np.nan)
        return {name: columns[name] for name in ("open_time_ns", *NAMES)}

    def to_json(self) -> dict[str, Any]:
        """Everything that the next bars depend on, as plain JSON values."""
        return {
            "form": _FORM,
            "interval_ns": self._interval_ns,
            "settings": self.settings.model_dump(),
            "usual": self._usual.to_json(),
            "buckets": self._buckets.to_json(),
            "sums": self._sums.to_json(),
            "last": None if self._last is None else asdict(self._last),
            "open": None if self._open is None else {n: _plain(v[0]) for n, v in self._open.items()},
            "next": self._next,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TradeBars:
        """Go on where ``to_json`` was asked. Raises ``ValueError`` for a state of another form."""
        if content.get("form") != _FORM:
            raise ValueError(
                f"the state of trade bars has form {content.get('form')}, and this version knows {_FORM}; "
                f"build the bars again from the trades"
            )
        settings = TradeSettings(**content["settings"])
        bars = cls(pd.Timedelta(content["interval_ns"], unit="ns"), settings)
        bars._usual = Usual.from_json(settings, content["usual"])
        bars._buckets = VolumeBuckets.from_json(settings.vpin_buckets, content["buckets"])
        bars._sums = BarSums.from_json(content["sums"])
        bars._last = None if content["last"] is None else LastTrade(**content["last"])
        opened = content["open"]
        if opened is not None:
            bars._open = {n: np.array([np.nan if v is None else v]) for n, v in opened.items()}
        bars._next = content["next"]
        return bars


def _plain(value: Any) -> Any:
    """A number of numpy's as JSON has it; NaN is null."""
    return None if value != value else value.item()
