"""A day's root: one hash that binds the whole history of every contract up to the end of a day (UTC).

Its leaves are the heads of the contracts' chains, by symbol: ``{"hash":...,"seq":...,"symbol":...}`` as
canonical JSON. People's orders have a chain beside them, whose head is a leaf too where there are any. The
days are a chain of their own, so that none of them can be taken out.

A day ends with the first decision that is made on a later one (``made_at``). What is appended after that and
says that it was made on the day, because a clock went back, belongs to the day then open: a root that may
have been published never changes. A day without decisions has no root of its own; the one before it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from serving.audit.chain import CanonicalText, canonical, genesis, link
from serving.audit.merkle import path, root, root_by_path

DOMAIN = "foremargin.day/1"
#: What stands for a symbol in the leaf of the orders (``serving.overrides.book``); no request can name a
#: contract so.
ORDERS = "(orders)"


@dataclass(frozen=True)
class Head:
    """The newest decision of a contract, or the newest event of the orders, at the end of a day: its number
    and its hash."""

    symbol: str
    seq: int
    hash: str

    @property
    def leaf(self) -> CanonicalText:
        return canonical(asdict(self))


@dataclass(frozen=True)
class DayRoot:
    """A closed day. ``leaves`` are its heads as canonical JSON, ``hash`` chains it to the day before."""

    day: str
    root: str
    leaves: str
    previous_hash: str
    hash: str

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads that ``leaves`` tells of. Raises ``ValueError`` where it is no such text."""
        try:
            return tuple(Head(**item) for item in json.loads(self.leaves))
        except TypeError as error:
            raise ValueError(f"the leaves of {self.day} are no list of heads ({error})") from error


def day_of(time_s: float) -> str:
    """The day of a time in UTC, ``2026-03-10``."""
    return datetime.fromtimestamp(time_s, UTC).date().isoformat()


def root_of(heads: Iterable[Head]) -> str:
    """The root over these heads, in the order of their symbols."""
    return root([h.leaf for h in _ordered(heads)])


def close_day(day: str, heads: Iterable[Head], previous_hash: str | None) -> DayRoot:
    """Close a day with these heads, after the day with this hash (None: the first)."""
    ordered = _ordered(heads)
    before = genesis(DOMAIN) if previous_hash is None else previous_hash
    top = root_of(ordered)
    leaves = canonical([asdict(h) for h in ordered])
    return DayRoot(day, top, leaves, before, day_hash(day, top, len(ordered), before))


def day_hash(day: str, top: str, leaves: int, previous_hash: str) -> str:
    """The hash of a closed day with so many leaves."""
    return link(DOMAIN, previous_hash, {"day": day, "leaves": leaves, "root": top})


def holding(days: Sequence[DayRoot], day: str) -> DayRoot:
    """Of closed days, oldest first, the one whose root holds for ``day``: its own, or the newest before it.
    Raises ``ValueError`` for a day that is not closed yet, or lies before the first."""
    holds = next((d for d in reversed(days) if d.day <= day), None)
    if holds is None or day > days[-1].day:
        closed = f"{days[0].day} to {days[-1].day}" if days else "none"
        raise ValueError(
            f"{day} is not closed here (closed: {closed}); the first decision of a later day closes it"
        )
    return holds


def inclusion_proof(day: str, heads: Iterable[Head], symbol: str) -> dict[str, Any]:
    """What shows, without the store, that a contract's head is under the day's root; ``root_of_proof`` reads
    it. Raises ``ValueError`` for a contract that is not."""
    ordered = _ordered(heads)
    index = next((i for i, h in enumerate(ordered) if h.symbol == symbol), None)
    if index is None:
        some = ", ".join(h.symbol for h in ordered[:10]) or "none"
        raise ValueError(f"contract {symbol!r} has no decision under the root of {day}; it has: {some}")
    texts = [h.leaf for h in ordered]
    return {
        "day": day,
        "root": root(texts),
        "leaf": asdict(ordered[index]),
        "index": index,
        "leaves": len(ordered),
        "path": path(texts, index),
    }


def root_of_proof(proof: Any) -> str:
    """The root that a proof leads to. Raises ``ValueError`` where it is none."""
    try:
        head = Head(**proof["leaf"])
        return root_by_path(head.leaf, int(proof["index"]), int(proof["leaves"]), list(proof["path"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no inclusion proof: {type(error).__name__}: {error}") from error


def _ordered(heads: Iterable[Head]) -> list[Head]:
    return sorted(heads, key=lambda h: h.symbol)
