"""The tape of one symbol: trades, or snapshots of its book, as they arrive, until they are in closed bars.

Rows may arrive out of order; a bar is built once nothing of it is expected any more. Time is settled in
steps: ``settled(boundary)`` puts everything before the boundary in order, builds the bars that closed, and
from then on a row from before the boundary is late: it is counted and left out. Whatever the order and the
batches in which rows came, the bars are those of all rows at once, to the bit.

A row that is here already is a repeat. Repeats are recognised for the step that was settled last and for
everything since; an older one is told as late, which leaves it out just the same. The bar in which the first
row ever falls is left out too: what was before that row is not known.

Nothing here reads a clock or the store. Times are microseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.store.tapes import Rows

#: Bars that were closed: ``open_time_ns`` (int64) and columns by name (float64), all of one length.
Closed = Mapping[str, NDArray[Any]]

NS_A_US = 1000
US_A_S = 1_000_000


class Builder(Protocol):
    """What makes bars of rows in order, such as ``features.trades.TradeBars``."""

    def close_until(self, time_ns: int) -> Closed: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Kind:
    """What a tape is of.

    Attributes:
        name: ``trades`` or ``book``.
        key: the column that identifies a row.
        counts: whether keys may count the rows, so that nothing was between two that are one apart.
        intervals_s: the lengths of the bars that are made, each by a builder of its own.
        begin: makes the builder of an interval (seconds), with no past.
        resume: makes a builder of its JSON.
        feed: gives rows, in order, to a builder; returns what closed.
        tally: counts what is remarkable of rows that are in order.
    """

    name: str
    key: str
    counts: bool
    intervals_s: tuple[int, ...]
    begin: Callable[[int], Builder]
    resume: Callable[[dict[str, Any]], Builder]
    feed: Callable[[Any, Rows], Closed]
    tally: Callable[[Rows], Mapping[str, int]] = lambda _: {}


class RowContradictionError(ValueError):
    """A row differs from the one of the same key that was taken. ``row`` counts within its batch."""

    def __init__(self, row: int, column: str, taken: object, sent: object) -> None:
        self.row, self.column, self.taken, self.sent = row, column, taken, sent
        super().__init__(f"row {row} was taken with {column} = {taken}, and was sent with {column} = {sent}")


@dataclass(frozen=True)
class Judged:
    """What a batch is: which rows are new, how many are repeats, and how many came too late."""

    fresh: NDArray[np.bool_]
    repeats: int
    late: int


class _Chunk:
    """Rows with an index on their keys."""

    def __init__(self, rows: Rows, key: str) -> None:
        self.rows = rows
        self._order = np.argsort(rows[key], kind="stable")
        self._keys = rows[key][self._order]
        self._least, self._most = int(self._keys[0]), int(self._keys[-1])

    def may_have(self, least: int, most: int) -> bool:
        """Whether a key from this range can be here: nearly always not, and a minute has many chunks."""
        return most >= self._least and least <= self._most

    def find(self, keys: NDArray[np.int64]) -> NDArray[np.intp]:
        """The row of each key, -1 where it is not here."""
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._order[at], -1)


@dataclass(frozen=True)
class Tape:
    """Rows that wait (``waiting``), those settled last (``recent``), and what the builders know.

    Attributes:
        builders: their states, by interval; None before the first row is settled.
        first_us: the first row ever; None before it.
        newest_us: the newest row that came.
        settled_us: everything before it is in the builders; None before the first boundary.
        last_us, last_key: time and key of the newest row in the builders.
        steps, ones: how often a key followed another, and was one more. Where half of them are, keys count;
            else they are labels, and nothing is said of what is missing.
        missing_ids: how many keys between the least and the largest in the builders were left out.
        tallied: what was counted of the rows in the builders.
    """

    kind: Kind
    builders: Mapping[str, dict[str, Any]] | None = None
    first_us: int | None = None
    newest_us: int | None = None
    settled_us: int | None = None
    last_us: int | None = None
    last_key: int | None = None
    steps: int = 0
    ones: int = 0
    missing_ids: int = 0
    tallied: Mapping[str, int] = field(default_factory=dict)
    waiting: Sequence[_Chunk] = field(default=(), repr=False)
    recent: Sequence[_Chunk] = field(default=(), repr=False)

    def judge(self, rows: Rows) -> Judged:
        """Look at a batch whose keys are distinct. Raises ``RowContradictionError`` where a row of the same
        key is here and differs."""
        keys = rows[self.kind.key]
        order = np.argsort(keys, kind="stable")
        known = np.zeros(len(keys), dtype=bool)
        least, most = int(keys[order[0]]), int(keys[order[-1]])
        for chunk in (*self.waiting, *self.recent):
            if not chunk.may_have(least, most):
                continue
            found = np.full(len(keys), -1)
            found[order] = chunk.find(keys[order])
            here = np.flatnonzero(found >= 0)
            if len(here):
                _refuse_difference(chunk.rows, found[here], rows, here)
                known[here] = True
        late = np.zeros(len(keys), dtype=bool)
        if self.settled_us is not None:
            late = (rows["time_us"] < self.settled_us) & ~known
        return Judged(~known & ~late, int(known.sum()), int(late.sum()))

    def taking(self, rows: Rows) -> Tape:
        """With rows that were judged fresh."""
        if not rows or not len(rows["time_us"]):
            return self
        times = rows["time_us"]
        least, newest = int(times.min()), int(times.max())
        settled = self.settled_us is not None
        return replace(
            self,
            # Before anything is settled an earlier row may still come.
            first_us=self.first_us if settled else min(least, self.first_us or least),
            newest_us=max(newest, self.newest_us or newest),
            waiting=(*self.waiting, _Chunk(rows, self.kind.key)),
        )

    def settled(self, boundary_us: int) -> tuple[Tape, dict[int, Closed]]:
        """The tape with everything before the boundary in the builders, and the bars that closed by it, by
        interval; the tape itself where there is nothing to settle."""
        if self.first_us is None or boundary_us <= (self.settled_us or self.first_us):
            return self, {}
        past, left = _split(_joined([c.rows for c in self.waiting]), boundary_us, self.kind.key)
        after = self._counted(past) if past else self
        builders, closed = {}, {}
        for interval_s in self.kind.intervals_s:
            state = None if self.builders is None else self.builders[str(interval_s)]
            builder = self.kind.begin(interval_s) if state is None else self.kind.resume(state)
            parts = [self.kind.feed(builder, after._told(past))] if past else []
            quiet_us = after._quiet_until(left, boundary_us, interval_s * US_A_S)
            parts.append(builder.close_until(quiet_us * NS_A_US))
            closed[interval_s] = self._whole(parts)
            builders[str(interval_s)] = builder.to_json()
        return (
            replace(
                after,
                builders=builders,
                settled_us=boundary_us,
                waiting=_chunks(left, self.kind.key),
                recent=_chunks(past, self.kind.key),
            ),
            closed,
        )

    def _whole(self, parts: Sequence[Closed]) -> Closed:
        """The bars of which the beginning is known."""
        assert self.first_us is not None
        closed = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        whole = closed["open_time_ns"] >= self.first_us * NS_A_US
        return {name: a[whole] for name, a in closed.items()}

    def _counted(self, rows: Rows) -> Tape:
        """After these rows, which are in order."""
        keys = rows[self.kind.key]
        before = keys[:0] if self.last_key is None else np.array([self.last_key])
        steps = np.diff(np.concatenate([before, keys]))
        most = int(keys.max())
        missing = most - (int(keys.min()) - 1 if self.last_key is None else self.last_key) - len(keys)
        return replace(
            self,
            last_us=int(rows["time_us"][-1]),
            last_key=most if self.last_key is None else max(most, self.last_key),
            steps=self.steps + len(steps),
            ones=self.ones + int((steps == 1).sum()),
            missing_ids=self.missing_ids + max(0, missing),
            tallied={n: self.tallied.get(n, 0) + more for n, more in self.kind.tally(rows).items()},
        )

    @property
    def counting(self) -> bool:
        """Whether keys count the rows."""
        return self.kind.counts and 2 * self.ones >= self.steps

    def _told(self, rows: Rows) -> Rows:
        """What a builder is told: keys only where they count, or it would find rows missing."""
        if self.counting or not self.kind.counts:
            return rows
        return {name: a for name, a in rows.items() if name != self.kind.key}

    def _quiet_until(self, left: Rows, boundary_us: int, interval_us: int) -> int:
        """Up to when nothing but the rows in the builders happened: to the boundary, but only to the end of
        the newest row's bar where the next key says that others are missing."""
        if not (self.counting and left) or self.last_us is None or self.last_key is None:
            return boundary_us
        if int(left[self.kind.key][0]) == self.last_key + 1:
            return boundary_us
        return min(boundary_us, (self.last_us // interval_us + 1) * interval_us)

    @property
    def keep_us(self) -> int | None:
        """Rows before it need not be kept in the store; None: all need."""
        times = [int(c.rows["time_us"].min()) for c in (*self.recent, *self.waiting)]
        return None if self.settled_us is None else min([self.settled_us, *times])

    @property
    def unsettled(self) -> int:
        """How many rows wait."""
        return sum(len(c.rows["time_us"]) for c in self.waiting)

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows, which the store has as batches."""
        return {
            "builders": self.builders,
            "first_us": self.first_us,
            "newest_us": self.newest_us,
            "settled_us": self.settled_us,
            "last_us": self.last_us,
            "last_key": self.last_key,
            "steps": self.steps,
            "ones": self.ones,
            "missing_ids": self.missing_ids,
            "tallied": dict(self.tallied),
        }

    @classmethod
    def resumed(cls, kind: Kind, content: Mapping[str, Any] | None, batches: Sequence[Rows]) -> Tape:
        """From the stored state (None: nothing was settled yet) and the stored batches."""
        tape = cls(kind) if content is None else cls(kind, **content)
        rows = _joined(batches)
        if not rows:
            return tape
        if tape.settled_us is None:
            return tape.taking(rows)
        past, left = _split(rows, tape.settled_us, kind.key)
        return replace(tape.taking(left), recent=_chunks(past, kind.key))


def _joined(parts: Sequence[Rows]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]} if parts else {}


def _chunks(rows: Rows, key: str) -> tuple[_Chunk, ...]:
    return (_Chunk(rows, key),) if rows and len(rows[key]) else ()


def _split(rows: Rows, boundary_us: int, key: str) -> tuple[Rows, Rows]:
    """The rows before a time and the others, each in order of time, and of key where times are equal; empty
    where there are none."""
    if not rows:
        return {}, {}
    order = np.lexsort((rows[key], rows["time_us"]))
    ordered = {name: a[order] for name, a in rows.items()}
    at = int(np.searchsorted(ordered["time_us"], boundary_us, side="left"))
    past = {name: a[:at] for name, a in ordered.items()} if at else {}
    left = {name: a[at:] for name, a in ordered.items()} if at < len(order) else {}
    return past, left


def _refuse_difference(
    taken: Rows, taken_rows: NDArray[np.intp], sent: Rows, sent_rows: NDArray[np.intp]
) -> None:
    for name, column in sent.items():
        there, here = taken[name][taken_rows], column[sent_rows]
        same = there == here
        if column.dtype.kind == "f":
            same |= np.isnan(there) & np.isnan(here)  # a level that is absent in both
        differs = ~same.reshape(len(same), -1).all(axis=1)
        if differs.any():
            at = int(np.argmax(differs))
            raise RowContradictionError(int(sent_rows[at]), name, there[at].tolist(), here[at].tolist())
