"""What a contract's own history calls extreme, for the circuit breaker (rule 12): a bar, and a requirement.

Extreme bar: the one-bar loss (log return against the side) that ``EXTREME_SHARE`` of all bars known exceeded,
an empirical quantile. Stressed requirement: the 90 % quantile of what the rules engine would have required at
each bar known, its scale at that bar times the tail of residuals known at the end. The tail is one for all
bars and a margin rate rises with the scale, so it is the requirement at the 90 % quantile of the scale:

    Q_90(sigma_t, t <= T) x sqrt(h) x ES multiple of the residuals known at T, as a margin rate

The multiples are those of ``fhs``: residuals of two years, matured by T.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.margin import fhs
from models.margin.requirement import margin_rates
from models.margin.types import ZEROS, Pair, Rates, Tail

Array = NDArray[np.float64]

#: 99.97 % of bars lose less than the extreme one.
EXTREME_SHARE: Final = 0.0003
#: No extreme bar from fewer returns: one is then expected beyond it.
LEAST_RETURNS: Final = math.ceil(1 / EXTREME_SHARE)
#: Which quantile of past requirements is stress.
STRESSED_QUANTILE: Final = 0.9
#: A requirement below it, one basis point, is that of a price that does not trade.
LEAST_RATE: Final = 1e-4


class Stress:
    """Extremes of one contract at any row of its history; nothing after the row is used.

    Args:
        log_closes, scale: (T,) ln of the closes and their EWMA scale a bar (``fhs.scale``), NaN where
            unknown.
        interval_s: bar length.
        initial, maintenance: level and horizon of each kind; horizons are multiples of the interval.

    Raises ``ValueError`` for a horizon that is not a whole number of bars.
    """

    def __init__(
        self, log_closes: Array, scale: Array, *, interval_s: float, initial: Tail, maintenance: Tail
    ) -> None:
        self._returns = np.diff(log_closes, prepend=np.nan) if len(log_closes) else log_closes
        self._scale, self._kinds = scale, (initial, maintenance)
        self._residual_bars = math.ceil(fhs.RESIDUALS_S / interval_s) + 1
        self._bars = [fhs.horizon_in_bars(kind.horizon_s, interval_s) for kind in self._kinds]
        self._residuals = [fhs.standardised_losses(log_closes, scale, bars) for bars in self._bars]

    def extreme_losses(self, rows: int) -> Pair:
        """The one-bar log loss of long and short beyond which ``EXTREME_SHARE`` of the first ``rows`` bars
        lie, linear between order statistics; zeros where fewer than ``LEAST_RETURNS`` returns are known, and
        0 for a side that prices never moved against so often."""
        returns = self._returns[:rows]
        returns = returns[np.isfinite(returns)]
        if len(returns) < LEAST_RETURNS:
            return 0.0, 0.0
        low, high = np.quantile(returns, (EXTREME_SHARE, 1 - EXTREME_SHARE))
        return max(-float(low), 0.0), max(float(high), 0.0)

    def stressed_rates(self, rows: int) -> Rates:
        """The requirement in stress, by the first ``rows`` bars; initial >= maintenance, at most 1.

        Zeros where the rules engine could not have answered: too few residuals (``fhs.needed_residuals``), or
        a price that does not move.
        """
        known = self._scale[:rows][np.isfinite(self._scale[:rows])]
        losses: list[tuple[float, float]] = []
        for kind, bars, residuals in zip(self._kinds, self._bars, self._residuals, strict=True):
            matured = residuals[max(0, rows - self._residual_bars) : max(0, rows - bars)]
            if not len(known) or np.isfinite(matured).sum() < fhs.needed_residuals(bars):
                return ZEROS
            scale = float(np.quantile(known, STRESSED_QUANTILE)) * math.sqrt(bars)
            long, short = scale * fhs.tail_quantiles(matured, (kind.level,))[1][:, 0]
            losses.append((float(long), float(short)))
        (long_initial, short_initial), (long_maintenance, short_maintenance) = losses
        rates = margin_rates((long_initial, long_maintenance, short_initial, short_maintenance))
        if min(rates) < LEAST_RATE:
            return ZEROS
        a, b, c, d = (min(rate, 1.0) for rate in rates)
        return a, b, c, d
