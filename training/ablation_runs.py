"""What MLflow remembers of an ablation: one run, with its differences as metrics and its files as
artifacts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from models.registry import RegistryError, open_client, reaching
from training.ablation import Ablation, over_seeds
from training.benchmark_runs import log_numbers
from training.tracking import find_experiment


def log_ablation(
    tracking_uri: str, experiment: str, ablation: Ablation, params: Mapping[str, str], folder: Path
) -> str:
    """Log what ``folder`` holds and every difference; returns the run's id. The run is finished once all of
    it is there.

    Raises ``RegistryUnreachableError`` where the store does not answer, ``RegistryError`` where it refuses.
    """
    client = open_client(tracking_uri)
    from mlflow.exceptions import MlflowException

    metrics = {
        f"{score}/{row['variant'].replace('+ ', '')}/{row['horizon']}/{row['level']:g}": float(row[column])
        for row in over_seeds(ablation.scores).to_dict("records")
        for score, column in (("fz0", "fz0"), ("difference", "difference"), ("t", "t_weakest"))
    }
    try:
        with reaching(tracking_uri):
            found = find_experiment(client, tracking_uri, experiment)
            run = client.create_run(found, run_name="ablation", tags={"ablation": params["horizons"]})
            run_id = str(run.info.run_id)
            try:
                log_numbers(client, run_id, params, {k: v for k, v in metrics.items() if math.isfinite(v)})
                for path in sorted(folder.iterdir()):
                    if path.suffix in {".html", ".md", ".parquet"}:
                        client.log_artifact(run_id, str(path))
            except BaseException:
                client.set_terminated(run_id, "FAILED")
                raise
            client.set_terminated(run_id, "FINISHED")
    except MlflowException as error:
        raise RegistryError(f"MLflow refused the run: {error}") from error
    return run_id
