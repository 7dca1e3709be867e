"""``quantile``: gradient-boosted quantile regression of the standardised loss, without a law of its tail.

One LightGBM model a horizon and level, global over symbols and sides, learns the quantile q of the
standardised loss by the pinball loss. The long is shown the market in the mirror, returns with the other sign
and falls for rises, and is told that it is the long, so that each row teaches twice. In units of loss,

    VaR = sigma_t sqrt(h) x max over the levels up to this one of max(q, floor)
    ES  = max over the levels up to this one of k VaR

so that quantiles which cross, each being fitted alone, are put in order by raising the rarer one, and none is
at or below zero. k >= 1 is a constant of the horizon, side and level,

    k = sum of the losses beyond q / sum of q over the same rows,

out of sample: q here is by trees that did not see the row's block of time, less h bars on either side
(``_trees``). Where fewer than ``min_hits`` losses lie beyond, k is that of the level below, which errs on the
safe side: for the tails that returns have, ES over VaR falls as the level rises (normal: 1.19 at 0.975, 1.15
at 0.99; Student t4: 1.44, 1.39).

Inputs are those of ``network``. A row needs all of them, and is left out otherwise.

Sources: Koenker, Bassett (1978) for quantile regression; Taylor (2019) for ES as a multiple of VaR;
Chernozhukov, Fernandez-Val, Galichon (2010) on crossing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from features.durations import format_duration
from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions, cell_places
from models.forecast._files import read_content, write_content
from models.forecast._inputs import WIDE_INPUTS, both_sides, input_names, mirrored, needed_features
from models.forecast._quantile_effects import tail_effects
from models.forecast._residuals import (
    SCALE_FEATURE,
    SIGNS,
    bars_of,
    complete_rows,
    forecast_rows,
    refuse_unfit,
    scaled_forecast,
    standardised_returns,
    with_breaker,
)
from models.forecast._trees import (
    TreeSettings,
    boost_in_blocks,
    gain_shares,
    parameters,
    raw_score,
    read_trees,
    write_trees,
)
from models.forecast._usual import Usual
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings
from models.search_space import Integer, Range, Real


class Settings(TreeSettings):
    """Of the trees and of the ratio of ES to VaR. Defaults were chosen on decision times before October
    2024."""

    trees: int = Field(40, ge=1)
    learning_rate: float = Field(0.1, gt=0, le=1)
    leaves: int = Field(8, ge=2)
    feature_fraction: float = Field(0.3, gt=0, le=1)
    #: Losses beyond the quantile that a leaf should hold, times sqrt(h): it has this over (1 - level) rows at
    #: least. Never more than an eighth of all rows, so that a short history is still split.
    leaf_tail_rows: float = Field(50.0, gt=0)
    #: The least quantile, in units of the EWMA scale over the horizon.
    quantile_floor: float = Field(0.1, gt=0)
    #: Losses beyond a quantile that its ratio of ES to VaR needs.
    min_hits: int = Field(20, ge=1)


SEARCH_SPACE: Mapping[str, Range] = {
    "trees": Integer(15, 150, log=True),
    "learning_rate": Real(0.02, 0.3, log=True),
    "leaves": Integer(3, 32, log=True),
    "leaf_tail_rows": Real(10.0, 250.0, log=True),
    "feature_fraction": Real(0.2, 1.0),
    "row_fraction": Real(0.2, 1.0),
}


class QuantileModel(TailModel):
    """See the module. ``boosters`` are in the order of (horizon, level); ``ratios``, k, has the shape
    (horizon, side, level).
    """

    name: ClassVar[str] = "quantile"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)
    calibration: ClassVar[CalibrationSettings | None] = CalibrationSettings()
    settings_class: ClassVar[type[BaseModel] | None] = Settings

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.inputs: tuple[str, ...] = ()
        self.boosters: tuple[Any, ...] = ()
        self.ratios: NDArray[np.float64] = np.empty((0, 2, 0))
        self.usual: Usual | None = None

    @classmethod
    def search_space(cls) -> Mapping[str, Range]:
        return SEARCH_SPACE

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return needed_features(WIDE_INPUTS)

    def fit(self, dataset: Dataset) -> Self:
        s, features = self.settings, dataset.features
        inputs = input_names(features.names, WIDE_INPUTS)
        levels = with_breaker(dataset.levels)
        rows = features.matrix(inputs)
        complete = np.isfinite(rows).all(axis=1).reshape(len(features.times), -1)
        boosters: list[Any] = []
        ratios = np.empty((len(dataset.horizons), len(SIDES), len(levels)))
        for h, horizon in enumerate(dataset.horizons):
            z = standardised_returns(dataset, horizon)
            known = np.isfinite(z) & complete
            refuse_unfit(np.where(known, z, np.nan), horizon, s.min_rows)
            bars, losses = bars_of(horizon, features), z[known][:, np.newaxis] * SIGNS
            seen = both_sides(rows[known.ravel()], inputs).reshape(-1, len(inputs) + 1)
            time = np.repeat(np.nonzero(known)[0], len(SIDES))
            fits = [self._parameters(p, bars, len(seen)) for p in levels]
            found = boost_in_blocks(s, fits, seen, losses.ravel(), time, bars)
            boosters.extend(booster for booster, _ in found)
            scores = np.stack([score for _, score in found], axis=-1).reshape(*losses.shape, len(levels))
            ratios[h] = self._ratios(losses, self._in_order(scores), horizon)
        self.inputs, self.horizons, self.levels = inputs, dataset.horizons, levels
        self.boosters, self.ratios = tuple(boosters), ratios
        self.usual = Usual.of(features, inputs)
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma, (known, given) = features[SCALE_FEATURE], complete_rows(features, self.inputs)
        rows, time, symbol = forecast_rows(features, known)
        seen = both_sides(given, self.inputs).reshape(-1, len(self.inputs) + 1)
        scores = np.stack([raw_score(booster, seen) for booster in self.boosters], axis=-1)
        horizons, _, levels = self.ratios.shape
        scores = scores.reshape(len(rows), len(SIDES), horizons, levels).swapaxes(1, 2)
        var = self._in_order(scores)
        es = np.maximum.accumulate(self.ratios * var, axis=-1)
        steps = np.sqrt([bars_of(h, features) for h in self.horizons])
        scale = sigma[time, symbol, np.newaxis] * steps
        return scaled_forecast(rows, self.horizons, self.levels, scale, var, es)

    def contributions(self, features: FeatureFrame, cells: Sequence[Cell]) -> Contributions | None:
        """See ``_quantile_effects``. Which side it is belongs to the baseline."""
        if self.usual is None:
            return None
        known, given = complete_rows(features, self.inputs)
        seen, order = both_sides(given, self.inputs), mirrored(self.inputs)[0]
        places = cell_places(cells, self.horizons, SIDES, self.levels)
        effects = np.empty((len(given), len(places), len(self.inputs)))
        log_tail = np.empty(effects.shape[:-1])
        levels = len(self.levels)
        for cell, (h, side, level) in enumerate(places):
            boosters = self.boosters[h * levels : h * levels + level + 1]
            ratios = self.ratios[h, side, : level + 1]
            start, found = tail_effects(boosters, ratios, seen[:, side], self.settings.quantile_floor)
            # What the long was shown in the mirror goes back to the input that it came from.
            effects[:, cell, order if SIDES[side] == "long" else slice(None)] = found[:, :-1]
            log_tail[:, cell] = start + found[:, -1]
        return self.usual.explained(features, known, tuple(cells), log_tail, effects)

    def gain(self) -> Mapping[str, float]:
        return gain_shares((*self.inputs, "side"), self.boosters)

    def save(self, folder: Path) -> None:
        write_trees([folder / file for file in _tree_files(self.horizons, self.levels)], self.boosters)
        content = {
            "settings": self.settings.model_dump(),
            "inputs": list(self.inputs),
            "ratios": self.ratios.tolist(),
            "usual": None if self.usual is None else self.usual.to_json(),
        }
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels, model.inputs = horizons, levels, tuple(content["inputs"])
        model.ratios = np.array(content["ratios"], dtype="float64")
        model.usual = Usual.from_json(content.get("usual"))
        model.boosters = read_trees([folder / file for file in _tree_files(horizons, levels)])
        return model

    def _parameters(self, level: float, bars: int, rows: int) -> dict[str, Any]:
        objective = {"objective": "quantile", "alpha": level}
        leaf_rows = self.settings.leaf_tail_rows * np.sqrt(bars) / (1 - level)
        return parameters(self.settings, objective, round(min(leaf_rows, rows / 8)))

    def _in_order(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Quantiles, (..., level), as VaR: above the floor, and rising with the level."""
        return np.maximum.accumulate(np.maximum(scores, self.settings.quantile_floor), axis=-1)

    def _ratios(
        self, losses: NDArray[np.float64], var: NDArray[np.float64], horizon: pd.Timedelta
    ) -> NDArray[np.float64]:
        """k, (side, level), from losses (row, side) and the quantiles out of sample (row, side, level).

        Raises ``ValueError`` where too few losses lie beyond even the lowest level.
        """
        ratios = np.empty(var.shape[1:])
        for side, level in np.ndindex(ratios.shape):
            beyond = losses[:, side] > var[:, side, level]
            if beyond.sum() >= self.settings.min_hits:
                ratios[side, level] = losses[beyond, side].sum() / var[beyond, side, level].sum()
            elif level > 0:
                ratios[side, level] = ratios[side, level - 1]
            else:
                raise ValueError(
                    f"{beyond.sum()} losses of the {SIDES[side]} side lie beyond the lowest level at horizon "
                    f"{format_duration(horizon)}, and {self.settings.min_hits} are needed to tell how far; "
                    f"give more history, or a lower level"
                )
        return ratios


def _tree_files(horizons: tuple[pd.Timedelta, ...], levels: tuple[float, ...]) -> list[str]:
    """File names in the order of the boosters."""
    return [f"trees-{format_duration(h)}-{p}.txt" for h in horizons for p in levels]
