"""Fixtures that several rooms share: the market data folder, and a migrated MLflow store."""

from __future__ import annotations

import os
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
