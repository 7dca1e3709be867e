"""A fitted model as plain files: what it is, what it was made from, and a checksum of every file.

An artifact is a folder::

    model.json       what it is (``ArtifactInfo``), with the sha256 of every other file
    pipeline.json    the features and what they learned (``Pipeline.to_json``)
    model/           what ``TailModel.save`` wrote: LightGBM text, safetensors, JSON
    calibration.json where the calibration stood after the days held out; absent for a model without
    confidence.json  what was usual in training; absent from artifacts of earlier versions

Nothing in it is code, and nothing is unpickled: the model's name is looked up among ``models.forecast``,
its files are data. A folder is written beside its final place and moved there whole, so that a reader sees
all of an artifact or none of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from features.durations import format_duration, parse_duration
from features.pipeline import Pipeline
from models.forecast.base import TailModel
from models.forecast.calibration import CalibrationState
from models.forecast.confidence import Confidence
from models.forecast.discovery import model_class

FORMAT = 1
INFO_FILE, PIPELINE_FILE, MODEL_FOLDER = "model.json", "pipeline.json", "model"
CALIBRATION_FILE, CONFIDENCE_FILE = "calibration.json", "confidence.json"
#: Of ``model.json``: when and by which code it was made says nothing about what it forecasts.
_NOT_CONTENT = ("made_at", "code_version", "fingerprint")

ModelLookup = Callable[[str], type[TailModel]]


class ArtifactError(ValueError):
    """An artifact cannot be written or used: missing, altered, of another format, or of an unknown model."""


@dataclass(frozen=True)
class Fitted:
    """A fitted model with all that must travel with it.

    ``symbols`` are in the market's order (the first is the leader of the spillover features). The training
    window is the decision times ``train_start`` to ``train_end``, both included; no bar that closed later
    had any influence. ``scores`` are out-of-sample figures by name, such as ``fz0/1h/0.99``; None where one
    could not be measured. ``calibration`` has seen out-of-sample forecasts only, from the first after
    ``train_end`` plus an embargo of the largest horizon; None for a model that is not calibrated.
    ``confidence`` was learned on the training window; None: no forecast is ever doubted.
    """

    model: TailModel
    pipeline: Pipeline
    symbols: tuple[str, ...]
    train_start: pd.Timestamp
    train_end: pd.Timestamp
    data_fingerprint: str
    scores: Mapping[str, float | None]
    calibration: CalibrationState | None = None
    confidence: Confidence | None = None


@dataclass(frozen=True)
class ArtifactInfo:
    """``model.json``. ``fingerprint`` covers the content alone: two identical trainings share it.

    ``files`` maps each file's path inside the folder, ``/``-separated, to its sha256. Times are UTC.
    """

    model: str
    features: tuple[str, ...]
    look_back: pd.Timedelta
    interval: pd.Timedelta
    horizons: tuple[pd.Timedelta, ...]
    levels: tuple[float, ...]
    symbols: tuple[str, ...]
    train_start: pd.Timestamp
    train_end: pd.Timestamp
    data_fingerprint: str
    scores: Mapping[str, float | None]
    files: Mapping[str, str]
    code_version: str
    made_at: pd.Timestamp
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, durations as text (``4h``; the look-back in seconds), times in ISO 8601."""
        return {
            "format": FORMAT,
            "model": self.model,
            "features": list(self.features),
            "look_back_s": int(self.look_back.total_seconds()),
            "interval": format_duration(self.interval),
            "horizons": [format_duration(h) for h in self.horizons],
            "levels": list(self.levels),
            "symbols": list(self.symbols),
            "train_start": self.train_start.isoformat(),
            "train_end": self.train_end.isoformat(),
            "data_fingerprint": self.data_fingerprint,
            "scores": dict(self.scores),
            "files": dict(self.files),
            "code_version": self.code_version,
            "made_at": self.made_at.isoformat(),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ArtifactInfo:
        """Rebuild from ``to_json``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` where a value is
        not one.
        """
        return cls(
            model=str(content["model"]),
            features=tuple(content["features"]),
            look_back=pd.Timedelta(seconds=int(content["look_back_s"])),
            interval=parse_duration(content["interval"]),
            horizons=tuple(parse_duration(h) for h in content["horizons"]),
            levels=tuple(float(level) for level in content["levels"]),
            symbols=tuple(content["symbols"]),
            train_start=pd.Timestamp(content["train_start"]),
            train_end=pd.Timestamp(content["train_end"]),
            data_fingerprint=str(content["data_fingerprint"]),
            scores=dict(content["scores"]),
            files=dict(content["files"]),
            code_version=str(content["code_version"]),
            made_at=pd.Timestamp(content["made_at"]),
            fingerprint=str(content["fingerprint"]),
        )


@dataclass(frozen=True)
class Artifact:
    """A model ready to forecast: ``model.predict(pipeline.online(market.select(info.symbols)))``, which
    ``calibration``, where there is one, goes on to calibrate, and ``confidence`` to judge."""

    model: TailModel
    pipeline: Pipeline
    info: ArtifactInfo
    calibration: CalibrationState | None = None
    confidence: Confidence | None = None


@cache
def code_version() -> str:
    """The installed version and a digest of the sources of ``features`` and ``models``, such as
    ``0.1.0+3f…``.

    The digest tells apart what a version number does not, and needs no version control where the code runs.
    """
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for room in ("features", "models"):
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    try:
        released = version("foremargin")
    except PackageNotFoundError:
        released = "0"
    return f"{released}+{digest.hexdigest()[:12]}"


def write_artifact(folder: Path, fitted: Fitted) -> ArtifactInfo:
    """Write ``fitted`` as the new folder ``folder``, whole or not at all, and return what was written.

    Raises ``ArtifactError`` where the folder exists already: an artifact is never changed, only replaced by
    another under another name.
    """
    if folder.exists():
        raise ArtifactError(f"artifact folder {folder} exists already; choose a new one or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (draft / MODEL_FOLDER).mkdir()
        fitted.model.save(draft / MODEL_FOLDER)
        _write_json(draft / PIPELINE_FILE, fitted.pipeline.to_json())
        if fitted.calibration is not None:
            _write_json(draft / CALIBRATION_FILE, fitted.calibration.to_json())
        if fitted.confidence is not None:
            _write_json(draft / CONFIDENCE_FILE, fitted.confidence.to_json())
        content = ArtifactInfo(
            model=fitted.model.name,
            features=fitted.pipeline.names,
            look_back=fitted.pipeline.look_back,
            interval=fitted.pipeline.interval,
            horizons=fitted.model.horizons,
            levels=fitted.model.levels,
            symbols=fitted.symbols,
            train_start=fitted.train_start,
            train_end=fitted.train_end,
            data_fingerprint=fitted.data_fingerprint,
            scores=fitted.scores,
            files=_checksums(draft),
            code_version=code_version(),
            made_at=pd.Timestamp.now("UTC"),
            fingerprint="",
        ).to_json()
        content["fingerprint"] = _fingerprint(content)
        _write_json(draft / INFO_FILE, content)
        draft.chmod(0o755)  # mkdtemp makes it private; the server may run as somebody else
        for path in _files(draft):
            _flush(path)
        draft.rename(folder)
        _flush(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return ArtifactInfo.from_json(content)


def read_info(folder: Path) -> ArtifactInfo:
    """Verify a folder (format, its list of files, every checksum, the fingerprint) without loading the model.

    Raises ``ArtifactError`` naming the file and what is wrong with it.
    """
    path = folder / INFO_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"artifact {folder} has no readable {INFO_FILE} ({error.strerror}); fetch it again or train anew"
        ) from error
    except ValueError as error:
        raise ArtifactError(
            f"{path} is not JSON ({error}); fetch the artifact again or train anew"
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ArtifactError(
            f"{path} has format {found!r}; this version reads format {FORMAT}: train the model anew"
        )
    try:
        info = ArtifactInfo.from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is incomplete or malformed ({error!r}); train the model anew") from error
    if info.fingerprint != _fingerprint(content):
        raise ArtifactError(
            f"{path} does not match its own fingerprint; fetch the artifact again or train anew"
        )
    actual = _checksums(folder)
    for name in sorted(set(actual) | set(info.files)):
        if name not in actual:
            raise ArtifactError(f"artifact {folder} lacks {name}; fetch it again or train anew")
        if name not in info.files:
            raise ArtifactError(f"artifact {folder} has {name}, which {INFO_FILE} does not list; remove it")
        if actual[name] != info.files[name]:
            raise ArtifactError(f"{folder / name} was altered (sha256 differs); fetch it again or train anew")
    return info


def read_artifact(folder: Path, lookup: ModelLookup = model_class) -> Artifact:
    """Verify a folder and load its model. ``lookup`` gives the class of a model's name.

    Raises ``ArtifactError`` for whatever keeps the artifact from being used.
    """
    info = read_info(folder)
    try:
        pipeline = Pipeline.from_json(json.loads((folder / PIPELINE_FILE).read_text(encoding="utf-8")))
        model = lookup(info.model).load(folder / MODEL_FOLDER)
        calibration, confidence = _read_calibration(folder, info), _read_confidence(folder, info)
    except Exception as error:  # a model's files are parsed by its own library, which raises what it likes
        raise ArtifactError(
            f"artifact {folder} (model {info.model}) cannot be loaded: {type(error).__name__}: {error}; "
            f"train the model anew with this version"
        ) from error
    return Artifact(model, pipeline, info, calibration, confidence)


def _read_calibration(folder: Path, info: ArtifactInfo) -> CalibrationState | None:
    if CALIBRATION_FILE not in info.files:
        return None
    state = CalibrationState.from_json(json.loads((folder / CALIBRATION_FILE).read_text(encoding="utf-8")))
    if (state.horizons, state.levels, state.interval) != (info.horizons, info.levels, info.interval):
        raise ValueError(f"{CALIBRATION_FILE} is of other horizons, levels or bars than the model")
    return state


def _read_confidence(folder: Path, info: ArtifactInfo) -> Confidence | None:
    if CONFIDENCE_FILE not in info.files:
        return None
    found = Confidence.from_json(json.loads((folder / CONFIDENCE_FILE).read_text(encoding="utf-8")))
    absent = sorted(set(found.inputs) - set(info.features))
    if absent:
        raise ValueError(f"{CONFIDENCE_FILE} has ranges of {absent}, which the pipeline does not give")
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink())


def _checksums(folder: Path) -> dict[str, str]:
    """sha256 by path of every file but ``model.json``; a link is refused, since it may point outside."""
    found = {}
    for path in _files(folder):
        if path.is_symlink():
            raise ArtifactError(f"{path} is a link; an artifact has plain files only")
        name = path.relative_to(folder).as_posix()
        if name != INFO_FILE:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _fingerprint(content: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in content.items() if key not in _NOT_CONTENT}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    # NaN is not JSON: a state or score that holds one is refused here, where it is made, not by a reader
    # later.
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _flush(path: Path) -> None:
    """Put a file or a folder's entries on disk, so that the move that follows survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
