"""The walls between the rooms, and what may never be in the repository."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("features", "models", "training", "serving")
MAY_IMPORT = {
    "features": {"features"},
    "models": {"features", "models"},
    "training": {"features", "models", "training"},
    "serving": {"features", "models", "serving"},
}
SOURCES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full module name"
            found.add(node.module or "")
    return found


def test_every_room_has_sources() -> None:
    assert {p.relative_to(ROOT).parts[0] for p in SOURCES} == set(ROOMS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_stay_within_the_walls(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    rooms = {m.split(".")[0] for m in imported_modules(path)} & set(ROOMS)
    assert rooms <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_loads_a_pickle(path: Path) -> None:
    modules = imported_modules(path)
    assert not {m.split(".")[0] for m in modules} & {"pickle", "cloudpickle", "dill", "shelve"}
    text = path.read_text(encoding="utf-8")
    if path == ROOT / "training" / "parallel.py":
        # It starts joblib's processes. What reads or writes a file with joblib is not named in it.
        assert not any(m.startswith("joblib.") for m in modules)
        names = {n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)}
        taken = {
            alias.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and node.module == "joblib"
            for alias in node.names
        }
        assert taken == {"Parallel", "delayed", "parallel_config"}
        assert not names & {"load", "dump", "Memory"}
    else:
        assert "joblib" not in {m.split(".")[0] for m in modules}
    assert not re.search(r"\b(read_pickle|torch\.load|allow_pickle=True)\b", text)


@pytest.mark.parametrize("path", sorted((ROOT / "models" / "margin").glob("*.py")), ids=lambda p: p.name)
def test_the_safety_engine_imports_only_numpy_and_the_standard_library(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy"}
    for module in imported_modules(path):
        assert module.split(".")[0] in allowed or module.startswith("models.margin"), module


def test_the_safety_engine_loads_nothing_heavy() -> None:
    modules = [
        f"models.margin.{p.stem}" for p in (ROOT / "models" / "margin").glob("*.py") if p.stem != "__init__"
    ]
    assert modules
    probe = (
        f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\n"
        "print(sorted({'torch', 'lightgbm', 'pandas', 'mlflow', 'scipy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def tracked_text_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [p for p in paths if p.exists() and p.suffix not in {".png", ".svg", ".ico"}]


def test_no_market_data_and_no_models_are_committed() -> None:
    names = [p.relative_to(ROOT).as_posix() for p in tracked_text_files()]
    assert not [n for n in names if n.endswith((".parquet", ".pkl", ".zip", ".npz", ".safetensors", ".db"))]
    assert [n for n in names if n.startswith("mlruns/")] == ["mlruns/.gitkeep"]


def test_constraints_pin_every_package_without_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+==[A-Za-z0-9_.]+", line) for line in lines)
