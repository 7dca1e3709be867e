"""Train one model, hold out the newest days, and measure it there against the baselines.

What is fitted up to ``train_end`` is what is registered: it is not refitted on the days it was judged on, so
the figures belong to the very artifact that would serve, and any later comparison of two versions finds days
that neither has seen. The price is a champion that is ``evaluation_days`` old when it starts; its features
are always fresh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pandas as pd

from features.durations import format_duration
from features.pipeline import Pipeline
from features.regime_chain import REGIMES
from models.artifact import Fitted
from models.forecast.calibration import CalibrationState
from models.forecast.confidence import Confidence
from models.forecast.discovery import model_class
from training.backtest import Progress, backtest, keep_levels
from training.dataset import Fit, History, ModelLookup, Task, TrainingRefusedError
from training.evaluation import common_rows, summary, with_losses
from training.settings import TrainingSettings

#: What the trained model is called in tables; the baselines go by their names.
CHALLENGER = "challenger"


@dataclass(frozen=True)
class Trained:
    """A fitted model, its scored held-out rows (baselines first), and their summary."""

    fitted: Fitted
    scored: pd.DataFrame
    table: pd.DataFrame


def task_of(settings: TrainingSettings) -> Task:
    """The horizons and levels of the settings, with the level of the circuit breaker."""
    return Task(settings.horizon_durations, settings.model_levels)


def default_train_end(history: History, settings: TrainingSettings) -> pd.Timestamp:
    """The end of training that leaves ``evaluation_days`` after an embargo of the largest horizon."""
    return history.market.times[-1] - settings.evaluation - task_of(settings).embargo


def train(
    history: History,
    settings: TrainingSettings,
    train_end: pd.Timestamp | None = None,
    progress: Progress = lambda *_: None,
    lookup: ModelLookup = model_class,
) -> Trained:
    """Fit ``settings.model`` up to ``train_end`` and score it on the decision times after the embargo.

    The baselines forecast the same times walk-forward, refitted as often as they ask for. Raises
    ``TrainingRefusedError`` where there is too little history before ``train_end``, or nothing after it to
    judge on.
    """
    task, times = task_of(settings), history.market.times
    end = train_end if train_end is not None else default_train_end(history, settings)
    _refuse_too_little(history, settings, end, task)
    progress(CHALLENGER, 0, 1)
    model = lookup(settings.model)
    window = history.window(model, end, task)
    fit = window.fit(model())
    confidence = Confidence.learned(fit.model, window.dataset.features)
    progress(CHALLENGER, 1, 1)
    first, last = fit.end + task.embargo, times[-1]
    start = times[times > first][0]
    baselines = [lookup(name) for name in settings.baselines]
    walked = backtest(history, baselines, task, start, last, settings.levels, progress)
    forecast = history.forecast(fit.model, fit.pipeline, start, last)
    # None of these days taught the model, so its calibration may learn from them, and go on when it serves.
    own, calibration = history.calibrated(forecast, fit.model.calibration)
    forecasts = pd.concat([walked, keep_levels(own.to_table(CHALLENGER), settings.levels)], ignore_index=True)
    scored = common_rows(with_losses(forecasts, history.market))
    table = summary(scored, history.market.interval)
    return Trained(replace(_fitted(history, fit, table, calibration), confidence=confidence), scored, table)


def scores(table: pd.DataFrame) -> dict[str, float | None]:
    """``{score}/{horizon}/{level}`` of the challenger, ``{score}_{name}/...`` of the others; None where
    unknown."""
    found: dict[str, float | None] = {}
    for row in table.to_dict("records"):
        suffix = "" if row["model"] == CHALLENGER else f"_{row['model']}"
        for score in ("fz0", "pinball", "hit_ratio", "worst_cell", "difference", "t"):
            value = float(row[score])
            found[f"{score}{suffix}/{row['horizon']}/{row['level']:g}"] = (
                value if math.isfinite(value) else None
            )
    return found


def _fitted(history: History, fit: Fit, table: pd.DataFrame, calibration: CalibrationState | None) -> Fitted:
    return Fitted(
        model=fit.model,
        pipeline=_with_regimes(history, fit),
        symbols=history.market.symbols,
        train_start=fit.start,
        train_end=fit.end,
        data_fingerprint=history.fingerprint,
        scores=scores(table),
        calibration=calibration,
    )


def _with_regimes(history: History, fit: Fit) -> Pipeline:
    """What the fitted model reads of its pipeline, and the regime probabilities that every decision reports,
    of the same window."""
    read = fit.model.reads()
    # What was asked for and turned out to be of no use is neither computed nor missed when it serves.
    own = fit.pipeline if read is None else fit.pipeline.only(read)
    lacking = [name for name in (f"regime_{regime}" for regime in REGIMES) if name not in own.names]
    if not lacking:
        return own
    # The model's own features stay as they were fitted: learning them again would only take its time.
    regimes = Pipeline.fit(history.market.until(fit.end).since(fit.start), lacking)
    return Pipeline(own.interval, (*own.chosen, *regimes.chosen), {**own.states, **regimes.states})


def _refuse_too_little(history: History, settings: TrainingSettings, end: pd.Timestamp, task: Task) -> None:
    times = history.market.times
    known = min(end, times[-1]) - times[0]
    if known < pd.Timedelta(days=settings.minimum_train_days):
        raise TrainingRefusedError(
            f"bars begin at {times[0]:%Y-%m-%d %H:%M}, which leaves {known.days} days before the training "
            f"end {end:%Y-%m-%d %H:%M}; give more history, or lower minimum_train_days "
            f"({settings.minimum_train_days}) or evaluation_days ({settings.evaluation_days})"
        )
    if end + task.embargo + task.embargo >= times[-1]:
        raise TrainingRefusedError(
            f"training to {end:%Y-%m-%d %H:%M} leaves no row to judge on: the bars end at "
            f"{times[-1]:%Y-%m-%d %H:%M}, and the embargo and a loss take "
            f"{format_duration(task.embargo)} each; choose an earlier end"
        )
