"""Where to look for better settings: the ranges that a model states next to its settings.

Plain data, so that a model can say what may be varied without knowing what will vary it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Real:
    """Any number from ``low`` to ``high``, both included; with ``log`` every factor is as likely.

    Raises ``ValueError`` where the bounds are not finite and ascending, or ``log`` meets one at or below 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _refuse_unusable(self.low, self.high, self.log)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Integer:
    """A whole number from ``low`` to ``high``, both included; ``log`` and errors as ``Real``'s."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _refuse_unusable(self.low, self.high, self.log)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and value == int(value)


@dataclass(frozen=True)
class Choice:
    """One of a few values, which have no order. Raises ``ValueError`` unless there are two or more, each
    once."""

    values: tuple[str | float | int | bool, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) != len(self.values):
            raise ValueError(f"values are {self.values}; give at least two to choose from, each once")

    def __contains__(self, value: object) -> bool:
        return value in self.values


Range = Real | Integer | Choice


def _refuse_unusable(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"the range is {low} to {high}; give finite bounds, the lower one first")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range begins at {low}; begin above 0, or leave log out")
