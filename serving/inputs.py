"""What a champion's features read, and which of its inputs are unknown.

A feature for which the server has no column or no finer grid is NaN (``features.pipeline``), and the model
does what it does with an unknown input (a network takes the usual value, trees have a branch for it). Which
inputs were unknown is told with each decision; nothing is filled in silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from features.bars import Market
from features.columns import EXTRA_COLUMNS
from features.durations import format_duration
from features.pipeline import FeatureFrame, Pipeline, all_features

NO_TIME = pd.Timedelta(0)
#: How long the columns of trades and books on the decision grid are kept.
COLUMNS_DAYS = 60


@dataclass(frozen=True)
class Asked:
    """What features read beyond the bars of the decision grid: columns of it, and columns by finer grid; and
    how far back they look at each."""

    columns: tuple[str, ...] = ()
    finer: Mapping[pd.Timedelta, tuple[str, ...]] = field(default_factory=dict)
    columns_look_back: pd.Timedelta = NO_TIME
    finer_look_back: pd.Timedelta = NO_TIME

    @classmethod
    def by(cls, pipeline: Pipeline) -> Asked:
        """By the features that were chosen."""
        columns: dict[str, None] = {}
        finer: dict[pd.Timedelta, dict[str, None]] = {}
        beside, under = [NO_TIME], [NO_TIME]
        for feature in pipeline.chosen:
            read = (*feature.needs, *feature.uses)
            extra = [c for c in read if c in EXTRA_COLUMNS]
            if feature.resolution is not None:
                finer.setdefault(feature.resolution, {}).update(dict.fromkeys(read))
                under.append(feature.look_back)
            elif extra:
                columns.update(dict.fromkeys(extra))
                beside.append(feature.look_back)
        return cls(tuple(columns), {r: tuple(n) for r, n in finer.items()}, max(beside), max(under))

    def refuse_longer(self, finer_history: pd.Timedelta) -> None:
        """Raise ``ValueError`` where a feature looks back further than is kept: it would not be what it was
        in training."""
        if self.finer_look_back > finer_history:
            raise ValueError(
                f"the champion looks back {format_duration(self.finer_look_back)} at finer bars and "
                f"{format_duration(finer_history)} are kept; set [serving] finer_history_days"
            )
        if self.columns_look_back > pd.Timedelta(days=COLUMNS_DAYS):
            raise ValueError(
                f"the champion looks back {format_duration(self.columns_look_back)} at columns of trades or "
                f"books and {COLUMNS_DAYS} days are kept; train one that looks back less"
            )


#: Lays what is asked for beneath and beside a market of the decision grid, as far as it is there.
LayUnder = Callable[[Market, Asked], Market]


def nothing_finer(market: Market, asked: Asked) -> Market:  # noqa: ARG001 - the form of LayUnder
    """Of a server that takes bars of the decision interval alone."""
    return market


@dataclass(frozen=True)
class Known:
    """What was known of a contract beyond its bars when the champion looked.

    Attributes:
        finer_until_s: the newest finer close that was used; None where there was none.
        missing: inputs of the model that were unknown, by family.
    """

    finer_until_s: int | None = None
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the decision's record has it: every input by name."""
        return {
            "finer_until_s": self.finer_until_s,
            "missing": {family: list(names) for family, names in self.missing.items()},
        }


def missing_inputs(frame: FeatureFrame, read: Iterable[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """By symbol and family: those of the features ``read`` that are NaN in the frame's last row."""
    family = {output: f.family for f in all_features() for output in f.outputs}
    names = [n for n in frame.names if n in set(read)]
    found: dict[str, dict[str, tuple[str, ...]]] = {s: {} for s in frame.symbols}
    for name in names:
        for symbol, value in zip(frame.symbols, frame[name][-1], strict=True):
            if np.isnan(value):
                here = found[symbol]
                here[family[name]] = (*here.get(family[name], ()), name)
    return found
