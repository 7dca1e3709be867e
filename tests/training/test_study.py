"""A search: shipped settings first, the same suggestions from the same seed, nothing lost to a kill.

Blocks here are functions of one setting of ``har``, so that a trial takes no time and its value is known.
"""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState

from models.forecast.base import TailModel
from models.forecast.ewma import EwmaModel
from models.forecast.har import HarModel
from models.search_space import Choice, Integer, Real
from training.blocks import BlockScore
from training.dataset import TrainingRefusedError
from training.study import (
    SameBlocksMedian,
    Search,
    StudyError,
    distributions,
    finished,
    identity_of,
    open_study,
    shipped_settings,
)

Score = Callable[[float], float]


class Block:
    """Scores a model by its ``label_floor``."""

    def __init__(self, score: Score) -> None:
        self._score = score

    def score(self, model: TailModel, /) -> BlockScore:
        mean = self._score(model.settings.label_floor)  # type: ignore[attr-defined]
        return BlockScore(mean, pd.Series([mean], index=[pd.Timestamp("2024-01-01", tz="UTC")]))


class Log:
    """Remembers how each trial ended."""

    def __init__(self) -> None:
        self.ended: dict[str, tuple[str, str]] = {}

    def begin(self, number: int, params: Any, /) -> str:
        assert set(params) == {"label_floor"}
        return f"run {number}"

    def report(self, run_id: str, name: str, value: float, step: int = 0, /) -> None:
        assert run_id not in self.ended
        assert (name, step) == ("seconds", 0) or (name == "difference" and step > 0)
        assert math.isfinite(value)

    def end(self, run_id: str, status: str, outcome: str, /) -> None:
        self.ended[run_id] = (status, outcome)


def distance(floor: float) -> float:
    """Least at 0.1; the shipped 0.01 scores 1."""
    return math.log10(floor / 0.1) ** 2


def opened(file: Path, **changed: Any) -> optuna.Study:
    measured = {"data": "abc", "horizons": ["1h"], "levels": [0.99], "code": "1"} | changed
    return open_study(file, identity_of(HarModel, "ewma", [{"test_start": "2024-01-01"}], **measured))


def search(file: Path, *scores: Score, seed: int = 1, jobs: int = 1, log: Log | None = None) -> Search:
    blocks = [Block(score) for score in scores or (distance, distance)]
    return Search(opened(file), HarModel, blocks, log or Log(), seed, jobs, lambda _: None)


def told(study: optuna.Study) -> list[tuple[Any, ...]]:
    """Every finished trial in order: settings, value, state."""
    return [(trial.params, trial.value, trial.state) for trial in finished(study)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without trials: making the tables takes most of a test's time."""
    file = tmp_path_factory.mktemp("empty") / "study.db"
    opened(file)
    return file


@pytest.fixture
def file(empty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(empty, tmp_path / "study.db"))


@pytest.fixture(scope="module")
def whole(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What 13 trials of seed 1 are, undisturbed; the last three are no longer drawn at random."""
    file = Path(shutil.copy(empty, tmp_path_factory.mktemp("whole") / "study.db"))
    search(file).run(13)
    return told(opened(file))


def test_the_shipped_settings_come_first_and_better_ones_are_found(whole: list[tuple[Any, ...]]) -> None:
    assert len(whole) == 13
    assert whole[0] == ({"label_floor": 0.01}, 1.0, TrialState.COMPLETE)
    assert min(value for _, value, _ in whole) < 0.1
    assert len({params["label_floor"] for params, *_ in whole}) == 13


def test_a_seed_makes_the_suggestions(file: Path, tmp_path: Path, whole: list[tuple[Any, ...]]) -> None:
    other = Path(shutil.copy(file, tmp_path / "other.db"))
    search(file, seed=1).run(12)
    search(other, seed=2).run(4)
    assert told(opened(file)) == whole[:12]
    found = told(opened(other))
    assert found[0] == whole[0]  # the shipped settings
    assert all(a[0] != b[0] for a, b in zip(found[1:], whole[1:4], strict=True))


def test_no_more_than_asked_for_in_all(file: Path) -> None:
    for trials, found in ((3, 3), (3, 3), (2, 3), (5, 5)):
        search(file).run(trials)
        assert len(finished(opened(file))) == found


@pytest.mark.parametrize("killed_at", [0, 11])
def test_killed_and_gone_on_with_it_is_the_study_that_was_not(
    file: Path, whole: list[tuple[Any, ...]], killed_at: int
) -> None:
    calls = 0

    def killing(floor: float) -> float:
        nonlocal calls
        calls += 1
        if calls == killed_at + 1:
            raise KeyboardInterrupt
        return distance(floor)

    with pytest.raises(KeyboardInterrupt):
        search(file, distance, killing).run(13)
    study = opened(file)
    (failed,) = study.get_trials(states=(TrialState.FAIL,))
    (waiting,) = study.get_trials(states=(TrialState.WAITING,))
    assert waiting.params == failed.params
    search(file).run(13)
    assert told(opened(file)) == whole
    assert len(opened(file).trials) == 14


def test_killed_before_it_had_its_settings_a_trial_is_asked_for_anew(
    file: Path, whole: list[tuple[Any, ...]]
) -> None:
    opened(file).ask()  # the first, which was to become the shipped settings
    search(file).run(3)
    opened(file).ask()
    search(file).run(4)
    assert told(opened(file)) == whole[:4]


def test_what_is_worse_than_half_on_the_same_blocks_is_pruned(file: Path) -> None:
    log = Log()
    found = search(file, lambda _: -5.0, distance, distance, log=log)
    found.run(12)
    trials = finished(found.study)
    # All are alike on the easy first block, which protects none of them.
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        assert sorted(trial.intermediate_values) == [1, 2]
        assert "daily" not in trial.user_attrs
        assert log.ended[f"run {trial.number}"] == ("FINISHED", "pruned after 2 of 3 blocks")
        before = [t for t in trials if t.state == TrialState.COMPLETE and t.number < trial.number]
        assert trial.intermediate_values[2] > pd.Series([t.intermediate_values[2] for t in before]).median()
    assert min(trial.number for trial in pruned) >= 5


def frozen(values: list[float], *, shipped: bool = False, completed: bool = True) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if completed else TrialState.RUNNING,
        value=values[-1] if completed else None,
        intermediate_values=dict(enumerate(values, start=1)),
        user_attrs={"shipped": True} if shipped else {},
    )


@pytest.mark.parametrize(
    ("completed", "values", "shipped", "pruned"),
    [
        (5, [0.0, 2.1], False, True),
        (5, [0.0, 2.0], False, False),  # the median itself
        (5, [9.0], False, False),  # one block tells too little
        (4, [0.0, 2.1], False, False),  # as do four trials
        (5, [0.0, 2.1], True, False),
    ],
)
def test_the_median_rule_by_hand(completed: int, values: list[float], shipped: bool, pruned: bool) -> None:
    study = optuna.create_study()
    for value in (0.0, 1.0, 2.0, 3.0, 4.0)[:completed]:
        study.add_trial(frozen([1.0, value, 0.0]))
    trial = frozen(values, shipped=shipped, completed=False)
    assert SameBlocksMedian().prune(study, trial) is pruned


def test_settings_that_the_data_cannot_carry_are_counted_and_told(file: Path) -> None:
    def refusing(floor: float) -> float:
        if floor > 0.05:
            raise TrainingRefusedError("too few rows")
        return distance(floor)

    log = Log()
    found = search(file, refusing, log=log)
    found.run(12)
    trials = finished(found.study)
    told_off = [trial for trial in trials if "refused" in trial.user_attrs]
    assert len(trials) == len(found.study.trials) == 12
    assert told_off
    assert all(trial.params["label_floor"] > 0.05 for trial in told_off)
    assert {log.ended[f"run {t.number}"] for t in told_off} == {("FAILED", "refused: too few rows")}


def test_shipped_settings_that_the_data_cannot_carry_end_the_search(file: Path) -> None:
    def refusing(_: float) -> float:
        raise TrainingRefusedError("too few rows")

    log = Log()
    with pytest.raises(TrainingRefusedError, match="too few rows"):
        search(file, refusing, log=log).run(5)
    assert log.ended == {"run 0": ("FAILED", "refused: too few rows")}
    assert not finished(opened(file))
    search(file).run(2)  # once the data can
    assert told(opened(file))[0] == ({"label_floor": 0.01}, 1.0, TrialState.COMPLETE)


def test_jobs_share_one_study(file: Path) -> None:
    both = threading.Barrier(2, timeout=20)

    def meeting(floor: float) -> float:
        both.wait()  # only two at a time get past
        return distance(floor)

    search(file, meeting, distance, jobs=2).run(8)
    trials = finished(opened(file))
    assert len(trials) == len(opened(file).trials) == 8
    assert len({trial.params["label_floor"] for trial in trials}) == 8
    assert sum(bool(trial.user_attrs.get("shipped")) for trial in trials) == 1


def test_one_job_that_fails_ends_the_others(file: Path) -> None:
    both, scored = threading.Barrier(2, timeout=20), []

    def failing(floor: float) -> float:
        scored.append(floor)
        if len(scored) <= 2:
            both.wait()
            if floor != 0.01:  # of the two under way, not the first that was begun
                raise RuntimeError("broken")
        return distance(floor)

    with pytest.raises(RuntimeError, match="broken"):
        search(file, failing, jobs=2).run(10_000)
    assert len(scored) < 100


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": "xyz"}, 'begun with data "abc", not "xyz"'),
        ({"horizons": ["1h", "4h"]}, r'begun with horizons \["1h"\], not \["1h", "4h"\]'),
        ({"code": "2"}, 'begun with code "1", not "2"'),
        ({"levels": [0.975]}, "give the same to go on with it, or another --study file"),
    ],
)
def test_another_measure_is_refused(file: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        opened(file, **changed)


def test_another_model_is_refused(file: Path) -> None:
    class Other(HarModel):
        name = "other"

    with pytest.raises(StudyError, match='model "har", not "other"'):
        open_study(file, identity_of(Other, "ewma", [{"test_start": "2024-01-01"}]))


def test_a_file_of_something_else_is_refused_and_left_as_it_was(
    tmp_path: Path, migrated_mlflow_database: Path
) -> None:
    database = Path(shutil.copy(migrated_mlflow_database, tmp_path / "mlflow.db"))
    text = tmp_path / "notes.txt"
    text.write_text("no database, and long enough to be read as one\n" * 50)
    for path, message in ((database, "a database of something else"), (text, "is no study")):
        before = path.read_bytes()
        with pytest.raises(StudyError, match=message):
            opened(path)
        assert path.read_bytes() == before


def test_what_may_be_tuned() -> None:
    assert shipped_settings(HarModel) == {"label_floor": 0.01}
    with pytest.raises(ValueError, match="ewma has nothing to tune"):
        shipped_settings(EwmaModel)
    found = distributions(
        {"a": Real(0.1, 1.0), "b": Real(1e-3, 1.0, log=True), "c": Integer(2, 9), "d": Choice(("x", "y"))}
    )
    assert found == {
        "a": optuna.distributions.FloatDistribution(0.1, 1.0),
        "b": optuna.distributions.FloatDistribution(1e-3, 1.0, log=True),
        "c": optuna.distributions.IntDistribution(2, 9),
        "d": optuna.distributions.CategoricalDistribution(("x", "y")),
    }
