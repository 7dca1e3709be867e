"""The impulse responses as one picture: a row a shock, a line a series.

The shade holds the engine on eight paths of ten.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from features.commands.pictures import check_format, save, style
from training.margin.impulse import (
    BURN_HOURS,
    BURNED,
    DOUBLED,
    ENGINE,
    EWMA,
    GARCH,
    INFORMED,
    OUTAGE_HOURS,
    PLAIN_LIMITER,
    SHOCKS,
    SILENT,
    Responses,
)

#: Colour, line, width; drawn in this order, so that what matters most lies on top.
_LINES = {
    PLAIN_LIMITER: ("#8c8c8c", "--", 1.4),
    GARCH: ("#8e5fb0", "-", 1.3),
    EWMA: ("#3a9a5b", "-", 1.3),
    INFORMED: ("#d95f02", "-", 1.3),
    ENGINE: ("#1f4e9c", "-", 2.0),
}
#: Hours that are drawn.
_SHOWN = (-24, 180)


def draw_impulse(found: Responses, kind: str, out: Path) -> Path:
    """Draw the middle responses into a file whose suffix is one of ``pictures.FORMATS``, written whole.

    Raises ``ValueError`` for another suffix.
    """
    check_format(out)
    shown = (found.hours >= _SHOWN[0]) & (found.hours <= _SHOWN[1])
    hours = found.hours[shown]
    with style():
        figure = Figure(figsize=(10, 11), layout="constrained")
        axes = figure.subplots(len(SHOCKS), 1, sharex=True)
        for axis, shock in zip(axes, SHOCKS, strict=True):
            true = _true_volatility(shock, hours)
            axis.step(hours, true, ":", where="post", color="#111111", linewidth=0.9, label="true volatility")
            low, high = np.quantile(found.response[shock, ENGINE, kind][:, shown], (0.1, 0.9), axis=0)
            axis.fill_between(hours, low, high, step="post", color="#1f4e9c", alpha=0.12, linewidth=0)
            for series, (colour, line, width) in _LINES.items():
                axis.step(
                    *(hours, found.middle(shock, series, kind)[shown]),
                    **{"where": "post", "color": colour, "linestyle": line, "linewidth": width},
                    label=series,
                )
            axis.set_title(shock, loc="left", fontsize=9, fontweight="bold")
            axis.grid(alpha=0.25, linewidth=0.6)
            axis.margins(x=0.01)
            axis.xaxis.set_major_locator(MultipleLocator(24))
        axes[-1].set_xlabel("hours since the last decision before the shock")
        figure.supylabel(f"{kind} margin of a long: loss covered, times that without the shock", fontsize=9)
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False
        )
        return save(figure, out)


def _true_volatility(shock: str, hours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Over the calm one; NaN while nothing is seen of it."""
    after = hours >= 1
    if shock == DOUBLED:
        return np.where(after, 2.0, 1.0)
    if shock == BURNED:
        return np.clip(1 + hours / BURN_HOURS, 1.0, 2.0)
    unseen = after & (hours <= OUTAGE_HOURS) & (shock == SILENT)
    return np.where(unseen, np.nan, 1.0)
