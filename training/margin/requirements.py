"""Margin tables out of forecast tables: what a model's ES asks for, before any rule of the engine.

The requirement is the margin rate of the ES at the kind's level and horizon, a fraction of notional:
``1 - exp(-ES)`` for a long, ``exp(ES) - 1`` for a short, as ``models.margin.requirement`` has it for one
contract. Initial margin is raised to maintenance margin where a forecast asks less for the longer horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.forecast.base import SIDES
from models.margin.types import KINDS

#: Horizon of each kind, as a forecast table writes it.
HORIZONS: Mapping[str, str] = MappingProxyType({"initial": "4h", "maintenance": "1h"})
#: What names a row of a margin table.
KEYS = ["series", "time", "symbol", "side", "kind"]
#: The columns of a margin table, in their order.
MARGIN_COLUMNS = [
    *("series", "mode", "time", "symbol", "side", "kind"),
    *("base_rate", "required_rate", "served_rate", "multiplier", "rung", "rules"),
]
#: exp beyond it overflows; the rate it gives is far above any cap.
_LARGEST_LOSS = 700.0


def rates_of(losses: NDArray[np.float64], long: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Margin rates that cover these log losses, fractions of notional; ``long`` marks the long side.

    Shapes are broadcast; NaN stays NaN.
    """
    rates: NDArray[np.float64] = np.where(
        long, -np.expm1(-losses), np.expm1(np.minimum(losses, _LARGEST_LOSS))
    )
    return rates


def requirement_table(
    forecasts: pd.DataFrame,
    model: str,
    level: float | Mapping[str, float] = 0.99,
    *,
    horizons: Mapping[str, str] = HORIZONS,
    series: str | None = None,
    buffer: float = 0.0,
    base: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The margin table of a series that serves what a model requires.

    Args:
        forecasts: a forecast table (``time, symbol, horizon, side, level, model, var, es``; log losses).
        model: whose forecasts; others are left out.
        level: of the ES, one for all kinds or one a kind.
        horizons: of each kind, as the table writes them; kinds that are not named are left out.
        series: its name; default "<model> requirement".
        buffer: part of the requirement served on top of it, 0.25 for 25 %.
        base: where ``base_rate`` comes from, a table with ``time, symbol, side, kind, base_rate``, the margin
            table of another series say; without it, or where it has no row, base rate and multiplier are NaN.

    Columns are ``MARGIN_COLUMNS``; ``required_rate`` is without the buffer, ``served_rate`` with it.
    ``mode``, ``rung`` and ``rules`` are empty: no engine has answered. Only times at which a symbol has every
    kind and side are kept. Ordered by time, symbol, side and kind.

    Raises ``ValueError`` where the forecasts lack the model, a horizon or a level, hold a row twice, or an ES
    is not a finite number above 0.
    """
    unknown = sorted(set(horizons) - set(KINDS))
    if unknown or not horizons:
        raise ValueError(f"horizons are of kinds {sorted(horizons)}; give some of {list(KINDS)}")
    if not buffer >= 0:
        raise ValueError(f"buffer is {buffer!r}; give a part of the requirement, 0.25 for 25 %")
    own = forecasts[forecasts["model"] == model]
    if own.empty:
        known = sorted(forecasts["model"].unique())
        raise ValueError(f"no forecast of {model!r}, only of {known}; backtest this model too")
    wide = pd.concat(
        {
            (kind, side): _es(own, horizons[kind], _level_of(level, kind), side)
            for kind in KINDS
            if kind in horizons
            for side in SIDES
        },
        axis=1,
    ).dropna()
    if wide.empty:
        raise ValueError(
            f"{model!r} has no time at which a symbol has a forecast for all of {dict(horizons)}, both sides"
        )
    kinds = [kind for kind in KINDS if kind in horizons]
    # (row, kind, side), as the columns lie.
    losses = wide.to_numpy().reshape(-1, len(kinds), len(SIDES))
    rates = rates_of(losses, np.array([side == SIDES[0] for side in SIDES]))
    if len(kinds) == len(KINDS):
        rates[:, 0] = np.maximum(rates[:, 0], rates[:, 1])
    rows, cells = len(wide), len(SIDES) * len(kinds)
    times = wide.index.get_level_values("time")
    table = pd.DataFrame(
        {
            "series": f"{model} requirement" if series is None else series,
            "mode": "",
            "time": np.repeat(times, cells),
            "symbol": np.repeat(wide.index.get_level_values("symbol"), cells),
            "side": np.tile(np.repeat(SIDES, len(kinds)), rows),
            "kind": np.tile(kinds, rows * len(SIDES)),
            "base_rate": np.nan,
            "required_rate": rates.transpose(0, 2, 1).ravel(),
        }
    )
    table["served_rate"] = (1 + buffer) * table["required_rate"]
    if base is not None:
        keys = KEYS[1:]
        given = base.drop_duplicates(keys)[[*keys, "base_rate"]]
        table["base_rate"] = table[keys].merge(given, on=keys, how="left")["base_rate"].to_numpy()
    table["multiplier"] = table["served_rate"] / table["base_rate"]
    return table.assign(rung="", rules="")[MARGIN_COLUMNS]


def _level_of(level: float | Mapping[str, float], kind: str) -> float:
    if isinstance(level, int | float):
        return level
    if kind not in level:
        raise ValueError(
            f"level is given for {sorted(level)} and not for {kind}; give one a kind, or one for all"
        )
    return level[kind]


def _es(own: pd.DataFrame, horizon: str, level: float, side: str) -> pd.Series[float]:
    """ES by time and symbol of one model."""
    picked = own[(own["horizon"] == horizon) & (own["side"] == side) & np.isclose(own["level"], level)]
    if picked.empty:
        raise ValueError(
            f"no forecast over {horizon} at level {level:g}, only over {sorted(own['horizon'].unique())} at "
            f"{sorted(own['level'].unique())}; backtest with this horizon and level, or choose one of these"
        )
    es = picked.set_index(["time", "symbol"])["es"]
    if es.index.has_duplicates:
        raise ValueError(f"forecasts over {horizon} at level {level:g} are there twice; keep one of each")
    if not (np.isfinite(es) & (es > 0)).all():
        raise ValueError(f"an ES over {horizon} at level {level:g} is not a finite number above 0; repair it")
    return es.sort_index()
