"""What MLflow remembers of a benchmark: one run with the report and the tables, and a child run a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.durations import format_duration
from features.fingerprint import fingerprint
from models.artifact import code_version
from models.forecast.base import TailModel
from models.registry import RegistryError, open_client, reaching
from training.benchmark import Benchmark
from training.tracking import find_experiment

#: Columns of the table that are a model's metrics, one per horizon and level: ``fz0/4h/0.99``.
METRICS = (
    *("fz0", "difference", "t", "set_p", "pinball_ratio", "hit_ratio", "worst_cell"),
    *("excursion_ratio", "es_excursion_ratio", "z2", "es_rejected"),
)
COSTS = ("folds", "fit_s", "fit_s_per_fold", "predict_s")


def log_benchmark(tracking_uri: str, experiment: str, benchmark: Benchmark, folder: Path) -> str:
    """Log what ``folder`` holds, but for the forecasts, and each model's scores; returns the run's id.

    The run is finished once all of it is there; where it breaks off, it is marked as failed. Raises
    ``RegistryUnreachableError`` where the store does not answer, ``RegistryError`` where it refuses.
    """
    client = open_client(tracking_uri)
    from mlflow.exceptions import MlflowException

    try:
        with reaching(tracking_uri):
            found = find_experiment(client, tracking_uri, experiment)
            plan = benchmark.plan
            name = f"benchmark {plan.start:%Y-%m-%d} to {plan.end:%Y-%m-%d}"
            parent = client.create_run(found, run_name=name, tags={"benchmark": plan.reference}).info.run_id
            try:
                log_numbers(client, parent, _params(benchmark), {})
                for model in plan.models:
                    tags = {"mlflow.parentRunId": parent, "model": model.name}
                    child = client.create_run(found, run_name=model.name, tags=tags).info.run_id
                    log_numbers(client, child, _model_params(model), _metrics(benchmark, model.name))
                    client.set_terminated(child, "FINISHED")
                for path in sorted(folder.iterdir()):
                    if path.suffix in {".html", ".md", ".parquet"} and path.stem != "forecasts":
                        client.log_artifact(parent, str(path))
            except BaseException:
                client.set_terminated(parent, "FAILED")
                raise
            client.set_terminated(parent, "FINISHED")
    except MlflowException as error:
        raise RegistryError(f"MLflow refused the run: {error}") from error
    return str(parent)


def log_numbers(client: Any, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """Log parameters and metrics of a run in one batch."""
    from mlflow.entities import Metric, Param

    now = client.get_run(run_id).info.start_time
    client.log_batch(
        run_id,
        params=[Param(name, value) for name, value in params.items()],
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
    )


def _params(benchmark: Benchmark) -> dict[str, str]:
    plan, market = benchmark.plan, benchmark.market
    return {
        "models": ",".join(plan.names),
        "reference": plan.reference,
        "start": plan.start.isoformat(),
        "end": plan.end.isoformat(),
        "horizons": ",".join(format_duration(h) for h in plan.task.horizons),
        "levels": ",".join(f"{level:g}" for level in plan.levels),
        "interval": format_duration(market.interval),
        "symbols": ",".join(market.symbols),
        "data_fingerprint": fingerprint(market),
        "code_version": code_version(),
    }


def _model_params(model: type[TailModel]) -> dict[str, str]:
    calibration = model.calibration
    return {
        "model": model.name,
        "refit_every": format_duration(model.refit_every),
        "trains_on": "all" if model.trains_on is None else format_duration(model.trains_on),
        "settings": "{}" if model.settings_class is None else model.settings_class().model_dump_json(),
        "calibration": "none" if calibration is None else calibration.model_dump_json(),
    }


def _metrics(benchmark: Benchmark, model: str) -> dict[str, float]:
    """What is known; MLflow's databases hold no NaN."""
    found: dict[str, float] = {}
    rows = benchmark.table[benchmark.table["model"] == model].to_dict("records")
    for row in rows:
        for score in METRICS:
            found[f"{score}/{row['horizon']}/{row['level']:g}"] = float(row[score])
    found |= {cost: float(rows[0][cost]) for cost in COSTS}
    return {name: value for name, value in found.items() if math.isfinite(value)}
