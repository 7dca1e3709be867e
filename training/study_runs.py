"""What MLflow remembers of a study: one parent run, and a child run for each trial.

The parent is found by the tag ``foremargin.study``, the study's own key, so that a study that goes on
another day goes on under the same parent, and a process killed between making the run and writing anything
else down leaves no second one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from models.registry import RegistryError, open_client, reaching
from training.tracking import find_experiment

STUDY_TAG, PARENT_TAG, TRIAL_TAG = "foremargin.study", "mlflow.parentRunId", "foremargin.trial"

Status = Literal["FINISHED", "FAILED", "KILLED"]


class StudyRuns:
    """The runs of one study. Opening them makes or finds the parent, and marks child runs that nobody is
    working on any more as killed.

    Every method raises ``RegistryUnreachableError`` where the store does not answer, ``RegistryError`` where
    it refuses.
    """

    def __init__(
        self, tracking_uri: str, experiment: str, study_key: str, name: str, params: Mapping[str, str]
    ) -> None:
        self._uri = tracking_uri
        self._client = open_client(tracking_uri)
        with self._answering():
            self._experiment = find_experiment(self._client, tracking_uri, experiment)
            found = self._client.search_runs([self._experiment], f"tags.`{STUDY_TAG}` = '{study_key}'")
            if found:
                self.parent_id = str(found[0].info.run_id)
                self._client.update_run(self.parent_id, status="RUNNING")
            else:
                run = self._client.create_run(
                    self._experiment, run_name=name, tags={STUDY_TAG: study_key, "model": params["model"]}
                )
                self.parent_id = str(run.info.run_id)
                self._log_params(self.parent_id, params)
            for left in self._client.search_runs(
                [self._experiment],
                f"tags.`{PARENT_TAG}` = '{self.parent_id}' and attributes.status = 'RUNNING'",
            ):
                self._client.set_terminated(left.info.run_id, "KILLED")

    def begin(self, number: int, params: Mapping[str, Any]) -> str:
        """The run of a trial that begins."""
        with self._answering():
            tags = {PARENT_TAG: self.parent_id, TRIAL_TAG: str(number)}
            run = self._client.create_run(self._experiment, run_name=f"trial {number}", tags=tags)
            self._log_params(run.info.run_id, params)
        return str(run.info.run_id)

    def report(self, run_id: str, name: str, value: float, step: int = 0) -> None:
        with self._answering():
            self._client.log_metric(run_id, name, value, int(1000 * time.time()), step)

    def end(self, run_id: str, status: Status, outcome: str) -> None:
        """``outcome`` says in words how it ended; a tag of the run."""
        with self._answering():
            self._client.set_tag(run_id, "outcome", outcome)
            self._client.set_terminated(run_id, status)

    def close(self, status: Status, metrics: Mapping[str, float], content: Mapping[str, Any] | None) -> None:
        """End the parent, with what the study found, as ``best.json`` among its artifacts too."""
        with self._answering():
            for name, value in metrics.items():
                self.report(self.parent_id, name, value)
            if content is not None:
                self._client.log_dict(self.parent_id, dict(content), "best.json")
            self._client.set_terminated(self.parent_id, status)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])

    @contextmanager
    def _answering(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            with reaching(self._uri):
                yield
        except MlflowException as error:
            raise RegistryError(f"MLflow refused a run of the study: {error}") from error
