"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A draft beside ``path`` that takes its place at the end of the ``with``.

    Where the body raises, the draft is removed and ``path`` is as it was. A killed process leaves at most a
    hidden ``.NAME.PID.part``, whose suffix no reader of the folder takes for its own.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
