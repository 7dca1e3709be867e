"""How many small faults in the safety engine its tests find: ``make mutants`` (mutation testing, cosmic-ray).

Each mutant is one module of ``models/margin`` with one operator, number, comparison or condition changed; it
is killed where a test fails. The tests are those with literal expectations: the random ones are left out, and
so is what reads files or starts processes. Works on copies of the tree, one a worker, and keeps its sessions,
so that a second call goes on where the first one's time ended; a module that has changed begins anew, and
after a change of the tests alone the survivors are tried again. Prints a table by module; the survivors are
written to ``survivors.txt``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import queue
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINE, TESTS = Path("models/margin"), Path("tests/models/margin")
#: The modules that are mutated, longest first, and the tests that are likeliest to find a fault in them.
MODULES = {
    "path": ("path", "release", "publish_step", "initial_first", "resume_grace", "impact"),
    "validity": ("validity", "feeds", "resume_grace"),
    "engine": ("memory", "path", "breaker"),
    "addons": ("band", "uncertainty", "buffer"),
    "limits": ("limit_bounds",),
    "health": ("health",),
    "types": ("types", "codec"),
    "codec": ("codec", "types"),
    "breaker": ("breaker", "path"),
    "draft": ("bounds", "ladder", "validity"),
    "ladder": ("ladder",),
    "orders": ("orders",),
    "overrides": ("overrides", "orders"),
    "bounds": ("bounds", "orders"),
    "pairing": ("pairing",),
}
#: Tests that are random, slow, or about other modules; ``limits`` loads pydantic, which costs each mutant.
LEFT_OUT = (
    "properties",
    "machine",
    "rules",
    "scenarios",
    "fhs",
    "base_rate",
    "stress",
    "requirement",
    "limits",
)
#: Operators that say nothing here: operations on bits, identity in place of equality, and powers and
#: remainders in place of sums. There are no mutants of texts.
EXCLUDED = (
    "core/ReplaceBinaryOperator_(BitOr|BitAnd|BitXor|LShift|RShift)_",
    "core/ReplaceBinaryOperator_.*_(BitOr|BitAnd|BitXor|LShift|RShift|FloorDiv|Mod|Pow)$",
    "core/ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)$",
    "core/ReplaceComparisonOperator_(Is|IsNot)_(Eq|NotEq|Lt|LtE|Gt|GtE)$",
    "core/ReplaceUnaryOperator_.*_(Invert|UAdd)$",
)


@dataclass(frozen=True)
class Tally:
    """What became of the mutants of one module."""

    killed: int
    survived: int
    pending: int


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long (default: 60)")
    parser.add_argument("--workers", type=int, default=2, help="modules at a time (default: 2)")
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=list(MODULES), metavar="MODULE")
    parser.add_argument("--out", type=Path, default=Path("build/mutants"), help="where sessions are kept")
    given = parser.parse_args(argv)
    if given.minutes <= 0 or given.workers < 1:
        parser.error(f"--minutes {given.minutes} and --workers {given.workers} must be above 0")
    if shutil.which("cosmic-ray", path=Path(sys.executable).parent) is None:
        parser.error("cosmic-ray is not installed; pip install -c constraints.txt -e '.[mutants]'")
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    run(given.modules, out, given.workers, time.monotonic() + 60 * given.minutes)
    report(given.modules, out)
    return 0


def run(modules: list[str], out: Path, workers: int, end_s: float) -> None:
    """Take module after module until all are done or the time is."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for module in modules:
        waiting.put(module)

    def work(number: int) -> None:
        tree = out / f"worker-{number}"
        while time.monotonic() < end_s:
            try:
                module = waiting.get_nowait()
            except queue.Empty:
                return
            _copy_tree(tree)
            _execute(module, tree, out, end_s)

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, number) for number in range(workers)]:
            done.result()


def _copy_tree(tree: Path) -> None:
    """What the tests need, in a folder that may be changed."""
    shutil.rmtree(tree, ignore_errors=True)
    bytecode = shutil.ignore_patterns("__pycache__")
    (tree / "models").mkdir(parents=True)
    (tree / "models" / "__init__.py").touch()
    shutil.copytree(ROOT / ENGINE, tree / ENGINE, ignore=bytecode)
    shutil.copytree(ROOT / TESTS, tree / TESTS, ignore=bytecode)
    shutil.copy(ROOT / "pyproject.toml", tree)


def _execute(module: str, tree: Path, out: Path, end_s: float) -> None:
    """Make the session of a module where it has none, then test its mutants until the time is over."""
    config, session = out / f"{module}.toml", out / f"{module}.sqlite"
    config.write_text(_config(module), encoding="utf-8")
    source = _fingerprint((ROOT / ENGINE / f"{module}.py").read_bytes(), repr(EXCLUDED).encode())
    tests = _fingerprint(*(file.read_bytes() for file in sorted((ROOT / TESTS).glob("*.py"))))
    mark = out / f"{module}.source"
    known_source, _, known_tests = mark.read_text("utf-8").partition(" ") if mark.exists() else ("", "", "")
    if known_source != source or not session.exists():
        session.unlink(missing_ok=True)
        _call(tree, end_s, "cosmic-ray", "init", str(config), str(session))
        _call(tree, end_s, "cr-filter-operators", str(session), str(config))
    elif known_tests != tests:
        _forget_survivors(session)
    mark.write_text(f"{source} {tests}", encoding="utf-8")
    # Leaves the tests' bytecode behind, which spares each mutant a second; the engine's would hide mutants.
    sound = _environment() | {"PYTHONDONTWRITEBYTECODE": ""}
    command = ["sh", "-c", _test_command(module)]
    done = subprocess.run(command, cwd=tree, env=sound, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the tests fail without any mutant in {module}; mend them first:\n{done.stdout}")
    for bytecode in (tree / "models").rglob("__pycache__"):
        shutil.rmtree(bytecode)
    _call(tree, end_s, "cosmic-ray", "exec", str(config), str(session))


def _call(tree: Path, end_s: float, command: str, *arguments: str) -> None:
    """Run one of cosmic-ray's commands; when the time is over it is ended, and its session goes on later."""
    program = Path(sys.executable).parent / command
    try:
        left_s = max(1.0, end_s - time.monotonic())
        subprocess.run([program, *arguments], cwd=tree, env=_environment(), timeout=left_s, check=True)
    except subprocess.TimeoutExpired:
        print(f"{command} {Path(arguments[0]).stem}: the time is over", file=sys.stderr)


def _environment() -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a mutant costs a second, not five
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _test_command(module: str) -> str:
    """The likeliest tests; only a mutant that outlives them meets the others."""
    known = sorted(p.stem.removeprefix("test_") for p in (ROOT / TESTS).glob("test_*.py"))
    rest = [name for name in known if name not in MODULES[module] and name not in LEFT_OUT]
    runs = []
    for names in (MODULES[module], rest):
        files = " ".join(str(TESTS / f"test_{name}.py") for name in names)
        runs.append(f"{sys.executable} -m pytest -x -q -p no:cacheprovider {files}")
    return " && ".join(runs)


def _config(module: str) -> str:
    excluded = ",\n".join(f'    "{pattern}"' for pattern in EXCLUDED)
    return f"""[cosmic-ray]
module-path = "{ENGINE / module}.py"
timeout = 60.0
excluded-modules = []
test-command = '''sh -c "{_test_command(module)}"'''

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
exclude-operators = [
{excluded},
]
"""


def _fingerprint(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _forget_survivors(session: Path) -> None:
    with sqlite3.connect(session) as connection:
        connection.execute("DELETE FROM work_results WHERE test_outcome = 'SURVIVED'")


def tally(session: Path) -> tuple[Tally, list[str]]:
    """Counts and the survivors' diffs of one session; mutants that the filter left out are not counted."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome

    with use_db(session, WorkDB.Mode.open) as db:
        results = [r for _, r in db.results]
        judged = [r for r in results if r.worker_outcome != WorkerOutcome.SKIPPED]
        outcomes = Counter(r.is_killed for r in judged)
        survivors = sorted(r.diff or "" for r in judged if not r.is_killed)
        return Tally(outcomes[True], outcomes[False], db.num_work_items - len(results)), survivors


def report(modules: list[str], out: Path) -> None:
    """Print the table and write the survivors."""
    from rich.console import Console
    from rich.table import Table

    table = Table("module", "killed", "survived", "not tried", "share killed")
    total, texts = Counter[str](), []
    for module in modules:
        if not (out / f"{module}.sqlite").exists():
            continue
        counts, survivors = tally(out / f"{module}.sqlite")
        total.update(vars(counts))
        table.add_row(*_row(module, counts))
        texts += survivors
    table.add_section()
    table.add_row(*_row("all", Tally(total["killed"], total["survived"], total["pending"])))
    Console().print(table)
    (out / "survivors.txt").write_text("\n".join(texts), encoding="utf-8")
    print(f"survivors: {out / 'survivors.txt'}")


def _row(name: str, counts: Tally) -> tuple[str, ...]:
    tried = counts.killed + counts.survived
    share = f"{counts.killed / tried:.1%}" if tried else "-"
    return name, str(counts.killed), str(counts.survived), str(counts.pending), share


if __name__ == "__main__":
    raise SystemExit(main())
