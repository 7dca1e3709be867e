"""``[training]``: what is trained, how much is held out, and what earns a promotion."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from features.durations import format_duration, parse_duration
from features.sources.market import MarketSource
from models.artifact import code_version
from models.forecast.base import BREAKER_LEVEL
from models.settings import Section

#: Settings that name files; what is in them has a fingerprint of its own.
WHERE_DATA_LIES = ("finer_folders", "book_folder", "context_files", "since")


class GateSettings(BaseModel):
    """What a challenger must show on the held-out rows (see ``training.promotion``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: FZ0 at any one horizon and level: refused where the mean difference to a rival has a HAC t above this.
    worse_t: FiniteFloat = Field(2.0, gt=0)
    #: The same for the mean over all horizons and levels, which is less noisy and so held tighter.
    worse_t_overall: FiniteFloat = Field(1.64, gt=0)
    #: Probability of refusing a model with true coverage for too many hits, over all cells together.
    too_many_hits_error: FiniteFloat = Field(0.01, gt=0, lt=1)
    #: The same for too few hits. Margin that is too high costs money, not safety, so it is refused less
    #: readily.
    too_few_hits_error: FiniteFloat = Field(1e-6, gt=0, lt=1)
    #: Fewer common held-out days than this tell nothing, and the champion stays.
    minimum_days: int = Field(14, gt=0)


class TrainingSettings(Section):
    """``[training]``. Horizons and levels may be given as text (``1h,4h,24h``) or as lists."""

    model_config = SettingsConfigDict(env_prefix="FOREMARGIN_TRAINING__")
    table = "training"

    model: str = "refined"
    #: What every model must hold its own against, and is drawn against; the first is the reference.
    baselines: Annotated[tuple[str, ...], NoDecode] = ("ewma",)
    horizons: Annotated[tuple[str, ...], NoDecode] = ("1h", "4h", "24h")
    levels: Annotated[tuple[FiniteFloat, ...], NoDecode] = (0.975, 0.99)
    #: Bar symbols, the leader first; None: all of the folder, in its order.
    symbols: Annotated[tuple[str, ...] | None, NoDecode] = None
    #: Folders of finer bars beneath the bars, each of an interval of its own.
    finer_folders: Annotated[tuple[Path, ...], NoDecode] = ()
    #: A folder of book columns beside the bars.
    book_folder: Path | None = None
    #: Files of series from elsewhere, or folders of them: funding, a volatility index, open interest,
    #: liquidations.
    context_files: Annotated[tuple[Path, ...], NoDecode] = ()
    #: Bars that closed before this are not used (UTC where it has no zone); None: all are.
    since: datetime | None = None
    #: The newest days, which no challenger trains on: it is judged there.
    evaluation_days: int = Field(60, gt=0)
    #: Less history than this before the evaluation is refused.
    minimum_train_days: int = Field(90, gt=0)
    #: ``nightly`` refuses to train where the champion has already seen all but this much.
    minimum_new_hours: FiniteFloat = Field(12, ge=0)
    #: ``nightly`` refuses bars of which a larger share is missing in any symbol.
    maximum_missing_share: FiniteFloat = Field(0.05, ge=0, lt=1)
    #: MLflow experiment and registered model.
    experiment: str = "foremargin"
    gate: GateSettings = GateSettings()

    @field_validator(
        *("baselines", "horizons", "levels", "symbols", "finer_folders", "context_files"), mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("horizons")
    @classmethod
    def _horizons_are_durations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("horizons are empty; give at least one, 1h say")
        durations = sorted(parse_duration(h) for h in value)
        if len(set(durations)) != len(durations):
            raise ValueError(f"horizons {list(value)} repeat one; give each once")
        return tuple(format_duration(d) for d in durations)

    @field_validator("levels")
    @classmethod
    def _levels_are_tail_levels(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0.5 < level < 1 for level in value):
            raise ValueError(f"levels are {list(value)}; give confidences above 0.5 and below 1, 0.99 say")
        return tuple(sorted(set(value)))

    @field_validator("since")
    @classmethod
    def _since_in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @field_validator("baselines")
    @classmethod
    def _some_baseline(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("baselines are empty; give at least one, ewma say")
        return value

    @model_validator(mode="after")
    def _long_enough_to_judge(self) -> Self:
        if self.evaluation_days < self.gate.minimum_days:
            raise ValueError(
                f"evaluation_days {self.evaluation_days} is below gate.minimum_days "
                f"{self.gate.minimum_days}; no challenger could ever be judged"
            )
        return self

    @property
    def horizon_durations(self) -> tuple[pd.Timedelta, ...]:
        return tuple(parse_duration(h) for h in self.horizons)

    @property
    def model_levels(self) -> tuple[float, ...]:
        """The levels asked for, and the one of the circuit breaker, which every model gives."""
        return tuple(sorted({*self.levels, BREAKER_LEVEL}))

    @property
    def evaluation(self) -> pd.Timedelta:
        return pd.Timedelta(days=self.evaluation_days)

    def source(
        self, bars: Path, interval: pd.Timedelta | None = None, symbols: tuple[str, ...] | None = None
    ) -> MarketSource:
        """A folder of bars with everything beneath and beside it; ``symbols`` in place of our own."""
        since = None if self.since is None else pd.Timestamp(self.since)
        chosen = self.symbols if symbols is None else symbols
        return MarketSource(
            bars, interval, chosen, self.finer_folders, self.book_folder, self.context_files, since
        )

    def digest(self) -> str:
        """Hex SHA-256 over every setting but those that say where the data lies, and the code version: what
        besides the data decides the outcome."""
        settings = self.model_dump(mode="json", exclude=set(WHERE_DATA_LIES))
        content = {"settings": settings, "code": code_version()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
