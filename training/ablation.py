"""What each family of inputs is worth: the same uncorrected forecasts, corrected with families left out and
alone.

The uncorrected model, an ensemble unless told otherwise, is fitted once a seed and fold; only its correction
(``models.forecast.refined``) is fitted anew for each variant, so that variants differ in nothing else:

- ``uncorrected``: that model;
- ``core``: corrected by the core inputs alone, and the reference of all differences but those of ``without``;
- ``core + X``: and by family X, whether or not it pays in its trial: what naive inclusion is worth;
- ``all``: as shipped, each family kept where it pays in its trial on the training window;
- ``without X``: as shipped, but for family X; its difference is to ``all``, so above 0 where X is worth
having.

Walk-forward, calibrated as served; FZ0 in percent units, negative differences are better, t is HAC (Diebold,
Mariano) over decision times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from features.durations import format_duration, parse_duration, whole_bars
from features.pipeline import all_features
from models.coverage import diebold_mariano
from models.forecast._ensemble_network import Settings as NetworkSettings
from models.forecast._refinement import FAMILIES, Fitted, refine
from models.forecast._refinement import Settings as RefinementSettings
from models.forecast.base import TailForecast, TailModel
from models.forecast.ensemble import EnsembleModel
from models.forecast.ensemble import Settings as EnsembleSettings
from models.forecast.network import NetworkModel
from models.forecast.quantile import Settings as QuantileSettings
from models.forecast.refined import RefinedModel, refined_forecast
from training.dataset import History, Task
from training.evaluation import Panel, panel, with_losses
from training.parallel import IN_THIS_PROCESS, Workers, run_jobs
from training.splits import Fold, walk_forward, warm_up

#: What is corrected.
Base = Literal["ensemble", "network"]
REFERENCE, SHIPPED, UNCORRECTED = "core", "all", "uncorrected"


@dataclass(frozen=True)
class Variant:
    """What the correction may use; ``tried``: whether a family must pay in its trial first. None: no
    correction."""

    name: str
    families: tuple[str, ...] | None
    tried: bool = True

    @property
    def reference(self) -> str:
        return SHIPPED if self.name.startswith("without ") else REFERENCE

    def settings(self) -> RefinementSettings:
        families = self.families or ()
        return RefinementSettings(families=families, untried=() if self.tried else families)


def variants(families: Sequence[str]) -> tuple[Variant, ...]:
    """Of these families, in the order of a table."""
    given = tuple(families)
    return (
        Variant(UNCORRECTED, None),
        Variant(REFERENCE, ()),
        *(Variant(f"core + {family}", (family,), tried=False) for family in given),
        Variant(SHIPPED, given),
        *(Variant(f"without {f}", tuple(g for g in given if g != f)) for f in given),
    )


def families_of(history: History) -> tuple[str, ...]:
    """Those of ``FAMILIES`` for which the market has what they read."""
    there = {f.family for f in all_features() if f.lacks(history.market) is None}
    return tuple(family for family in FAMILIES if family in there)


@dataclass(frozen=True)
class AblationJob:
    """One seed and fold. A ``warm_up`` moves the calibration alone."""

    seed: int
    fold: Fold
    task: Task
    variants: tuple[Variant, ...]
    base: Base = "ensemble"
    warm_up: bool = False


@dataclass(frozen=True)
class AblationFold:
    """Forecasts by variant, and t of each family's trial in the shipped one, by horizon."""

    forecasts: dict[str, TailForecast]
    tried: tuple[dict[str, float], ...]


def ablate_fold(history: History, job: AblationJob) -> AblationFold:
    """Fit the ensemble once, and every variant's correction."""
    window = history.window(RefinedModel, job.fold.train_end, job.task)
    base = window.fit(_uncorrected(job.base, job.seed)).model
    learned = base.predict(window.dataset.features)
    features = history.features(window.pipeline, job.fold.test_start, job.fold.test_end)
    forecast = base.predict(features)
    found: dict[str, TailForecast] = {}
    fitted: Fitted = {}
    tried: tuple[dict[str, float], ...] = ()
    for variant in job.variants:
        if variant.families is None:
            found[variant.name] = forecast
            continue
        refinement = refine(variant.settings(), window.dataset, learned, fitted)
        found[variant.name] = refined_forecast(forecast, refinement, features)
        if variant.name == SHIPPED:
            tried = tuple(dict(t) for t in refinement.tried)
    return AblationFold(found, tried)


def _uncorrected(base: Base, seed: int) -> TailModel:
    settings = _seeded(seed)
    return NetworkModel(settings.network) if base == "network" else EnsembleModel(settings)


def _seeded(seed: int) -> EnsembleSettings:
    return EnsembleSettings(network=NetworkSettings(seed=seed), quantile=QuantileSettings(seed=seed))


@dataclass(frozen=True)
class Ablation:
    """``scores``: a row per seed, horizon, level and variant. ``trials``: a row per seed, fold, horizon and
    family, with the t of its trial; it was kept where ``kept``."""

    scores: pd.DataFrame
    trials: pd.DataFrame


def ablate(
    history: History,
    task: Task,
    start: pd.Timestamp,
    end: pd.Timestamp,
    levels: Sequence[float],
    seeds: Sequence[int],
    families: Sequence[str] | None = None,
    workers: Workers = IN_THIS_PROCESS,
    base: Base = "ensemble",
) -> Ablation:
    """Ablate these families (None: all that the market has) at the decision times in [start, end]. The trees
    of an ensemble need every input of a row, weeks of history; where there are only days, correct the
    ``network``."""
    chosen = variants(families_of(history) if families is None else families)
    times = history.market.times
    folds = walk_forward(times, start, end, RefinedModel.refit_every, task.embargo)
    warm = warm_up(times, folds[0].test_start, task.embargo)
    jobs = [
        AblationJob(seed, fold, task, chosen, base, fold is warm)
        for seed in seeds
        for fold in (*(() if warm is None else (warm,)), *folds)
    ]
    found = dict(run_jobs(ablate_fold, history, jobs, workers))
    scores, trials = [], []
    for seed in seeds:
        own = [(job, found[i]) for i, job in enumerate(jobs) if job.seed == seed]
        scores += _scores(history, seed, own, chosen, levels)
        trials += [
            {
                **{"seed": seed, "start": job.fold.test_start, "horizon": format_duration(horizon)},
                **{"family": family, "t": t, "kept": t < -RefinementSettings().least_t},
            }
            for job, fold in own
            for horizon, tried in zip(task.horizons, fold.tried, strict=True)
            for family, t in tried.items()
        ]
    return Ablation(pd.DataFrame(scores), pd.DataFrame(trials))


def _scores(
    history: History,
    seed: int,
    own: Sequence[tuple[AblationJob, AblationFold]],
    chosen: Sequence[Variant],
    levels: Sequence[float],
) -> list[dict[str, Any]]:
    start = min(job.fold.test_start for job, _ in own if not job.warm_up)
    panels: dict[str, dict[tuple[str, float], Panel]] = {}
    rows = []
    for variant in chosen:
        joined = TailForecast.joined([fold.forecasts[variant.name] for _, fold in own])
        served = history.calibrated(joined, RefinedModel.calibration)[0].to_table(variant.name)
        kept = served[(served["time"] >= start) & served["level"].isin(list(levels))]
        scored = with_losses(kept, history.market)
        panels[variant.name] = {
            (format_duration(horizon), level): panel(scored, variant.name, format_duration(horizon), level)
            for horizon in own[0][0].task.horizons
            for level in levels
        }
    for variant in chosen:
        for (horizon, level), found in panels[variant.name].items():
            bars = whole_bars(parse_duration(horizon), history.market.interval)
            difference = diebold_mariano(found.fz0, panels[variant.reference][horizon, level].fz0, bars)
            rows.append(
                {
                    **{"seed": seed, "horizon": horizon, "level": level, "variant": variant.name},
                    **{"rows": int(np.isfinite(found.fz0).sum()), "fz0": float(np.nanmean(found.fz0))},
                    "hit_ratio": float(np.nanmean(found.hit) / (1 - level)),
                    **{"reference": variant.reference, "difference": difference.mean, "t": difference.t},
                }
            )
    return rows


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per horizon, level and variant: means over the seeds, and the t nearest to and farthest from
    0."""
    grouped = scores.groupby(["horizon", "level", "variant"], sort=False)
    table = grouped[["rows", "fz0", "hit_ratio", "difference"]].mean()
    t = grouped["t"]
    table["reference"] = grouped["reference"].first()
    table["t_weakest"] = t.agg(lambda found: found.iloc[int(np.abs(found.to_numpy()).argmin())])
    table["t_strongest"] = t.agg(lambda found: found.iloc[int(np.abs(found.to_numpy()).argmax())])
    table["seeds"] = t.size()
    return table.reset_index()
