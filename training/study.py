"""Search for better settings of a model: Optuna's tree-structured Parzen estimator over ``training.blocks``.

A trial is one choice of settings; its value is the mean of D (``training.blocks``) over the blocks searched,
lower is better. The first trial is the shipped settings. A trial whose mean over the first blocks is worse
than the median of the completed trials over the same blocks is pruned there, after two blocks at the
earliest.

A study is one SQLite file, which may be gone on with until it has as many finished trials (completed,
pruned or refused by the data) as asked for. It remembers what was measured, and refuses to be mixed with
anything else. A killed process loses nothing but the trials under way: they are marked failed and tried
again with the same settings. What is suggested for the n-th trial depends on the seed, on n, and on the
trials before it, so with one job a study that was killed and gone on with is the study that was not.

Sources: Bergstra, Bardenet, Bengio, Kegl (2011) for the estimator; Golovin et al. (2017) for the median rule.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from models.forecast.base import TailModel
from models.search_space import Choice, Integer, Range
from training.blocks import BlockScore
from training.dataset import TrainingRefusedError
from training.study_runs import Status

#: Attributes of a study, and of a trial.
IDENTITY, KEY = "identity", "key"
SHIPPED, DAILY, REFUSED, RUN = "shipped", "daily", "refused", "run"
#: Completed trials, and blocks of a trial, before the first is pruned.
PRUNE_AFTER_TRIALS, PRUNE_AFTER_BLOCKS = 5, 2
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_NAME = "tune"

Say = Callable[[str], None]


class Scorer(Protocol):
    """A block of time, as far as a search needs it."""

    def score(self, model: TailModel, /) -> BlockScore: ...


class Log(Protocol):
    """What is told of each trial (``StudyRuns``)."""

    def begin(self, number: int, params: Mapping[str, Any], /) -> str: ...
    def report(self, run_id: str, name: str, value: float, step: int = 0, /) -> None: ...
    def end(self, run_id: str, status: Status, outcome: str, /) -> None: ...


class StudyError(ValueError):
    """A study cannot be gone on with: another file, or begun with something else."""


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """Optuna's form of a search space."""

    def one(found: Range) -> BaseDistribution:
        if isinstance(found, Choice):
            return CategoricalDistribution(found.values)
        if isinstance(found, Integer):
            return IntDistribution(found.low, found.high, log=found.log)
        return FloatDistribution(found.low, found.high, log=found.log)

    return {name: one(found) for name, found in space.items()}


def shipped_settings(model: type[TailModel]) -> dict[str, Any]:
    """The defaults of what may be tuned. Raises ``ValueError`` where that is nothing."""
    space = model.search_space()
    if not space or model.settings_class is None:
        raise ValueError(
            f"model {model.name} has nothing to tune: its search_space is empty; choose another model"
        )
    defaults = model.settings_class()
    return {name: getattr(defaults, name) for name in space}


def open_study(file: Path, identity: Mapping[str, Any]) -> optuna.Study:
    """The study in ``file``, made where there is none.

    ``identity`` (JSON) is what its trials measure: data, model, blocks, code. Raises ``StudyError`` where the
    file is no study, or one begun with another identity; the message says with which. The caller holds the
    study's lock: trials that look as if they ran are those of a process that is gone.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = _tables(file)
    if known and "studies" not in known:
        raise StudyError(f"{file} is a database of something else; give another --study file")
    file.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{file.absolute()}",
        study_name=_NAME,
        direction="minimize",
        load_if_exists=True,
        pruner=SameBlocksMedian(),
    )
    given = json.loads(json.dumps(identity))
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(KEY, uuid.uuid4().hex)
        study.set_user_attr(IDENTITY, given)
    begun = study.user_attrs[IDENTITY]
    differing = [name for name in {**begun, **given} if begun.get(name) != given.get(name)]
    if differing:
        told = "; ".join(
            f"{name} {_short(begun.get(name))}, not {_short(given.get(name))}" for name in differing
        )
        raise StudyError(
            f"study {file} was begun with {told}: give the same to go on with it, or another --study file"
        )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        _retry(study, trial)
    return study


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that are done with: completed, pruned, or refused by the data."""
    return study.get_trials(deepcopy=False, states=FINISHED)


@dataclass
class Search:
    """Trials of one model on prepared blocks, ``jobs`` side by side in threads that share the blocks."""

    study: optuna.Study
    model: type[TailModel]
    blocks: Sequence[Scorer]
    runs: Log
    seed: int
    jobs: int
    say: Say

    def __post_init__(self) -> None:
        self._space = distributions(self.model.search_space())
        self._shipped = shipped_settings(self.model)
        # One thread at a time asks, tells and logs: a suggestion must see all that is known, and SQLite has
        # one writer. The fits are outside of it.
        self._books = threading.Lock()
        self._stop = threading.Event()

    def run(self, trials: int) -> None:
        """Go on until ``trials`` are finished. Raises ``TrainingRefusedError`` where the data cannot carry
        the shipped settings."""
        if self.jobs == 1:  # in this thread, which an interrupt reaches
            self._work(trials)
            return
        with ThreadPoolExecutor(self.jobs) as pool:
            working = [pool.submit(self._work, trials) for _ in range(self.jobs)]
            try:
                for one in as_completed(working):
                    one.result()
            except BaseException:
                self._stop.set()  # the others end with the block that they are at
                raise

    def _work(self, trials: int) -> None:
        while not self._stop.is_set():
            with self._books:
                trial = self._ask(trials)
            if trial is None:
                return
            self._try(trial)

    def _ask(self, trials: int) -> optuna.Trial | None:
        known = self.study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING))
        if len(known) >= trials:
            return None
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not any(trial.user_attrs.get(SHIPPED) for trial in (*known, *waiting)):
            self.study.enqueue_trial(self._shipped, user_attrs={SHIPPED: True})
        drawn = np.random.SeedSequence([self.seed, len(known)]).generate_state(1)[0]
        self.study.sampler = optuna.samplers.TPESampler(
            seed=int(drawn), multivariate=True, constant_liar=self.jobs > 1
        )
        return self.study.ask(self._space)

    def _try(self, trial: optuna.Trial) -> None:
        assert self.model.settings_class is not None  # shipped_settings would have raised
        settings = self.model.settings_class(**trial.params)
        with self._books:
            run = self.runs.begin(trial.number, trial.params)
            trial.set_user_attr(RUN, run)
        began = time.monotonic()
        means: list[float] = []
        daily: dict[str, float] = {}
        for step, block in enumerate(self.blocks, start=1):
            if self._stop.is_set():
                return
            try:
                score = block.score(self.model(settings))
            except TrainingRefusedError as error:
                self._refused(trial, run, error)
                return
            means.append(score.mean)
            daily |= {str(day): float(value) for day, value in score.daily.items()}
            with self._books:
                value = float(np.mean(means))
                trial.report(value, step)
                self.runs.report(run, "difference", value, step)
                if step < len(self.blocks) and trial.should_prune():
                    self._end(trial, run, None, f"pruned after {step} of {len(self.blocks)} blocks")
                    return
        with self._books:
            trial.set_user_attr(DAILY, daily)
            self.runs.report(run, "seconds", time.monotonic() - began)
            self._end(trial, run, value, "complete")

    def _refused(self, trial: optuna.Trial, run: str, error: TrainingRefusedError) -> None:
        with self._books:
            trial.set_user_attr(REFUSED, str(error))
            if trial.user_attrs.get(SHIPPED):
                self.study.tell(trial, state=TrialState.FAIL)
                self.runs.end(run, "FAILED", f"refused: {error}")
                raise error
            # Pruned without a value is the worst that there is to Optuna: it will look elsewhere.
            self._end(trial, run, None, f"refused: {error}")

    def _end(self, trial: optuna.Trial, run: str, value: float | None, outcome: str) -> None:
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        told = self.study.tell(trial, value, state=state)
        self.runs.end(run, "FAILED" if REFUSED in trial.user_attrs else "FINISHED", outcome)
        shown = "" if told.value is None else f"{told.value:+.4f}  "
        name = "shipped settings" if trial.user_attrs.get(SHIPPED) else _settings_text(trial.params)
        self.say(f"trial {trial.number:3}  {shown}{outcome}  {name}")


class SameBlocksMedian(optuna.pruners.BasePruner):
    """Prune where the trial's mean so far is above the median of the completed trials' over the same blocks.

    Optuna's own median rule takes a trial's best value over all steps so far. That fits a curve that only
    falls as learning goes on; here an easy first block would protect every trial from being pruned later.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        step = trial.last_step
        if step is None or step < PRUNE_AFTER_BLOCKS or len(completed) < PRUNE_AFTER_TRIALS:
            return False
        if trial.user_attrs.get(SHIPPED):  # what all are compared with is measured whole
            return False
        return trial.intermediate_values[step] > median(t.intermediate_values[step] for t in completed)


def identity_of(
    model: type[TailModel], reference: str, blocks: Sequence[Mapping[str, str]], **measured: Any
) -> dict[str, Any]:
    """What the trials of a study measure, as JSON."""
    return {
        "model": model.name,
        "reference": reference,
        **measured,
        "blocks": list(blocks),
        "search space": {name: asdict(found) for name, found in model.search_space().items()},
        "shipped settings": shipped_settings(model),
    }


def _retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Fail a trial that nobody works on any more, and queue its settings again. One that was killed before
    it had all of its settings is left to be asked for anew, which gives the same."""
    study.tell(trial.number, state=TrialState.FAIL)
    if set(trial.params) == set(study.user_attrs[IDENTITY]["search space"]):
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={name: value for name, value in trial.user_attrs.items() if name == SHIPPED},
            )
        )


def _tables(file: Path) -> set[str]:
    """The tables of an SQLite file; none where there is no file yet. Raises ``StudyError`` where it is no
    database."""
    if not file.exists():
        return set()
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return {str(name) for (name,) in connection.execute("select name from sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise StudyError(f"{file} is no study ({error}); give another --study file") from error
    finally:
        connection.close()


def _settings_text(params: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
