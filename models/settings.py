"""Settings: where they are read from, and those of the margin itself, which training and serving share.

``foremargin.toml`` in the working directory (or the file that ``FOREMARGIN_SETTINGS`` names) has one table an
application: ``[margin]``, ``[training]``, ``[serving]``. A variable ``FOREMARGIN_SERVING__PORT=3001``
overrides the file's ``[serving] port``; arguments override both. Unknown keys are refused everywhere.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from models.margin.limits import Limits

TABLES = ("margin", "training", "serving")


class SettingsError(ValueError):
    """The settings file cannot be used; the message names the file, the key and the remedy."""


def _read_table(table: str) -> dict[str, Any]:
    path = Path(os.environ.get("FOREMARGIN_SETTINGS", "foremargin.toml"))
    if not path.exists():
        if "FOREMARGIN_SETTINGS" in os.environ:
            raise SettingsError(f"settings file {path} does not exist; correct or unset FOREMARGIN_SETTINGS")
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings file {path} is not valid TOML: {error}") from error
    unknown = sorted(set(content) - set(TABLES))
    if unknown:
        raise SettingsError(f"settings file {path} has unknown tables {unknown}; it may have {list(TABLES)}")
    found: dict[str, Any] = content.get(table, {})
    return found


class Section(BaseSettings):
    """One table of the settings file. A subclass names its ``table`` and its ``env_prefix``."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_nested_delimiter="__", validate_default=True
    )
    table: ClassVar[str]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 # not read: the file is the one source
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 # likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        prefix = str(cls.model_config["env_prefix"])
        unknown = sorted(
            key
            for key in os.environ
            if key.startswith(prefix)
            and key.removeprefix(prefix).split("__")[0].lower() not in cls.model_fields
        )
        if unknown:
            raise SettingsError(
                f"variables {unknown} set nothing; [{cls.table}] has {sorted(cls.model_fields)}"
            )
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, init_kwargs=_read_table(cls.table)),
        )


def in_words(error: ValidationError, section: type[Section]) -> str:
    """The first refusal of a section's settings in one line: table, key, value, bound and remedy. Values of
    keys that may hold secrets (tokens, URLs) are left out."""
    unknown = ("extra_forbidden", "unexpected_keyword_argument")
    found = error.errors()
    # A key that is misspelt is missing under its right name too.
    first = next((e for e in found if e["type"] in unknown), found[0])
    path = [str(part) for part in first["loc"]]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in unknown:
        table = ".".join((section.table, *path[:-1]))
        keys = _keys(section, path[:-1])
        close = get_close_matches(path[-1], keys, n=1)
        meant = f"; did you mean {close[0]}" if close else ""
        return f"[{table}] has no key {path[-1]}{meant}; it has {sorted(keys)}: correct it or leave it out"
    if first["type"] == "value_error":
        return f"[{section.table}] {'.'.join(path)}: {message}" if path else f"[{section.table}] {message}"
    value = first["input"]
    secret = any(word in part for part in path for word in ("token", "database"))
    shown = f" is {value!r}" if isinstance(value, str | int | float) and not secret else ""
    return (
        f"[{section.table}] {'.'.join(path)}{shown}: {message}; correct it, or leave it out for the default"
    )


def _keys(section: type[Section], path: Sequence[str]) -> list[str]:
    """The keys that a table may have."""
    kind: Any = section
    for part in path:
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields) if issubclass(kind, BaseModel) else [f.name for f in fields(kind)]


class KindSettings(BaseModel):
    """What one kind of margin must withstand: ES at ``level`` over ``horizon_s``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: FiniteFloat = Field(0.99, gt=0.5, lt=1)
    horizon_s: int = Field(gt=0)

    @property
    def horizon(self) -> pd.Timedelta:
        return pd.Timedelta(seconds=self.horizon_s)


class MarginSettings(Section):
    """``[margin]``: what the margin must withstand, the venue's base rates, the safety engine's limits."""

    model_config = SettingsConfigDict(env_prefix="FOREMARGIN_MARGIN__")
    table = "margin"

    initial: KindSettings = KindSettings(horizon_s=4 * 3600)
    maintenance: KindSettings = KindSettings(horizon_s=3600)
    #: The venue's static rates by symbol and kind, fractions of notional; others are through-the-cycle.
    base_rates: dict[str, dict[str, FiniteFloat]] = Field(default_factory=dict)
    #: Where a venue gives no rate and history is too short for a through-the-cycle one.
    default_base_rate: dict[str, FiniteFloat] = Field(
        default_factory=lambda: {"initial": 0.10, "maintenance": 0.05}
    )
    limits: Limits = Field(default_factory=Limits)

    @field_validator("limits", mode="before")
    @classmethod
    def _no_limit_is_a_truth_value(cls, value: object) -> object:
        # Read as numbers, true and false would be 1 and 0.
        for key, limit in value.items() if isinstance(value, dict) else ():
            if isinstance(limit, bool):
                raise ValueError(
                    f"limit {key} is {limit}; it must be a number; correct it in [margin.limits] or leave it "
                    f"out for the default"
                )
        return value

    @field_validator("default_base_rate")
    @classmethod
    def _default_is_a_pair(cls, value: dict[str, float]) -> dict[str, float]:
        return _checked_pair("default_base_rate", value)

    @field_validator("base_rates")
    @classmethod
    def _base_rates_are_pairs(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        return {symbol: _checked_pair(f"base_rates.{symbol}", pair) for symbol, pair in value.items()}

    @model_validator(mode="after")
    def _initial_holds_longer(self) -> Self:
        if self.initial.horizon_s < self.maintenance.horizon_s:
            raise ValueError(
                f"initial.horizon_s {self.initial.horizon_s} is below maintenance.horizon_s "
                f"{self.maintenance.horizon_s}; initial margin must cover at least as long"
            )
        return self


def _checked_pair(name: str, pair: dict[str, float]) -> dict[str, float]:
    if set(pair) != {"initial", "maintenance"}:
        raise ValueError(f"{name} has {sorted(pair)}; give initial and maintenance")
    if not 0 < pair["maintenance"] <= pair["initial"] <= 1:
        raise ValueError(f"{name} is {pair}; rates are fractions with 0 < maintenance <= initial <= 1")
    return pair
