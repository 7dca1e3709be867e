"""Where and when forecasts were right: coverage on the way, by hour and regime, over time, and by symbol.

All functions take a scored forecast table (``training.evaluation.with_losses``, on common rows). Losses and
excursions are log returns against the side, fractions, positive is bad. A ratio is what was seen over what
was promised: hits / (rows x (1 - level)); 1 is right, above 1 too little margin.

An *excursion* is the worst loss on the way, from the close at the decision time to the lowest low (long) or
the highest high (short) of the bars within the horizon. A position is closed out when it is worst, not when
the horizon ends, so the excursion is what margin meets. It is never less than the loss, and a forecast of
the loss at the end promises nothing about it: its ratio is a measure, with no 1 to hold it to.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from features.bars import Market
from features.durations import parse_duration, whole_bars
from features.pipeline import Pipeline
from features.regime_chain import REGIMES
from models.coverage import diebold_mariano
from models.forecast.base import SIDES
from training.evaluation import panel

CASE = ["model", "horizon", "level"]
COVERAGE_WINDOW = pd.Timedelta(days=30)


def with_excursions(scored: pd.DataFrame, market: Market) -> pd.DataFrame:
    """Add ``excursion``, ``beyond_var`` and ``beyond_es`` (1.0 where the excursion exceeds it, else 0.0).

    NaN where a bar within the horizon is missing: what it hid cannot be known.
    """
    log = {c: np.log(market[c].to_numpy(dtype="float64")) for c in ("close", "low", "high")}
    excursion = np.full(len(scored), np.nan)
    row = market.times.get_indexer(pd.DatetimeIndex(scored["time"]))
    column = market.close.columns.get_indexer(pd.Index(scored["symbol"]))
    long = (scored["side"] == SIDES[0]).to_numpy()
    for horizon in scored["horizon"].unique():
        bars = whole_bars(parse_duration(horizon), market.interval)
        fall = log["close"] - _over_next(log["low"], bars, np.minimum)
        rise = _over_next(log["high"], bars, np.maximum) - log["close"]
        own = (scored["horizon"] == horizon).to_numpy()
        worst = np.where(long, fall[row, column], rise[row, column])
        excursion[own] = worst[own]
    known = ~np.isnan(excursion)
    return scored.assign(
        excursion=excursion,
        beyond_var=np.where(known, excursion > scored["var"].to_numpy(), np.nan),
        beyond_es=np.where(known, excursion > scored["es"].to_numpy(), np.nan),
    )


def _over_next(values: NDArray[np.float64], bars: int, worst: np.ufunc) -> NDArray[np.float64]:
    """``worst`` of the rows t + 1 to t + bars, shape as given; NaN where one is missing or yet to come."""
    out = np.full_like(values, np.nan)
    if len(values) > bars:
        out[:-bars] = worst.reduce(sliding_window_view(values, bars, axis=0)[1:], axis=-1)
    return out


def regimes(market: Market, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """The likeliest regime, time x symbol, at the decision times in [start, end]; "unknown" in warm-up or
    where the bar is missing.

    The regimes are learned on what was known at ``start`` and filtered (``features.regime``), so no name of
    a regime knows what came after its time.
    """
    names = tuple(f"regime_{name}" for name in REGIMES)
    pipeline = Pipeline.fit(market.until(start), names)
    window = market.until(end).since(start - pipeline.look_back)
    frame = pipeline.batch(window).between(start, end)
    probability = np.stack([frame[name] for name in names])
    unknown = np.isnan(probability).any(axis=0)
    likeliest = np.array(REGIMES)[np.where(unknown, 0.0, probability).argmax(axis=0)]
    return pd.DataFrame(np.where(unknown, "unknown", likeliest), frame.times, list(frame.symbols))


def coverage_by_group(scored: pd.DataFrame, regime: pd.DataFrame) -> pd.DataFrame:
    """A row per model, horizon, level and group of decision times.

    Columns ``by`` (``hour``, UTC; ``weekend``; ``regime``, see ``regimes``) and ``group``; ``rows``,
    ``hits``, ``promised``, ``hit_ratio``, ``fz0`` (mean).
    """
    row = regime.index.get_indexer(pd.DatetimeIndex(scored["time"]))
    column = regime.columns.get_indexer(pd.Index(scored["symbol"]))
    groups = {
        "hour": scored["time"].dt.strftime("%H"),
        "weekend": np.where(scored["time"].dt.day_of_week >= 5, "weekend", "weekday"),
        "regime": regime.to_numpy()[row, column],
    }
    parts = []
    for by, group in groups.items():
        found = (
            scored.assign(group=group)
            .groupby([*CASE, "group"])
            .agg(rows=("hit", "size"), hits=("hit", "sum"), fz0=("fz0", "mean"))
            .reset_index()
        )
        parts.append(found.assign(by=by, promised=found["rows"] * (1 - found["level"])))
    table = pd.concat(parts, ignore_index=True)
    table["hit_ratio"] = table["hits"] / table["promised"]
    return table.reindex(columns=[*CASE, "by", "group", "rows", "hits", "promised", "hit_ratio", "fz0"])


def rolling_coverage(scored: pd.DataFrame) -> pd.DataFrame:
    """``model, horizon, level, time, hit_ratio``: over the trailing 30 days, all symbols and sides, at the
    last decision time of each day; no rows where the table spans fewer than 30 days."""
    hit = scored.groupby([*CASE, "time"])["hit"].mean().unstack(CASE)
    rolling = hit.rolling(COVERAGE_WINDOW).mean()
    # A window (t - 30 days, t] is full once it has its first decision time.
    full = rolling[rolling.index >= hit.index[0] + COVERAGE_WINDOW - _step(hit.index)]
    daily = full.groupby(pd.DatetimeIndex(full.index).floor("D")).tail(1)
    table: pd.DataFrame = daily.melt(ignore_index=False, value_name="hit_ratio").reset_index().dropna()
    table["hit_ratio"] /= 1 - table["level"]
    return table.reindex(columns=[*CASE, "time", "hit_ratio"])


def _step(times: pd.Index) -> pd.Timedelta:
    return pd.Timedelta(pd.Series(times).diff().min()) if len(times) > 1 else pd.Timedelta(0)


def daily_difference(scored: pd.DataFrame, reference: str) -> pd.DataFrame:
    """``model, horizon, level, time, difference``: by day, the sum over decision times of FZ0 less the
    reference's, averaged over symbols and sides within each time. Its running sum shows when a model
    gained."""
    mean = scored.groupby([*CASE, "time"])["fz0"].mean().unstack("model")
    gap = mean.sub(mean.pop(reference), axis=0)
    table = gap.melt(ignore_index=False, value_name="difference").reset_index()
    table["time"] = table["time"].dt.floor("D")
    return table.groupby([*CASE, "time"])["difference"].sum().reset_index()


def symbol_scores(scored: pd.DataFrame, reference: str, interval: pd.Timedelta) -> pd.DataFrame:
    """A row per model, horizon, level and symbol, both sides pooled: ``fz0``, ``hit_ratio``,
    ``excursion_ratio``, and the ``difference`` to the reference's mean FZ0 with its HAC ``t``
    (NaN on fewer than two decision times)."""
    table = (
        scored.groupby([*CASE, "symbol"])
        .agg(rows=("hit", "size"), fz0=("fz0", "mean"), hit=("hit", "mean"), beyond=("beyond_var", "mean"))
        .reset_index()
    )
    table["hit_ratio"] = table.pop("hit") / (1 - table["level"])
    table["excursion_ratio"] = table.pop("beyond") / (1 - table["level"])
    against: dict[tuple[str, str, float, str], tuple[float, float]] = {}
    for horizon, level in scored[["horizon", "level"]].drop_duplicates().itertuples(index=False):
        bars = whole_bars(parse_duration(horizon), interval)
        base = panel(scored, reference, horizon, level)
        for model in scored["model"].unique():
            own = panel(scored, model, horizon, level)
            for symbol in own.cells.unique(0):
                cells = own.cells.get_level_values(0) == symbol
                seen = ~np.isnan(own.fz0[:, cells]).all(axis=1)
                first, second = own.fz0[seen][:, cells], base.fz0[seen][:, cells]
                if seen.sum() < 2:
                    against[model, horizon, level, symbol] = (np.nan, np.nan)
                    continue
                found = diebold_mariano(first, second, bars)
                against[model, horizon, level, symbol] = (found.mean, found.t)
    keys = table[[*CASE, "symbol"]].itertuples(index=False, name=None)
    table[["difference", "t"]] = [against[key] for key in keys]
    return table


def excursion_coverage(scored: pd.DataFrame) -> pd.DataFrame:
    """A row per model, horizon, level and side, on rows whose excursion is known: ``rows``; ``hit_ratio`` at
    the end of the horizon; ``excursion_ratio``, excursions beyond VaR over the hits promised;
    ``es_excursion_ratio``, those beyond ES over the same; ``worst_over_es``, the largest excursion / ES."""
    known = scored.dropna(subset=["excursion"])
    table = (
        known.assign(worst_over_es=known["excursion"] / known["es"])
        .groupby([*CASE, "side"])
        .agg(
            rows=("hit", "size"),
            hit_ratio=("hit", "mean"),
            excursion_ratio=("beyond_var", "mean"),
            es_excursion_ratio=("beyond_es", "mean"),
            worst_over_es=("worst_over_es", "max"),
        )
        .reset_index()
    )
    ratios = ["hit_ratio", "excursion_ratio", "es_excursion_ratio"]
    table[ratios] = table[ratios].div(1 - table["level"], axis=0)
    return table
