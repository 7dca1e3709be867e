"""Plain files of a saved model: written whole or not at all, read back with their model's name checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from features.atomic import written_whole

CONTENT_FILE = "forecast.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside the target and rename, so that a killed process leaves no half file."""
    with written_whole(path) as draft:
        draft.write_bytes(content)


def write_content(
    folder: Path,
    model: str,
    horizons: tuple[pd.Timedelta, ...],
    levels: tuple[float, ...],
    content: dict[str, Any],
) -> None:
    """Write what a model is made of as JSON; floats are written so that they read back to the bit."""
    head = {
        "model": model,
        "horizons_s": [int(h.total_seconds()) for h in horizons],
        "levels": list(levels),
    }
    text = json.dumps(head | content, allow_nan=False, indent=1)
    write_bytes(folder / CONTENT_FILE, text.encode())


def read_content(
    folder: Path, model: str
) -> tuple[tuple[pd.Timedelta, ...], tuple[float, ...], dict[str, Any]]:
    """Horizons, levels and the rest of what ``write_content`` wrote.

    Raises ``FileNotFoundError`` where nothing is saved, ``ValueError`` where it is not JSON or another
    model's.
    """
    path = folder / CONTENT_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["model"]
        horizons = tuple(pd.Timedelta(seconds=s) for s in content["horizons_s"])
        levels = tuple(float(p) for p in content["levels"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a saved forecast model ({error}); train and save it again"
        ) from error
    if found != model:
        raise ValueError(f"{path} is a {found!r} model and was loaded as {model!r}; load it by its own name")
    return horizons, levels, content
