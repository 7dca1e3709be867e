"""What a linear correction adds to a forecast, family of inputs by family.

A loss says little about the volatility that it was drawn from; the ranges of the bars on the way say much
more. So the correction of a horizon of h bars is learned from

    y = ln(sqrt(mean Parkinson variance of the h bars to come) / sigma + 0.05) - ln(VaR / (sigma sqrt(h)))

with VaR the mean over the sides of the uncorrected forecast at the lowest level. Step by step, first the core
inputs and then each family in turn predict what the steps before left of y, by ridge regression on the
family's inputs and on ln(VaR / (sigma sqrt(h))), standardised on the training window and clipped. The sum c
of the steps, held within +-``MOST``, is centred, so that only what it says of one hour against another
counts, and

    VaR and ES x exp(strength c)

A step is kept only where it pays: fitted on the blocks of time before, it must lower the squared error of y
in the blocks that follow with t below ``-least_t``. So a family that says nothing at a horizon, or says
something else every year, is not in the model there. A row in which all inputs of a family are missing goes
without its step; a single missing input counts as its mean.

The corrected forecast has been fitted on the same rows, so FZ0 on them cannot tell what pays: whatever moves
the forecast away from these losses looks bad. Ranges can, for they are not what it was fitted on. For the
same reason not the whole correction is made.

Sources: Hoerl, Kennard (1970) for ridge regression; Andersen, Bollerslev (1998) on range and realized
variances as what to learn from; Meinshausen, Buehlmann (2010) on keeping what is stable over parts of the
data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from features.pipeline import FeatureFrame, all_features
from features.windows import rolling_sum
from models.coverage import diebold_mariano
from models.forecast._inputs import WIDE_INPUTS
from models.forecast._residuals import SCALE_FEATURE, bars_of, stands_still
from models.forecast.base import Dataset, TailForecast

Array = NDArray[np.float64]

#: The families that may be added to the core, in the order in which they are tried.
FAMILIES = ("fine", "fine_flow", "flow", "order_flow", "book", "context")
CORE = "core"
#: The uncorrected forecast's own level as an input.
LEVEL = "forecast_level"
#: c stays within this.
MOST = 1.5
#: Added under the logarithm of y, so that bars that do not move leave a number.
_LEAST = 0.05
_LEAST_DEVIATION = 1e-9


class Settings(BaseModel):
    """Of the correction. Defaults were chosen on decision times before 2025."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Tried besides the core; those that the features lack are passed over.
    families: tuple[str, ...] = FAMILIES
    #: Kept whatever their trials say: to ask what naive inclusion costs.
    untried: tuple[str, ...] = ()
    #: How much of the correction is made: it is fitted on forecasts that have seen the training window.
    strength: float = Field(0.75, ge=0, le=1)
    #: Of the squared weights, as a share of the rows.
    penalty: float = Field(0.01, gt=0)
    blocks: int = Field(5, ge=2)
    least_t: float = 2.0
    #: Rows that a step needs. What a day of one contract taught did not hold on the next.
    min_rows: int = Field(10_000, ge=100)
    #: Standardised inputs are held within this many deviations.
    input_bound: float = Field(5.0, gt=0)


def family_inputs(family: str) -> tuple[str, ...]:
    """The outputs of all features of a family. Raises ``ValueError`` where there are none."""
    found = tuple(name for f in all_features() if f.family == family for name in f.outputs)
    if not found:
        raise ValueError(f"there is no family of features {family!r}; choose among {list(FAMILIES)}")
    return found


@dataclass(frozen=True)
class Step:
    """What one family adds at one horizon: weights of standardised ``inputs``, of which ``own`` are the
    family's. ``t`` is that of its trial, below 0 where it paid."""

    family: str
    inputs: tuple[str, ...]
    own: tuple[str, ...]
    mean: Array
    deviation: Array
    weights: Array
    t: float

    def to_json(self) -> dict[str, Any]:
        lists = {name: getattr(self, name).tolist() for name in ("mean", "deviation", "weights")}
        return {
            **{"family": self.family, "inputs": list(self.inputs), "own": list(self.own), "t": self.t},
            **lists,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        mean, deviation, weights = (
            np.array(content[name], dtype="float64") for name in ("mean", "deviation", "weights")
        )
        inputs, own = tuple(content["inputs"]), tuple(content["own"])
        return cls(content["family"], inputs, own, mean, deviation, weights, content["t"])


@dataclass(frozen=True)
class Refinement:
    """``steps`` by horizon, those that paid; ``tried``, by horizon, the t of every family's trial."""

    settings: Settings
    steps: tuple[tuple[Step, ...], ...]
    tried: tuple[Mapping[str, float], ...]

    def log_factors(self, features: FeatureFrame, forecast: TailForecast) -> Array:
        """strength c of each row of the uncorrected forecast, (row, horizon)."""
        rows = Rows.of(features, forecast)
        out = np.zeros((len(forecast.rows), len(self.steps)))
        for h, steps in enumerate(self.steps):
            terms = [self.terms(step, rows, h).sum(axis=1) for step in steps]
            out[:, h] = self.settings.strength * np.clip(sum(terms, np.zeros(len(out))), -MOST, MOST)
        return out

    def terms(self, step: Step, rows: Rows, horizon: int) -> Array:
        """What each input of a step adds to c, (row, input)."""
        x = rows.values(step.inputs, horizon)
        known = _any_known(x, step)
        z = _standardised(x, step.mean, step.deviation, self.settings.input_bound)
        return np.where(known[:, np.newaxis], z * step.weights, 0.0)


def _any_known(x: Array, step: Step) -> NDArray[np.bool_]:
    own = [step.inputs.index(name) for name in step.own]
    return np.asarray(np.isfinite(x[:, own]).any(axis=1))


def _standardised(x: Array, mean: Array, deviation: Array, bound: float) -> Array:
    """A missing input counts as its mean."""
    return np.nan_to_num(np.clip((x - mean) / deviation, -bound, bound))


@dataclass(frozen=True)
class Rows:
    """The inputs of the rows of a forecast, which lie at ``time`` and ``symbol`` of the features.
    ``log_level`` is (row, horizon)."""

    features: FeatureFrame
    time: NDArray[np.intp]
    symbol: NDArray[np.intp]
    log_scale: Array
    log_level: Array

    @classmethod
    def of(cls, features: FeatureFrame, forecast: TailForecast) -> Self:
        time = features.times.get_indexer(forecast.rows.get_level_values("time"))
        places = {s: i for i, s in enumerate(features.symbols)}
        symbol = np.array([places[s] for s in forecast.rows.get_level_values("symbol")], dtype=np.intp)
        log_scale = np.log(features[SCALE_FEATURE][time, symbol])
        unit = log_scale[:, np.newaxis] + np.log([bars_of(h, features) for h in forecast.horizons]) / 2
        return cls(features, time, symbol, log_scale, np.log(forecast.var[..., 0].mean(axis=2)) - unit)

    def values(self, inputs: Sequence[str], horizon: int) -> Array:
        """(row, input); NaN for one that the features lack."""
        out = np.full((len(self.time), len(inputs)), np.nan)
        places = {name: i for i, name in enumerate(self.features.names)}
        for i, name in enumerate(inputs):
            if name == LEVEL:
                out[:, i] = self.log_level[:, horizon]
            elif name in places:
                out[:, i] = self.features.values[self.time, self.symbol, places[name]]
        return out


#: Steps that were fitted, by horizon, family and the families kept before it.
Fitted = dict[tuple[int, str, tuple[str, ...]], "Step | None"]


def refine(
    settings: Settings, dataset: Dataset, forecast: TailForecast, fitted: Fitted | None = None
) -> Refinement:
    """Learn a correction of a model's forecast of the rows that it was fitted on. ``fitted`` spares what an
    earlier call on the same data, with other families, has done."""
    fitted = {} if fitted is None else fitted
    features = dataset.features
    rows = Rows.of(features, forecast)
    steps, tried = [], []
    for h, horizon in enumerate(forecast.horizons):
        bars = bars_of(horizon, features)
        trial = _Trial(settings, rows, h, bars, dataset)
        kept: list[Step] = []
        found: dict[str, float] = {}
        done = np.zeros(len(rows.time))
        for family in (CORE, *settings.families):
            before = tuple(s.family for s in kept)
            if (h, family, before) not in fitted:
                beside = dict.fromkeys(n for s in kept if s.family != CORE for n in s.own)
                fitted[h, family, before] = trial.step(family, tuple(beside), done)
            step = fitted[h, family, before]
            if step is None:
                continue
            found[family] = step.t
            if step.t < -settings.least_t or family in settings.untried:
                kept.append(step)
                done = done + Refinement(settings, (), ()).terms(step, rows, h).sum(axis=1)
        steps.append(tuple(kept))
        tried.append(found)
    return Refinement(settings, tuple(steps), tuple(tried))


def range_labels(dataset: Dataset, bars: int) -> Array:
    """sqrt(mean variance of the ``bars`` to come), per bar, over (time, symbol); NaN where one of them is
    unknown, or the price stood still over the day before."""
    variance = dataset.variance
    ahead = np.full_like(variance, np.nan)
    unknown = rolling_sum(np.isnan(variance).astype("float64"), bars)[bars:] > 0
    ahead[:-bars] = np.where(unknown, np.nan, rolling_sum(np.nan_to_num(variance), bars)[bars:] / bars)
    ahead[stands_still(dataset)] = np.nan
    return np.sqrt(ahead)


class _Trial:
    """One horizon: fits steps, and tries each on blocks of time that it did not see."""

    def __init__(self, settings: Settings, rows: Rows, horizon: int, bars: int, dataset: Dataset) -> None:
        self.settings, self.rows, self.horizon, self.bars = settings, rows, horizon, bars
        at = rows.time, rows.symbol
        size = range_labels(dataset, bars)[at] / np.exp(rows.log_scale)
        self.label = np.log(size + _LEAST) - rows.log_level[:, horizon]

    def step(self, family: str, beside: tuple[str, ...], done: Array) -> Step | None:
        """The family's step on top of what is done, with the inputs ``beside`` its own; None where it has too
        few rows or no input that moves."""
        s = self.settings
        given = set(self.rows.features.names)
        own = tuple(n for n in (WIDE_INPUTS if family == CORE else family_inputs(family)) if n in given)
        if not own:
            return None
        named = (*own, *beside, LEVEL)
        x = self.rows.values(named, self.horizon)
        there = np.isfinite(x[:, [named.index(n) for n in own]]).any(axis=1) & np.isfinite(self.label)
        if there.sum() < s.min_rows:
            return None
        x = x[there]
        mean, deviation = _moments(x)
        moving = _different(x, deviation)
        inputs = tuple(named[i] for i in moving)
        own = tuple(n for n in own if n in inputs)
        if not own:
            return None
        mean, deviation = mean[moving], deviation[moving]
        z = _standardised(x[:, moving], mean, deviation, s.input_bound)
        y = (self.label - done)[there]
        blocks = list(self._blocks(there))
        sums = [_products(z[b], y[b]) for b in blocks]
        # Trained on the past alone: what drifts does not pay, whatever it says within a block.
        added = np.full(len(there), np.nan)
        for i in range(1, len(blocks)):
            weights = _ridge(_total(sums[:i]), s.penalty)
            added[np.flatnonzero(there)[blocks[i]]] = z[blocks[i]] @ weights
        t = self._t(done, added)
        return Step(family, inputs, own, mean, deviation, _ridge(_total([_products(z, y)]), s.penalty), t)

    def _blocks(self, there: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
        """Rows of each block of time, as places among those that are there, less those whose label reaches
        into the next."""
        time = self.rows.time[there]
        edges = np.linspace(time.min(), time.max() + 1, self.settings.blocks + 1).astype(int)
        for first, last in pairwise(edges.tolist()):
            yield np.flatnonzero((time >= first) & (time < last - self.bars))

    def _t(self, done: Array, added: Array) -> float:
        """Of the difference that the step makes to the squared error; 0 where nothing could be tried."""
        tried = np.isfinite(added)
        times = np.unique(self.rows.time[tried])
        if len(times) < 2:
            return 0.0
        left = (self.label - done)[tried]
        left = left - left.mean()
        grids = []
        for error in (left - added[tried], left):
            # One value a time and symbol; times without any are left out.
            grid = np.full((times[-1] + 1, len(self.rows.features.symbols)), np.nan)
            grid[self.rows.time[tried], self.rows.symbol[tried]] = error**2
            grids.append(grid[times])
        return diebold_mariano(grids[0], grids[1], self.bars).t


def _moments(x: Array) -> tuple[Array, Array]:
    known = np.isfinite(x)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, x, 0.0).sum(axis=0) / count
    deviation = np.sqrt((np.where(known, x - mean, 0.0) ** 2).sum(axis=0) / count)
    return mean, deviation


def _different(x: Array, deviation: Array) -> list[int]:
    """Columns that move and are no copy of one before: on coarse bars several windows are one bar."""
    seen: dict[bytes, int] = {}
    for i in range(x.shape[1]):
        if deviation[i] > _LEAST_DEVIATION:
            seen.setdefault(x[:, i].tobytes(), i)
    return sorted(seen.values())


Products = tuple[Array, Array, Array]


def _products(z: Array, y: Array) -> Products:
    """X'X, X'y and the number of rows, of centred labels."""
    return z.T @ z, z.T @ (y - (y.mean() if len(y) else 0.0)), np.array(float(len(y)))


def _total(parts: Sequence[Products]) -> Products:
    xx, xy, rows = (np.asarray(sum(part[i] for part in parts)) for i in range(3))
    return xx, xy, rows


def _ridge(products: tuple[Array, ...], penalty: float) -> Array:
    xx, xy, rows = products
    return np.asarray(np.linalg.solve(xx + penalty * float(rows) * np.eye(len(xx)), xy))
