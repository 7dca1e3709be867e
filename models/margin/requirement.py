"""From a forecast to a requirement: log losses to margin rates, and a forecast to a rung's candidate.

A loss is the log return over the horizon against the side, positive is a loss. The margin rate that covers it
is the fraction of notional that a linear contract loses: ``1 - exp(-loss)`` for a long (never above 1) and
``exp(loss) - 1`` for a short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.margin.draft import validity_s
from models.margin.limits import Limits
from models.margin.types import SIDES, Candidate, Pair, Rates, Tail

#: exp beyond it overflows; the rate it gives is far above any cap.
_LARGEST_LOSS = 700.0
#: Whose VaR over the maintenance horizon trips the circuit breaker (rule 12).
BREAKER_LEVEL = 0.999


class RequirementError(ValueError):
    """The forecast does not hold what a kind of margin needs; the message names it and what there is."""


def margin_rate(loss: float, side: str) -> float:
    """The rate that covers a log loss; NaN in, NaN out. Raises ``RequirementError`` for an unknown side."""
    if side not in SIDES:
        raise RequirementError(f"side is {side!r}; it must be one of {SIDES}")
    return -math.expm1(-loss) if side == "long" else math.expm1(min(loss, _LARGEST_LOSS))


def margin_rates(losses: Rates) -> Rates:
    """Rates of the four log losses (order of ``VALUES``); initial is at least maintenance, on both sides.

    A forecast fitted per horizon may ask less for the longer one; then initial is raised to maintenance. NaN
    stays NaN, for rule 1 to refuse.
    """
    long_initial, long_maintenance = margin_rate(losses[0], "long"), margin_rate(losses[1], "long")
    short_initial, short_maintenance = margin_rate(losses[2], "short"), margin_rate(losses[3], "short")
    return (
        _at_least(long_initial, long_maintenance),
        long_maintenance,
        _at_least(short_initial, short_maintenance),
        short_maintenance,
    )


def _at_least(rate: float, least: float) -> float:
    return least if rate < least else rate  # not max: NaN has to stay


def pick(
    values: NDArray[np.float64],
    horizons_s: Sequence[float],
    levels: Sequence[float],
    initial: Tail,
    maintenance: Tail,
) -> Rates:
    """The four losses, in the order of ``VALUES``, out of one row of a forecast.

    Args:
        values: VaR or ES, shape (horizon, side, level), log losses.
        horizons_s, levels: what the first and the last axis stand for.
        initial, maintenance: the level and horizon of each kind.

    Raises ``RequirementError`` where the forecast lacks a horizon or level, or has another shape.
    """
    shape = (len(horizons_s), len(SIDES), len(levels))
    if values.shape != shape:
        raise RequirementError(f"forecast has shape {values.shape}; horizons x sides x levels is {shape}")
    (h_i, k_i), (h_m, k_m) = (_place(tail, horizons_s, levels) for tail in (initial, maintenance))
    return (
        float(values[h_i, 0, k_i]),
        float(values[h_m, 0, k_m]),
        float(values[h_i, 1, k_i]),
        float(values[h_m, 1, k_m]),
    )


def _place(tail: Tail, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[int, int]:
    if tail.horizon_s not in horizons_s:
        raise RequirementError(
            f"no forecast for horizon {tail.horizon_s:g} s, only for {[float(h) for h in horizons_s]}; "
            f"train the model on this horizon, or choose one of these in [margin]"
        )
    if tail.level not in levels:
        raise RequirementError(
            f"no forecast at level {tail.level:g}, only at {[float(p) for p in levels]}; "
            f"train the model on this level, or choose one of these in [margin]"
        )
    return horizons_s.index(tail.horizon_s), levels.index(tail.level)


def candidate(
    rung: str,
    var: NDArray[np.float64],
    es: NDArray[np.float64],
    *,
    horizons_s: Sequence[float],
    levels: Sequence[float],
    initial: Tail,
    maintenance: Tail,
    made_at_s: float,
    interval_s: float,
    limits: Limits,
    model_version: str = "",
    confidence: float = 1.0,
    drift: float = 0.0,
) -> Candidate:
    """What a rung asks for, from one row of its forecast (VaR and ES, horizon x side x level, log losses).

    The requirement is the margin rate of the ES at each kind's level and horizon. It expires after
    ``forecast_valid_bars`` or ``forecast_valid_s``, the longer; on the rules rung after ``dead_after_bars``.
    ``breaker`` is the VaR at ``BREAKER_LEVEL`` over the maintenance horizon, None where the forecast lacks
    that level; ``confidence`` and ``drift`` are those of ``Candidate``. Raises ``RequirementError`` as
    ``pick`` does; numbers are not judged here but by rule 1.
    """
    choice: tuple[Any, ...] = (horizons_s, levels, initial, maintenance)
    bars = limits.dead_after_bars if rung == "rules" else None
    return Candidate(
        rung,
        margin_rates(pick(es, *choice)),
        pick(var, *choice),
        made_at_s,
        made_at_s + validity_s(interval_s, limits, bars=bars),
        model_version,
        _breaker(var, horizons_s, levels, maintenance),
        confidence,
        drift,
    )


def _breaker(
    var: NDArray[np.float64], horizons_s: Sequence[float], levels: Sequence[float], maintenance: Tail
) -> Pair | None:
    if BREAKER_LEVEL not in levels:
        return None
    long, short = var[horizons_s.index(maintenance.horizon_s), :, levels.index(BREAKER_LEVEL)]
    return float(long), float(short)
