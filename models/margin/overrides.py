"""What people have ordered (rule 17): values only; how orders are taken and stored is the server's affair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.margin.codec import is_number

#: ``freeze``: rates stay as they are. ``floor``, ``cap``: the multiplier is at least, at most. ``rung``: no
#: better rung of the ladder than this one. ``kill``: the static rung, at once.
OVERRIDE_KINDS: Final = ("freeze", "floor", "cap", "rung", "kill")
#: The rungs that can be forced; the champion needs no order.
FORCED_RUNGS: Final = ("last_good", "rules", "static", "cap")


class OverrideError(ValueError):
    """An order is impossible; the message names ``field``, ``value``, ``bound`` and remedy."""

    def __init__(self, field: str, value: object, bound: str) -> None:
        self.field, self.value, self.bound = field, value, bound
        super().__init__(f"override {field} is {value!r}; it must be {bound}; correct it and send it again")


@dataclass(frozen=True, slots=True)
class Override:
    """One order. Raises ``OverrideError`` when made.

    Attributes:
        id: what the audit trail calls it.
        kind: one of ``OVERRIDE_KINDS``.
        reason: why, in words; never empty.
        expires_s: seconds since 1970; the order is without effect from then on.
        multiplier: of ``floor`` and ``cap``, a multiple of the base rate above 0; else None.
        rung: of ``rung``, one of ``FORCED_RUNGS``; else None.
    """

    id: str
    kind: str
    reason: str
    expires_s: float
    multiplier: float | None = None
    rung: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in OVERRIDE_KINDS:
            raise OverrideError("kind", self.kind, f"one of {OVERRIDE_KINDS}")
        if not isinstance(self.id, str) or not self.id:
            raise OverrideError("id", self.id, "a text")
        if not isinstance(self.reason, str) or not self.reason.strip():
            raise OverrideError("reason", self.reason, "a sentence")
        if not is_number(self.expires_s):
            raise OverrideError("expires_s", self.expires_s, "a time in seconds since 1970")
        if self.kind in ("floor", "cap"):
            if not is_number(self.multiplier) or self.multiplier <= 0:
                raise OverrideError(
                    "multiplier", self.multiplier, f"a finite number above 0 for a {self.kind}"
                )
        elif self.multiplier is not None:
            raise OverrideError("multiplier", self.multiplier, f"left out for a {self.kind}")
        if self.kind == "rung":
            if self.rung not in FORCED_RUNGS:
                raise OverrideError("rung", self.rung, f"one of {FORCED_RUNGS}")
        elif self.rung is not None:
            raise OverrideError("rung", self.rung, f"left out for a {self.kind}")


@dataclass(frozen=True, slots=True)
class Overrides:
    """The orders that concern one contract, its own and the global ones, those that expired included."""

    orders: tuple[Override, ...] = ()

    def standing(self, kind: str, now_s: float) -> tuple[Override, ...]:
        """The orders of a kind that have not expired."""
        return tuple(o for o in self.orders if o.kind == kind and now_s < o.expires_s)
