"""Why a margin is what it is: the few inputs that moved it most, each in words and in parts of the margin.

A reason's effect is told on the margin rate: by how much of itself the rate would be lower without it, given
all others, rate(ES) / rate(ES exp(-effect)) - 1, with ES the one that is served. Inputs that are told alike,
the sines and cosines of the clock, are one reason. What the calibration did to the model's own ES is a reason
too. The fixed part is the baseline: an average hour of the training window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from features.durations import format_duration
from models.explanations import Contributions
from models.wording import consequence, phrase_of, state

#: What all of it is told against.
BASELINE = "an average hour of the training window at the contract's usual volatility"
CALIBRATION = "calibration"
#: Smaller effects on ln ES are rounding.
_LEAST = 1e-6


@dataclass(frozen=True)
class Reason:
    """One reason. ``value`` and ``score`` (standard deviations from the training mean) are None where it
    stands for several inputs, or for none; ``log_effect`` is on ln ES, ``rate_effect`` on the margin rate, as
    a fraction of it; ``words`` say both."""

    inputs: tuple[str, ...]
    value: float | None
    score: float | None
    log_effect: float
    rate_effect: float
    words: str


def reasons(
    found: Contributions,
    row: int,
    cell: int,
    served_es: float,
    rate: Callable[[float, str], float],
    most: int,
) -> list[Reason]:
    """The ``most`` strongest reasons of one row and cell, strongest first.

    Args:
        found: contributions of the model whose forecast is served.
        row, cell: which of them.
        served_es: the ES in use, calibrated; a log loss above 0.
        rate: (log loss, side) -> margin rate (``models.margin.requirement.margin_rate``).
        most: how many at most; those without effect are left out.
    """
    names, groups = _grouped(found.inputs)
    effects = np.bincount(groups, found.effects[row, cell], len(names))
    calibrated = math.log(served_es) - float(found.log_es[row, cell])
    effects = np.append(effects, calibrated)
    asked = found.cells[cell]
    here = rate(served_es, asked.side)
    told = []
    for place in np.argsort(-np.abs(effects), kind="stable")[:most]:
        effect = float(effects[place])
        if abs(effect) < _LEAST:
            break
        inputs = (*names, (CALIBRATION,))[place]
        alone = len(inputs) == 1 and inputs[0] in found.inputs
        at = found.inputs.index(inputs[0]) if alone else -1
        value, score = (
            (float(found.values[row, at]), float(found.scores[row, at])) if alone else (math.nan, math.nan)
        )
        rate_effect = here / rate(served_es * math.exp(-effect), asked.side) - 1
        words = f"{state(inputs[0], value, score, effect)}: " + consequence(
            rate_effect, format_duration(asked.horizon), asked.side
        )
        told.append(Reason(inputs, _known(value), _known(score), effect, rate_effect, words))
    return told


@cache
def _grouped(inputs: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], ...], NDArray[np.intp]]:
    """Inputs told alike, and of which of these groups each input is."""
    phrases = [phrase_of(name) for name in inputs]
    keys = [p.words() if p.form == "unmeasured" else name for p, name in zip(phrases, inputs, strict=True)]
    order = list(dict.fromkeys(keys))
    groups = np.array([order.index(key) for key in keys], dtype=np.intp)
    names = tuple(tuple(n for n, k in zip(inputs, keys, strict=True) if k == key) for key in order)
    return names, groups


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
