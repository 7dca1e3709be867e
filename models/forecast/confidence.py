"""How far a forecast is to be trusted: whether its ensemble agrees, and whether its inputs were seen before.

Of each row (time, symbol), two numbers for the safety engine, both held within 0 to 1:

    drift      = (mean over the known inputs of min(1, d) - ``NEAR_SHARE``) / (``FAR_SHARE`` - ``NEAR_SHARE``)
    confidence = (1 - drift) x agreement,     agreement = 1 - (s / s_99 - 1) / (``NONE_AT`` - 1)

d is how far an input lies outside the range that the model was fitted on, in widths of that range, 0 inside;
the range is that between the 0.05 % and the 99.95 % quantile of the training rows. So an hour that is merely
extreme moves few inputs a little and has hardly any drift, and a feed that is wrong moves its contract's
inputs far. s is the spread of the ensemble (``TailForecast.spread``), s_99 its 99 % quantile on the training
rows; the agreement, too, is held within 0 to 1. A model without members has no spread, and only the range
counts.

An input that is NaN is neither inside nor outside: what is missing is told elsewhere. One that was never
known in training is not judged, and of one that never moved any other value is a whole width outside. A row
none of whose inputs is known has drift 0.

Sources: Lakshminarayanan, Pritzel, Blundell (2017) on the spread of a deep ensemble; Jaworska,
Nikolova-Jeliazkova, Aldenberg (2005) on ranges as the domain in which a model applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.pipeline import FeatureFrame
from models.forecast.base import TailForecast, TailModel

Array = NDArray[np.float64]

#: Of the training rows, this share lies below the range of an input, and above it.
TAIL = 0.0005
#: So little counts as none: hours with less have been as others.
NEAR_SHARE = 0.005
#: The share of the inputs that lie a whole width outside their range at drift 1. Market, leader and clock are
#: among the inputs of every contract and know nothing of one contract's broken feed, so it is well below 1.
FAR_SHARE = 0.15
#: A model with fewer inputs is judged as if it had so many, the others inside: one volatility at a record is
#: a market at a record and no drift.
LEAST_INPUTS = 20
#: Of the training rows, this share has a spread that takes no confidence.
USUAL = 0.99
#: Confidence is gone at this multiple of the largest usual spread.
NONE_AT = 1.5
#: Training rows of which the spread is learned, at most: more cost time and say the same.
_SPREAD_ROWS = 10_000
#: Of an end of a range: so far outside is inside, since what is computed online may differ from what was
#: learned by a rounding.
_ROUNDING = 1e-6


class Trust(NamedTuple):
    """Of each row of a forecast, (row,): ``confidence`` from 1 (as usual) to 0, ``drift`` from 0 (inputs as
    in training) to 1 (far out)."""

    confidence: Array
    drift: Array


@dataclass(frozen=True)
class Confidence:
    """What is usual for a fitted model: the range of each of its ``inputs``, (input,), in their own units,
    and the largest usual spread, None for a model that has none."""

    inputs: tuple[str, ...]
    low: Array
    high: Array
    spread: float | None

    @classmethod
    def learned(cls, model: TailModel, features: FeatureFrame) -> Self:
        """From a fitted model and the features of its training window."""
        asked = read_inputs(model, features.names)
        values = np.sort(features.matrix(asked), axis=0)  # NaN last
        known = np.isfinite(values).sum(axis=0)
        kept = np.flatnonzero(known)
        low, high = (
            values[np.round(share * (known[kept] - 1)).astype("intp"), kept] for share in (TAIL, 1 - TAIL)
        )
        return cls(tuple(asked[i] for i in kept), low, high, _usual_spread(model, features))

    def judge(self, features: FeatureFrame, forecast: TailForecast) -> Trust:
        """Of each row of ``forecast``, which was made from ``features``. Raises ``KeyError`` where an input
        is not among the features, ``ValueError`` where a row is not."""
        time = features.times.get_indexer(pd.DatetimeIndex(forecast.rows.get_level_values("time")))
        symbol = pd.Index(features.symbols).get_indexer(forecast.rows.get_level_values("symbol"))
        at, absent = time * len(features.symbols) + symbol, (time < 0) | (symbol < 0)
        if absent.any():
            raise ValueError(
                f"{forecast.rows[int(np.argmax(absent))]} is forecast and not among the features; judge a "
                f"forecast with the features that it was made from"
            )
        values = features.matrix(self.inputs)[at]
        outside = np.maximum(self.low - values, values - self.high)
        slack = _ROUNDING * np.maximum(np.abs(self.low), np.abs(self.high))
        with np.errstate(divide="ignore", invalid="ignore"):
            widths = np.minimum(outside / (self.high - self.low), 1.0)
        far = np.where(outside > slack, widths, 0.0)  # NaN is not above
        count = np.maximum((~np.isnan(values)).sum(axis=1), LEAST_INPUTS)
        drift = np.clip((far.sum(axis=1) / count - NEAR_SHARE) / (FAR_SHARE - NEAR_SHARE), 0.0, 1.0)
        return Trust((1.0 - drift) * self._agreement(forecast), drift)

    def _agreement(self, forecast: TailForecast) -> Array:
        if forecast.spread is None or self.spread is None:
            return np.ones(len(forecast.rows))
        beyond = forecast.spread / self.spread - 1.0
        agreement: Array = np.clip(1.0 - beyond / (NONE_AT - 1.0), 0.0, 1.0)
        return agreement

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which ``from_json`` rebuilds it to the bit."""
        ends = zip(self.low.tolist(), self.high.tolist(), strict=True)
        return {
            "ranges": dict(zip(self.inputs, map(list, ends), strict=True)),
            "spread": self.spread,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` where a value is
        not one, a range is not finite or ends before it begins, or the spread is not above 0."""
        ranges, spread = content["ranges"], content["spread"]
        ends = np.array(list(ranges.values()), dtype="float64").reshape(len(ranges), 2)
        if not (np.isfinite(ends).all() and (ends[:, 0] <= ends[:, 1]).all()):
            raise ValueError("the range of an input is not finite, or its low end lies above its high end")
        if spread is not None and not (np.isfinite(spread) and spread > 0):
            raise ValueError(f"the largest usual spread is {spread!r} and must be above 0, or null")
        return cls(tuple(ranges), ends[:, 0], ends[:, 1], None if spread is None else float(spread))


def read_inputs(model: TailModel, available: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the available features the fitted model reads."""
    read = model.reads()
    names = model.feature_names() if read is None else read
    if names is None:
        return available
    wanted = set(names) if read is not None else {*names, *model.optional_features()}
    return tuple(name for name in available if name in wanted)


def _usual_spread(model: TailModel, features: FeatureFrame) -> float | None:
    """Of training times drawn at random, so that all hours have their share; None where the model has no
    spread."""
    times = len(features.times)
    drawn = np.random.default_rng(1).permutation(times)[: max(1, _SPREAD_ROWS // len(features.symbols))]
    at = np.sort(drawn)
    some = FeatureFrame(
        features.times[at], features.symbols, features.names, features.interval, features.values[at]
    )
    spread = model.predict(some).spread
    if spread is None or not len(spread):
        return None
    usual = float(np.quantile(spread, USUAL))
    # Members that always agree, one set of weights twice say, tell nothing.
    return usual if usual > 0 else None
