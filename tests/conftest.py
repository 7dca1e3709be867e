"""Fixtures that several rooms share: the market data folder, and a migrated MLflow store."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The market data folder: ``FOREMARGIN_DATA``, else ``../shared/data`` beside us; else a skip."""
    named = os.environ.get("FOREMARGIN_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "bars").is_dir():
        pytest.skip(f"no market data in {folder}; set FOREMARGIN_DATA to a folder that has bars/")
    return folder


@pytest.fixture(scope="session")
def migrated_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database. Making one takes seconds, so parallel workers share it and tests copy it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    database = shared / "migrated" / "mlflow.db"
    database.parent.mkdir(exist_ok=True)
    with (database.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            from models.registry import open_client

            draft = database.with_name("draft.db")
            draft.unlink(missing_ok=True)
            open_client(f"sqlite:///{draft}").search_experiments()
            draft.rename(database)
    return database


@pytest.fixture
def mlflow_store(migrated_mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an MLflow store of the test's own, which is the default store while the test runs."""
    database = tmp_path / "mlflow" / "mlflow.db"
    database.parent.mkdir()
    shutil.copyfile(migrated_mlflow_database, database)
    uri = f"sqlite:///{database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri
