"""What every tape begins with: months of calm, and then a price that is led through named points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.margin.scenarios.calm import HOUR_S, calm
from training.margin.scenarios.contract import Contract, grid, late
from training.margin.scenarios.tape import Moment

Array = NDArray[np.float64]

QUARTER_S = 900.0
#: Calm before each tape: the base rates need 90 days before the month, the breaker's quantile 3,334 bars.
BEFORE_S = 150 * 86400.0
#: In so much of it, and on the tape, volatility is the long-run one, so that the EWMA has found it.
SETTLED_S = 5 * 86400.0


@dataclass(frozen=True)
class Background:
    """Calm bars; ``begins`` is the tape's first. Shapes (T,).

    Attributes:
        times_s, closes: the grid and the closes, which ``led_through`` bends.
        volatility: what each return was drawn with, log return a bar.
    """

    times_s: Array
    closes: Array
    volatility: Array
    begins: int

    @property
    def interval_s(self) -> float:
        return float(self.times_s[1] - self.times_s[0])

    def bar(self, time: str) -> int:
        """The bar that closes at a time (UTC). Raises ``ValueError`` where none does."""
        time_s = seconds(time)
        bar = int(np.searchsorted(self.times_s, time_s))
        if bar == len(self.times_s) or self.times_s[bar] != time_s:
            raise ValueError(f"no bar of the tape closes at {time}; give one on its grid")
        return bar

    def led_through(self, points: Sequence[tuple[str, float]]) -> Background:
        """The same with closes that pass through these prices at these times, in order of time.

        Between two points the calm keeps its noise and gets an even drift; after the last it goes on from
        there.
        """
        log_closes = np.log(self.closes)
        shift = np.zeros(len(log_closes))
        reached = 0
        for time, price in points:
            bar = self.bar(time)
            needed = float(np.log(price) - log_closes[bar])
            if reached:
                shift[reached : bar + 1] = np.linspace(shift[reached], needed, bar + 1 - reached)
            else:  # the whole past moves along, so that the first point is no jump
                shift[: bar + 1] = needed
            shift[bar:] = needed
            reached = bar
        return replace(self, closes=np.exp(log_closes + shift))

    def contract(self, champion_volatility: Array, *, bars_late: int = 1) -> Contract:
        """A contract whose champion knows this volatility so many bars late."""
        return Contract(self.times_s, self.closes, self.begins, late(champion_volatility, bars_late))


def background(
    begins: str, ends: str, *, interval_s: float = QUARTER_S, seed: int, hourly_volatility: float
) -> Background:
    """Calm of ``BEFORE_S`` before the first bar of the tape (its close time, UTC), and until the last one."""
    first_s, last_s = seconds(begins), seconds(ends)
    before, bars = round(BEFORE_S / interval_s), round((last_s - first_s) / interval_s) + 1
    made = calm(before + bars, interval_s, seed, hourly_volatility=hourly_volatility)
    volatility = made.volatility.copy()
    volatility[before - round(SETTLED_S / interval_s) :] = hourly_volatility * math.sqrt(interval_s / HOUR_S)
    returns = made.returns / made.volatility * volatility
    times_s = grid(first_s - before * interval_s, interval_s, before + bars)
    return Background(times_s, 100.0 * np.exp(np.cumsum(returns)), volatility, before)


def moments(contract: Contract) -> tuple[Moment, ...]:
    """A decision at every close of the tape, the feed on time."""
    return tuple(closing(contract, bar) for bar in range(contract.begins, len(contract.times_s)))


def closing(contract: Contract, bar: int) -> Moment:
    """The decision at the close of a bar."""
    return seen_at(contract, bar, float(contract.times_s[bar]))


def seen_at(contract: Contract, bar: int, now_s: float) -> Moment:
    """The decision at some time at which a bar is the newest one known; the price is that of the last close,
    known or not."""
    true = int(np.searchsorted(contract.times_s, now_s, side="right")) - 1
    return Moment(
        now_s=now_s,
        market=contract.market(bar),
        champion=contract.champion(bar),
        rules=contract.rules(bar),
        price=float(contract.closes[true]),
    )


def ticks(begins: str, ends: str, every_s: float) -> Array:
    """Times from the first to the last, so many seconds apart."""
    return np.arange(seconds(begins), seconds(ends) + 1.0, every_s)


def newest_bar(contract: Contract, now_s: float) -> int:
    """The last bar that has closed by then and exists."""
    bar = int(np.searchsorted(contract.times_s, now_s, side="right")) - 1
    known = np.flatnonzero(np.isfinite(contract.closes[: bar + 1]))
    return int(known[-1])


def seconds(time: str) -> float:
    """A time (UTC) as seconds since 1970."""
    return pd.Timestamp(time, tz="UTC").timestamp()


def hours(count: float) -> float:
    """Hours in seconds."""
    return count * HOUR_S
