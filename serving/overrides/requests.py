"""What people send to ``/v1/overrides``: strict JSON types, no unknown fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from serving.requests import Number, Symbol
from serving.settings import IDENTITY_PATTERN

Identity = Annotated[str, StringConstraints(pattern=rf"^{IDENTITY_PATTERN}$")]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
_FORBID = ConfigDict(extra="forbid", frozen=True)


class SetRequest(BaseModel):
    """``POST /v1/overrides``: one order. ``multiplier`` belongs to ``floor`` and ``cap``, ``rung`` to
    ``rung``; the end is a time (``expires_at``) or a duration from now (``lasts_s``)."""

    model_config = _FORBID

    kind: Literal["freeze", "floor", "cap", "rung", "kill"]
    reason: Reason
    symbol: Symbol | None = Field(None, description="the contract; left out: every contract")
    multiplier: Number | None = Field(None, description="a multiple of the base rate")
    rung: Literal["last_good", "rules", "static", "cap"] | None = None
    expires_at: Annotated[AwareDatetime, Field(strict=True)] | None = Field(
        None, description="ISO 8601 with its time zone"
    )
    lasts_s: Number | None = Field(None, description="seconds from now by the server's clock")
    by: Identity | None = Field(
        None, description="who orders it; only where the server has no override_tokens, which say it"
    )


class ConfirmRequest(BaseModel):
    """``POST /v1/overrides/ID/confirm``."""

    model_config = _FORBID

    by: Identity | None = None


class EndRequest(BaseModel):
    """``POST /v1/overrides/ID/end``."""

    model_config = _FORBID

    reason: Reason
    by: Identity | None = None
