"""The closed days against the decisions: what each root binds is there, and what counts to which day."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from serving.audit.chain import canonical, genesis
from serving.audit.days import DOMAIN, ORDERS, DayRoot, Head, day_hash, root_of
from serving.audit.defects import Defect
from serving.overrides.book import Event
from serving.store.trail import StoredDecision, made_on


@dataclass
class BoundDays:
    """Closed days, oldest first. ``late`` and ``early`` name decisions that were made on another day than the
    one they count to; the first is that of a clock that went back, or of rows put in afterwards."""

    days: Sequence[DayRoot]
    late: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    #: By contract, ascending: numbers that are heads of days, their hashes, the first day of each.
    _heads: dict[str, tuple[list[int], list[str], list[str]]] = field(default_factory=dict)
    _met: set[tuple[str, int]] = field(default_factory=set)

    def check_days(self) -> Iterator[Defect]:
        """Each day by itself and its link; reads the heads that they bind."""
        before = genesis(DOMAIN)
        for day in self.days:
            if day.previous_hash != before:
                yield _altered(
                    f"{day.day} does not follow the day before it: a day was taken out, or its hash changed"
                )
            before = day.hash
            heads = _heads_of(day)
            if heads is None:
                yield _altered(f"the heads of {day.day} cannot be read")
                continue
            if root_of(heads) != day.root:
                yield _altered(f"the root of {day.day} is {day.root}, its heads give {root_of(heads)}")
            elif _day_hash(day, len(heads)) != day.hash:
                yield _altered(f"the hash of {day.day} does not fit its root and the day before")
            for head in heads:
                numbers, hashes, first = self._heads.setdefault(head.symbol, ([], [], []))
                if not numbers or head.seq > numbers[-1]:
                    numbers.append(head.seq)
                    hashes.append(head.hash)
                    first.append(day.day)
                elif head.seq < numbers[-1]:
                    yield _altered(
                        f"{day.day} binds {head.symbol}/{head.seq}, the day before it a later decision"
                    )
                elif hashes[-1] != head.hash:
                    yield _altered(f"{day.day} and {first[-1]} bind {head.symbol}/{head.seq} with two hashes")

    def follow(self, row: StoredDecision) -> Iterator[Defect]:
        """Compare one decision with the days."""
        symbol, seq = row.columns.symbol, row.columns.seq
        if row.hash is None or type(seq) is not int:
            return
        yield from self._bound(symbol, seq, row.hash)
        numbers, _, first = self._heads.get(symbol, ([], [], []))
        at = bisect_left(numbers, seq)
        bound = first[at] if at < len(first) else None
        made = made_on(row)
        newest = self.days[-1].day if self.days else ""
        if made is not None and (made < bound if bound is not None else made <= newest):
            self.late.append(row.name)
        elif made is not None and bound is not None and made > bound:
            self.early.append(row.name)

    def follow_orders(self, events: Iterable[Event]) -> Iterator[Defect]:
        """Compare the events of the orders with the days."""
        for event in events:
            if type(event.seq) is not int:  # somebody wrote into the file
                continue
            yield from self._bound(ORDERS, event.seq, event.hash)

    def _bound(self, name: str, seq: int, own: str) -> Iterator[Defect]:
        numbers, hashes, first = self._heads.get(name, ([], [], []))
        at = bisect_left(numbers, seq)
        if at == len(numbers) or numbers[at] != seq:
            return
        self._met.add((name, seq))
        if hashes[at] != own:
            words = f"the root of {first[at]} binds the hash {hashes[at][:12]}, the row has {own[:12]}"
            yield Defect(name, seq, "not in the day's root", words)

    def finish(self, symbols: set[str] | None, after: Mapping[str, int]) -> Iterator[Defect]:
        """What the roots bind and no row was; ``symbols`` are those that were followed, None for all, each
        beyond the number that ``after`` has."""
        for symbol, (numbers, _, first) in self._heads.items():
            if symbols is not None and symbol not in symbols:
                continue
            for seq, day in zip(numbers, first, strict=True):
                if seq > after.get(symbol, 0) and (symbol, seq) not in self._met:
                    yield Defect(
                        symbol, seq, "not in the day's root", f"the root of {day} binds it; it is not there"
                    )


def _heads_of(day: DayRoot) -> tuple[Head, ...] | None:
    try:
        heads = day.heads
        sound = all(isinstance(h.symbol, str) and isinstance(h.seq, int) for h in heads)
        return heads if sound and canonical([vars(h) for h in heads]) == day.leaves else None
    except (ValueError, TypeError, RecursionError):
        return None


def _day_hash(day: DayRoot, leaves: int) -> str | None:
    try:
        return day_hash(day.day, day.root, leaves, day.previous_hash)
    except ValueError:
        return None


def _altered(words: str) -> Defect:
    return Defect("", None, "day altered", words)
