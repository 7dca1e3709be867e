"""How good forecasts were: joined with the losses that followed, scored, averaged, and tested.

Signs: a loss is a log return over the horizon against the side, as a fraction, positive is bad; a hit is a
loss above VaR. FZ0 is in percent units. Models are compared on the same rows only: those that every model
forecast and whose loss is known.

A *cell* is one symbol, side, horizon and level. Its losses overlap over a horizon of h bars, so coverage is
tested on each of the h interleaved series of every h-th decision time, and the statistics are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.durations import parse_duration, whole_bars
from models.coverage import averaged, by_offset, christoffersen, diebold_mariano, kupiec
from models.forecast.base import SIDES
from models.scores import fz0, pinball

ROW_KEYS = ["time", "symbol", "horizon", "side", "level"]
FORECAST_COLUMNS = [*ROW_KEYS, "model", "var", "es"]


def with_losses(forecasts: pd.DataFrame, market: Market) -> pd.DataFrame:
    """Add ``loss``, ``hit``, ``fz0`` and ``pinball`` to a forecast table; rows whose loss is unknown are
    dropped.

    A loss is unknown where it has not matured by the market's last bar, or where the bar at either end is
    missing.
    """
    parts = []
    for horizon, table in forecasts.groupby("horizon", sort=False):
        bars = whole_bars(parse_duration(str(horizon)), market.interval)
        log_close = np.log(market.close.to_numpy(dtype="float64"))
        forward = np.full_like(log_close, np.nan)
        forward[:-bars] = log_close[bars:] - log_close[:-bars]
        row = market.times.get_indexer(pd.DatetimeIndex(table["time"]))
        column = market.close.columns.get_indexer(pd.Index(table["symbol"]))
        if (row < 0).any() or (column < 0).any():
            raise ValueError(
                "forecasts have times or symbols that the bars lack; score them with their own bars"
            )
        sign = np.where(table["side"] == SIDES[0], -1.0, 1.0)
        parts.append(table.assign(loss=sign * forward[row, column]))
    scored = pd.concat(parts).dropna(subset=["loss"])
    loss, var, es, level = (scored[c].to_numpy() for c in ("loss", "var", "es", "level"))
    return scored.assign(
        hit=loss > var, fz0=fz0(loss, var, es, level), pinball=pinball(loss, var, level)
    ).reset_index(drop=True)


def common_rows(scored: pd.DataFrame) -> pd.DataFrame:
    """The rows that every model has, in the order of models, then as given. Raises ``ValueError`` where none
    is."""
    models = scored["model"].nunique()
    shared = scored[scored.groupby(ROW_KEYS)["model"].transform("nunique") == models]
    if shared.empty:
        raise ValueError("the models share no row with a known loss; forecast the same times and symbols")
    return shared


@dataclass(frozen=True)
class Panel:
    """One horizon and level of one model: arrays of shape (time, cell), NaN where a row is missing."""

    times: pd.DatetimeIndex
    cells: pd.MultiIndex  # (symbol, side)
    fz0: NDArray[np.float64]
    hit: NDArray[np.float64]


def panel(scored: pd.DataFrame, model: str, horizon: str, level: float) -> Panel:
    """Pick one model, horizon and level, times ascending, cells in the order of (symbol, side)."""
    picked = scored[(scored["model"] == model) & (scored["horizon"] == horizon) & (scored["level"] == level)]
    wide = picked.assign(hit=picked["hit"].astype("float64")).pivot(
        index="time", columns=["symbol", "side"], values=["fz0", "hit"]
    )
    return Panel(
        pd.DatetimeIndex(wide.index),
        pd.MultiIndex.from_frame(wide["fz0"].columns.to_frame()),
        wide["fz0"].to_numpy(),
        wide["hit"].to_numpy(),
    )


def summary(scored: pd.DataFrame, interval: pd.Timedelta) -> pd.DataFrame:
    """A row per horizon, level and model, on the common rows.

    Columns: ``rows``; ``fz0`` and ``pinball`` (means); ``hit_ratio`` (hits over those promised; 1 is right);
    ``worst_cell`` (the hit ratio of the symbol and side farthest from 1); ``difference`` (mean FZ0 minus that
    of the first model; negative is better) with its HAC ``t``. The difference is averaged over symbols and
    sides within each decision time before its error is estimated, because they move together.
    """
    shared = common_rows(scored)
    models = list(dict.fromkeys(shared["model"]))
    lines = []
    for horizon in sorted(shared["horizon"].unique(), key=parse_duration):
        bars = whole_bars(parse_duration(horizon), interval)
        for level in sorted(shared["level"].unique()):
            panels = {m: panel(shared, m, horizon, level) for m in models}
            for model, found in panels.items():
                against = diebold_mariano(found.fz0, panels[models[0]].fz0, bars)
                rows = (
                    (shared["model"] == model) & (shared["horizon"] == horizon) & (shared["level"] == level)
                )
                ratios = np.nanmean(found.hit, axis=0) / (1 - level)
                lines.append(
                    {
                        "horizon": horizon,
                        "level": level,
                        "model": model,
                        "rows": int(rows.sum()),
                        "fz0": float(np.nanmean(found.fz0)),
                        "pinball": float(shared.loc[rows, "pinball"].mean()),
                        "hit_ratio": float(np.nanmean(found.hit) / (1 - level)),
                        "worst_cell": float(ratios[np.abs(ratios - 1).argmax()]),
                        "difference": against.mean,
                        "t": against.t,
                    }
                )
    return pd.DataFrame(lines)


def cell_coverage(scored: pd.DataFrame, model: str, interval: pd.Timedelta) -> pd.DataFrame:
    """A row per cell of one model: ``horizon, level, symbol, side, rows, hit_ratio, pof_p, conditional_p``.

    ``pof_p`` is Kupiec's p-value, ``conditional_p`` that of Christoffersen's conditional coverage, each from
    the mean statistic over the horizon's offsets. NaN where a cell has fewer than two rows an offset.
    """
    lines = []
    own = scored[scored["model"] == model]
    for horizon in sorted(own["horizon"].unique(), key=parse_duration):
        bars = whole_bars(parse_duration(horizon), interval)
        for level in sorted(own["level"].unique()):
            found = panel(own, model, horizon, level)
            for cell, (symbol, side) in enumerate(found.cells):
                hits = found.hit[:, cell]
                hits = hits[~np.isnan(hits)]
                enough = hits.size >= 2 * bars
                lines.append(
                    {
                        "horizon": horizon,
                        "level": level,
                        "symbol": symbol,
                        "side": side,
                        "rows": hits.size,
                        "hit_ratio": float(hits.mean() / (1 - level)) if hits.size else float("nan"),
                        "pof_p": _pof_p(hits, level, bars) if enough else float("nan"),
                        "conditional_p": _conditional_p(hits, level, bars) if enough else float("nan"),
                    }
                )
    return pd.DataFrame(lines)


def _pof_p(hits: NDArray[np.float64], level: float, bars: int) -> float:
    return averaged(by_offset(lambda h: kupiec(int(h.sum()), h.size, level), bars, hits)).p_value


def _conditional_p(hits: NDArray[np.float64], level: float, bars: int) -> float:
    tests = by_offset(lambda h: christoffersen(h, level, rows="conditional").conditional_coverage, bars, hits)
    return averaged(tests).p_value
