"""What ``TradeBars`` can be told, with units in the names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TradeSettings(BaseModel):
    """Settings of the trade columns; they travel in the state of ``TradeBars``.

    What is usual (the size beyond which a trade is large, the volume of a bucket) is set anew at every whole
    multiple of ``usual_refresh_s`` since 1970 UTC from the trades before it, see ``features.trades.usual``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: A trade is large where this share of recent trades was smaller.
    large_quantile: float = Field(default=0.99, gt=0, lt=1)
    usual_refresh_s: _Seconds = 3600.0
    usual_half_life_s: _Seconds = 86400.0
    #: Until this much has been seen nothing is called usual: large share and VPIN are NaN.
    usual_warm_up_s: _Seconds = 4 * 3600.0
    #: A volume bucket holds the usual volume of a day divided by this.
    buckets_per_day: float = Field(default=50.0, gt=0, allow_inf_nan=False)
    #: VPIN is the mean over this many full buckets.
    vpin_buckets: int = Field(default=50, ge=1, le=10_000)
    #: An interval without trades that closes within this of the last trade has a flat bar; a later one is
    #: missing.
    longest_silence_s: _Seconds = 3600.0

    @model_validator(mode="after")
    def _warm_up_ends(self) -> TradeSettings:
        if self.usual_warm_up_s > self.usual_half_life_s:
            raise ValueError(
                f"usual_warm_up_s is {self.usual_warm_up_s:g} and usual_half_life_s is "
                f"{self.usual_half_life_s:g}; what fades must be known before: give a warm-up of at most the "
                f"half-life"
            )
        return self
