"""``[training]``: what is trained, how much is held out, and what earns a promotion."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from features.durations import format_duration, parse_duration
from models.artifact import code_version
from models.forecast.base import BREAKER_LEVEL
from models.settings import Section


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

    model: str = "ensemble"
    #: What every model must hold its own against, and is drawn against; the first is the reference.
    baselines: Annotated[tuple[str, ...], NoDecode] = ("ewma",)
    horizons: Annotated[tuple[str, ...], NoDecode] = ("1h", "4h", "24h")
    levels: Annotated[tuple[FiniteFloat, ...], NoDecode] = (0.975, 0.99)
    #: Bar symbols, the leader first; None: all of the folder, in its order.
    symbols: Annotated[tuple[str, ...] | None, NoDecode] = None
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

    @field_validator("baselines", "horizons", "levels", "symbols", mode="before")
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

    def digest(self) -> str:
        """Hex SHA-256 over every setting and the code version: what besides the data decides the outcome."""
        content = {"settings": self.model_dump(mode="json"), "code": code_version()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
