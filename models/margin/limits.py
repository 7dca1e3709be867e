"""The limits of the safety engine: every number that a rule uses, with its unit in the name.

``Rate`` is an absolute limit, a margin rate as a fraction of notional; ``Ratio`` a relative one, a fraction
of another rate. They are different types, so that a type checker refuses one for the other. Numbers and their
sources: ``docs/safety.md``.
"""

# ruff: noqa: RUF009 # _limit is dataclasses.field with names for the bounds
from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Final, NewType

#: Absolute: a margin rate, fraction of notional.
Rate = NewType("Rate", float)
#: Relative: a fraction of another rate.
Ratio = NewType("Ratio", float)

#: What the engine remembers of served rates; no window of a rule is longer.
MEMORY_S: Final = 86400.0


class LimitsError(ValueError):
    """A limit is impossible; the message names field, value, bound and remedy."""


def _limit(default: float, *, least: float = 0.0, most: float = math.inf, above: float = -math.inf) -> Any:
    """A field with its default and the bounds it is checked against, ``least`` and ``most`` included."""
    return field(default=default, metadata={"least": least, "most": most, "above": above})


@dataclass(frozen=True)
class Limits:
    """Settings of the rules, ``[margin.limits]`` in the settings file. Raises ``LimitsError`` when made.

    >>> Limits(up_limit_1h=0.10).up_limit_1h
    0.1
    """

    #: Unknown keys are refused where a settings reader fills this class.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    #: Rule 2: the served rate is at least this fraction of the base rate ...
    floor_of_base: Ratio = _limit(0.6, most=1)
    #: ... and at least this fraction of the 99 % VaR of a normal with the long-run variance.
    floor_scale: Ratio = _limit(0.5, most=1)
    #: Rule 3: the served rate is at most this ...
    cap_rate: Rate = _limit(1.0, above=0, most=1)
    #: ... and at most this multiple of the base rate.
    cap_multiplier: Ratio = _limit(10.0, least=1, most=1000)
    #: Rule 4: a model's requirement is held within these multiples of the rules engine's ...
    band_low: Ratio = _limit(0.5, above=0, most=1)
    band_high: Ratio = _limit(2.0, least=1, most=1000)
    #: ... and the model is struck where it was outside by more than this factor on this many bars in a row.
    band_strike_factor: Ratio = _limit(2.0, least=1, most=1000)
    band_strikes: int = _limit(3, least=1, most=1000)
    #: Rule 5: a forecast expires after this many bars or seconds, the longer.
    forecast_valid_bars: int = _limit(2, most=1000)
    forecast_valid_s: float = _limit(900.0, most=86400)
    #: Rule 6: the age of the newest bar, in bars, beyond which the feed is degraded, stale and dead ...
    degraded_after_bars: float = _limit(1.0, least=1)
    stale_after_bars: float = _limit(2.0)
    dead_after_bars: float = _limit(6.0, most=1000)
    #: ... each plus this much, since a bar arrives a little after its close.
    feed_grace_bars: float = _limit(0.1, most=0.5)
    #: Rule 7: how far sources may lie from their median before the feed is degraded, and before no model
    #: is believed.
    feeds_degraded_ratio: Ratio = _limit(0.02, above=0, most=1)
    feeds_refused_ratio: Ratio = _limit(0.06, above=0, most=1)
    #: Rule 8: a forecast of no confidence costs this much more.
    uncertainty_surcharge: Ratio = _limit(0.5, most=10)
    #: Rule 9: with fewer bars no model is trusted; with fewer than the second, the rules rung is not either.
    model_warm_up_bars: int = _limit(500)
    rules_warm_up_bars: int = _limit(250)
    #: Rule 10: the most a rate rises within 1 and 24 hours, relative to the lowest served in that time ...
    up_limit_1h: Ratio = _limit(0.50)
    up_limit_24h: Ratio = _limit(4.0, most=100)
    #: ... and the most it falls in an hour.
    down_limit_1h: Ratio = _limit(0.25, most=0.99)
    #: The engine remembers one served rate for each such stretch of the last 24 hours.
    memory_step_s: float = _limit(900.0, above=0, most=3600)
    #: Rule 11: a rate falls only where what is asked for lies this much below it ...
    release_ratio: Ratio = _limit(0.15, most=0.9)
    #: ... and has been for so long ...
    fall_after_s: float = _limit(0.0, most=MEMORY_S)
    #: ... and a smaller change of a rate is not published.
    publish_step: Ratio = _limit(0.02, most=0.5)
    #: Rule 12: how long the circuit breaker holds after the bar that tripped it.
    breaker_s: float = _limit(3600.0, most=MEMORY_S)
    #: Rule 13: the buffer, a fraction of the rate (0: none); it is spent while a rate is above this multiple
    #: of its base, and built up evenly over this time.
    buffer_ratio: Ratio = _limit(0.0, most=10)
    buffer_release_multiplier: Ratio = _limit(1.5, above=0, most=1000)
    buffer_build_s: float = _limit(30 * 86400.0, above=0)
    #: Rule 14: no rise of maintenance margin for so long after a pause.
    resume_grace_s: float = _limit(1800.0, most=86400)
    #: Rule 15: maintenance margin rises so long after initial margin, and falls so long before it.
    maintenance_delay_s: float = _limit(0.0, most=86400)
    #: Rule 18: the share of a side's open notional that one decision may make liquidatable.
    impact_budget: Ratio = _limit(0.05, most=1)
    #: Rule 19: of the last so many forecasts that matured, breaches of one side from which on rates do not
    #: fall (yellow), and from which on the model is struck (red) until it is green again ...
    health_window: int = _limit(250, least=1, most=10000)
    health_yellow_breaches: int = _limit(8, least=1)
    health_red_breaches: int = _limit(10, least=1)
    #: ... and the same for how far the inputs have drifted.
    drift_yellow: Ratio = _limit(0.25, above=0)
    drift_red: Ratio = _limit(0.5, above=0)
    #: Ladder: the static rung is the base rate times this.
    static_stress_factor: Ratio = _limit(2.0, least=1)

    def __post_init__(self) -> None:
        for limit in fields(self):
            _check(limit.name, getattr(self, limit.name), limit.type == "int", limit.metadata)
        for low, high in (
            ("up_limit_1h", "up_limit_24h"),
            ("degraded_after_bars", "stale_after_bars"),
            ("stale_after_bars", "dead_after_bars"),
            ("feeds_degraded_ratio", "feeds_refused_ratio"),
            ("rules_warm_up_bars", "model_warm_up_bars"),
            ("health_yellow_breaches", "health_red_breaches"),
            ("drift_yellow", "drift_red"),
            ("static_stress_factor", "cap_multiplier"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise _error(low, getattr(self, low), f"at most {high}, which is {getattr(self, high)}")
        if self.forecast_valid_bars == 0 and self.forecast_valid_s == 0:
            raise _error("forecast_valid_s", 0.0, "above 0 where forecast_valid_bars is 0")

    def to_json(self) -> dict[str, float]:
        """The limits as JSON values; ``Limits(**limits.to_json())`` equals them."""
        return asdict(self)


def _check(name: str, value: Any, whole: bool, bounds: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise _error(name, value, "a whole number" if whole else "a number")
    if not abs(value) < math.inf:  # also false for NaN, and no overflow for a huge integer
        raise _error(name, value, "finite")
    if value < bounds["least"]:
        raise _error(name, value, f"at least {bounds['least']:g}")
    if value <= bounds["above"]:
        raise _error(name, value, f"above {bounds['above']:g}")
    if value > bounds["most"]:
        raise _error(name, value, f"at most {bounds['most']:g}")


def _error(field: str, value: object, bound: str) -> LimitsError:
    return LimitsError(
        f"limit {field} is {value!r}; it must be {bound}; "
        f"correct it in [margin.limits] or leave it out for the default"
    )
