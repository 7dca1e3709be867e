"""The limits of the safety engine: every number that a rule uses, with its unit in the name.

``Rate`` is an absolute limit, a margin rate as a fraction of notional; ``Ratio`` a relative one, a fraction
of another rate. They are different types, so that a type checker refuses one for the other. Numbers and their
sources: ``docs/safety.md``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, NewType

#: Absolute: a margin rate, fraction of notional.
Rate = NewType("Rate", float)
#: Relative: a fraction of another rate.
Ratio = NewType("Ratio", float)


class LimitsError(ValueError):
    """A limit is impossible; the message names field, value, bound and remedy."""


@dataclass(frozen=True)
class Limits:
    """Settings of the rules, ``[margin.limits]`` in the settings file. Raises ``LimitsError`` when made.

    >>> Limits(up_limit_1h=0.10).up_limit_1h
    0.1
    """

    #: Unknown keys are refused where a settings reader fills this class.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    #: Rule 2: the served rate is at least this fraction of the base rate ...
    floor_of_base: Ratio = Ratio(0.6)
    #: ... and at least this fraction of the 99 % VaR of a normal with the long-run variance.
    floor_scale: Ratio = Ratio(0.5)
    #: Rule 3: the served rate is at most this ...
    cap_rate: Rate = Rate(1.0)
    #: ... and at most this multiple of the base rate.
    cap_multiplier: Ratio = Ratio(10.0)
    #: Rule 5: a forecast expires after this many bars or seconds, the longer.
    forecast_valid_bars: int = 2
    forecast_valid_s: float = 900.0
    #: Rule 6: the age of the newest bar, in bars, beyond which the feed is degraded, stale and dead ...
    degraded_after_bars: float = 1.0
    stale_after_bars: float = 2.0
    dead_after_bars: float = 6.0
    #: ... each plus this much, since a bar arrives a little after its close.
    feed_grace_bars: float = 0.1
    #: Rule 9: with fewer bars no model is trusted; with fewer than the second, the rules rung is not either.
    model_warm_up_bars: int = 500
    rules_warm_up_bars: int = 250
    #: Rule 10: the most a rate rises within 1 and 24 hours, relative to the lowest served in that time ...
    up_limit_1h: Ratio = Ratio(0.25)
    up_limit_24h: Ratio = Ratio(0.60)
    #: ... and the most it falls in an hour.
    down_limit_1h: Ratio = Ratio(0.05)
    #: The engine remembers one served rate for each such stretch of the last 24 hours.
    memory_step_s: float = 900.0
    #: Ladder: the static rung is the base rate times this.
    static_stress_factor: Ratio = Ratio(2.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise _error(field.name, value, "a whole number" if whole else "a number")
            if not abs(value) < math.inf:  # also false for NaN, and no overflow for a huge integer
                raise _error(field.name, value, "finite")
            if value < 0:
                raise _error(field.name, value, "at least 0")
        for name in ("cap_rate", "cap_multiplier", "static_stress_factor", "memory_step_s"):
            if getattr(self, name) <= 0:
                raise _error(name, getattr(self, name), "above 0")
        for name, bound in (
            ("floor_of_base", 1),
            ("floor_scale", 1),
            ("cap_rate", 1),
            ("feed_grace_bars", 0.5),
            ("memory_step_s", 3600),
            ("forecast_valid_bars", 1000),
            ("forecast_valid_s", 86400),
            ("dead_after_bars", 1000),
            ("up_limit_24h", 100),
            ("cap_multiplier", 1000),
        ):
            if getattr(self, name) > bound:
                raise _error(name, getattr(self, name), f"at most {bound}")
        if self.down_limit_1h >= 1:
            raise _error("down_limit_1h", self.down_limit_1h, "below 1")
        for low, high in (
            ("up_limit_1h", "up_limit_24h"),
            ("degraded_after_bars", "stale_after_bars"),
            ("stale_after_bars", "dead_after_bars"),
            ("rules_warm_up_bars", "model_warm_up_bars"),
            ("static_stress_factor", "cap_multiplier"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise _error(low, getattr(self, low), f"at most {high}, which is {getattr(self, high)}")
        if self.forecast_valid_bars == 0 and self.forecast_valid_s == 0:
            raise _error("forecast_valid_s", 0.0, "above 0 where forecast_valid_bars is 0")
        for name, least in (("degraded_after_bars", 1), ("static_stress_factor", 1), ("cap_multiplier", 1)):
            if getattr(self, name) < least:
                raise _error(name, getattr(self, name), f"at least {least}")

    def to_json(self) -> dict[str, float]:
        """The limits as JSON values; ``Limits(**limits.to_json())`` equals them."""
        return asdict(self)


def _error(field: str, value: object, bound: str) -> LimitsError:
    return LimitsError(
        f"limit {field} is {value!r}; it must be {bound}; "
        f"correct it in [margin.limits] or leave it out for the default"
    )
