"""From a trained model to a registered challenger: artifact folder, MLflow run, version, alias.

Each step finds what an earlier, interrupted attempt with the same run key has done, so all of it can be
repeated.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from models.artifact import ArtifactInfo, write_artifact
from models.registry import ROOT, Registry, Version, sqlite_file
from training.plots import Draw, figures
from training.tracking import log_run
from training.train import CHALLENGER, Trained

Checkpoint = Callable[[str], None]


def work_folder(tracking_uri: str) -> Path:
    """Where training keeps what it can make again: beside an SQLite store, else in ``mlruns/``."""
    file = sqlite_file(tracking_uri)
    return (file.parent if file is not None else ROOT / "mlruns") / "work"


def publish(
    registry: Registry,
    experiment: str,
    artifact: Path,
    info: ArtifactInfo,
    scored: pd.DataFrame,
    run_key: str | None = None,
    checkpoint: Checkpoint = lambda _: None,
    draw: Draw = figures,
) -> Version:
    """Log an artifact folder as a run, with what ``draw`` makes of its scores; register it as challenger."""
    run = log_run(
        registry.tracking_uri, experiment, artifact, info, lambda: draw(scored, CHALLENGER), run_key
    )
    checkpoint("run_logged")
    version = registry.register(run.run_id, run.source, info, run_key=run_key)
    checkpoint("version_registered")
    champion = registry.champion()
    if champion is None or champion.number != version.number:
        registry.challenge(version)
        checkpoint("challenger_named")
    return version


def publish_trained(registry: Registry, experiment: str, trained: Trained) -> Version:
    """``publish`` what was just trained; its folder is removed afterwards, since MLflow has it."""
    stamp = pd.Timestamp.now("UTC").strftime("%Y%m%dT%H%M%S%f")
    folder = work_folder(registry.tracking_uri) / f"artifact-{stamp}"
    info = write_artifact(folder, trained.fitted)
    try:
        return publish(registry, experiment, folder, info, trained.scored)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
