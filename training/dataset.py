"""From a folder of bars to what a model learns from, cut at a time; and from a fitted model to its forecasts.

Everything that a fit may know comes from ``market.until(train_end)``: the features (a feature that learns is
fitted there anew), the closes from which labels are made, and so the labels that had matured by then.
Features that learn nothing have one value per bar whatever is trained when, so ``History`` computes them once
for all folds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from features.bars import Market
from features.columns import EXTRA_COLUMNS
from features.durations import format_duration, whole_bars
from features.fingerprint import fingerprint
from features.pipeline import FeatureFrame, Pipeline, all_features
from features.sources.market import MarketSource, read_market
from features.volatility import parkinson_variance
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings, CalibrationState, track
from models.forecast.discovery import model_class

ModelLookup = Callable[[str], type[TailModel]]


class TrainingRefusedError(ValueError):
    """The bars are sound, but cannot carry this training: too short, too flat, or too full of holes."""


@dataclass(frozen=True)
class Task:
    """What to forecast: horizons ascending, levels ascending and with 0.999."""

    horizons: tuple[pd.Timedelta, ...]
    levels: tuple[float, ...]

    @property
    def embargo(self) -> pd.Timedelta:
        """The gap between training and test: the largest horizon."""
        return max(self.horizons)


@dataclass(frozen=True)
class Fit:
    """A model and the pipeline that feeds it, fitted on the decision times ``start`` to ``end``."""

    model: TailModel
    pipeline: Pipeline
    start: pd.Timestamp
    end: pd.Timestamp


@dataclass(frozen=True)
class TrainingWindow:
    """What a model may learn from at one time: the pipeline fitted there, and its dataset."""

    pipeline: Pipeline
    dataset: Dataset

    def fit(self, model: TailModel) -> Fit:
        """Fit a model of the kind that the window was cut for, made with any settings. Raises
        ``TrainingRefusedError`` naming the model and the window where the data cannot carry it."""
        times = self.dataset.features.times
        try:
            fitted = model.fit(self.dataset)
        except ValueError as error:
            raise TrainingRefusedError(
                f"{model.name} cannot be fitted on {times[0]} to {times[-1]}: {error}"
            ) from error
        return Fit(fitted, self.pipeline, times[0], times[-1])


@dataclass(frozen=True)
class History:
    """All bars of one market, and the features that learn nothing, for the models that will ask for them.
    ``source`` says where it was read; None where it is of this process alone."""

    market: Market
    models: tuple[type[TailModel], ...]
    source: MarketSource | None = None

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.market)

    @cached_property
    def static_features(self) -> FeatureFrame:
        """Every feature that some model reads and that learns nothing, over the whole history."""
        wanted = [m.feature_names() for m in self.models]
        names = None if None in wanted else {n for w in wanted if w is not None for n in w}
        if names is not None:
            names |= {n for m in self.models for n in m.optional_features()}
        chosen = tuple(
            f
            for f in all_features()
            if not f.learns and f.lacks(self.market) is None and (names is None or names & set(f.outputs))
        )
        return Pipeline(self.market.interval, chosen).batch(self.market)

    def fit(self, model: type[TailModel], end: pd.Timestamp, task: Task) -> Fit:
        """Fit a model with its shipped settings on its ``window``.

        Raises ``TrainingRefusedError`` naming the model and the end where the data cannot carry it.
        """
        return self.window(model, end, task).fit(model())

    def window(self, model: type[TailModel], end: pd.Timestamp, task: Task) -> TrainingWindow:
        """What was known at ``end``, and no more of it than the model trains on. Raises
        ``TrainingRefusedError`` where no bar had closed by then."""
        known = self.market.until(end)
        if len(known.times) == 0:
            raise TrainingRefusedError(f"no bar closed by {end}; the bars begin at {self.market.times[0]}")
        start = known.times[0] if model.trains_on is None else max(known.times[0], end - model.trains_on)
        window = known.since(start)
        pipeline = Pipeline.fit(window, model.feature_names(), model.optional_features())
        # Computed from the first bar, so that the window's first rows are not in warm-up, then cut.
        features = pipeline.batch(known, reuse=self.static_features.between(None, end)).between(start, None)
        dataset = Dataset(features, window.close, task.horizons, task.levels, bar_variances(window))
        return TrainingWindow(pipeline, dataset)

    def forecast(
        self, model: TailModel, pipeline: Pipeline, start: pd.Timestamp, end: pd.Timestamp
    ) -> TailForecast:
        """Forecasts at the decision times in [start, end], each from bars up to it."""
        return model.predict(self.features(pipeline, start, end))

    def calibrated(
        self, forecast: TailForecast, settings: CalibrationSettings | None
    ) -> tuple[TailForecast, CalibrationState | None]:
        """A model's forecast over time as it would have been served, calibrated from a neutral start at its
        first row, and where the calibration stands at the last bar.

        The forecast itself and None where there are no settings, or no rows.
        """
        if settings is None or not len(forecast.rows):
            return forecast, None
        closes = self.market.close.loc[forecast.rows.get_level_values("time").min() :]
        return track(forecast, closes, self.market.interval, settings)

    def features(self, pipeline: Pipeline, start: pd.Timestamp, end: pd.Timestamp) -> FeatureFrame:
        """What a fitted pipeline gives at the decision times in [start, end], each row from bars up to it."""
        market = self.market.until(end).since(start - pipeline.look_back)
        reuse = self.static_features.between(market.times[0], market.times[-1])
        return pipeline.batch(market, reuse=reuse).between(start, end)


def bar_variances(market: Market) -> pd.DataFrame | None:
    """Parkinson's variance of each bar; None for a market of closes alone."""
    if "high" not in market or "low" not in market:
        return None
    return pd.DataFrame(parkinson_variance(market), market.times, market.close.columns)


def read_history(
    source: MarketSource, models: Iterable[str], task: Task, lookup: ModelLookup = model_class
) -> History:
    """Read a market for these models.

    Raises ``BarError`` where a table is unsound, ``ValueError`` where a folder, a symbol or a model does not
    exist, or a horizon is not a whole number of bars, and what else ``read_market`` raises.
    """
    classes = tuple(lookup(name) for name in dict.fromkeys(models))
    source = source.absolute()
    market = read_market(source)
    for horizon in task.horizons:
        whole_bars(horizon, market.interval)
    return History(market, classes, source)


def describe_market(market: Market) -> str:
    """One line: symbols, bars, interval, period, and what there is beneath and beside them."""
    line = (
        f"{len(market.symbols)} symbols, {len(market.times):,} bars of {format_duration(market.interval)}, "
        f"{market.times[0]:%Y-%m-%d %H:%M} to {market.times[-1]:%Y-%m-%d %H:%M} UTC"
    )
    if market.finer:
        line += f", over bars of {', '.join(format_duration(interval) for interval in sorted(market.finer))}"
    beside = Counter(EXTRA_COLUMNS[name].group for name in market.columns if name in EXTRA_COLUMNS)
    groups = ", ".join(f"{count} of {group}" for group, count in sorted(beside.items()))
    return f"{line}, with columns: {groups}" if groups else line


def ends_early(market: Market, by: pd.Timedelta) -> list[str]:
    """What lies beneath and beside the bars and is unknown of every symbol in their last ``by``, in words: a
    feed that has died, or files that were not brought up to date."""
    last, found = market.times[-1], []
    given = {f"bars of {format_duration(step)}": market.finer[step].close for step in sorted(market.finer)}
    given |= {name: frame for name, frame in market.columns.items() if name in EXTRA_COLUMNS}
    for name, frame in given.items():
        known = frame.index[frame.notna().any(axis=1)]
        if len(known) == 0:
            found.append(f"{name}: none is known")
        elif known[-1] <= last - by:
            found.append(f"{name}: known to {known[-1]:%Y-%m-%d %H:%M} alone")
    return found
