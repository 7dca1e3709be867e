"""The whole trail, read once from its first row to its last: hashes, days, every decision made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.audit.bound import BoundDays
from serving.audit.days import ORDERS, DayRoot, Head, holding
from serving.audit.defects import Defect
from serving.audit.links import Chain
from serving.audit.recompute import Decide, Recomputed, Replay, decide_again, first_difference
from serving.audit.version import engine_version
from serving.overrides.book import Book, Event
from serving.store.trail import StandingContract, StoredDecision, Trail

#: Defects that are kept to be told; the rest are counted.
MOST_TOLD = 200


@dataclass(frozen=True)
class Published:
    """A root that was published: that of a day, or the day's hash, which binds the days before it too."""

    day: str
    root: str


@dataclass
class Findings:
    """What a verification found. ``broken`` counts every defect, ``defects`` holds the first of them."""

    rows: int = 0
    contracts: int = 0
    before: int = 0
    days: int = 0
    orders: int = 0
    broken: int = 0
    defects: list[Defect] = field(default_factory=list)
    recomputed: Recomputed | None = None
    late: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)

    def add(self, defects: Iterable[Defect]) -> int:
        """Count defects; how many there were."""
        new = 0
        for defect in defects:
            new += 1
            if len(self.defects) < MOST_TOLD:
                self.defects.append(defect)
        self.broken += new
        return new


def verify(
    trail: Trail,
    rows: Iterable[StoredDecision],
    *,
    symbol: str | None = None,
    since: DayRoot | None = None,
    published: Published | None = None,
    recompute: bool = True,
    decide: Decide = decide_again,
    version: str | None = None,
    step: Callable[[], object] = lambda: None,
) -> Findings:
    """Check the trail.

    Args:
        trail: contracts, closed days and orders.
        rows: every decision up to that row, in the order of their storing.
        symbol: where only one contract's rows are given.
        since: where only the rows after this closed day are given; its heads are taken as they are.
        published: a root to compare with.
        recompute: whether to decide again; the slow part.
        decide, version: the engine that does it, and its version.
        step: is called after each row.

    Raises ``ValueError`` where ``published`` names a day that is not closed, and what reading ``rows``
    raises.
    """
    days = BoundDays(trail.days)
    found = Findings(days=len(trail.days), recomputed=Recomputed() if recompute else None)
    found.add(days.check_days())
    if published is not None:
        found.add(_compared(trail.days, published))
    made_by = engine_version() if version is None else version
    starts = {} if since is None else {h.symbol: h for h in since.heads}

    def follow(name: str) -> _Followed:
        replay = None if found.recomputed is None else Replay(name, found.recomputed, decide, made_by)
        return _Followed(_chain(name, trail.contracts, starts.get(name)), replay)

    followed: dict[str, _Followed] = {}
    for row in rows:
        own = followed.get(row.columns.symbol)
        if own is None:
            own = followed[row.columns.symbol] = follow(row.columns.symbol)
        found.rows += 1
        found.add(own.follow(row))
        found.add(days.follow(row))
        step()
    for name, contract in trail.contracts.items():
        if symbol in (None, name):
            found.add((followed.get(name) or follow(name)).finish(contract))
    found.add(
        Defect(name, None, "contract altered", "it has decisions and is no contract")
        for name in followed
        if name not in trail.contracts
    )
    found.add(_ordered(trail.orders))
    found.add(days.follow_orders(trail.orders))
    found.orders = len(trail.orders)
    before = {name: head.seq for name, head in starts.items() if name != ORDERS}
    found.add(days.finish(None if symbol is None else {symbol, ORDERS}, before))
    found.contracts = sum(1 for name in followed if name in trail.contracts)
    found.before = sum(f.chain.before for f in followed.values())
    found.late, found.early = days.late, days.early
    return found


def _chain(symbol: str, symbols: Collection[str], start: Head | None) -> Chain:
    if start is None:
        return Chain(symbol, symbols)
    return Chain(symbol, symbols, seq=start.seq, stored=start.hash, right=start.hash)


@dataclass
class _Followed:
    """One contract: its chain, its decisions made again, and the newest values."""

    chain: Chain
    replay: Replay | None
    values: list[Any] | None = None

    def follow(self, row: StoredDecision) -> Iterator[Defect]:
        record = _read(row.record)
        decision = record.get("decision") if record is not None else None
        found = list(self.chain.follow(row, decision if isinstance(decision, Mapping) else None))
        yield from found
        altered = next((d for d in found if d.part == "record altered"), None)
        self.values = decision.get("values") if isinstance(decision, Mapping) and altered is None else None
        if self.replay is None:
            return
        if altered is None and record is not None:
            if any(d.part == "row missing" for d in found):
                self.replay.left = None
            yield from self.replay.follow(row.columns.seq, record)
            return
        self.replay.left = None
        if altered is None:
            yield Defect(
                row.columns.symbol, row.columns.seq, "cannot be decided again", "its record is not JSON"
            )
        elif record is not None:
            # Only to say where: the record is known to be another.
            apart = Replay(self.chain.symbol, Recomputed(), self.replay.decide, self.replay.version)
            yield from apart.follow(row.columns.seq, record)

    def finish(self, contract: StandingContract) -> Iterator[Defect]:
        yield from self.chain.finish(contract.seq, contract.head)
        if contract.seq != self.chain.seq or contract.seq == 0:
            return
        for name, content in (("state", contract.state), ("published", contract.published)):
            if not isinstance(content, dict):
                yield Defect(
                    contract.symbol, None, "contract altered", f"its column {name} is no JSON object"
                )
                return
        left = None if self.replay is None else self.replay.left
        if left is not None:
            where = first_difference(json.loads(left), contract.state, "state")
            if where is not None:
                words = f"{where}: the next decision would begin with what its newest did not leave"
                yield Defect(contract.symbol, None, "contract altered", words)
        answers = contract.published.get("answers")
        if self.values is not None and isinstance(answers, list):
            yield from _answered(contract.symbol, self.values, answers)


def _answered(symbol: str, values: list[Any], answers: list[Any]) -> Iterator[Defect]:
    """Whether the answer in force gives the rates of the newest decision."""
    names = ("side", "kind", "base_rate", "required_rate", "served_rate", "multiplier")
    decided = [{n: v.get(n) for n in names} for v in values]
    told = [{n: a.get(n) for n in names} for a in answers]
    where = first_difference(decided, told, "answers")
    if where is not None:
        yield Defect(symbol, None, "contract altered", f"the answer in force: {where}")


def _ordered(events: Sequence[Event]) -> Iterator[Defect]:
    try:
        flaws = Book().after(events).defects
    except TypeError as error:
        flaws = (f"the events do not count from 1 on: {error}",)
    yield from (Defect(ORDERS, None, "order altered", flaw) for flaw in flaws)


def _compared(days: Sequence[DayRoot], published: Published) -> Iterator[Defect]:
    holds = holding(days, published.day)
    if published.root not in (holds.root, holds.hash):
        words = (
            f"of {holds.day}: published {published.root}, here root {holds.root} and day hash {holds.hash}"
        )
        yield Defect("", None, "root differs", words)


def _read(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
