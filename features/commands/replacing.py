"""Commands write over nothing that they were not told to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def refuse_existing(paths: Iterable[Path], replace: bool) -> None:
    """Raise ``ValueError`` where one of the paths is there already and may not be replaced."""
    there = [str(path) for path in paths if path.exists()]
    if there and not replace:
        more = f" and {len(there) - 1} more are" if len(there) > 1 else " is"
        raise ValueError(f"{there[0]}{more} there already; give --replace to write anew, or another folder")
