"""Retrain, compare, promote: one command that may be killed at any point and simply started again.

A run has a key: the date of the last bar, the fingerprint of the data, and a digest of settings and code. The
same bars with the same settings are the same run, whenever it is started; new bars are a new one. What a run
has finished lies in its folder ``<work>/<run key>/`` (each file written whole or not at all) or in MLflow
under its key, and every step first looks there:

    data        read and check the bars
    gate        is there enough new history to train on?
    train       fit and judge            -> artifact/, scored.parquet
    publish     log, register, challenge -> run and version with the tag run_key
    judge       compare                  -> verdict.json
    promote     move the champion alias, or not
    finish      write down the outcome   -> outcome.json

The verdict is on disk before the alias moves, and the alias moves in one call, so a killed run leaves the old
champion or the new one. A lock on ``<work>/nightly.lock`` keeps a second run out; the kernel drops it with
the process that held it, however it died.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from features.atomic import written_whole
from features.bars import Market
from features.durations import format_duration
from models.artifact import INFO_FILE, ArtifactError, ArtifactInfo, read_info, write_artifact
from models.forecast.discovery import model_class
from models.registry import Registry, Version
from training.backtest import Progress
from training.dataset import (
    History,
    ModelLookup,
    TrainingRefusedError,
    describe_market,
    ends_early,
    read_history,
)
from training.lock import locked
from training.plots import Draw, figures
from training.promotion import Verdict, judge, promote
from training.publish import Checkpoint, publish
from training.settings import TrainingSettings
from training.train import task_of, train

#: Work folders of older runs that are kept, for looking into what they did.
KEPT_RUNS = 7

#: What lies beneath and beside the bars may end so long before them.
STALE = pd.Timedelta(days=1)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``fingerprint`` is that of the version's artifact."""

    run_key: str
    result: Literal["promoted", "kept champion"]
    version: int
    champion: int | None
    fingerprint: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def nightly(
    bars: Path,
    interval: pd.Timedelta | None,
    settings: TrainingSettings,
    registry: Registry,
    work: Path,
    say: Say = lambda _: None,
    progress: Progress = lambda *_: None,
    checkpoint: Checkpoint = lambda _: None,
    lookup: ModelLookup = model_class,
    draw: Draw = figures,
) -> tuple[Outcome, Verdict | None]:
    """Do the run of these bars and settings, or what is left of it, and return its outcome and verdict.

    The verdict is None where the run had finished before. ``checkpoint`` is called with the name of each step
    just done, so that a test can stop there. Raises ``BarError`` or ``ValueError`` for bad bars,
    ``TrainingRefusedError`` where the gate refuses, ``LockedError``, and ``RegistryUnreachableError``.
    """
    with locked(work / "nightly.lock", "nightly run"):
        task = task_of(settings)
        models = (settings.model, *settings.baselines)
        history = read_history(settings.source(bars, interval), models, task, lookup)
        key = run_key(history, settings)
        say(f"data     {describe_market(history.market)}")
        for line in ends_early(history.market, STALE):
            say(f"warning  {line}; what is trained does without it from then on")
        say(f"run      {key}")
        checkpoint("data_read")
        folder = work / key
        finished = _read_json(folder / "outcome.json")
        if finished is not None:
            say("finish   this run had finished before; bring newer bars for a new one")
            return Outcome(**finished), None

        version = registry.by_run_key(key)
        if version is None and _read_artifact(folder) is None:
            # Only where nothing was made yet: what this run itself has published must not make it refuse.
            refuse_unfit_bars(history.market, settings)
            refuse_little_new(history, settings, registry)
            say(f"gate     passed; training {settings.model}")
            checkpoint("gate_passed")
        info, scored = _trained(folder, history, settings, progress, checkpoint, lookup)
        say(f"train    {info.model} to {info.train_end:%Y-%m-%d %H:%M}, artifact {info.fingerprint[:12]}")
        version = publish(
            registry, settings.experiment, folder / "artifact", info, scored, key, checkpoint, draw
        )
        say(f"publish  {version} is registered")
        verdict = _verdict(folder, registry, version, bars, settings, work / "cache", progress, lookup)
        checkpoint("judged")
        for check in verdict.checks:
            say(f"judge    {'pass' if check.passed else 'FAIL'}  {check.name}: {check.value} ({check.bound})")
        promote(registry, verdict, checkpoint)
        champion = registry.champion()
        outcome = Outcome(
            run_key=key,
            result="promoted" if champion and champion.number == version.number else "kept champion",
            version=version.number,
            champion=champion.number if champion else None,
            fingerprint=version.fingerprint,
            reason=verdict.reason,
        )
        checkpoint("promoted_or_kept")
        _write_json(folder / "outcome.json", outcome.to_json())
        checkpoint("finished")
        _tidy(work, folder)
        say(f"finish   {outcome.result}: {outcome.reason}")
        return outcome, verdict


def run_key(history: History, settings: TrainingSettings) -> str:
    """``2026-11-21-<data>-<settings and code>``: the last bar's date and two digests."""
    return f"{history.market.times[-1]:%Y-%m-%d}-{history.fingerprint[:12]}-{settings.digest()[:8]}"


def refuse_unfit_bars(market: Market, settings: TrainingSettings) -> None:
    """Raise ``TrainingRefusedError`` where a symbol lacks too many bars, or did not move at all."""
    # From each symbol's first bar: a contract that was listed later has no hole before.
    for symbol in market.symbols:
        close = market.close[symbol]
        close = close.loc[close.first_valid_index() :]
        missing = float(close.isna().mean())
        if missing > settings.maximum_missing_share:
            raise TrainingRefusedError(
                f"{symbol}: {missing:.1%} of the {format_duration(market.interval)} bars are missing, more "
                f"than maximum_missing_share ({settings.maximum_missing_share:.1%}); complete the bars or "
                f"leave the symbol out"
            )
        recent = close.loc[market.times[-1] - settings.evaluation :].dropna()
        if recent.nunique() < 2:
            raise TrainingRefusedError(
                f"{symbol}: the price did not move in the last {settings.evaluation_days} days; its feed is "
                f"dead: repair it or leave the symbol out"
            )


def refuse_little_new(history: History, settings: TrainingSettings, registry: Registry) -> None:
    """Raise ``TrainingRefusedError`` where the champion has seen all but ``minimum_new_hours`` of what there
    is."""
    champion = registry.champion()
    if champion is None or champion.tags["model"] != settings.model:
        return
    seen = pd.Timestamp(champion.tags["train_end"])
    end = history.market.times[-1] - settings.evaluation - task_of(settings).embargo
    new = (end - seen) / pd.Timedelta(hours=1)
    if new < settings.minimum_new_hours:
        raise TrainingRefusedError(
            f"training would end at {end:%Y-%m-%d %H:%M}, {new:.1f} hours after the champion's ({champion}); "
            f"bring newer bars, or lower minimum_new_hours ({settings.minimum_new_hours:g})"
        )


def _trained(
    folder: Path,
    history: History,
    settings: TrainingSettings,
    progress: Progress,
    checkpoint: Checkpoint,
    lookup: ModelLookup,
) -> tuple[ArtifactInfo, pd.DataFrame]:
    known = _read_artifact(folder)
    if known is not None:
        return known, pd.read_parquet(folder / "scored.parquet")
    trained = train(history, settings, progress=progress, lookup=lookup)
    checkpoint("trained")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "artifact", ignore_errors=True)
    # The artifact comes last: where it is, the scores are.
    with written_whole(folder / "scored.parquet") as draft:
        trained.scored.to_parquet(draft, index=False)
    checkpoint("scores_written")
    info = write_artifact(folder / "artifact", trained.fitted)
    checkpoint("artifact_written")
    return info, trained.scored


def _read_artifact(folder: Path) -> ArtifactInfo | None:
    if not (folder / "artifact" / INFO_FILE).exists() or not (folder / "scored.parquet").exists():
        return None
    try:
        return read_info(folder / "artifact")
    except ArtifactError:
        return None


def _verdict(
    folder: Path,
    registry: Registry,
    version: Version,
    bars: Path,
    settings: TrainingSettings,
    cache: Path,
    progress: Progress,
    lookup: ModelLookup,
) -> Verdict:
    """The verdict on disk while it still holds: it compared with today's champion, or made this version
    champion."""
    champion = registry.champion()
    number = champion.number if champion else None
    known = _read_json(folder / "verdict.json")
    if known is not None:
        verdict = Verdict.from_json(known)
        if verdict.challenger == version.number and number in {verdict.champion, version.number}:
            return verdict
    verdict = judge(registry, version, bars, settings, cache, progress, lookup)
    _write_json(folder / "verdict.json", verdict.to_json())
    return verdict


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as draft:
        draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def _tidy(work: Path, folder: Path) -> None:
    """MLflow has the artifact now; drop the copy, half-written files, and all but the newest runs'
    folders."""
    shutil.rmtree(folder / "artifact", ignore_errors=True)
    (folder / "scored.parquet").unlink(missing_ok=True)
    runs = sorted((p.parent for p in work.glob("*/outcome.json")), key=lambda p: p.stat().st_mtime)
    for old in runs[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    for draft in (*folder.glob(".*.part"), *folder.glob(".artifact-*")):
        shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)
