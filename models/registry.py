"""Which model is champion: versions, aliases and their history, kept in MLflow's model registry.

One registered model (``foremargin``) has numbered versions, each an artifact folder (see
``models.artifact``) that a run has logged. The alias ``champion`` names the version that serves,
``challenger`` the one that would like to. Every promotion and rollback is first written down as a tag of
the registered model (``promotion.000001``, ...), then the alias is moved, in one call. Who was champion
before is *derived* from these records and from where the alias is now, so a process killed between the two
leaves a record that never took effect, and no contradiction.

MLflow is imported when a store is opened, not with this module; its telemetry is switched off.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd

from models.artifact import ArtifactError, ArtifactInfo, read_info

ROOT = Path(__file__).resolve().parent.parent
CHAMPION, CHALLENGER = "champion", "challenger"
#: Tags of a version: what its artifact is, and which training run made it.
FINGERPRINT_TAG, RUN_KEY_TAG, ARTIFACT_PATH_TAG = "fingerprint", "run_key", "artifact_path"
_RECORD_PREFIX = "promotion."
_SQLITE = "sqlite:///"

Result = TypeVar("Result")


class RegistryError(RuntimeError):
    """The registry answered, but not with what was asked for; the message says what to do."""


class RegistryUnreachableError(RegistryError):
    """No answer from the tracking server or its database."""


def default_tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else ``mlruns/mlflow.db`` beneath the repository (not the working
    directory).
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{ROOT / 'mlruns' / 'mlflow.db'}"


def sqlite_file(uri: str) -> Path | None:
    """The database file of an SQLite URI, absolute; None for any other store."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def open_client(uri: str) -> Any:
    """An ``MlflowClient`` on ``uri``, quiet: no telemetry, and no minutes of retries when nobody answers."""
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
        # Alembic's lines of a fresh database would stand between ours.
        ("MLFLOW_LOGGING_LEVEL", "WARNING"),
    ):
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    file = sqlite_file(uri)
    if file is not None:
        uri = f"{_SQLITE}{file}"
        with reaching(uri):
            file.parent.mkdir(parents=True, exist_ok=True)
    with reaching(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn what MLflow, SQLAlchemy and the file system raise when a store does not answer into one error."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    remedy = "start the tracking server, or correct MLFLOW_TRACKING_URI"
    try:
        yield
    except MlflowException as error:
        if error.error_code in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}:
            raise RegistryUnreachableError(
                f"MLflow store {_shown(uri)} does not answer: {_line(error)}; {remedy}"
            ) from error
        raise
    except (SQLAlchemyError, OSError) as error:
        raise RegistryUnreachableError(
            f"MLflow store {_shown(uri)} does not answer: {_line(error)}; {remedy}"
        ) from error


def _shown(text: str) -> str:
    """Without the user and password that a URI may carry."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def _line(error: Exception) -> str:
    return _shown(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__


@dataclass(frozen=True)
class Version:
    """One registered version. ``source`` is where its artifact lies, ``tags`` say what it is."""

    number: int
    run_id: str
    source: str
    tags: Mapping[str, str]
    made_at: pd.Timestamp

    @property
    def fingerprint(self) -> str:
        """Of its artifact (``ArtifactInfo.fingerprint``)."""
        return self.tags[FINGERPRINT_TAG]

    @property
    def run_key(self) -> str | None:
        return self.tags.get(RUN_KEY_TAG)

    def __str__(self) -> str:
        return f"version {self.number}"


@dataclass(frozen=True)
class PromotionRecord:
    """A move of the champion alias that was decided: from ``before`` (None: there was none) to ``after``."""

    sequence: int
    kind: Literal["promote", "rollback"]
    before: int | None
    after: int
    at: pd.Timestamp
    reason: str


class Registry:
    """The versions of one registered model at one tracking URI.

    Args:
        tracking_uri: an MLflow tracking URI; None means ``default_tracking_uri()``.
        name: the registered model's name.

    Reading never creates a store: where the SQLite file is absent there are no versions. Every method raises
    ``RegistryUnreachableError`` where the store does not answer.
    """

    def __init__(self, tracking_uri: str | None = None, name: str = "foremargin") -> None:
        self.tracking_uri = tracking_uri or default_tracking_uri()
        self.name = name

    @cached_property
    def _client(self) -> Any:
        return open_client(self.tracking_uri)

    @property
    def _absent(self) -> bool:
        file = sqlite_file(self.tracking_uri)
        return file is not None and not file.exists()

    def _ask(self, question: Callable[[Any], Result], otherwise: Result) -> Result:
        """The answer to a question, or ``otherwise`` where what it asks about does not exist."""
        if self._absent:
            return otherwise
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            with reaching(self.tracking_uri):
                return question(client)
        except MlflowException as error:
            # An unknown alias is reported as an invalid parameter, an unknown model or version as not
            # existing.
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return otherwise
            raise RegistryError(f"MLflow refused: {_line(error)}") from error

    def _do(self, action: Callable[[Any], Result]) -> Result:
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            with reaching(self.tracking_uri):
                return action(client)
        except MlflowException as error:
            raise RegistryError(f"MLflow refused: {_line(error)}") from error

    # Reading

    def versions(self) -> tuple[Version, ...]:
        """All versions, oldest first."""
        return self._search(f"name = '{self.name}'")

    def version(self, number: int) -> Version:
        """One version. Raises ``RegistryError`` where there is none of that number."""
        found = self._ask(lambda c: _version(c.get_model_version(self.name, str(number))), None)
        if found is None:
            raise RegistryError(
                f"{self.name} has no version {number}; it has {[v.number for v in self.versions()]}"
            )
        return found

    def by_run_key(self, run_key: str) -> Version | None:
        """The version that the training of that key registered."""
        found = [v for v in self.versions() if v.run_key == run_key]
        return found[0] if found else None

    def champion(self) -> Version | None:
        """The version that serves; None where none was promoted yet."""
        return self._alias(CHAMPION)

    def challenger(self) -> Version | None:
        """The version that waits to be compared; None where there is none, or where it is champion
        already.
        """
        waiting = self._alias(CHALLENGER)
        champion = self.champion()
        return None if waiting and champion and waiting.number == champion.number else waiting

    def previous(self) -> Version | None:
        """The champion before, to which ``rollback`` returns; None where there was none."""
        line = self._succession()
        return self.version(line[-2]) if len(line) > 1 else None

    def history(self) -> tuple[PromotionRecord, ...]:
        """Every decided promotion and rollback, oldest first, those included that were killed before they
        acted.
        """
        tags: dict[str, str] = self._ask(lambda c: dict(c.get_registered_model(self.name).tags), {})
        records = []
        for key in sorted(k for k in tags if k.startswith(_RECORD_PREFIX)):
            content = json.loads(tags[key])
            records.append(
                PromotionRecord(
                    int(key.removeprefix(_RECORD_PREFIX)),
                    content["kind"],
                    content["before"],
                    content["after"],
                    pd.Timestamp(content["at"]),
                    content["reason"],
                )
            )
        return tuple(records)

    # Writing

    def register(
        self, run_id: str, source: str, info: ArtifactInfo, *, run_key: str | None = None
    ) -> Version:
        """Make a version of an artifact folder that the run ``run_id`` has logged at ``source``.

        With a ``run_key`` there is one version per key: asked again, it returns the one there is. Not
        ``mlflow.register_model``, which fails on a plain folder and leaves an empty registered model behind.
        """
        if run_key is not None:
            known = self.by_run_key(run_key)
            if known is not None:
                if known.fingerprint != info.fingerprint:
                    raise RegistryError(
                        f"run key {run_key} has {known} with another artifact ({known.fingerprint[:12]}, now "
                        f"{info.fingerprint[:12]}); training was not repeatable: "
                        f"delete that version or use a new key"
                    )
                return known
        self._ensure_registered_model()
        tags = {
            FINGERPRINT_TAG: info.fingerprint,
            "model": info.model,
            "train_end": info.train_end.isoformat(),
            "data_fingerprint": info.data_fingerprint,
        }
        file = sqlite_file(self.tracking_uri)
        if file is not None and Path(source).is_relative_to(file.parent):
            # MLflow keeps absolute paths; this one finds the artifact after the store was moved as a whole.
            tags[ARTIFACT_PATH_TAG] = Path(source).relative_to(file.parent).as_posix()
        if run_key is not None:
            tags[RUN_KEY_TAG] = run_key
        return self._do(
            lambda c: _version(c.create_model_version(self.name, source, run_id=run_id, tags=tags))
        )

    def challenge(self, version: Version) -> None:
        """Point the alias ``challenger`` at a version."""
        self._do(lambda c: c.set_registered_model_alias(self.name, CHALLENGER, str(version.number)))

    def promote(
        self, version: Version, reason: str = "", checkpoint: Callable[[str], None] = lambda _: None
    ) -> Version:
        """Make a version champion and return it; nothing happens where it is already.

        ``checkpoint`` is called with the name of each step just done, so that a test can stop in between.
        """
        champion = self.champion()
        if champion is None or champion.number != version.number:
            self._record("promote", champion, version, reason)
            checkpoint("promotion_recorded")
            self._move(version)
            checkpoint("champion_moved")
        waiting = self._alias(CHALLENGER)
        if waiting is not None and waiting.number == version.number:
            self._do(lambda c: c.delete_registered_model_alias(self.name, CHALLENGER))
        return version

    def rollback(self, reason: str = "", checkpoint: Callable[[str], None] = lambda _: None) -> Version:
        """Return to the champion before and return it; again, to the one before that.

        Raises ``RegistryError`` where no champion came before.
        """
        champion, before = self.champion(), self.previous()
        if champion is None or before is None:
            raise RegistryError(
                f"{self.name} has no champion before {champion or 'none'}; there is nothing to roll back to"
            )
        self._record("rollback", champion, before, reason)
        checkpoint("promotion_recorded")
        self._move(before)
        checkpoint("champion_moved")
        return before

    def fetch(self, version: Version, cache: Path) -> Path:
        """Copy a version's artifact into ``cache`` (once) and return the folder, verified.

        The copy outlives the original: what serves does not depend on the tracking store. It is moved into
        place whole. Raises ``ArtifactError`` where the artifact is gone, altered, or not the one that was
        registered.
        """
        target = cache / f"{self.name}-v{version.number}-{version.fingerprint[:12]}"
        if target.exists():
            try:
                self._verify(target, version)
                return target
            except ArtifactError:
                shutil.rmtree(target)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=cache) as draft:
            copied = self._download(version, Path(draft))
            self._verify(copied, version)
            try:
                copied.rename(target)
            except OSError:
                if not target.exists():  # else another process was first, with the same content
                    raise
        return target

    # Within

    def _verify(self, folder: Path, version: Version) -> None:
        info = read_info(folder)
        if info.fingerprint != version.fingerprint:
            raise ArtifactError(
                f"artifact {folder} has fingerprint {info.fingerprint[:12]}, {version} was registered with "
                f"{version.fingerprint[:12]}; it was replaced after registration: train anew"
            )

    def _download(self, version: Version, into: Path) -> Path:
        source = Path(version.source.removeprefix("file://"))
        file = sqlite_file(self.tracking_uri)
        if not source.exists() and file is not None and ARTIFACT_PATH_TAG in version.tags:
            source = file.parent / version.tags[ARTIFACT_PATH_TAG]
        if source.is_dir():
            copied = into / "artifact"
            shutil.copytree(source, copied, symlinks=True)
            return copied
        if file is not None:
            raise ArtifactError(
                f"artifact of {version} is gone from {source}; restore it, roll back, or train anew"
            )
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            with reaching(self.tracking_uri):
                path = version.source.rpartition("/artifacts/")[2] or "artifact"
                return Path(client.download_artifacts(version.run_id, path, str(into)))
        except MlflowException as error:
            raise ArtifactError(
                f"artifact of {version} cannot be fetched from {version.source}: {_line(error)}"
            ) from error

    def _alias(self, alias: str) -> Version | None:
        return self._ask(lambda c: _version(c.get_model_version_by_alias(self.name, alias)), None)

    def _search(self, query: str) -> tuple[Version, ...]:
        def pages(client: Any) -> list[Version]:
            found, token = [], None
            while True:
                page = client.search_model_versions(query, page_token=token)
                found += [_version(v) for v in page]
                token = page.token
                if not token:
                    return found

        return tuple(sorted(self._ask(pages, list[Version]()), key=lambda v: v.number))

    def _ensure_registered_model(self) -> None:
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            with reaching(self.tracking_uri):
                client.create_registered_model(self.name, description="Tail forecasts behind the margin")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise RegistryError(f"MLflow refused: {_line(error)}") from error

    def _record(
        self, kind: Literal["promote", "rollback"], before: Version | None, after: Version, reason: str
    ) -> None:
        known = self.history()
        content = {
            "kind": kind,
            "before": before.number if before else None,
            "after": after.number,
            "at": pd.Timestamp.now("UTC").isoformat(timespec="seconds"),
            "reason": reason[:2000],
        }
        key = f"{_RECORD_PREFIX}{known[-1].sequence + 1 if known else 1:06d}"
        self._do(lambda c: c.set_registered_model_tag(self.name, key, json.dumps(content)))

    def _move(self, version: Version) -> None:
        self._do(lambda c: c.set_registered_model_alias(self.name, CHAMPION, str(version.number)))

    def _succession(self) -> list[int]:
        """The line of champions, oldest first, that ends with the present one: a rollback takes its last
        away.

        Each record says from where it moved. Where that is not the end of the line (the record before never
        took effect, or somebody moved the alias by hand), the line is first brought back to it.
        """
        champion = self.champion()
        line: list[int] = []

        def end_at(number: int) -> None:
            if number in line:
                del line[line.index(number) + 1 :]
            else:
                line.append(number)

        for record in self.history():
            if record.before is None:
                line.clear()
            else:
                end_at(record.before)
            if record.kind == "promote" and record.after in line:
                line.remove(record.after)
            end_at(record.after)
        if champion is None:
            return []
        end_at(champion.number)
        return line


def _version(found: Any) -> Version:
    return Version(
        number=int(found.version),
        run_id=found.run_id or "",
        source=found.source,
        tags=dict(found.tags),
        made_at=pd.Timestamp(found.creation_timestamp, unit="ms", tz="UTC"),
    )
