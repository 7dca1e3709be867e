"""The registry: one champion, a history that explains it, and copies that outlive their originals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import ArtifactError, Fitted, read_artifact, write_artifact
from models.registry import (
    Registry,
    RegistryError,
    RegistryUnreachableError,
    Version,
    default_tracking_uri,
    open_client,
    sqlite_file,
)

FitUntil = Callable[[int], Fitted]
Register = Callable[..., Version]


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def registry(mlflow_store: str) -> Registry:
    return Registry(mlflow_store)


@pytest.fixture
def register(registry: Registry, fit_until: FitUntil, tmp_path: Path) -> Register:
    """Log and register an ``ewma`` fitted on so many days."""

    def make(days: int = 80, run_key: str | None = None) -> Version:
        client = open_client(registry.tracking_uri)
        known = client.get_experiment_by_name("test")
        location = str(tmp_path / "mlflow" / "artifacts")
        experiment = known.experiment_id if known else client.create_experiment("test", location)
        run = client.create_run(experiment)
        folder = tmp_path / f"artifact-{run.info.run_id}"
        info = write_artifact(folder, fit_until(days))
        client.log_artifacts(run.info.run_id, str(folder), "model")
        source = f"{run.info.artifact_uri}/model"
        return registry.register(run.info.run_id, source, info, run_key=run_key)

    return make


def killed_after(step: str) -> Callable[[str], None]:
    def checkpoint(name: str) -> None:
        if name == step:
            raise KilledError(step)

    return checkpoint


def number(version: Version | None) -> int | None:
    return None if version is None else version.number


def test_reading_a_store_that_does_not_exist_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/absent/mlflow.db")
    assert registry.champion() is None
    assert registry.challenger() is None
    assert registry.previous() is None
    assert registry.versions() == ()
    assert registry.history() == ()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_has_no_champion(registry: Registry) -> None:
    assert registry.champion() is None
    assert registry.versions() == ()


def test_the_default_store_lies_in_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    file = sqlite_file(default_tracking_uri())
    assert file == Path(__file__).resolve().parent.parent.parent / "mlruns" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert default_tracking_uri() == "http://tracking.example:5000"


def test_a_registered_version_says_what_it_is(registry: Registry, register: Register) -> None:
    version = register(80, "2026-11-21-abc")
    assert version.number == 1
    assert version.tags["model"] == "ewma"
    assert registry.by_run_key("2026-11-21-abc") == version
    assert registry.by_run_key("2026-11-22-abc") is None
    assert registry.version(1) == version
    with pytest.raises(RegistryError, match="has no version 7; it has \\[1\\]"):
        registry.version(7)


def test_one_version_a_run_key(registry: Registry, register: Register) -> None:
    first = register(80, "key")
    assert register(80, "key") == first
    assert len(registry.versions()) == 1
    with pytest.raises(RegistryError, match="another artifact"):
        register(70, "key")


def test_promotion_and_rollback_walk_the_line_of_champions(registry: Registry, register: Register) -> None:
    one, two, three = register(70), register(75), register(80)
    for version in (one, two, three):
        registry.challenge(version)
        registry.promote(version, "earned it")
    assert (number(registry.champion()), number(registry.previous())) == (3, 2)
    assert registry.challenger() is None
    assert registry.rollback("too nervous").number == 2
    assert (number(registry.champion()), number(registry.previous())) == (2, 1)
    assert registry.rollback().number == 1
    assert registry.previous() is None
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        registry.rollback()
    assert number(registry.champion()) == 1
    registry.promote(three)
    assert (number(registry.champion()), number(registry.previous())) == (3, 1)
    assert [(r.kind, r.before, r.after) for r in registry.history()] == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
        ("promote", 1, 3),
    ]
    assert registry.history()[3].reason == "too nervous"


def test_promoting_the_champion_again_changes_nothing(registry: Registry, register: Register) -> None:
    one, two = register(70), register(75)
    registry.promote(one)
    registry.promote(two)
    registry.promote(two)
    assert len(registry.history()) == 2
    assert number(registry.previous()) == 1


def test_a_promotion_killed_before_the_alias_moved_never_happened(
    registry: Registry, register: Register
) -> None:
    one, two, three = register(70), register(75), register(80)
    registry.promote(one)
    registry.promote(two)
    with pytest.raises(KilledError):
        registry.promote(three, checkpoint=killed_after("promotion_recorded"))
    assert (number(registry.champion()), number(registry.previous())) == (2, 1)
    registry.promote(three)
    assert (number(registry.champion()), number(registry.previous())) == (3, 2)
    assert registry.rollback().number == 2
    assert registry.rollback().number == 1


def test_a_rollback_killed_before_the_alias_moved_never_happened(
    registry: Registry, register: Register
) -> None:
    one, two = register(70), register(75)
    registry.promote(one)
    registry.promote(two)
    with pytest.raises(KilledError):
        registry.rollback(checkpoint=killed_after("promotion_recorded"))
    assert (number(registry.champion()), number(registry.previous())) == (2, 1)
    assert registry.rollback().number == 1
    assert registry.previous() is None


def test_a_promotion_killed_after_the_alias_moved_is_finished_by_the_next(
    registry: Registry, register: Register
) -> None:
    one = register(70)
    registry.challenge(one)
    with pytest.raises(KilledError):
        registry.promote(one, checkpoint=killed_after("champion_moved"))
    assert number(registry.champion()) == 1
    assert registry.challenger() is None
    registry.promote(one)
    assert len(registry.history()) == 1


def test_an_alias_moved_by_hand_is_respected(registry: Registry, register: Register) -> None:
    one, two, three = register(70), register(75), register(80)
    registry.promote(one)
    registry.promote(two)
    client = open_client(registry.tracking_uri)
    client.set_registered_model_alias("foremargin", "champion", "3")
    assert (number(registry.champion()), number(registry.previous())) == (3, 2)
    client.set_registered_model_alias("foremargin", "champion", "1")
    assert (number(registry.champion()), number(registry.previous())) == (1, None)
    assert three.number == 3


def test_a_fetched_copy_outlives_the_original(registry: Registry, register: Register, tmp_path: Path) -> None:
    version = register(80)
    copy = registry.fetch(version, tmp_path / "cache")
    shutil.rmtree(version.source)
    assert registry.fetch(version, tmp_path / "cache") == copy
    assert read_artifact(copy).info.fingerprint == version.fingerprint
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [copy.name]


def test_a_damaged_copy_is_fetched_again(registry: Registry, register: Register, tmp_path: Path) -> None:
    version = register(80)
    copy = registry.fetch(version, tmp_path / "cache")
    (copy / "pipeline.json").write_text("{}")
    assert read_artifact(registry.fetch(version, tmp_path / "cache")).info.model == "ewma"


def test_a_deleted_artifact_is_an_error_that_says_so(
    registry: Registry, register: Register, tmp_path: Path
) -> None:
    version = register(80)
    shutil.rmtree(version.source)
    with pytest.raises(ArtifactError, match="version 1 is gone"):
        registry.fetch(version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_artifact_replaced_after_registration_is_refused(
    registry: Registry, register: Register, tmp_path: Path, fit_until: FitUntil
) -> None:
    version = register(80)
    shutil.rmtree(version.source)
    write_artifact(Path(version.source), fit_until(70))
    with pytest.raises(ArtifactError, match="was replaced after registration"):
        registry.fetch(version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_store_moved_as_a_whole_keeps_its_artifacts(register: Register, tmp_path: Path) -> None:
    register(80)
    (tmp_path / "mlflow").rename(tmp_path / "moved")
    moved = Registry(f"sqlite:///{tmp_path}/moved/mlflow.db")
    assert read_artifact(moved.fetch(moved.version(1), tmp_path / "cache")).info.model == "ewma"


def test_a_server_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryUnreachableError, match=r"http://127.0.0.1:9 does not answer") as caught:
        Registry("http://somebody:secret@127.0.0.1:9").champion()
    assert "secret" not in str(caught.value)


def test_a_database_that_is_none_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database, and long enough to be seen as none" * 50)
    with pytest.raises(RegistryUnreachableError, match="does not answer"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db").champion()
