"""``BookBars``: the book columns of each bar, from snapshots as they come.

Means are over the time for which each book stood within the bar, not over snapshots. A book stands from its
snapshot to the next one, ``hole`` at most; after that nothing is known until the next snapshot. With the
measures of ``features.books.measures``, and sizes in the unit of the source:

- ``book_snapshots``; ``book_locked``, ``_crossed``, ``_one_sided``, ``_empty``: shares of the snapshots;
- ``book_coverage``: share of the bar in which a sound book stood. Where it is below ``LEAST_COVERAGE``, all
  columns but these six are NaN;
- ``book_spread``, ``book_microprice``: means of spread and lean while the book was open (a locked book tells
  neither: often its prices were but rounded); ``book_spread_max``, ``book_microprice_last``: largest, newest;
- ``book_depth_N``: ln of the mean notional over N levels; ``book_imbalance_N``, ``_last``: mean, newest;
- ``book_slope``: mean of the slope;
- ``book_ofi_M``: sum of the order flow of level M over the changes of the bar, divided by the mean size of a
  level in the bar. A change goes from one sound book to the next sound one within ``hole``, and belongs to
  the bar of the later one; snapshots between them that are not sound are passed over;
- ``book_microprice_drift``: sum of the log returns of the microprice over the same changes;
- ``book_depletions``: how many best prices were depleted on these changes, of both sides;
- ``book_resilience``: the mean share that is back (``features.books.depletions``) of the depletions that
  found their answer in this bar.

Levels beyond those of the source have no columns. A bar with neither a snapshot nor a book standing has no
row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.books.depletions import SIGNS, Depletions
from features.books.measures import Kinds, Measures, levels_of_groups, order_flow
from features.books.snapshots import Array, Books, Whole
from features.books.tally import Part, Tallied, Tally
from features.columns import BOOK_COLUMNS, BOOK_LEVELS

#: A table of closed bars: ``open_time_ns`` and columns, arrays of one length.
Closed = dict[str, NDArray[Any]]

#: How long a book stands when no other follows. More where a feed sends changes only and they are rare.
HOLE = pd.Timedelta(seconds=30)
#: Where less of a bar is known, its columns are not.
LEAST_COVERAGE = 0.5
#: Part of the state, so that a state of another form is refused.
_FORM = 1
_KINDS = ("locked", "crossed", "one_sided", "empty")


class BookBars:
    """The book columns of one symbol, see the module; how to use it is in ``features.books``."""

    def __init__(
        self, interval: pd.Timedelta, levels: int = BOOK_LEVELS[-1], hole: pd.Timedelta = HOLE
    ) -> None:
        """Bars of ``interval`` from the best ``levels`` of each side. Where the source gives fewer, the order
        flow of the others is NaN, and groups of levels cover those that are there.

        Raises ``ValueError`` where one of the three is not positive, or there are more levels than columns.
        """
        if not 1 <= levels <= BOOK_LEVELS[-1]:
            raise ValueError(f"book columns cover 1 to {BOOK_LEVELS[-1]} levels, not {levels}")
        if min(interval, hole) <= pd.Timedelta(0):
            raise ValueError(f"interval is {interval} and hole {hole}; both must be above 0")
        self.interval, self.levels, self.hole = interval, levels, hole
        self._bar_ns, self._hole_ns = interval.value, hole.value
        #: The newest sound book, and the newest one where that is not sound.
        self._tail: Books | None = None
        #: Bars before this time are closed.
        self._closed_ns = 0
        #: Depletions that wait for their answer.
        self._waiting = {side: Depletions.none() for side in SIGNS}
        self._tally = Tally(
            sums=(
                *("snapshots", *_KINDS, "known", "open", "sloped", "spread", "lean", "slope", "size"),
                *(f"{part}_{n}" for n in self.groups for part in ("notional", "imbalance")),
                *("changes", "drift", "depletions", "answers", "back_bid", "back_ask"),
                *(f"{part}_{m}" for m in self._each_level for part in ("flow", "flows")),
            ),
            largest=("spread",),
            newest=("lean", *(f"imbalance_{n}" for n in self.groups)),
        )

    @property
    def groups(self) -> list[int]:
        """The groups of levels that there are columns of."""
        return levels_of_groups(self.levels)

    @property
    def _each_level(self) -> range:
        return range(1, self.levels + 1)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rows have, in the order of ``features.columns``."""
        beyond = {
            *(f"book_ofi_{m}" for m in range(self.levels + 1, BOOK_LEVELS[-1] + 1)),
            *(
                f"book_{part}"
                for n in BOOK_LEVELS
                if n > self.levels
                for part in (f"depth_{n}", f"imbalance_{n}", f"imbalance_{n}_last")
            ),
        }
        return tuple(c.name for c in BOOK_COLUMNS if c.name not in beyond)

    def add(self, books: Books) -> Closed:
        """The bars that these snapshots closed: those that end at or before the newest one.

        Raises ``ValueError`` where a snapshot is earlier than the one before, or than the end of the last
        closed bar; nothing is taken then.
        """
        books = books.with_levels(self.levels)
        if len(books) == 0:
            return self._table(self._tally.before(0))
        self._check_order(books.time_ns)
        old = 0 if self._tail is None else len(self._tail)
        every = books if self._tail is None else Books.joined([self._tail, books])
        kinds, measures = Kinds.of(every), Measures.of(every)
        bars = every.time_ns // self._bar_ns
        counts = {name: getattr(kinds, name)[old:].astype("float64") for name in _KINDS}
        held = slice(max(old - 1, 0), None)
        # The newest book stands for a time that is not known yet: it is held until that is.
        ends = np.append(every.time_ns[1:], every.time_ns[-1])
        sound = np.flatnonzero(kinds.sound)
        sound_before = int((sound < old).sum())
        self._tally.add(
            [
                Part(bars[old:], {"snapshots": np.ones(len(books)), **counts}),
                self._standing(every.time_ns[held], ends[held], measures.rows(held)),
                *self._changes(every.rows(_slice(sound)), measures.microprice[sound], sound_before),
            ]
        )
        self._tail = every.rows(np.union1d(sound[-1:], [len(every) - 1]))
        return self._table(self._tally.before(int(bars[-1])))

    def close_until(self, time_ns: int) -> Closed:
        """The bars that end at or before ``time_ns`` (UTC), as the clock closes them. Snapshots that come
        later must be of bars that are open."""
        end = time_ns // self._bar_ns * self._bar_ns
        if end <= self._closed_ns:
            return self._table(self._tally.before(0))
        if self._tail is not None and self._tail.time_ns[-1] < end:
            newest = self._tail.rows(slice(-1, None))
            until = np.array([end])
            self._tally.add([self._standing(newest.time_ns, until, Measures.of(newest))])
        self._closed_ns = end
        return self._table(self._tally.before(end // self._bar_ns))

    def finish(self) -> Closed:
        """The bar that is still open, as far as it is known: its newest book stands no longer than to its own
        snapshot. Nothing is changed."""
        return self._table(self._tally.held)

    def _check_order(self, time_ns: Whole) -> None:
        newest = self._closed_ns if self._tail is None else max(self._closed_ns, self._tail.time_ns[-1])
        before = np.concatenate([[newest], time_ns[:-1]])
        late = time_ns < before
        if late.any():
            row = int(late.argmax())
            raise ValueError(
                f"snapshot {row} of {pd.Timestamp(time_ns[row], tz='UTC')} is earlier than "
                f"{pd.Timestamp(before[row], tz='UTC')}, the snapshot before it or the end of the last "
                f"closed bar; sort snapshots by time, and leave out those of closed bars"
            )

    def _standing(self, time_ns: Whole, ends_ns: Whole, measures: Measures) -> Part:
        """The measures of each book times the nanoseconds for which it stood in each bar that is not closed,
        until the end given or the ``hole`` after it."""
        starts = np.maximum(time_ns, self._closed_ns)
        ends = np.minimum(ends_ns, time_ns + self._hole_ns)
        stood = np.flatnonzero((ends > starts) & ~np.isnan(measures.size))
        first, last = starts[stood] // self._bar_ns, (ends[stood] - 1) // self._bar_ns
        pieces = last - first + 1
        row = np.repeat(stood, pieces)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        bar = np.repeat(first, pieces) + nth
        from_ns = np.maximum(starts[row], bar * self._bar_ns)
        length = (np.minimum(ends[row], (bar + 1) * self._bar_ns) - from_ns).astype("float64")
        m = measures.rows(row)
        sums = {"known": length, "size": m.size * length}
        for share, name, values in (
            ("open", "spread", m.spread),
            ("open", "lean", m.lean),
            ("sloped", "slope", m.slope),
        ):
            sums[name] = values * length
            sums[share] = np.where(np.isnan(values), 0.0, length)
        newest = {"lean": m.lean}
        for g, n in enumerate(self.groups):
            sums[f"notional_{n}"] = m.notional[:, g] * length
            sums[f"imbalance_{n}"] = m.imbalance[:, g] * length
            newest[f"imbalance_{n}"] = m.imbalance[:, g]
        return Part(bar, sums, {"spread": m.spread}, newest)

    def _changes(self, sound: Books, microprice: Array, old: int) -> list[Part]:
        """What changed from each sound book to the next, for those after the first ``old``; and the answers
        to depletions."""
        later = np.arange(max(old, 1), len(sound))
        later = later[sound.time_ns[later] - sound.time_ns[later - 1] <= self._hole_ns]
        before, after = sound.rows(_slice(later - 1)), sound.rows(_slice(later))
        flow = order_flow(before, after)
        depletions, answers = np.zeros(len(later)), []
        for side, waiting in self._waiting.items():
            found, gone = Depletions.between(side, before, after)
            depletions += gone
            times, back, self._waiting[side] = waiting.and_then(found).answered(
                side, sound.rows(slice(old, None)), self._hole_ns
            )
            answers.append(Part(times // self._bar_ns, {f"back_{side}": back, "answers": np.ones(len(back))}))
        sums = {
            "changes": np.ones(len(later)),
            "drift": np.log1p((microprice[later] - microprice[later - 1]) / microprice[later - 1]),
            "depletions": depletions,
            **{f"flow_{m}": flow[:, m - 1] for m in self._each_level},
            **{f"flows_{m}": (~np.isnan(flow[:, m - 1])).astype("float64") for m in self._each_level},
        }
        return [Part(after.time_ns // self._bar_ns, sums), *answers]

    def _table(self, tallied: Tallied) -> Closed:
        """The columns of bars, as the module says."""
        tallied = tallied.rows((tallied.sums["snapshots"] > 0) | (tallied.sums["known"] > 0))
        s = tallied.sums
        coverage = s["known"] / self._bar_ns
        enough = coverage >= LEAST_COVERAGE

        def per(part: Array, whole: Array, where: NDArray[np.bool_]) -> Array:
            return np.divide(part, whole, out=np.full_like(part, np.nan), where=where & (whole > 0))

        always = np.ones_like(enough)
        shares = {name: per(s[name], s["snapshots"], always) for name in _KINDS}
        out = {"snapshots": s["snapshots"], "coverage": coverage, **shares}
        out["spread"] = per(s["spread"], s["open"], enough)
        out["spread_max"] = np.where(enough, tallied.largest["spread"], np.nan)
        for n in self.groups:
            out[f"depth_{n}"] = np.log(per(s[f"notional_{n}"], s["known"], enough))
            out[f"imbalance_{n}"] = per(s[f"imbalance_{n}"], s["known"], enough).clip(-1, 1)
            out[f"imbalance_{n}_last"] = np.where(enough, tallied.newest[f"imbalance_{n}"], np.nan)
        size = per(s["size"], s["known"], enough)
        for m in self._each_level:
            out[f"ofi_{m}"] = per(s[f"flow_{m}"], size, s[f"flows_{m}"] > 0)
        out["slope"] = per(s["slope"], s["sloped"], enough)
        out["microprice"] = per(s["lean"], s["open"], enough)
        out["microprice_last"] = np.where(enough, tallied.newest["lean"], np.nan)
        changed = enough & (s["changes"] > 0)
        out["microprice_drift"] = np.where(changed, s["drift"], np.nan)
        out["depletions"] = np.where(changed, s["depletions"], np.nan)
        out["resilience"] = per(s["back_bid"] + s["back_ask"], s["answers"], enough)
        return {"open_time_ns": tallied.bars * self._bar_ns, **{f"book_{k}": v for k, v in out.items()}}

    def to_json(self) -> dict[str, Any]:
        """All that the next rows depend on, as JSON values."""
        return {
            "form": _FORM,
            "interval_ns": self._bar_ns,
            "levels": self.levels,
            "hole_ns": self._hole_ns,
            "closed_ns": self._closed_ns,
            "tail": None if self._tail is None else self._tail.to_json(),
            "waiting": {side: waiting.to_json() for side, waiting in self._waiting.items()},
            "tally": self._tally.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BookBars:
        """What ``to_json`` described. Raises ``ValueError`` for a state of another form."""
        if content.get("form") != _FORM:
            raise ValueError(f"the state has form {content.get('form')}, not {_FORM}; build the bars anew")
        bars = cls(
            pd.Timedelta(content["interval_ns"], unit="ns"),
            content["levels"],
            pd.Timedelta(content["hole_ns"], unit="ns"),
        )
        bars._closed_ns = content["closed_ns"]
        bars._tail = None if content["tail"] is None else Books.from_json(content["tail"])
        bars._waiting = {side: Depletions.from_json(content["waiting"][side]) for side in SIGNS}
        bars._tally.restore(content["tally"])
        return bars


def _slice(rows: Whole) -> slice | Whole:
    """Row numbers, as a slice where they are consecutive: those rows are not copied."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def book_table(closed: Closed) -> pd.DataFrame:
    """Closed rows as a table with ``open_time`` (UTC), as ``SYMBOL.parquet`` files have it."""
    times = pd.DatetimeIndex(closed["open_time_ns"].astype("datetime64[ns]"), tz="UTC")
    columns = {name: values for name, values in closed.items() if name != "open_time_ns"}
    return pd.DataFrame({"open_time": times, **columns})
