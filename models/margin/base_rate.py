"""What a contract's history says once a month: base rates, long-run variance (rule 2), extremes (rule 12).

A base rate is the venue's own static rate, or the rate through the cycle.

The through-the-cycle rate of a kind is the margin rate of the ES at its level, over its horizon, of all
losses that had matured by the decision. It is refreshed at the start of each month (UTC) and holds for that
month, so that a backtest sees no future and a venue sees a number that stands still. The long-run normal VaR
follows the same clock: ``Phi^-1(0.99) x sqrt(h x mean squared one-bar log return)`` as a margin rate, h the
horizon in bars. So do the extreme bar and the stressed requirement (``stress``).
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.margin.fhs import horizon_in_bars, logarithms, scale, tail_quantiles
from models.margin.requirement import margin_rates
from models.margin.stress import LEAST_RATE, Stress
from models.margin.types import SIDES, ZEROS, Pair, Rates, Tail, is_rates

Array = NDArray[np.float64]

#: No through-the-cycle rate from less history; until then the default stands.
MINIMUM_HISTORY_S: Final = 90 * 86400.0
#: Rule 2 measures the long-run variance by this VaR.
_NORMAL_99: Final = NormalDist().inv_cdf(0.99)


class BaseRateError(ValueError):
    """A given or default pair of rates is impossible; the message names it, the bound and the remedy."""


class Cycle(NamedTuple):
    """What stands for a month; all of it was known at the month's start.

    Attributes:
        base: base rates; initial >= maintenance.
        long_run_var: margin rates of the long-run normal VaR; zeros where history is too short.
        extreme_losses: the one-bar log loss of long and short exceeded in 0.03 % of bars; 0 where unknown.
        stressed_rates: the 90 % quantile of past requirements of the rules engine; zeros where unknown.
    """

    base: Rates
    long_run_var: Rates = ZEROS
    extreme_losses: Pair = (0.0, 0.0)
    stressed_rates: Rates = ZEROS


@dataclass(frozen=True)
class BaseRates:
    """One contract over time; each entry holds until the next.

    Attributes:
        from_s: when each entry begins, ascending, seconds since 1970 UTC; what is asked for before the first
            gets the first.
        cycles: what stands from then on.
    """

    from_s: tuple[float, ...]
    cycles: tuple[Cycle, ...]

    def at(self, time_s: float) -> Cycle:
        """What stands at a time."""
        return self.cycles[max(bisect.bisect_right(self.from_s, time_s) - 1, 0)]


def rate_pair(initial: float, maintenance: float, name: str) -> Rates:
    """The venue's rates of both kinds, for both sides. Raises ``BaseRateError`` unless 0 < maintenance <=
    initial <= 1.
    """
    rates: Rates = (initial, maintenance, initial, maintenance)
    if not is_rates(rates) or not maintenance <= initial <= 1:
        raise BaseRateError(
            f"{name} is initial {initial!r}, maintenance {maintenance!r}; "
            f"give fractions of notional with 0 < maintenance <= initial <= 1"
        )
    return rates


def base_rates(
    close_times_s: Array,
    closes: Array,
    *,
    interval_s: float,
    initial: Tail,
    maintenance: Tail,
    default: Rates,
    given: Rates | None = None,
    since_s: float = -math.inf,
) -> BaseRates:
    """Base rates and extremes by month, from all closes known at each month's start.

    Args:
        close_times_s: (T,) close times on the regular grid, ascending, seconds since 1970 UTC.
        closes: (T,) above 0, NaN where a bar is missing.
        interval_s: bar length.
        initial, maintenance: level and horizon of each kind; horizons are multiples of the interval.
        default: where there are fewer than 90 days of history, or a price that does not move.
        given: the venue's own rates, which then stand at all times; rules 2 and 12 still get theirs.
        since_s: leave out what no decision from this time on can see; a server gives its present time.

    Rates lie within (0, 1]. Raises ``ValueError`` for a horizon that is not a whole number of bars, and
    ``BaseRateError`` where a given or default pair is out of order.
    """
    for name, pair in (("default", default), ("given", given)):
        if pair is not None:
            rate_pair(pair[0], pair[1], f"{name} base rate, long")
            rate_pair(pair[2], pair[3], f"{name} base rate, short")
    if closes.shape != close_times_s.shape or closes.ndim != 1:
        raise ValueError(
            f"closes {closes.shape} and times {close_times_s.shape} must be one row each, as long"
        )
    log_closes = logarithms(closes)
    traded = np.flatnonzero(np.isfinite(closes))
    begins_s = float(close_times_s[traded[0]]) if len(traded) else math.inf
    stress = Stress(
        log_closes, scale(closes, interval_s), interval_s=interval_s, initial=initial, maintenance=maintenance
    )
    starts = _month_starts(close_times_s, since_s)
    cycles = []
    for start_s in starts:
        if start_s - begins_s < MINIMUM_HISTORY_S:
            cycles.append(Cycle(given or default))
            continue
        rows = int(np.searchsorted(close_times_s, start_s, side="right"))
        known = log_closes[:rows]
        cycle = None if given else _through_the_cycle(known, interval_s, initial, maintenance)
        cycles.append(
            Cycle(
                given or cycle or default,
                _long_run_var(known, interval_s, initial, maintenance),
                stress.extreme_losses(rows),
                stress.stressed_rates(rows),
            )
        )
    return BaseRates(tuple(starts) or (0.0,), tuple(cycles) or (Cycle(given or default),))


def _month_starts(close_times_s: Array, since_s: float) -> list[float]:
    """The month of the first close and every later one up to the last close, or to ``since_s`` if later."""
    if len(close_times_s) == 0:
        return []
    last_s = close_times_s[-1] if math.isinf(since_s) else max(close_times_s[-1], since_s)
    seconds = np.array([close_times_s[0], last_s]).astype("int64").astype("datetime64[s]")
    first, last = seconds.astype("datetime64[M]")
    months = np.arange(first, last + 1).astype("datetime64[s]").astype("int64").astype("float64")
    keep = max(int(np.searchsorted(months, since_s, side="right")) - 1, 0)
    return [float(m) for m in months[keep:]]


def _through_the_cycle(known: Array, interval_s: float, initial: Tail, maintenance: Tail) -> Rates | None:
    by_kind = []
    for kind in (initial, maintenance):
        bars = horizon_in_bars(kind.horizon_s, interval_s)
        losses = known[bars:] - known[:-bars]
        if not np.isfinite(losses).any():
            return None
        by_kind.append(tail_quantiles(losses, (kind.level,))[1][:, 0])
    (long_i, short_i), (long_m, short_m) = by_kind
    rates = margin_rates((float(long_i), float(long_m), float(short_i), float(short_m)))
    if min(rates) < LEAST_RATE:
        return None
    a, b, c, d = (min(r, 1.0) for r in rates)
    return a, b, c, d


def _long_run_var(known: Array, interval_s: float, initial: Tail, maintenance: Tail) -> Rates:
    returns = np.diff(known)
    if not np.isfinite(returns).any():
        return ZEROS
    variance = float(np.nanmean(returns**2))
    losses = [
        _NORMAL_99 * math.sqrt(variance * horizon_in_bars(kind.horizon_s, interval_s))
        for _ in SIDES
        for kind in (initial, maintenance)
    ]
    a, b, c, d = losses
    return margin_rates((a, b, c, d))
