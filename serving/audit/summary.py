"""What a verification found, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from serving.audit.recompute import Recomputed
from serving.audit.verify import Findings, Published
from serving.audit.version import engine_version

_EXAMPLES = 5


def summary(found: Findings, published: Published | None = None) -> Iterator[str]:
    """What was looked at, what could not be, and each defect with its place."""
    yield (
        f"{_count(found.rows, 'decision')} of {_count(found.contracts, 'contract')}, "
        f"{_count(found.days, 'closed day')}, {_count(found.orders, 'event')} of orders"
    )
    if found.before:
        yield (
            f"{_count(found.before, 'decision')} before the chain began: they have no hash, and whether "
            f"somebody changed them cannot be told"
        )
    if found.recomputed is None:
        yield "nothing was decided again (--no-recompute)"
    else:
        yield from _recomputed(found.recomputed)
    late = "counted to a later day than made on: a clock went back, or rows were put in later"
    yield from _on_other_days(found.late, late)
    yield from _on_other_days(found.early, "counted to an earlier day than made on: a clock was ahead")
    if not found.broken:
        same = "" if published is None else f"; the root published for {published.day} is this one"
        yield f"good: every hash and every link holds{same}"
        return
    for defect in found.defects:
        yield f"{defect.place}: {defect.part}: {defect.what}"
    if found.broken > len(found.defects):
        yield f"... and {found.broken - len(found.defects):,} more"
    yield f"BROKEN: {_count(found.broken, 'defect')}"


def _recomputed(told: Recomputed) -> Iterator[str]:
    yield f"{_count(told.same, 'decision')} came out the same when decided again, to the bit"
    others = sum(told.by_others.values())
    if others:
        versions = ", ".join(f"{count:,} by {name}" for name, count in told.by_others.most_common(_EXAMPLES))
        yield (
            f"{_count(others, 'decision')} cannot be recomputed: made by another version of the engine "
            f"({versions}; this is {engine_version()}); first {told.example}"
        )


def _on_other_days(names: Sequence[str], what: str) -> Iterator[str]:
    if names:
        more = ", ..." if len(names) > _EXAMPLES else ""
        yield f"{_count(len(names), 'decision')} {what}: {', '.join(names[:_EXAMPLES])}{more}"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" + ("" if number == 1 else "s")
