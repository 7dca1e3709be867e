"""What a reader of trade files is asked and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from features.sources.trades_times import TimeUnit
from features.trades.arrays import Trades, Whole


class TradeChoice(BaseModel):
    """Which trades of a file, and how to read them.

    ``symbol`` chooses rows where a parquet file has a column ``symbol``, and ``market`` where it has one of
    that name; ``side_column`` names the one that says who was the aggressor; None: no side is
    read, and ``buy`` of the trades means nothing. ``time_unit``, where times are
    whole numbers, None: their magnitude tells it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    market: str | None = None
    side_column: str | None = "side"
    time_unit: TimeUnit | None = None


@dataclass(frozen=True)
class Piece:
    """Some trades in a row: ``rows`` their row numbers in the file ``where`` (or that of the first), and the
    ``share`` of the file that is read with them."""

    where: str
    rows: Whole | int
    trades: Trades
    share: float
