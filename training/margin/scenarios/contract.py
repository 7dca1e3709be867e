"""A constructed contract: what each rung asks for at each of its bars, and what the engine sees of it.

The *rules rung* is the EWMA-filtered historical simulation of ``models.margin.fhs``: the tail of the
standardised losses before the tape begins, times the EWMA volatility at the bar (the server refreshes the
tail each Monday; no tape is longer). The *champion* is constructed: the same tail, times a volatility that
the tape gives, the true one some bars late say. Base rates, floor and breaker come from the contract's own
history, as in the server (``models.margin.base_rate``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.margin import fhs
from models.margin.base_rate import BaseRates, base_rates
from models.margin.limits import Limits
from models.margin.requirement import BREAKER_LEVEL, candidate
from models.margin.types import Candidate, MarketState, Rates, Tail

Array = NDArray[np.float64]

INITIAL, MAINTENANCE = Tail(0.99, 4 * 3600.0), Tail(0.99, 3600.0)
LEVELS = (0.99, BREAKER_LEVEL)
#: Used only where the history before a tape is too short for rates through the cycle.
DEFAULT_BASE: Rates = (0.10, 0.05, 0.10, 0.05)


@dataclass(frozen=True)
class Contract:
    """One contract on the regular grid of its bars.

    Attributes:
        times_s: (T,) close times, seconds since 1970 UTC.
        closes: (T,) above 0, NaN where a bar is missing.
        begins: the first bar of the tape; the tail and all else that is learned comes from before it.
        champion_volatility: (T,) log return a bar, what the champion believes; NaN where it says nothing.
        others: (T,) each, the closes of the same contract in other sources.
        believed: (T,) the closes that the rules rung and the newest return are computed from, the median of
            the sources where they disagree; None for ``closes``.
        like: another contract with the same bars before the tape; what is learned from them is taken from it.
    """

    times_s: Array
    closes: Array
    begins: int
    champion_volatility: Array
    others: tuple[Array, ...] = ()
    believed: Array | None = None
    like: Contract | None = None

    @property
    def interval_s(self) -> float:
        return float(self.times_s[1] - self.times_s[0])

    @property
    def rules_closes(self) -> Array:
        return self.closes if self.believed is None else self.believed

    @cached_property
    def rules_volatility(self) -> Array:
        """(T,), the EWMA scale of the rules rung, log return a bar."""
        return fhs.scale(self.rules_closes, self.interval_s)

    @cached_property
    def tail(self) -> tuple[Array, Array]:
        """VaR and ES per unit of the scale, (horizon, side, level), from the closes before the tape."""
        if self.like is not None:
            return self.like.tail
        before = self.rules_closes[: self.begins]
        var, es = fhs.filtered_historical_simulation(before, self.interval_s, _HORIZONS_S, LEVELS)
        unit = float(self.rules_volatility[self.begins - 1])
        return var / unit, es / unit

    @cached_property
    def cycle(self) -> BaseRates:
        """Base rates, floor and breaker by month."""
        if self.like is not None:
            return self.like.cycle
        return base_rates(
            self.times_s,
            self.rules_closes,
            interval_s=self.interval_s,
            initial=INITIAL,
            maintenance=MAINTENANCE,
            default=DEFAULT_BASE,
            since_s=float(self.times_s[self.begins]),
        )

    def champion(self, bar: int, limits: Limits | None = None) -> Candidate | None:
        """What the champion asks for at the close of a bar; None where it says nothing."""
        volatility = float(self.champion_volatility[bar])
        return None if math.isnan(volatility) else self._candidate("champion", volatility, bar, limits)

    def rules(self, bar: int, limits: Limits | None = None) -> Candidate:
        """What the rules rung asks for at the close of a bar."""
        return self._candidate("rules", float(self.rules_volatility[bar]), bar, limits)

    def market(self, bar: int) -> MarketState:
        """What is known when the bar has closed; ``dataclasses.replace`` it where the feed lies."""
        cycle = self.cycle.at(float(self.times_s[bar]))
        believed, before = float(self.rules_closes[bar]), float(self.rules_closes[bar - 1])
        others = tuple(float(c[bar]) for c in self.others if not math.isnan(c[bar]))
        return MarketState(
            known_symbol=True,
            interval_s=self.interval_s,
            last_close_s=float(self.times_s[bar]),
            bars=int(np.isfinite(self.closes[: bar + 1]).sum()),
            close=float(self.closes[bar]),
            base_rates=cycle.base,
            long_run_var=cycle.long_run_var,
            horizons_s=(INITIAL.horizon_s, MAINTENANCE.horizon_s),
            other_closes=others,
            last_return=None if math.isnan(before) else math.log(believed / before),
            extreme_losses=cycle.extreme_losses,
            stressed_rates=cycle.stressed_rates,
        )

    def _candidate(self, rung: str, volatility: float, bar: int, limits: Limits | None) -> Candidate:
        var, es = fhs.floored(*(multiple * volatility for multiple in self.tail))
        return candidate(
            rung,
            var,
            es,
            horizons_s=_HORIZONS_S,
            levels=LEVELS,
            initial=INITIAL,
            maintenance=MAINTENANCE,
            made_at_s=float(self.times_s[bar]),
            interval_s=self.interval_s,
            limits=limits or Limits(),
            model_version=f"constructed {rung}",
        )


_HORIZONS_S: Sequence[float] = (MAINTENANCE.horizon_s, INITIAL.horizon_s)


def grid(first_close_s: float, interval_s: float, bars: int) -> Array:
    """(T,) close times."""
    return first_close_s + interval_s * np.arange(bars, dtype="float64")


def late(volatility: Array, bars: int) -> Array:
    """The volatility as one knows it so many bars late; the first value stands for what came before."""
    return np.concatenate([np.full(bars, volatility[0]), volatility[: len(volatility) - bars]])
