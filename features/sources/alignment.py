"""Are finer bars of the same prices as the bars above them, at the same times?

For each symbol, d(j) is the median over bars of |ln(finer close, j finer bars later) - ln(close)|. Where the
two are of one source d(0) is 0; of two venues it is what lies between their prices. Times that one of the
tables counts otherwise (from the close of a bar, or in another zone) show in a j other than 0 that fits far
better. Then the finer bars would know the future of the bars, or lag behind them, and no score would say so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.bars import Market
from features.durations import format_duration
from features.resample import fine_bars

#: A shift is refused where it leaves less than this of d(0).
_FAR_BETTER = 0.5
#: d(0) above this is another price, or another unit.
_ANOTHER_PRICE = 0.05
#: Fewer bars in common tell nothing; more than the most are not looked at.
_LEAST, _MOST = 30, 2000


def refuse_misaligned(market: Market, fine: Market, where: str) -> None:
    """Raise ``ValueError`` naming ``where`` and the symbol, if the finer bars that lie beneath the market
    (``market.finer``) are of other prices, or shifted in time by up to a bar of the market."""
    k = fine_bars(market.interval, fine.interval)
    for symbol in market.symbols:
        found = distances(market.close[symbol].to_numpy(), fine.close[symbol].to_numpy(), k)
        if found is None:
            continue
        here, best = found[k], int(found.argmin()) - k
        if found[k + best] < _FAR_BETTER * here:
            shift = format_duration(abs(best) * fine.interval)
            raise ValueError(
                f"{where}: bars of {symbol} agree with those above {shift} "
                f"{'later' if best > 0 else 'earlier'} (closes apart by {found[k + best]:.2%} instead of "
                f"{here:.2%}); open_time is when a bar opens, in UTC: correct it in one of the two"
            )
        if here > _ANOTHER_PRICE:
            raise ValueError(
                f"{where}: closes of {symbol} are {here:.1%} from those of the bars above, more than "
                f"{_ANOTHER_PRICE:.0%}; give finer bars of the same contract, in the same unit"
            )


def distances(close: NDArray[np.float64], fine: NDArray[np.float64], k: int) -> NDArray[np.float64] | None:
    """d(-k) to d(k); None with too few bars around which every finer close is known."""
    rows = 1 + np.flatnonzero(np.isfinite(close[1:-1]) & np.isfinite(fine[2 * k - 1 : -k : k]))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int)]
    around = fine[k * (rows[:, np.newaxis] + 1) - 1 + np.arange(-k, k + 1)]
    known = np.isfinite(around).all(axis=1)
    if known.sum() < _LEAST:
        return None
    apart = np.abs(np.log(around[known] / close[rows[known], np.newaxis]))
    return np.asarray(np.median(apart, axis=0))
