"""``network``: a small ensemble of perceptrons trained directly on FZ0, for all horizons, sides and
levels at once.

Each member has two hidden layers (SiLU) and a zero last layer, so it starts from the pooled EWMA-filtered
historical simulation and learns only how to depart from it. With o the outputs of one horizon and side, and
sigma sqrt(h) the EWMA scale,

    VaR_1 = sigma sqrt(h) q_1 exp(o)                       lowest level
    VaR_k = VaR_(k-1) (1 + softplus(a_k + o))              the deeper ones
    ES_k  = VaR_k (1 + softplus(b_k + o))

q, a and b make o = 0 the pooled tail of the standardised losses, so VaR is ordered and ES above it by
construction; ES is held non-decreasing over the levels after averaging. The forecast is the mean over the
members, which differ in their first weights and in the rows that each sees. The loss is FZ0 of
standardised losses, averaged over horizons, sides and levels with weight sqrt(1 - level), because the
rarest say the least per row.

Inputs are standardised on the training window and clipped. A missing input counts as its training mean; a
row needs only the EWMA scale. Source of the loss: Patton, Ziegel, Chen (2019).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save

from features.pipeline import FeatureFrame
from models.forecast._files import read_content, write_bytes, write_content
from models.forecast._inputs import input_names, needed_features
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
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.margin.fhs import tail_quantiles

_WEIGHTS_FILE = "weights.safetensors"
#: exp(+-3) on the EWMA forecast is further than any good one goes; it keeps a strange input from overflowing.
_LOG_FACTOR_BOUND = 3.0
#: A tail whose levels coincide (few distinct losses) still needs a finite start.
_LEAST_RATIO = 1e-3


class Settings(BaseModel):
    """Of the ensemble and its training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(4, ge=1)
    hidden: int = Field(64, ge=1)
    steps: int = Field(400, ge=1)
    batch_rows: int = Field(4096, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    #: Standardised inputs are held within this many deviations.
    input_bound: float = Field(5.0, gt=0)
    #: Matured rows that a fit needs, all symbols together.
    min_rows: int = Field(2000, ge=500)
    seed: int = 1
    #: Where it trains; ``auto`` is a GPU where there is one. Forecasts are made on the CPU, alike everywhere.
    device: Literal["auto", "cpu", "cuda"] = "auto"


class NetworkModel(TailModel):
    """See the module. ``start`` is (VaR or ES, horizon, side, level), the pooled tail that training
    starts from.
    """

    name: ClassVar[str] = "network"
    refit_every: ClassVar[pd.Timedelta] = pd.Timedelta(days=90)

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.inputs: tuple[str, ...] = ()
        self.mean: NDArray[np.float64] = np.empty(0)
        self.deviation: NDArray[np.float64] = np.empty(0)
        self.start: NDArray[np.float64] = np.empty((2, 0, 2, 0))
        self.weights: dict[str, Any] = {}

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return needed_features()

    def fit(self, dataset: Dataset) -> Self:
        features = dataset.features
        self.inputs = input_names(features.names)
        self.horizons, self.levels = dataset.horizons, with_breaker(dataset.levels)
        z = np.stack([standardised_returns(dataset, h) for h in self.horizons], axis=-1)
        for h, horizon in enumerate(self.horizons):
            refuse_unfit(z[..., h], horizon, self.settings.min_rows)
        self.start = np.stack([tail_quantiles(z[..., h], self.levels) for h in range(z.shape[-1])], axis=1)
        if not (self.start[0] > 0).all():
            raise ValueError(
                f"the {self.levels[0]} quantile of the standardised losses is not above 0 at every "
                f"horizon and side: prices moved one way only; give more history"
            )
        usable = np.isfinite(z).any(axis=-1).ravel()
        rows = features.matrix(self.inputs)[usable]
        known = np.isfinite(rows)
        count = np.maximum(known.sum(axis=0), 1)
        self.mean = np.where(known, rows, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, rows - self.mean, 0.0) ** 2).sum(axis=0) / count)
        # An input that never moved says nothing; dividing by one leaves it at zero.
        self.deviation = np.where(spread > 1e-12, spread, 1.0)
        losses = SIGNS * z.reshape(-1, len(self.horizons), 1)[usable]
        self.weights = self._train(self._standardised(rows), torch.as_tensor(losses, dtype=torch.float32))
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        sigma = features[SCALE_FEATURE]
        rows, time, symbol = forecast_rows(features, np.isfinite(sigma) & (sigma > 0))
        x = self._standardised(features.matrix(self.inputs)[np.isfinite(sigma.ravel()) & (sigma.ravel() > 0)])
        with torch.no_grad():
            var, es = (t.mean(dim=0).double().numpy() for t in self._tails(self.weights, x.unsqueeze(0)))
        # The mean of float32 members may leave the order by a rounding.
        var = np.maximum.accumulate(var, axis=-1)
        es = np.maximum.accumulate(np.maximum(es, var), axis=-1)
        scale = sigma[time, symbol, np.newaxis] * np.sqrt([bars_of(h, features) for h in self.horizons])
        return scaled_forecast(rows, self.horizons, self.levels, scale, var, es)

    def save(self, folder: Path) -> None:
        write_bytes(folder / _WEIGHTS_FILE, save(self.weights))
        content = {
            "settings": self.settings.model_dump(),
            "inputs": list(self.inputs),
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "start": self.start.tolist(),
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
        return model

    def _standardised(self, rows: NDArray[np.float64]) -> Any:
        bound = self.settings.input_bound
        x = np.clip((rows - self.mean) / self.deviation, -bound, bound)
        return torch.as_tensor(np.where(np.isfinite(x), x, 0.0), dtype=torch.float32)

    def _first_weights(self, generator: Any) -> dict[str, Any]:
        """Stacked over members: He-scaled hidden layers, zero biases and last layer."""
        s = self.settings
        outputs = len(self.horizons) * len(SIDES) * 2 * len(self.levels)
        sizes = ((len(self.inputs), s.hidden), (s.hidden, s.hidden), (s.hidden, outputs))
        weights: dict[str, Any] = {}
        for layer, (inward, outward) in enumerate(sizes):
            shape = (s.members, inward, outward)
            scale = 0.0 if layer == 2 else (2 / inward) ** 0.5
            weights[f"weight_{layer}"] = scale * torch.randn(shape, generator=generator)
            weights[f"bias_{layer}"] = torch.zeros((s.members, 1, outward))
        return weights

    def _tails(self, weights: dict[str, Any], x: Any) -> tuple[Any, Any]:
        """VaR and ES in units of the scale, each (member, row, horizon, side, level), of x (member or 1, row,
        input)."""
        for layer in (0, 1):
            x = torch.nn.functional.silu(x @ weights[f"weight_{layer}"] + weights[f"bias_{layer}"])
        x = x @ weights["weight_2"] + weights["bias_2"]
        x = x.reshape(*x.shape[:2], len(self.horizons), len(SIDES), 2, len(self.levels))
        start_var, start_es = torch.as_tensor(self.start, dtype=torch.float32, device=x.device)
        steps = torch.nn.functional.softplus(
            _inverse_softplus(start_var[..., 1:] / start_var[..., :-1] - 1) + x[..., 0, 1:]
        )
        lowest = start_var[..., :1] * torch.exp(x[..., 0, :1].clamp(-_LOG_FACTOR_BOUND, _LOG_FACTOR_BOUND))
        var = torch.cat([lowest, lowest * torch.cumprod(1 + steps, dim=-1)], dim=-1)
        beyond = torch.nn.functional.softplus(_inverse_softplus(start_es / start_var - 1) + x[..., 1, :])
        return var, var * (1 + beyond)

    def _train(self, x: Any, losses: Any) -> dict[str, Any]:
        """Minimise FZ0 over ``losses`` (row, horizon, side) by AdamW with a cosine schedule; the data
        stay on the device.
        """
        s = self.settings
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(auto if s.device == "auto" else s.device)
        # Drawn on the CPU, so that a seed gives the same members and batches on every device.
        generator = torch.Generator().manual_seed(s.seed)
        weights = {k: w.to(device).requires_grad_() for k, w in self._first_weights(generator).items()}
        x, losses = x.to(device), losses.to(device)
        a = torch.tensor([1 - p for p in self.levels], dtype=torch.float32, device=device)
        importance = a.sqrt() / a.sqrt().sum()
        optimizer = torch.optim.AdamW(weights.values(), lr=s.learning_rate, weight_decay=s.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, s.steps)
        for _ in range(s.steps):
            batch = torch.randint(len(x), (s.members, s.batch_rows), generator=generator).to(device)
            var, es = self._tails(weights, x[batch])
            loss = losses[batch].unsqueeze(-1)
            known = torch.isfinite(loss)
            beyond = torch.relu(torch.where(known, loss, 0.0) - var)
            score = beyond / (a * es) + var / es + torch.log(es)
            score = torch.where(known, score * importance, 0.0)
            # Members share nothing: the gradient of the sum is each member's own.
            total = (score.sum(dim=(1, 2, 3, 4)) / known.sum(dim=(1, 2, 3, 4)).clamp(min=1)).sum()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            schedule.step()
        return {k: w.detach().cpu().contiguous() for k, w in weights.items()}


def _inverse_softplus(ratio: Any) -> Any:
    return torch.log(torch.expm1(ratio.clamp(min=_LEAST_RATIO)))
