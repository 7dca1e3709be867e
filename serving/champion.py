"""The champion in use: fetched from the registry by a thread of its own, never on the way of a decision.

Whatever goes wrong (no registry, no champion, a broken artifact, a library that fails to load) leaves the
model that is in use, and is told in the status. Without any, the rules rung answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from features.bars import Market
from features.durations import window_bars
from features.pipeline import FeatureFrame
from models.artifact import Artifact, read_artifact
from models.forecast.base import TailForecast
from serving.inputs import Asked

logger = logging.getLogger(__name__)

_REGIME = "regime_"


class VersionLike(Protocol):
    """A registered version, as far as the server looks at it."""

    @property
    def number(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...


class RegistryLike(Protocol):
    """Where the champion is named and kept; ``models.registry.Registry`` is one."""

    def champion(self) -> Any: ...

    def fetch(self, version: Any, cache: Path) -> Path: ...


@dataclass(frozen=True)
class Champion:
    """A loaded model and its name in answers."""

    version: str
    artifact: Artifact

    @cached_property
    def asked(self) -> Asked:
        """What its features read beyond the bars of the decision grid."""
        return Asked.by(self.artifact.pipeline)

    @property
    def look_back_bars(self) -> int:
        """The bars that its features look back, at the interval that it was trained on."""
        return window_bars(self.artifact.pipeline.look_back, self.artifact.pipeline.interval)

    def inputs(self, frame: FeatureFrame) -> tuple[str, ...]:
        """Which features the model reads."""
        model = self.artifact.model
        read = model.reads()
        if read is not None:
            return read
        names = model.feature_names()
        return frame.names if names is None else (*names, *model.optional_features())

    def look(self, market: Market) -> tuple[TailForecast, dict[str, dict[str, float]]]:
        """The model's forecast at the market's last close, before calibration, and regime probabilities by
        symbol; a contract whose inputs are missing is left out. Raises whatever the model raises."""
        return self.foresee(self.frame(market))

    def frame(self, market: Market) -> FeatureFrame:
        """What the model looks at: the features at the market's last close."""
        return self.artifact.pipeline.online(self._inputs(market))

    def foresee(self, frame: FeatureFrame) -> tuple[TailForecast, dict[str, dict[str, float]]]:
        """See ``look``; ``frame`` is of one close."""
        return self.artifact.model.predict(frame), _regimes(frame)

    def trust(self, frame: FeatureFrame, said: TailForecast) -> dict[str, tuple[float, float]]:
        """Confidence and drift, by symbol, of what ``foresee`` said of ``frame``; empty for an artifact that
        knows nothing of what was usual."""
        usual = self.artifact.confidence
        if usual is None:
            return {}
        found = usual.judge(frame, said)
        symbols = (str(symbol) for symbol in said.rows.get_level_values("symbol"))
        return dict(
            zip(symbols, zip(found.confidence.tolist(), found.drift.tolist(), strict=True), strict=True)
        )

    def past(self, market: Market, since: pd.Timestamp) -> TailForecast:
        """What ``look`` said at every close of the market from ``since`` on, times ascending. The market has
        ``look_back_bars`` up to ``since``."""
        return self.artifact.model.predict(
            self.artifact.pipeline.batch(self._inputs(market)).between(since, None)
        )

    def _inputs(self, market: Market) -> Market:
        """The leader that it was trained with leads; contracts that it never saw follow."""
        trained = [s for s in self.artifact.info.symbols if s in market.symbols]
        order = trained + [s for s in market.symbols if s not in trained]
        # Every frame is cut once a look-back; those that no feature reads are not worth it.
        read = {"close"}.union(*((*f.needs, *f.uses) for f in self.artifact.pipeline.chosen))
        cut = replace(market.reading([c for c in market.columns if c in read]), finer=market.finer)
        return cut.select(order)


def _regimes(frame: FeatureFrame) -> dict[str, dict[str, float]]:
    names = [n for n in frame.names if n.startswith(_REGIME)]
    found = {}
    for i, symbol in enumerate(frame.symbols):
        values = {n.removeprefix(_REGIME): float(frame[n][-1, i]) for n in names}
        if values and all(np.isfinite(v) for v in values.values()):
            found[symbol] = values
    return found


class ChampionWatch:
    """Keeps ``current`` at the registry's champion. One writer (its thread), any number of readers."""

    def __init__(
        self,
        registry: Callable[[], RegistryLike],
        cache: Path,
        interval: pd.Timedelta,
        *,
        poll_s: float,
        on_change: Callable[[], None] = lambda: None,
        load: Callable[[Path], Artifact] = read_artifact,
        finer_history: pd.Timedelta | None = None,
    ) -> None:
        self._registry, self._cache, self._interval = registry, cache, interval
        self._finer_history = finer_history
        self._poll_s, self._on_change, self._load = poll_s, on_change, load
        self._opened: RegistryLike | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.current: Champion | None = None
        self.error: str | None = None
        #: Set once the registry was asked for the first time, whatever came of it.
        self.asked = threading.Event()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="champion", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.poll()
            self._stop.wait(self._poll_s)

    def poll(self) -> None:
        """Look at the registry once. Raises nothing."""
        before = self.current
        try:
            self._look()
        except (Exception, SystemExit) as error:  # libraries raise what they like; the model in use stays
            self._tell(f"{type(error).__name__}: {error}")
        finally:
            self.asked.set()
        if self.current is not before:
            self._on_change()

    def _look(self) -> None:
        if self._opened is None:
            self._opened = self._registry()
        version = self._opened.champion()
        if version is None:
            # Withdrawn on purpose, or never there.
            self.current, self.error = None, None
            return
        used = self.current
        if used is None or (used.version, used.artifact.info.fingerprint) != (
            str(version.number),
            version.fingerprint,
        ):
            self.current = self._fetched(version)
        self.error = None

    def _fetched(self, version: VersionLike) -> Champion:
        assert self._opened is not None
        artifact = self._load(self._opened.fetch(version, self._cache))
        if artifact.pipeline.interval != self._interval:
            raise ValueError(
                f"the champion was trained on {artifact.pipeline.interval} bars and the feed has "
                f"{self._interval} bars; set [serving] interval_s, or train on bars of the feed's interval"
            )
        made = Champion(str(version.number), artifact)
        if self._finer_history is not None:
            made.asked.refuse_longer(self._finer_history)
        logger.info("champion is version %s (%s)", version.number, artifact.info.model)
        if artifact.confidence is None:
            logger.warning(
                "champion version %s was trained before forecasts were judged: confidence is 1 and drift 0 "
                "whatever its inputs are (rules 8 and 19); train it anew",
                version.number,
            )
        return made

    def _tell(self, error: str) -> None:
        if error != self.error:
            logger.warning("the champion cannot be read, %s stays in use: %s", self._in_use(), error)
        self.error = error

    def _in_use(self) -> str:
        return "the rules rung" if self.current is None else f"version {self.current.version}"

    def status(self) -> Mapping[str, str | None]:
        """The version in use, its model and artifact, and what went wrong when the registry was asked
        last."""
        used = self.current
        return {
            "version": None if used is None else used.version,
            "model": None if used is None else used.artifact.info.model,
            "fingerprint": None if used is None else used.artifact.info.fingerprint,
            "error": self.error,
        }
