"""What MLflow remembers of a training: parameters, metrics per horizon and level, pictures, and the
artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.durations import format_duration
from models.artifact import ArtifactInfo
from models.registry import RUN_KEY_TAG, RegistryError, open_client, reaching, sqlite_file
from training.importance import family_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The folder of the artifact within its run.
ARTIFACT_NAME = "model"


@dataclass(frozen=True)
class LoggedRun:
    """A finished run, and where its artifact lies."""

    run_id: str
    source: str


def log_run(
    tracking_uri: str,
    experiment: str,
    artifact: Path,
    info: ArtifactInfo,
    figures: Callable[[], Mapping[str, Figure]],
    run_key: str | None = None,
) -> LoggedRun:
    """Log an artifact folder with its parameters, scores and pictures as one run.

    With a ``run_key`` there is one finished run of that key: it is returned where it exists, and a run that
    was cut short is deleted and done again. ``figures`` is called only where there is something to log.
    Raises ``RegistryUnreachableError`` where the store does not answer.
    """
    client = open_client(tracking_uri)
    from mlflow.exceptions import MlflowException

    try:
        with reaching(tracking_uri):
            experiment_id = find_experiment(client, tracking_uri, experiment)
            finished = None if run_key is None else _finished(client, experiment_id, run_key)
            if finished is None:
                finished = _log(client, experiment_id, artifact, info, figures(), run_key)
    except MlflowException as error:
        raise RegistryError(f"MLflow refused the run: {error}") from error
    return LoggedRun(finished.info.run_id, f"{finished.info.artifact_uri}/{ARTIFACT_NAME}")


def find_experiment(client: Any, uri: str, name: str) -> str:
    """The id of the experiment of that name, which is made where there is none."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    file = sqlite_file(uri)
    # Beside the database, whatever the working directory; a tracking server knows its own place.
    location = None if file is None else str(file.parent / "artifacts" / name)
    return str(client.create_experiment(name, artifact_location=location))


def _finished(client: Any, experiment_id: str, run_key: str) -> Any | None:
    finished = None
    for run in client.search_runs([experiment_id], f"tags.{RUN_KEY_TAG} = '{run_key}'"):
        if run.info.status == "FINISHED" and finished is None:
            finished = run
        else:
            client.delete_run(run.info.run_id)
    return finished


def _log(
    client: Any,
    experiment_id: str,
    artifact: Path,
    info: ArtifactInfo,
    figures: Mapping[str, Figure],
    run_key: str | None,
) -> Any:
    from mlflow.entities import Metric, Param

    tags = {"model": info.model} | ({RUN_KEY_TAG: run_key} if run_key is not None else {})
    run = client.create_run(experiment_id, run_name=f"{info.model} to {info.train_end:%Y-%m-%d}", tags=tags)
    run_id, now = run.info.run_id, run.info.start_time
    families = Counter(family_of(name) for name in info.features)
    params = {
        "model": info.model,
        "horizons": ",".join(format_duration(h) for h in info.horizons),
        "levels": ",".join(f"{level:g}" for level in info.levels),
        "interval": format_duration(info.interval),
        "look_back": format_duration(info.look_back),
        "symbols": ",".join(info.symbols),
        # By family: the names, which the artifact has, may be longer than MLflow takes.
        "features": ", ".join(f"{family} {count}" for family, count in families.items()),
        "train_start": info.train_start.isoformat(),
        "train_end": info.train_end.isoformat(),
        "data_fingerprint": info.data_fingerprint,
        "artifact_fingerprint": info.fingerprint,
        "code_version": info.code_version,
    }
    client.log_batch(
        run_id,
        params=[Param(name, value) for name, value in params.items()],
        metrics=[Metric(name, value, now, 0) for name, value in info.scores.items() if value is not None],
    )
    for name, figure in figures.items():
        client.log_figure(run_id, figure, f"plots/{name}")
    client.log_artifacts(run_id, str(artifact), ARTIFACT_NAME)
    client.set_terminated(run_id, "FINISHED")
    return client.get_run(run_id)
