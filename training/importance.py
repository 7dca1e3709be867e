"""What a fitted model lives on: how much worse its FZ0 gets where one of its inputs is shuffled in time, and
how far each input moves its ES.

Permutation importance (Breiman 2001) asks any model the same question, through ``predict`` alone. The losses
are those that followed the sampled decision times, so it is importance out of sample. Inputs that say nearly
the same stand in for each other and share what they are worth; and a shuffled input makes rows that never
were. So it ranks what this model uses, and says nothing of what another could use.

The size of an input's contributions (``TailModel.contributions``) is another answer, for models that have it:
how far the input moves the forecast, right or wrong. What moves it far and is worth nothing is noise.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from features.durations import format_duration, whole_bars
from features.pipeline import FeatureFrame, all_features
from models.explanations import Cell
from models.forecast._residuals import SCALE_FEATURE
from models.forecast.base import SIDES, TailForecast, TailModel
from models.scores import fz0

COLUMNS = ("feature", "family", "horizon", "level", "importance", "gain", "effect", "family_effect")


def permutation_importance(
    model: TailModel, features: FeatureFrame, market: Market, times: int, seed: int = 0
) -> pd.DataFrame:
    """A row per input that the model reads, horizon and level, with ``COLUMNS``.

    Args:
        model: fitted.
        features: of the decision times to sample from, all of them after the model's training.
        market: has the bars of these times and of the horizon after them.
        times: how many decision times to sample at most, from those at which every symbol has a forecast
            and every loss is known. Each input is shuffled among them, all symbols alike.
        seed: of the sample and the order; the answer depends on nothing else.

    ``importance`` is the mean FZ0 with the input shuffled less that without, over symbols and sides: above 0
    where the model gains by the input. ``gain`` is the input's share of what the model's trees gained in
    fitting, the same for every horizon and level; NaN for a model without trees. ``effect`` is the mean size
    of its effect on ln ES, over symbols and sides, and ``family_effect`` that of all inputs of its family
    together; NaN for a model that explains nothing. Empty where fewer than two decision times qualify.
    """
    rng = np.random.default_rng(seed)
    chosen = _complete_times(model, features, market)
    chosen = np.sort(rng.choice(chosen, min(times, len(chosen)), replace=False))
    if len(chosen) < 2:
        return pd.DataFrame(
            {
                c: pd.Series(dtype="str" if c in ("feature", "family", "horizon") else "float64")
                for c in COLUMNS
            }
        )
    sample = _rows_of(features, chosen)
    base = model.predict(sample)
    losses = _losses(base, market)
    score = _mean_scores(base, losses)
    labels = [format_duration(h) for h in base.horizons]
    cells = {
        "horizon": np.repeat(labels, len(base.levels)),
        "level": np.tile(base.levels, len(base.horizons)),
    }
    parts = []
    read = model.reads()
    for column, name in enumerate(features.names):
        if read is not None and name not in read:
            continue
        values = sample.values.copy()
        values[:, :, column] = values[rng.permutation(len(chosen)), :, column]
        shuffled = FeatureFrame(sample.times, sample.symbols, sample.names, sample.interval, values)
        worse = _mean_scores(model.predict(shuffled), losses) - score
        parts.append(pd.DataFrame({**cells, "importance": worse.ravel()}).assign(feature=name))
    table = pd.concat(parts, ignore_index=True)
    table["gain"] = table["feature"].map(dict(model.gain())).astype("float64")
    table["family"] = table["feature"].map(family_of)
    return table.merge(_effects(model, sample), on=["feature", "horizon", "level"], how="left")[list(COLUMNS)]


@cache
def _families() -> dict[str, str]:
    return {output: feature.family for feature in all_features() for output in feature.outputs}


def family_of(feature: str) -> str:
    """The family file that a feature comes from; the scale of all forecasts is one by itself. Raises
    ``KeyError`` for an unknown feature."""
    return "scale" if feature == SCALE_FEATURE else _families()[feature]


def _effects(model: TailModel, sample: FeatureFrame) -> pd.DataFrame:
    """``feature, horizon, level, effect, family_effect``; no rows for a model that explains nothing. An input
    that the model does not have has no effect."""
    lines = []
    families = np.array([family_of(name) for name in sample.names])
    for horizon in model.horizons:
        for level in model.levels:
            found = model.contributions(sample, [Cell(horizon, side, level) for side in SIDES])
            if found is None:
                continue
            effects = np.zeros((len(found.rows), len(SIDES), len(sample.names)))
            for place, name in enumerate(sample.names):
                if name in found.inputs:
                    effects[..., place] = found.effects[..., found.inputs.index(name)]
            own = np.abs(effects).mean(axis=(0, 1))
            for place, (name, family) in enumerate(zip(sample.names, families, strict=True)):
                together = np.abs(effects[..., families == family].sum(axis=-1)).mean()
                lines.append((name, format_duration(horizon), level, own[place], together))
    columns = ["feature", "horizon", "level", "effect", "family_effect"]
    return pd.DataFrame(lines, columns=columns).astype(
        {"feature": "str", "horizon": "str", **dict.fromkeys(columns[2:], "float64")}
    )


def _complete_times(model: TailModel, features: FeatureFrame, market: Market) -> NDArray[np.intp]:
    """Positions of the decision times at which every symbol has a forecast, and its losses are known."""
    forecast = model.predict(features)
    known = np.isfinite(_losses(forecast, market)).all(axis=(1, 2))
    row = features.times.get_indexer(forecast.rows.get_level_values("time"))[known]
    return np.flatnonzero(np.bincount(row, minlength=len(features.times)) == len(features.symbols))


def _rows_of(features: FeatureFrame, rows: NDArray[np.intp]) -> FeatureFrame:
    return FeatureFrame(
        features.times[rows], features.symbols, features.names, features.interval, features.values[rows]
    )


def _losses(forecast: TailForecast, market: Market) -> NDArray[np.float64]:
    """Shape (row, horizon, side), fractions of log return; NaN where unknown."""
    log_close = np.log(market.close.to_numpy(dtype="float64"))
    row = market.times.get_indexer(forecast.rows.get_level_values("time"))
    column = market.close.columns.get_indexer(forecast.rows.get_level_values("symbol"))
    found = np.empty((len(forecast.rows), len(forecast.horizons), 2))
    for h, horizon in enumerate(forecast.horizons):
        bars = whole_bars(horizon, market.interval)
        forward = np.full_like(log_close, np.nan)
        forward[:-bars] = log_close[bars:] - log_close[:-bars]
        found[:, h, 0], found[:, h, 1] = -forward[row, column], forward[row, column]
    return found


def _mean_scores(forecast: TailForecast, losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (horizon, level)."""
    if len(forecast.rows) != len(losses):
        raise ValueError(
            f"a model forecasts {len(forecast.rows)} of {len(losses)} complete rows once an input is "
            f"shuffled; its forecast of a row must depend on that row's inputs alone"
        )
    scores = fz0(losses[..., np.newaxis], forecast.var, forecast.es, np.array(forecast.levels))
    mean: NDArray[np.float64] = scores.mean(axis=(0, 2))
    return mean
