"""A lock keeps a second run out, and holds nobody up once its holder is gone."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.lock import LockedError, locked

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_second_run_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.lock"
    with (
        locked(path, "rehearsal"),
        pytest.raises(LockedError, match=f"another rehearsal .process {os.getpid()}. holds"),
        locked(path, "rehearsal"),
    ):
        raise AssertionError("two runs held one lock")
    with locked(path, "rehearsal"):  # and it is free again
        pass


def test_a_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    code = (
        "import os\nfrom pathlib import Path\nfrom training.lock import locked\n"
        f"with locked(Path({str(path)!r}), 'rehearsal'): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 9
    with locked(path, "rehearsal"), path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
