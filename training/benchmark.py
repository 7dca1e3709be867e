"""Every model on the same decision times, walk-forward: forecasts, one table, and where they were right.

Signs and units as in ``training.evaluation``: losses are log returns against the side, FZ0 is in percent
units and lower is better, ratios are what was seen over what was promised. All tables are on the rows that
every model forecast, and models come in the order of the plan, the reference first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from features.atomic import written_whole
from features.bars import Market
from features.durations import parse_duration, whole_bars
from models.confidence_set import confidence_set
from models.expected_shortfall import acerbi_szekely_z2
from models.forecast.base import TailModel
from training.backtest import (
    Explained,
    FoldForecast,
    FoldJob,
    Progress,
    assemble,
    fold_jobs,
    forecast_folds,
    keep_levels,
    write_table,
)
from training.cells import cell_tests
from training.dataset import History, Task
from training.diagnostics import (
    CASE,
    coverage_by_group,
    daily_difference,
    excursion_coverage,
    regimes,
    rolling_coverage,
    symbol_scores,
    with_excursions,
)
from training.evaluation import common_rows, panel, summary, with_losses
from training.importance import COLUMNS
from training.lives_on import trials_of
from training.parallel import IN_THIS_PROCESS, Workers

#: A model is in the confidence set of 90 % where its p-value is above this.
SET_SIZE = 0.10
#: An ES is counted as rejected where its p-value is below this; so many right ones are.
TEST_SIZE = 0.05


@dataclass(frozen=True)
class Plan:
    """What to compare. The first of ``models`` is the reference; ``levels`` are the ones reported.
    ``explained_times`` is how many decision times tell what a model lives on; 0: none."""

    models: tuple[type[TailModel], ...]
    task: Task
    levels: tuple[float, ...]
    start: pd.Timestamp
    end: pd.Timestamp
    explained_times: int = 500

    @property
    def reference(self) -> str:
        return self.models[0].name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.models)


@dataclass(frozen=True)
class Benchmark:
    """What came out. ``scored`` has every common row with its loss and excursion, ``costs`` the seconds,
    ``trials`` which families each fit of a model tried (``training.lives_on.trials_of``).

    The other tables are made when asked for; ``tables`` names them all.
    """

    plan: Plan
    market: Market
    forecasts: pd.DataFrame
    scored: pd.DataFrame
    costs: pd.DataFrame
    importance: pd.DataFrame
    trials: pd.DataFrame

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per horizon, level and model.

        Columns: those of ``training.evaluation.summary``, ``pinball_ratio`` (to the reference's);
        ``excursion_ratio`` and ``es_excursion_ratio`` (``training.diagnostics``); ``z2`` (Acerbi-Szekely's,
        all rows pooled; 0 is right, below 0 too little); ``es_rejected``, the share of symbols and sides
        whose ES a one-sided regression test finds too small at 5 % (``training.cells``; NaN where the span
        is too short for it); ``set_p``, the p-value of belonging to the best (``models.confidence_set``), and
        ``in_set`` at 90 %; ``folds``, ``fit_s``, ``fit_s_per_fold`` and ``predict_s``.
        """
        table = summary(self.scored, self.market.interval)
        reference = table[table["model"] == self.plan.reference].set_index(["horizon", "level"])["pinball"]
        base = reference.loc[pd.MultiIndex.from_frame(table[["horizon", "level"]])].to_numpy()
        table["pinball_ratio"] = table["pinball"] / base
        more = [self._of_rows(), self._rejected(), self._confidence_set()]
        for found in more:
            table = table.merge(found, on=CASE, how="left", validate="1:1")
        return table.merge(self.costs, on="model", how="left", validate="m:1")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Coverage and tests by symbol and side; see ``training.cells``."""
        parts = [cell_tests(self.scored, model, self.market.interval) for model in self.plan.names]
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """By hour, weekend and regime."""
        times = self.scored["time"]
        return self._ordered(coverage_by_group(self.scored, regimes(self.market, times.min(), times.max())))

    @cached_property
    def rolling(self) -> pd.DataFrame:
        return self._ordered(rolling_coverage(self.scored))

    @cached_property
    def daily(self) -> pd.DataFrame:
        return self._ordered(daily_difference(self.scored, self.plan.reference))

    @cached_property
    def symbols(self) -> pd.DataFrame:
        return self._ordered(symbol_scores(self.scored, self.plan.reference, self.market.interval))

    @cached_property
    def excursions(self) -> pd.DataFrame:
        return self._ordered(excursion_coverage(self.scored))

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """File name without suffix -> table."""
        return {
            "table": self.table,
            "cells": self.cells,
            "symbols": self.symbols,
            "coverage": self.coverage,
            "rolling_coverage": self.rolling,
            "excursions": self.excursions,
            "daily_difference": self.daily,
            "importance": self.importance,
            "trials": self.trials,
        }

    def _of_rows(self) -> pd.DataFrame:
        lines = []
        for key, rows in self.scored.groupby(CASE):
            model, horizon, level = cast(tuple[str, str, float], key)
            promised = 1 - level
            lines.append(
                {
                    "model": model,
                    "horizon": horizon,
                    "level": level,
                    "excursion_ratio": rows["beyond_var"].mean() / promised,
                    "es_excursion_ratio": rows["beyond_es"].mean() / promised,
                    "z2": acerbi_szekely_z2(rows["loss"], rows["var"], rows["es"], level),
                }
            )
        return pd.DataFrame(lines)

    def _rejected(self) -> pd.DataFrame:
        known = self.cells.assign(
            es_rejected=(self.cells["es_p"] < TEST_SIZE).astype("float64").where(self.cells["es_p"].notna())
        )
        return known.groupby(CASE)["es_rejected"].mean().reset_index()

    def _confidence_set(self) -> pd.DataFrame:
        lines = []
        for horizon in self.scored["horizon"].unique():
            bars = whole_bars(parse_duration(horizon), self.market.interval)
            for level in self.plan.levels:
                scores = {name: panel(self.scored, name, horizon, level).fz0 for name in self.plan.names}
                times = len(next(iter(scores.values())))
                # The bootstrap needs two models, and blocks of two horizons at least twice.
                able = len(scores) > 1 and times >= 4 * bars
                found = confidence_set(scores, bars) if able else dict.fromkeys(scores, np.nan)
                for name, p in found.items():
                    inside = p > SET_SIZE if able else None
                    lines.append(
                        {"model": name, "horizon": horizon, "level": level, "set_p": p, "in_set": inside}
                    )
        return pd.DataFrame(lines).astype({"in_set": "boolean"})

    def _ordered(self, table: pd.DataFrame) -> pd.DataFrame:
        """By horizon, level, and the plan's order of models."""
        order = {name: place for place, name in enumerate(self.plan.names)}
        keys = pd.DataFrame(
            {
                "horizon": table["horizon"].map(parse_duration),
                "level": table["level"],
                "model": table["model"].map(order),
            }
        )
        return table.loc[keys.sort_values(list(keys.columns), kind="stable").index].reset_index(drop=True)


def run_benchmark(
    history: History,
    plan: Plan,
    workers: Workers = IN_THIS_PROCESS,
    progress: Progress = lambda *_: None,
) -> Benchmark:
    """Fit and forecast all folds of all models, then score them. Raises what fitting raises, naming the
    model; there is no table with a model missing."""
    jobs = _with_first_explained(fold_jobs(history, plan.models, plan.task, plan.start, plan.end), plan)
    found = forecast_folds(history, jobs, progress, workers)
    forecasts = assemble(history, jobs, found, plan.levels)
    scored = with_excursions(common_rows(with_losses(forecasts, history.market)), history.market)
    importance = [
        keep_levels(fold.importance, plan.levels).assign(model=job.model.name)
        for job, fold in zip(jobs, found, strict=True)
        if fold.importance is not None
    ]
    columns = [*CASE, *(c for c in COLUMNS if c not in CASE)]
    tried = [
        (fold.trials, job.model.name, job.fold.train_end)
        for job, fold in zip(jobs, found, strict=True)
        if not job.warm_up
    ]
    return Benchmark(
        plan,
        history.market,
        forecasts,
        scored,
        _costs(jobs, found),
        pd.concat(importance, ignore_index=True)[columns] if importance else pd.DataFrame(columns=columns),
        pd.concat([trials_of(*of_fold) for of_fold in tried], ignore_index=True),
    )


def write_tables(benchmark: Benchmark, folder: Path) -> None:
    """Write ``forecasts.parquet`` and every table, each file whole or not at all."""
    write_table(benchmark.forecasts, folder / "forecasts.parquet")
    for name, table in benchmark.tables.items():
        with written_whole(folder / f"{name}.parquet") as draft:
            table.to_parquet(draft, index=False)


def _with_first_explained(jobs: list[FoldJob], plan: Plan) -> list[FoldJob]:
    """The model that was fitted before the span, asked over all of it: its last fold may be a day."""
    if not plan.explained_times:
        return jobs
    explained = Explained(plan.explained_times, plan.end)
    first = {job.model: position for position, job in reversed(list(enumerate(jobs))) if not job.warm_up}
    return [
        replace(job, explained=explained) if first[job.model] == position else job
        for position, job in enumerate(jobs)
    ]


def _costs(jobs: list[FoldJob], found: list[FoldForecast]) -> pd.DataFrame:
    """A row per model: ``model, folds, fit_s, fit_s_per_fold, predict_s``, features included; of the folds of
    the span, so that models compare whether they warm up or not."""
    tested = [(job, fold) for job, fold in zip(jobs, found, strict=True) if not job.warm_up]
    seconds = pd.DataFrame(
        {
            "model": [job.model.name for job, _ in tested],
            "fit_s": [fold.fit_s for _, fold in tested],
            "predict_s": [fold.predict_s for _, fold in tested],
        }
    )
    costs = seconds.groupby("model", sort=False).agg(
        folds=("fit_s", "size"),
        fit_s=("fit_s", "sum"),
        fit_s_per_fold=("fit_s", "mean"),
        predict_s=("predict_s", "sum"),
    )
    return costs.reset_index()
