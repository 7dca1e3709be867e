"""Whether trades can be what they say: each by itself, and each against the one before it.

``check_values`` needs no memory: impossible prices and sizes, times in the wrong unit. ``TradeChecks`` goes
through a tape piece by piece: order of time, repeated ids, absurd price steps are refused; missing ids and
sides that disagree with the tick rule are counted, warned of, and the former refused where they are too many.

The tick rule takes a trade above the price before it for a buy and one below for a sale. Where the price
changed, the recorded sides of good feeds disagree with it for 2 to 20 % of trades; sides that know nothing
disagree for half.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from features.bars import BarError
from features.trades.arrays import Trades, Whole

#: Whoever traded before or trades after this has mistaken the unit of time.
EARLIEST_NS = int(pd.Timestamp("2009-01-01", tz="UTC").value)
LATEST_NS = int(pd.Timestamp("2100-01-01", tz="UTC").value)

#: Where ids are in no order, repeats are looked for among this many trades before, at least.
REMEMBERED_IDS = 1 << 18
# A disagreement over fewer price changes than this says nothing.
_LEAST_CHANGES = 100
# Ids count upwards where this share of the first steps is positive; else they are labels without order.
_ORDERED = 0.99
_TWICE = "the id occurs twice"
_SORT = "sort the trades by time and id, and leave out what was sent twice (repeats)"


class TradeError(BarError):
    """A trade breaks a rule; ``row`` is the 0-based row of its file, its header not counted."""


class CheckSettings(BaseModel):
    """The bounds of what is believed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Above this share of missing ids the tape is refused; below it is warned of.
    most_missing_ids: float = Field(default=0.2, ge=0, le=1)
    #: The highest price over the lowest of two trades in a row.
    largest_price_step: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 10.0
    #: Price times size of one trade, quote currency.
    largest_turnover: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e12
    #: Warned of above this share of price changes against the recorded side.
    most_disagreement: float = Field(default=0.3, gt=0, le=1)
    #: A trade whose id was there before is refused, or left out and counted. Feeds that were recorded through
    #: a broken connection have such.
    repeats: Literal["refuse", "leave_out"] = "refuse"
    #: ``ordered`` ids count up by one a trade, ``unordered`` ones are labels; ``auto`` looks at the first
    #: trades.
    ids: Literal["auto", "ordered", "unordered"] = "auto"


def check_values(trades: Trades, where: str, rows: Whole | int = 0, largest_turnover: float = 1e12) -> None:
    """Raise ``TradeError`` at the first trade whose time, price or size is impossible.

    Args:
        where: what to call the trades in errors, the file name say.
        rows: row number of each trade, or of the first.
        largest_turnover: bound of price times size.
    """
    t = trades
    outside = (t.time_ns < EARLIEST_NS) | (t.time_ns >= LATEST_NS)
    shown = [str(pd.Timestamp(int(x))) for x in t.time_ns[outside][:1]]
    _refuse(
        outside, where, rows, "timestamp", shown, "it lies outside 2009 to 2100",
        "check the unit of time: s, ms, us and ns since 1970 differ by factors of 1000",
    )  # fmt: skip
    for name, values in (("price", t.price), ("size", t.size)):
        bad = ~(np.isfinite(values) & (values > 0))
        _refuse(
            bad, where, rows, name, values[bad][:1], f"{name} is not a number above 0",
            "get the file again from its source, or leave the row out",
        )  # fmt: skip
    bad = t.price * t.size > largest_turnover
    _refuse(
        bad, where, rows, "size", t.size[bad][:1], f"price times size is above {largest_turnover:g}",
        "check that size is in base currency; raise largest_turnover where it is right",
    )  # fmt: skip


def _refuse(
    bad: NDArray[np.bool_], where: str, rows: Whole | int, column: str, value: object, rule: str, remedy: str
) -> None:
    """``value`` is a sequence whose first element is the value of the first bad row."""
    if bad.any():
        row = int(bad.argmax())
        raise TradeError(
            where,
            rule,
            remedy,
            row=row + rows if isinstance(rows, int) else int(rows[row]),
            column=column,
            value=value[0],  # type: ignore[index]
            count=int(bad.sum()),
        )


@dataclass(frozen=True)
class TapeReport:
    """What was counted. ``missing_ids`` lie within files, ``holes`` are between files; ``repeats`` were left
    out."""

    trades: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    repeats: int = 0
    missing_ids: int = 0
    largest_id_gap: int = 0
    holes: int = 0
    price_changes: int = 0
    disagreements: int = 0

    @property
    def missing_share(self) -> float:
        """Of the ids between the first and the last of each file; 0 where ids say nothing."""
        return self.missing_ids / max(1, self.missing_ids + self.trades)

    @property
    def disagreement(self) -> float:
        """Share of price changes against the recorded side; NaN without any."""
        return self.disagreements / self.price_changes if self.price_changes else float("nan")


class TradeChecks:
    """Goes through the trades of one symbol, in their order."""

    def __init__(self, settings: CheckSettings | None = None) -> None:
        self.settings = settings or CheckSettings()
        self.report = TapeReport()
        self._where, self._row = "", -1
        self._last: Trades | None = None
        self._ordered: bool | None = {"ordered": True, "unordered": False}.get(self.settings.ids)
        self._remembered: Whole = np.zeros(0, dtype="int64")

    def check(self, trades: Trades, where: str, rows: Whole | int = 0) -> Trades:
        """The next trades, checked; ids that have no order are taken off, for nothing is missing between
        them. Raises ``TradeError``."""
        if len(trades) == 0:
            return trades
        s = self.settings
        check_values(trades, where, rows, s.largest_turnover)
        ids = trades.id
        if ids is not None:
            again = self._seen(ids)
            if s.repeats == "leave_out":
                self.report = replace(self.report, repeats=self.report.repeats + int(again.sum()))
                rows = (np.arange(len(trades)) + rows if isinstance(rows, int) else rows)[~again]
                trades = trades.rows(~again)
                if len(trades) == 0:
                    return trades
            elif not self._ordered:
                _refuse(again, where, rows, "trade_id", ids[again][:1], _TWICE, _SORT)
        # With the trade before in front, each is compared with the one before it.
        joined = trades if self._last is None else Trades.joined([self._last, trades])
        first = len(joined) - len(trades)
        at = rows + 1 - first if isinstance(rows, int) else rows[1 - first :]
        row = int(rows if isinstance(rows, int) else rows[0])
        seam = first == 1 and (where != self._where or row <= self._row)
        remedy = _SORT
        if seam:
            remedy = "give the files in the order of their times, and leave out those that overlap"
        back = np.diff(joined.time_ns) < 0
        shown = [str(pd.Timestamp(int(x))) for x in joined.time_ns[1:][back][:1]]
        _refuse(back, where, at, "timestamp", shown, "it is earlier than the trade before", remedy)
        self._check_ids(joined, where, at, seam, remedy)
        before, price = joined.price[:-1], joined.price[1:]
        step = s.largest_price_step
        absurd = (price > step * before) | (price * step < before)
        _refuse(
            absurd, where, at, "price", price[absurd][:1],
            f"it is more than {step:g} times the price before, or less than 1/{step:g} of it",
            "check the row; raise largest_price_step where such trades are real",
        )  # fmt: skip
        changed = price != before
        changes = int(np.count_nonzero(changed))
        agreed = int(np.count_nonzero(changed & ((price > before) == joined.buy[1:])))
        self.report = replace(
            self.report,
            trades=self.report.trades + len(trades),
            first_ns=int(trades.time_ns[0]) if self.report.first_ns is None else self.report.first_ns,
            last_ns=int(trades.time_ns[-1]),
            price_changes=self.report.price_changes + changes,
            disagreements=self.report.disagreements + changes - agreed,
        )
        # A copy: a view would keep the whole piece.
        self._last, self._where = trades.rows(np.array([-1])), where
        self._row = row if isinstance(rows, int) else int(rows[-1])
        return trades if self._ordered else replace(trades, id=None)

    def finish(self, sided: bool = True) -> list[str]:
        """The tape is over: warnings, one sentence each; of sides only where there are any. Raises
        ``TradeError`` where too many ids are missing."""
        r, s = self.report, self.settings
        warnings = []
        if r.repeats:
            warnings.append(f"{r.repeats:,} trades were left out: their ids had been there before")
        if r.missing_ids:
            told = (
                f"{r.missing_ids:,} ids are missing ({r.missing_share:.1%}, at most "
                f"{r.largest_id_gap:,} in a row)"
            )
            if r.missing_share > s.most_missing_ids:
                raise TradeError(
                    self._where,
                    f"{told}, more than {s.most_missing_ids:.1%}",
                    "get the tape whole; raise most_missing_ids to use it as it is",
                )
            warnings.append(f"{told}: volumes are too low by as much; no bar is made where they may lie")
        if r.holes:
            warnings.append(f"ids are missing between files in {r.holes} places: no bar is made there")
        if sided and r.price_changes >= _LEAST_CHANGES and r.disagreement > s.most_disagreement:
            warnings.append(
                f"the recorded side disagrees with the tick rule at {r.disagreement:.0%} of price changes "
                f"(2 to 20% is ordinary, 50% is chance): what is bought and sold here is not to be believed; "
                f"choose another column for the side, or do without taker columns"
            )
        return warnings

    def _check_ids(self, joined: Trades, where: str, at: Whole | int, seam: bool, remedy: str) -> None:
        ids = joined.id
        if ids is None or not self._ordered:
            return
        steps = np.diff(ids)
        shown = ids[1:][steps <= 0][:1]
        _refuse(steps == 0, where, at, "trade_id", shown, _TWICE, remedy)
        _refuse(steps < 0, where, at, "trade_id", shown, "the id is smaller than that before", remedy)
        gaps = steps - 1
        if seam:
            self.report = replace(self.report, holes=self.report.holes + int(gaps[0] > 0))
            gaps = gaps[1:]
        if len(gaps):
            self.report = replace(
                self.report,
                missing_ids=self.report.missing_ids + int(gaps.sum()),
                largest_id_gap=max(self.report.largest_id_gap, int(gaps.max())),
            )

    def _seen(self, ids: Whole) -> NDArray[np.bool_]:
        """Which ids were there before. Ordered ones: all up to the highest; others: those remembered."""
        if self._ordered is None:
            self._ordered = bool(np.mean(np.diff(ids) > 0) >= _ORDERED) if len(ids) > 1 else False
        if self._ordered:
            before = None if self._last is None else self._last.id
            last = ids[0] - 1 if before is None else before[-1]
            highest = np.maximum.accumulate(np.append(last, ids))
            seen: NDArray[np.bool_] = ids <= highest[:-1]
            return seen
        known = np.concatenate([self._remembered, ids])
        seen = np.ones(len(known), dtype=bool)
        seen[np.unique(known, return_index=True)[1]] = False
        seen = seen[len(self._remembered) :]
        self._remembered = known[-REMEMBERED_IDS:]
        return seen
