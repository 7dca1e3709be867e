"""Models are found by name, and only what is asked for is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from models.forecast.discovery import model_class, model_names

ROOT = Path(__file__).resolve().parents[3]


def test_the_first_models_are_there() -> None:
    assert {"ewma", "gbm", "network"} <= set(model_names())
    assert not any(n.startswith("_") for n in model_names())


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'gmb' is unknown; choose among .*'gbm'"):
        model_class("gmb")


def test_ewma_loads_nothing_heavy() -> None:
    probe = (
        "import sys\nfrom models.forecast.discovery import model_class\nmodel_class('ewma')\n"
        "print(sorted({'torch', 'lightgbm', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
