"""``tune``: search for better settings of a model, and tell what they are worth.

The span is cut into ``folds`` + 1 equal blocks. The search sees all but the newest, which is held back: the
shipped settings and the best found are compared there once the search is over. What the search reports of its
own blocks flatters whatever won (it is the least of many noisy numbers), the held-back block does not, unless
it is looked at again and again. No bar after ``end`` is used at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel

from features.durations import format_duration
from models.artifact import code_version
from models.coverage import ScoreDifference, diebold_mariano
from models.forecast.base import TailModel
from models.forecast.discovery import model_class
from models.registry import RegistryError
from training.blocks import Block, prepare_blocks
from training.dataset import History, ModelLookup
from training.lock import locked
from training.settings import TrainingSettings
from training.splits import Fold, equal_blocks
from training.study import (
    DAILY,
    REFUSED,
    SHIPPED,
    Say,
    Search,
    finished,
    identity_of,
    open_study,
    shipped_settings,
)
from training.study_runs import StudyRuns
from training.train import task_of

DAY = pd.Timedelta(days=1)

Prepared = Callable[[int, int], None]


@dataclass(frozen=True)
class TuneSettings:
    """How long and how to search. ``folds`` blocks are searched, one more is held back."""

    start: pd.Timestamp
    end: pd.Timestamp
    trials: int
    folds: int
    jobs: int
    seed: int

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("folds", 1), ("jobs", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} is {value}; give at least {least}")


@dataclass(frozen=True)
class Tuned:
    """What a study found. Differences are FZ0 of the best less FZ0 of the shipped settings, by UTC day, with
    HAC t: negative favours the best. Both are None where the best are the shipped ones."""

    best: FrozenTrial
    shipped: FrozenTrial
    settings: BaseModel
    searched: ScoreDifference | None
    held_back: ScoreDifference | None
    held_back_fold: Fold
    trials: tuple[FrozenTrial, ...]
    importances: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """``settings`` whole, ``changed`` what the search varied, and what it was worth."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "changed": self.best.params,
            "shipped": self.shipped.params,
            "difference_to_reference": {"best": self.best.value, "shipped": self.shipped.value},
            "searched": _difference_json(self.searched),
            "held_back": _difference_json(self.held_back),
            "held_back_start": self.held_back_fold.test_start.isoformat(),
            "held_back_end": self.held_back_fold.test_end.isoformat(),
            "finished_trials": len(self.trials),
        }

    def metrics(self) -> dict[str, float]:
        """What MLflow keeps as figures."""
        found = {"best": self.best.value, "shipped": self.shipped.value}
        for name, difference in (("searched", self.searched), ("held_back", self.held_back)):
            if difference is not None:
                found |= {f"{name}_difference": difference.mean, f"{name}_t": difference.t}
        return {name: value for name, value in found.items() if value is not None}


def tune(
    history: History,
    name: str,
    training: TrainingSettings,
    how: TuneSettings,
    study_file: Path,
    tracking_uri: str,
    say: Say,
    prepared: Prepared = lambda *_: None,
    lookup: ModelLookup = model_class,
) -> Tuned:
    """Search until ``how.trials`` trials of the study in ``study_file`` are finished.

    ``history`` must know the model and ``training.baselines[0]``, the reference. ``prepared`` is called with
    how many blocks are ready, and of how many.

    Raises ``ValueError`` where the model has nothing to tune or the span cannot be cut, ``StudyError`` where
    the study was begun with something else, ``LockedError`` where another process searches it,
    ``TrainingRefusedError`` where the data cannot carry the shipped settings, and ``RegistryError`` where
    MLflow does not answer.
    """
    model, reference = lookup(name), lookup(training.baselines[0])
    shipped_settings(model)  # nothing to tune is said before anything is computed
    task = task_of(training)
    # Without its source: what is read again there would not end here.
    history = replace(history, market=history.market.until(how.end), source=None)
    folds = equal_blocks(history.market.times, how.start, how.end, how.folds + 1, task.embargo)
    _refuse_short(folds, training.gate.minimum_days)
    identity = identity_of(
        model,
        reference.name,
        [_fold_json(fold) for fold in folds],
        data=history.fingerprint,
        horizons=list(training.horizons),
        levels=list(training.levels),
        code=code_version(),
    )
    with locked(study_file.with_name(f"{study_file.name}.lock"), "search of this study"):
        study = open_study(study_file, identity)
        runs = StudyRuns(
            tracking_uri,
            f"{training.experiment}-tuning",
            study.user_attrs["key"],
            f"tune {model.name} to {how.end:%Y-%m-%d}",
            {
                "model": model.name,
                "reference": reference.name,
                "data_fingerprint": history.fingerprint,
                "horizons": ",".join(training.horizons),
                "levels": ",".join(f"{level:g}" for level in training.levels),
                "interval": format_duration(history.market.interval),
                "blocks": " ".join(f"{fold.test_start:%Y-%m-%d}" for fold in folds),
                "end": folds[-1].test_end.isoformat(),
                "code_version": code_version(),
            },
        )
        try:
            blocks = prepare_blocks(
                history, model, reference, task, training.levels, folds, lambda n: prepared(n, len(folds))
            )
            Search(study, model, blocks[:-1], runs, how.seed, how.jobs, say).run(how.trials)
            tuned = judged(study, model, blocks[-1], task.embargo, how.seed)
        except RegistryError:
            raise  # the store that the parent run is in
        except BaseException as stop:
            runs.close("FAILED" if isinstance(stop, Exception) else "KILLED", {}, None)
            raise
        runs.close("FINISHED", tuned.metrics(), tuned.to_json())
    return tuned


def judged(
    study: optuna.Study, model: type[TailModel], held_back: Block, embargo: pd.Timedelta, seed: int
) -> Tuned:
    """What the finished trials say, and what the held-back block says of the best of them."""
    trials = finished(study)
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    shipped = next(trial for trial in completed if trial.user_attrs.get(SHIPPED))
    # Of equals the shipped settings, which come first.
    best = min(completed, key=lambda trial: trial.value if trial.value is not None else float("inf"))
    assert model.settings_class is not None
    settings = model.settings_class(**best.params)
    searched = checked = None
    if best.params != shipped.params:
        own, others = (pd.Series(trial.user_attrs[DAILY]) for trial in (best, shipped))
        searched = _difference(own, others, embargo)
        own, others = (
            held_back.score(model(tried)).daily
            for tried in (settings, model.settings_class(**shipped.params))
        )
        checked = _difference(own, others, embargo)
    return Tuned(
        best,
        shipped,
        settings,
        searched,
        checked,
        held_back.fold,
        tuple(trials),
        importances(completed, study, seed),
    )


def importances(completed: Sequence[FrozenTrial], study: optuna.Study, seed: int) -> dict[str, float]:
    """The share of the variance of D over the search space that each setting explains alone, by fANOVA;
    empty with fewer completed trials than twice the settings, from which no forest can tell.

    Source: Hutter, Hoos, Leyton-Brown (2014).
    """
    values = {trial.value for trial in completed}
    if len(completed) < 2 * max(len(trial.params) for trial in completed) or len(values) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def refused(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials whose settings the data could not carry."""
    return [trial for trial in trials if REFUSED in trial.user_attrs]


def _refuse_short(folds: Sequence[Fold], minimum_days: int) -> None:
    shortest = min(fold.test_end - fold.test_start for fold in folds)
    if shortest < pd.Timedelta(days=minimum_days):
        raise ValueError(
            f"{len(folds)} blocks, the one held back among them, are {shortest / DAY:.1f} days long, and "
            f"fewer than gate.minimum_days ({minimum_days}) tell nothing; give fewer folds or a longer span"
        )


def _difference(best: pd.Series, shipped: pd.Series, embargo: pd.Timedelta) -> ScoreDifference:
    # A loss reaches so many days into the next ones.
    return diebold_mariano(best.to_numpy(), shipped[best.index].to_numpy(), -int(-embargo // DAY))


def _difference_json(found: ScoreDifference | None) -> dict[str, float] | None:
    return None if found is None else {"mean": found.mean, "t": found.t}


def _fold_json(fold: Fold) -> dict[str, str]:
    return {
        "train_end": fold.train_end.isoformat(),
        "test_start": fold.test_start.isoformat(),
        "test_end": fold.test_end.isoformat(),
    }
