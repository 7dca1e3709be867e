"""``network``: a small ensemble of perceptrons trained directly on FZ0, for all horizons, sides and
levels at once.

Half of the members see a long in the mirror of a short: returns with the other sign and falls for rises, so
each row teaches twice and what a fall does is learned from rises too. What differs, the first layer's bias
says, which each side has of its own. The other half see the same for both sides.

Each member has two hidden layers (SiLU, dropout) and a zero last layer, so it starts from the pooled
EWMA-filtered historical simulation and learns only how to depart from it. With o the outputs of one horizon,
and sigma sqrt(h) the EWMA scale,

    VaR_1 = sigma sqrt(h) q_1 exp(o)                       lowest level
    VaR_k = VaR_(k-1) (1 + softplus(a_k + o))              the deeper ones
    ES_k  = VaR_k (1 + softplus(b_k + o))

q, a and b make o = 0 the pooled tail of the standardised losses, so VaR is ordered and ES above it by
construction; ES is held non-decreasing over the levels after averaging. The forecast is the mean over the
members, which differ in their first weights, in the rows that each sees, and in the inputs: a member with the
mirror sees the core ``INPUTS`` and a random half of ``MORE_INPUTS``, one without sees all. The loss is FZ0 of
standardised losses, averaged over horizons, sides and levels with weight sqrt(1 - level).

Inputs are standardised on the training window and clipped. A missing input counts as its training mean; a
row needs only the EWMA scale. Sources: Patton, Ziegel, Chen (2019) for the loss; Srivastava and others (2014)
for dropout; Ho (1998) for random subspaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.torch import load_file, save

from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions, cell_places
from models.forecast._ensemble_network import Settings, Shape, one_thread, tails, train
from models.forecast._files import read_content, write_bytes, write_content
from models.forecast._inputs import INPUTS, WIDE_INPUTS, input_names, mirrored, needed_features
from models.forecast._path_gradients import path_gradients
from models.forecast._residuals import (
    SCALE_FEATURE,
    SIGNS,
    bars_of,
    forecast_rows,
    refuse_unfit,
    scaled_forecast,
    standardised_returns,
    with_breaker,
)
from models.forecast._usual import Usual
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings
from models.margin.fhs import tail_quantiles
from models.search_space import Integer, Range, Real

_WEIGHTS_FILE = "weights.safetensors"
#: So few rows are not worth a second thread.
_FEW_ROWS = 4096

SEARCH_SPACE: Mapping[str, Range] = {
    "hidden": Integer(32, 128, log=True),
    "dropout": Real(0.0, 0.5),
    "seen_share": Real(0.0, 1.0),
    "mirrored_share": Real(0.0, 1.0),
    "steps": Integer(300, 2000, log=True),
    "learning_rate": Real(5e-4, 1e-2, log=True),
    "weight_decay": Real(1e-4, 1.0, log=True),
}


class NetworkModel(TailModel):
    """See the module. ``start`` is (VaR or ES, horizon, level), the pooled tail of both sides that training
    starts from.
    """

    name: ClassVar[str] = "network"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)
    settings_class: ClassVar[type[BaseModel] | None] = Settings
    calibration: ClassVar[CalibrationSettings | None] = CalibrationSettings()

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.inputs: tuple[str, ...] = ()
        self.mean: NDArray[np.float64] = np.empty(0)
        self.deviation: NDArray[np.float64] = np.empty(0)
        self.start: NDArray[np.float64] = np.empty((2, 0, 0))
        self.weights: dict[str, Any] = {}
        self.usual: Usual | None = None

    @classmethod
    def search_space(cls) -> Mapping[str, Range]:
        return SEARCH_SPACE

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return needed_features(WIDE_INPUTS)

    def fit(self, dataset: Dataset) -> Self:
        features = dataset.features
        self.inputs = input_names(features.names, WIDE_INPUTS)
        self.horizons, self.levels = dataset.horizons, with_breaker(dataset.levels)
        z = np.stack([standardised_returns(dataset, h) for h in self.horizons], axis=-1)
        for h, horizon in enumerate(self.horizons):
            refuse_unfit(z[..., h], horizon, self.settings.min_rows)
        # A tail of z and -z together is that of the losses of both sides.
        both = [np.concatenate([z[..., h], -z[..., h]]) for h in range(len(self.horizons))]
        self.start = np.stack([np.stack(tail_quantiles(x, self.levels))[:, 0] for x in both], axis=1)
        if not (self.start[0] > 0).all():
            raise ValueError(
                f"the {self.levels[0]} quantile of the standardised losses is not above 0 at every horizon: "
                f"prices hardly moved; give more history"
            )
        usable = np.isfinite(z).any(axis=-1).ravel()
        rows = features.matrix(self.inputs)[usable]
        self.mean, self.deviation = self._moments(rows)
        losses = SIGNS[:, np.newaxis] * z.reshape(-1, 1, len(self.horizons))[usable]
        self.weights = train(
            self.settings,
            self._standardised(rows),
            torch.as_tensor(losses, dtype=torch.float32),
            self._shape(),
            self.levels,
        )
        self.usual = Usual.of(features, self.inputs)
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma = features[SCALE_FEATURE]
        known = np.isfinite(sigma) & (sigma > 0)
        rows, time, symbol = forecast_rows(features, known)
        x = self._standardised(features.matrix(self.inputs)[known.ravel()])
        with torch.inference_mode(), one_thread() if len(rows) < _FEW_ROWS else nullcontext():
            found = tails(self.weights, x.unsqueeze(0), self._shape())
            var, es = (t.mean(dim=0).double().transpose(1, 2).numpy() for t in found)
            logs = torch.log(found[1])
            deviation = (logs - logs.mean(dim=0)).square().mean(dim=0).sqrt()
            spread = deviation.double().mean(dim=(1, 2, 3)).numpy()
        # The mean of float32 members may leave the order by a rounding.
        var = np.maximum.accumulate(var, axis=-1)
        es = np.maximum.accumulate(np.maximum(es, var), axis=-1)
        scale = sigma[time, symbol, np.newaxis] * np.sqrt([bars_of(h, features) for h in self.horizons])
        forecast = scaled_forecast(rows, self.horizons, self.levels, scale, var, es)
        return forecast if self.settings.members == 1 else replace(forecast, spread=spread)

    def contributions(self, features: FeatureFrame, cells: Sequence[Cell]) -> Contributions | None:
        """See ``_path_gradients``; the members' mean is explained, not each member."""
        if self.usual is None:
            return None
        sigma = features[SCALE_FEATURE]
        known = np.isfinite(sigma) & (sigma > 0)
        x = self._standardised(features.matrix(self.inputs)[known.ravel()])
        places = cell_places(cells, self.horizons, SIDES, self.levels)
        with one_thread() if len(x) < _FEW_ROWS else nullcontext():
            start, effects, _ = path_gradients(self.weights, x, self._shape(), places)
        log_tail = np.broadcast_to(start, (len(x), len(places)))
        return self.usual.explained(features, known, tuple(cells), log_tail, effects)

    def save(self, folder: Path) -> None:
        write_bytes(folder / _WEIGHTS_FILE, save(self.weights))
        content = {
            "settings": self.settings.model_dump(),
            "inputs": list(self.inputs),
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "start": self.start.tolist(),
            "usual": None if self.usual is None else self.usual.to_json(),
        }
        write_content(folder, self.name, self.horizons, self.levels, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        horizons, levels, content = read_content(folder, cls.name)
        model = cls(Settings(**content["settings"]))
        model.horizons, model.levels, model.inputs = horizons, levels, tuple(content["inputs"])
        model.mean, model.deviation, model.start = (
            np.array(content[key], dtype="float64") for key in ("mean", "deviation", "start")
        )
        model.weights = load_file(folder / _WEIGHTS_FILE)
        model.usual = Usual.from_json(content.get("usual"))
        return model

    def _shape(self) -> Shape:
        return Shape.of(self.start, *mirrored(self.inputs), core=len(INPUTS))

    def _moments(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of each input over the known rows and their mirror images: a signed input has
        mean 0, and the two of a pair share theirs, so what is standardised can be mirrored."""
        order, sign = mirrored(self.inputs)
        known = np.isfinite(rows)
        count = np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, rows, 0.0)
        first, second = filled.sum(axis=0) / count, (filled**2).sum(axis=0) / count
        mean = (first + sign * first[order]) / 2
        spread = np.sqrt(np.maximum((second + second[order]) / 2 - mean**2, 0.0))
        # An input that never moved says nothing; dividing by one leaves it at zero.
        return mean, np.where(spread > 1e-12, spread, 1.0)

    def _standardised(self, rows: NDArray[np.float64]) -> Any:
        bound = self.settings.input_bound
        x = np.clip((rows - self.mean) / self.deviation, -bound, bound)
        return torch.as_tensor(np.where(np.isfinite(x), x, 0.0), dtype=torch.float32)
