"""Which features there are, what they need, and the two ways to run them: a whole history, or the last bar.

A family file (``volatility.py``, ``flow.py``, ...) ends with a tuple ``FEATURES``; ``all_features`` discovers
them. Batch and online run the same function: online calls it on the newest ``look_back`` bars and keeps the
last row.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import features
from features.bars import Market
from features.durations import format_duration, window_bars

#: What a feature learned on a training window: JSON values only.
State = dict[str, Any]


@dataclass(frozen=True)
class Feature:
    """One feature, or a few that share a computation.

    Attributes:
        outputs: the names of the frames it gives; for most features one, the feature's own name.
        family: the file it lives in.
        look_back: the oldest bar that the newest row may depend on, as a duration; older ones have no effect.
        needs: the columns it reads; where the market lacks one, the feature is absent.
        compute: ``(market, state) -> one wide frame per output``; row ``t`` uses bars up to ``t`` only.
        fit: learns ``state`` from a training market; None for a feature that learns nothing.
        tolerance: how far online may differ from batch, relative to max(1, |value|).
        resolution: None where ``needs`` are columns of the decision grid; else they are columns of the finer
            grid of this interval beneath it, ``market.finer``. Its frames are on the decision grid all the
            same.
        uses: further columns of the same grid that it reads where the market has them.
        below: it is left out where decision bars are not shorter than this, since it would say nothing new.
    """

    outputs: tuple[str, ...]
    family: str
    look_back: pd.Timedelta
    needs: tuple[str, ...]
    compute: Callable[[Market, State], Mapping[str, pd.DataFrame]]
    fit: Callable[[Market], State] | None = None
    tolerance: float = 1e-9
    resolution: pd.Timedelta | None = None
    below: pd.Timedelta | None = None
    uses: tuple[str, ...] = ()

    def lacks(self, market: Market) -> str | None:
        """What it needs and the market does not have, in words; None where it can be computed."""
        if self.below is not None and market.interval >= self.below:
            return f"bars shorter than {format_duration(self.below)}"
        if self.resolution is None:
            absent = [c for c in self.needs if c not in market]
            return f"columns {absent}" if absent else None
        beneath = format_duration(self.resolution)
        if self.resolution not in market.finer:
            return f"bars of {beneath} beneath its own"
        absent = [c for c in self.needs if c not in market.finer[self.resolution]]
        return f"columns {absent} of its {beneath} bars" if absent else None

    @property
    def name(self) -> str:
        return self.outputs[0]

    @property
    def learns(self) -> bool:
        return self.fit is not None


@cache
def all_features() -> tuple[Feature, ...]:
    """Every feature of every family file, in a stable order. Raises ``ValueError`` where two share a name."""
    found: list[Feature] = []
    for module in sorted(pkgutil.iter_modules(features.__path__), key=lambda m: m.name):
        if not module.ispkg and module.name not in {"__main__", "cli"}:
            found.extend(getattr(importlib.import_module(f"features.{module.name}"), "FEATURES", ()))
    names = [name for f in found for name in f.outputs]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"features {twice} are defined twice; rename one of each")
    return tuple(found)


@dataclass(frozen=True)
class FeatureFrame:
    """Feature values over (time, symbol, feature), float64; NaN where a feature is in warm-up or its bar is
    missing."""

    times: pd.DatetimeIndex
    symbols: tuple[str, ...]
    names: tuple[str, ...]
    interval: pd.Timedelta
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        expected = (len(self.times), len(self.symbols), len(self.names))
        if self.values.shape != expected:
            raise ValueError(
                f"feature values have shape {self.values.shape}; times x symbols x names is {expected}"
            )

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """One feature as an array (time, symbol). Raises ``KeyError`` naming it where it is absent."""
        if name not in self.names:
            raise KeyError(f"feature {name!r} is not in the frame; it has {list(self.names)}")
        return self.values[:, :, self.names.index(name)]

    def matrix(self, names: Iterable[str]) -> NDArray[np.float64]:
        """Rows (time-major, then symbol) x the named features, in that order.

        Raises ``KeyError`` naming those that are absent.
        """
        wanted = tuple(names)
        absent = [n for n in wanted if n not in self.names]
        if absent:
            raise KeyError(f"features {absent} are not in the frame; it has {list(self.names)}")
        picked = [self.names.index(n) for n in wanted]
        return self.values[:, :, picked].reshape(len(self.times) * len(self.symbols), len(picked))

    def rows(self) -> pd.MultiIndex:
        """The (time, symbol) of each row of ``matrix``."""
        return pd.MultiIndex.from_product([self.times, self.symbols], names=["time", "symbol"])

    def between(self, start: pd.Timestamp | None, end: pd.Timestamp | None) -> FeatureFrame:
        """Rows with start <= time <= end; None leaves that end open."""
        first = 0 if start is None else int(self.times.searchsorted(start, side="left"))
        last = len(self.times) if end is None else int(self.times.searchsorted(end, side="right"))
        return FeatureFrame(
            self.times[first:last], self.symbols, self.names, self.interval, self.values[first:last]
        )


@dataclass(frozen=True)
class Pipeline:
    """Chosen features with what they learned; travels in the artifact as JSON (see ``to_json``)."""

    interval: pd.Timedelta
    chosen: tuple[Feature, ...]
    states: Mapping[str, State] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, market: Market, names: Iterable[str] | None = None, optional: Iterable[str] = ()
    ) -> Pipeline:
        """Choose features by output name (None: all that the market allows; those that are ``optional`` where
        it does) and fit those that learn.

        Raises ``ValueError`` for an unknown name, or one whose bar columns the market lacks.
        """
        available = all_features()
        if names is None:
            chosen = tuple(f for f in available if f.lacks(market) is None)
        else:
            wanted, spared = set(names), set(optional)
            unknown = (wanted | spared) - {n for f in available for n in f.outputs}
            if unknown:
                known = sorted(n for f in available for n in f.outputs)
                raise ValueError(f"features {sorted(unknown)} are unknown; choose among {known}")
            chosen = tuple(
                f
                for f in available
                if wanted & set(f.outputs) or (spared & set(f.outputs) and f.lacks(market) is None)
            )
            for f in chosen:
                if lacking := f.lacks(market):
                    raise ValueError(
                        f"feature {f.name} needs {lacking}, which this market lacks; "
                        f"leave it out or use bars that have them"
                    )
        return cls(market.interval, chosen, {f.name: f.fit(market) for f in chosen if f.fit is not None})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(n for f in self.chosen for n in f.outputs)

    @property
    def look_back(self) -> pd.Timedelta:
        return max((f.look_back for f in self.chosen), default=self.interval)

    def only(self, names: Iterable[str]) -> Pipeline:
        """The features that give these outputs, as they were fitted."""
        wanted = set(names)
        chosen = tuple(f for f in self.chosen if wanted & set(f.outputs))
        states = {f.name: self.states[f.name] for f in chosen if f.name in self.states}
        return Pipeline(self.interval, chosen, states)

    def missing(self, market: Market) -> tuple[str, ...]:
        """The outputs of features for which this market has nothing; they are NaN in what is computed."""
        return tuple(n for f in self.chosen if f.lacks(market) is not None for n in f.outputs)

    def batch(self, market: Market, reuse: FeatureFrame | None = None) -> FeatureFrame:
        """Every row of the market. ``reuse``, computed on this same market, spares what does not learn."""
        self._check(market)
        if reuse is not None and not (reuse.times.equals(market.times) and reuse.symbols == market.symbols):
            raise ValueError(
                "reuse covers other times or symbols than this market; compute it on this market"
            )
        values = np.empty((len(market.times), len(market.symbols), len(self.names)))
        column = 0
        for f in self.chosen:
            known = reuse is not None and not f.learns and all(n in reuse.names for n in f.outputs)
            frames = None if known else self._frames(f, market)
            for output in f.outputs:
                if frames is None:
                    assert reuse is not None
                    values[:, :, column] = reuse[output]
                else:
                    values[:, :, column] = frames[output].to_numpy()
                column += 1
        return FeatureFrame(market.times, market.symbols, self.names, self.interval, values)

    def online(self, market: Market) -> FeatureFrame:
        """The newest row only, from the newest ``look_back`` of each feature; equals the last row of
        ``batch``."""
        self._check(market)
        cut = {f.look_back: market.last(window_bars(f.look_back, self.interval)) for f in self.chosen}
        last: list[NDArray[np.float64]] = []
        for f in self.chosen:
            frames = self._frames(f, cut[f.look_back])
            last.extend(frames[o].to_numpy(dtype="float64")[-1] for o in f.outputs)
        values = np.stack(last, axis=-1)[np.newaxis]
        return FeatureFrame(market.times[-1:], market.symbols, self.names, self.interval, values)

    def _frames(self, f: Feature, market: Market) -> Mapping[str, pd.DataFrame]:
        """What a feature computes; NaN where the market has nothing for it: a feed has gone missing."""
        if f.lacks(market) is not None:
            return dict.fromkeys(f.outputs, pd.DataFrame(np.nan, market.times, list(market.symbols)))
        return f.compute(market, dict(self.states.get(f.name, {})))

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` needs to rebuild this pipeline: plain JSON values."""
        return {
            "interval_s": int(self.interval.total_seconds()),
            "features": [f.name for f in self.chosen],
            "states": {name: dict(state) for name, state in self.states.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Pipeline:
        """Rebuild a fitted pipeline. Raises ``ValueError`` for a feature that this version of the code
        lacks."""
        by_name = {f.name: f for f in all_features()}
        unknown = [n for n in content["features"] if n not in by_name]
        if unknown:
            raise ValueError(
                f"the artifact uses features {unknown}, which this version lacks; retrain the model"
            )
        return cls(
            pd.Timedelta(seconds=content["interval_s"]),
            tuple(by_name[n] for n in content["features"]),
            content["states"],
        )

    def _check(self, market: Market) -> None:
        if market.interval != self.interval:
            raise ValueError(
                f"the pipeline was fitted on {self.interval} bars and given {market.interval} bars; "
                f"use bars of the same interval"
            )
