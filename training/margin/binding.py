"""What the engine did to a requirement: the clamp gap, the time on each rung, the rules that bound.

The clamp gap of a row is ``max(required - served, 0)``, a fraction of notional: what the limits withheld.
What is served above the requirement, by floors and slow falls, is told beside it; it is cost, not risk.
Series that no engine answered have a gap, but no rung and no rules.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.margin.types import MODES, RUNGS
from training.margin.served import NONE, Codes, ServedMargin
from training.margin.shortfall import MILLION

Array = NDArray[np.float64]

#: What ``clamp_gap`` tells, in its order.
GAPS = ("withheld", "mean_gap", "worst_gap", "above", "mean_above")
#: Gaps below it are rounding.
_ROUNDING = 1e-12
#: The worst rung that a live feed may need.
_LOWEST_ALLOWED = RUNGS.index("rules")
_DEAD = MODES.index("dead")


def clamp_gap(required: Array, rate: Array) -> dict[str, float]:
    """The gap of some rows, of any shape; those without a required or served rate (NaN) are left out.

    ``withheld`` is the share of rows with a gap, ``mean_gap`` and ``worst_gap`` its size, ``above`` the share
    of rows served above the requirement, ``mean_above`` by how much. Sizes are per million of notional, means
    over all rows; NaN where there is no row.
    """
    gap = required - rate
    gap = gap[~np.isnan(gap)]
    if gap.size == 0:
        return dict.fromkeys(GAPS, float("nan"))
    short, above = np.maximum(gap, 0.0), np.maximum(-gap, 0.0)
    found = (
        *((short > _ROUNDING).mean(), MILLION * short.mean(), MILLION * short.max()),
        *((above > _ROUNDING).mean(), MILLION * above.mean()),
    )
    return {name: float(value) for name, value in zip(GAPS, found, strict=True)}


def clamp_gaps(margins: Mapping[tuple[str, str], ServedMargin]) -> pd.DataFrame:
    """``clamp_gap`` of all contracts together, a row per series and kind."""
    return pd.DataFrame(
        [
            {"series": series, "kind": kind, **clamp_gap(margin.required, margin.rate)}
            for (series, kind), margin in margins.items()
        ]
    )


def clamp_gaps_by_contract(margins: Mapping[tuple[str, str], ServedMargin]) -> pd.DataFrame:
    """``clamp_gap`` of each contract, a row per series, kind, symbol and side."""
    return pd.DataFrame(
        [
            {
                **{"series": series, "kind": kind, "symbol": symbol, "side": side},
                **clamp_gap(margin.required[:, column], margin.rate[:, column]),
            }
            for (series, kind), margin in margins.items()
            for column, (symbol, side) in enumerate(margin.contracts)
        ]
    )


def rung_shares(rung: Codes) -> dict[str, float]:
    """The share of rows on each rung, of any shape of codes; all NaN where no engine answered."""
    answered = rung[rung != NONE]
    if answered.size == 0:
        return dict.fromkeys(RUNGS, float("nan"))
    counts = np.bincount(answered, minlength=len(RUNGS)) / answered.size
    return {name: float(share) for name, share in zip(RUNGS, counts, strict=True)}


def lowest_rung(rung: Codes) -> str:
    """The lowest rung that answered; empty where none did."""
    return "" if (rung == NONE).all() else RUNGS[int(rung.max())]


def while_alive(rung: Codes, mode: Codes) -> Codes:
    """The rungs that answered while the feed was not dead; ``NONE`` where it was."""
    return np.where(mode == _DEAD, np.int8(NONE), rung)


def rungs(margins: Mapping[tuple[str, str], ServedMargin]) -> pd.DataFrame:
    """A row per series and symbol that an engine answered: its time on each rung (a share), in which mode its
    feed was, and ``below_rules_alive``, how many rows a rung below ``rules`` answered although the feed was
    not dead. All values of a contract share their rung, so one kind stands for both.
    """
    lines = []
    answered = {series: margin for (series, _), margin in margins.items() if not (margin.rung == NONE).all()}
    for series, margin in answered.items():
        for symbol, columns in margin.by_symbol().items():
            rung, mode = margin.rung[:, columns[0]], margin.mode[:, columns[0]]
            if (rung == NONE).all():
                continue
            known = mode[mode != NONE]
            modes = np.bincount(known, minlength=len(MODES)) / max(known.size, 1)
            below = while_alive(rung, mode) > _LOWEST_ALLOWED
            lines.append(
                {
                    **{"series": series, "symbol": symbol, "rows": int((rung != NONE).sum())},
                    **rung_shares(rung),
                    **{f"feed_{name}": share for name, share in zip(MODES, modes, strict=True)},
                    "below_rules_alive": int(below.sum()),
                }
            )
    return pd.DataFrame(lines, columns=_RUNG_COLUMNS)


_RUNG_COLUMNS = [
    *("series", "symbol", "rows"),
    *RUNGS,
    *(f"feed_{name}" for name in MODES),
    "below_rules_alive",
]


def rules_that_bound(table: pd.DataFrame) -> pd.DataFrame:
    """A row per series, kind and rule of a margin table: ``share``, in how many of its rows the rule bound.

    ``rules`` holds the names, comma-separated; series without any are left out.
    """
    keys = ["series", "kind"]
    counts = table.assign(rules=table["rules"].fillna("")).groupby([*keys, "rules"], sort=False).size()
    total = counts.groupby(keys, sort=False).sum()
    each = counts.rename("bound").reset_index()
    each["rule"] = each["rules"].str.split(",")
    each = each.explode("rule")
    each["rule"] = each["rule"].str.strip()
    found = each[each["rule"] != ""].groupby([*keys, "rule"], sort=False)["bound"].sum().reset_index()
    rows = pd.MultiIndex.from_frame(found[keys])
    shares = found["bound"].to_numpy() / total.reindex(rows).to_numpy()
    answer = found[[*keys, "rule"]].assign(share=shares)
    return answer.sort_values([*keys, "share"], ascending=[True, True, False], ignore_index=True)
