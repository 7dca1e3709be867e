"""Why the champion asks what it asks: the strongest reasons of each kind and side, as stored and told.

Reasons are told on the champion's requirement, before the safety engine; what the rules did to it stands in
the trace. They are no input of a decision, which comes out the same without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions
from models.forecast.base import TailModel
from models.margin.requirement import margin_rate
from models.margin.types import KINDS, SIDES, Candidate
from models.reasons import BASELINE, reasons
from serving.outlook import Forecast, Needs, Seen

#: Reasons a value.
MOST_REASONS = 5
#: What a change of less does not count as one, relative to the requirement before.
MOVED_BY = 0.05

#: One of a value (side, kind), as JSON.
Explanation = list[dict[str, Any]]


def explanations(
    model: TailModel, frame: FeatureFrame, seen: Mapping[str, Seen], needs: Needs
) -> dict[str, Explanation]:
    """By symbol, an entry a side and kind in the order of ``VALUES``; empty for a model that tells nothing.

    Args:
        model: whose forecast ``seen`` is.
        frame: the features of one close that it forecast from.
        seen: what is served of it, calibrated, by symbol.
        needs: the horizon and level of each kind.

    Each entry has ``side``, ``kind``, ``horizon_s``, ``against`` (in words), ``average_rate`` (what an
    average hour asks for, before calibration) and ``reasons``, strongest first: ``inputs``, ``value``,
    ``score`` (deviations from the training mean), ``effect`` (on the rate, as a fraction of it) and
    ``words``. An initial margin that was raised to the maintenance margin has the reasons of that one. Raises
    whatever the model raises.
    """
    tails = {"initial": needs.initial, "maintenance": needs.maintenance}
    places = [(side, kind) for side in SIDES for kind in KINDS]
    cells = {
        (side, kind): Cell(pd.Timedelta(seconds=tails[kind].horizon_s), side, tails[kind].level)
        for side, kind in places
    }
    found = model.contributions(_only(frame, seen), tuple(dict.fromkeys(cells.values())))
    if found is None:
        return {}
    rows = {str(s): row for row, s in enumerate(found.rows.get_level_values("symbol"))}
    return {
        symbol: [_entry(found, rows[symbol], value.forecast, side, kind, cells) for side, kind in places]
        for symbol, value in seen.items()
        if symbol in rows
    }


def moved(before: Candidate | None, now: Candidate) -> bool:
    """Whether any requirement differs by more than ``MOVED_BY`` from the one that answered last."""
    if before is None:
        return True
    pairs = zip(before.requirement, now.requirement, strict=True)
    return any(abs(new / old - 1) > MOVED_BY for old, new in pairs)


def _entry(
    found: Contributions,
    row: int,
    forecast: Forecast,
    side: str,
    kind: str,
    cells: Mapping[tuple[str, str], Cell],
) -> dict[str, Any]:
    own = [cells[side, k] for k in (KINDS if kind == "initial" else (kind,))]
    cell = max(own, key=lambda c: _es(forecast, c))
    at = found.cells.index(cell)
    told = reasons(found, row, at, _es(forecast, cell), margin_rate, MOST_REASONS)
    return {
        "side": side,
        "kind": kind,
        "horizon_s": cell.horizon.total_seconds(),
        "against": BASELINE,
        "average_rate": _short(margin_rate(math.exp(found.baseline[row, at]), side)),
        "reasons": [
            {
                "inputs": list(reason.inputs),
                "value": _short(reason.value),
                "score": _short(reason.score),
                "effect": _short(reason.rate_effect),
                "words": reason.words,
            }
            for reason in told
        ],
    }


def _es(forecast: Forecast, cell: Cell) -> float:
    horizon = forecast.horizons_s.index(cell.horizon.total_seconds())
    return float(forecast.es[horizon, SIDES.index(cell.side), forecast.levels.index(cell.level)])


def _only(frame: FeatureFrame, symbols: Mapping[str, Any]) -> FeatureFrame:
    kept = [i for i, symbol in enumerate(frame.symbols) if symbol in symbols]
    return FeatureFrame(
        frame.times,
        tuple(frame.symbols[i] for i in kept),
        frame.names,
        frame.interval,
        frame.values[:, kept],
    )


def _short(value: float | None) -> float | None:
    """Four digits: it is read, not reckoned with."""
    return None if value is None else float(f"{value:.4g}")
