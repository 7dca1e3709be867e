"""What a fit may know ends at its training end, and no forecast knows what came after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline
from features.sources.market import MarketSource
from models.forecast.base import TailModel
from models.forecast.ewma import EwmaModel, Settings
from training.dataset import History, Task, TrainingRefusedError, read_history

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


def with_another_future(market: Market, after: pd.Timestamp) -> Market:
    """The same bars up to a time, others after it: prices doubled, volumes a tenth."""

    def change(frame: pd.DataFrame, factor: float) -> pd.DataFrame:
        return frame.where(pd.Series(frame.index <= after, index=frame.index), frame * factor, axis=0)

    prices = {"open", "high", "low", "close"}
    return Market(
        market.interval, {c: change(f, 2.0 if c in prices else 0.1) for c, f in market.columns.items()}
    )


def test_the_dataset_ends_at_the_training_end(
    market: Market, task: Task, recording_model: type[TailModel]
) -> None:
    end = market.times[2000]
    fit = History(market, (recording_model,)).fit(recording_model, end, task)
    (dataset,) = recording_model.fitted_on  # type: ignore[attr-defined]
    assert (fit.start, fit.end) == (market.times[0], end)
    assert dataset.features.times[-1] == dataset.closes.index[-1] == end
    # Labels that had not matured by then are unknown, the one before them is not.
    assert np.isnan(dataset.forward_returns(4 * HOUR)[-4:]).all()
    assert np.isfinite(dataset.forward_returns(4 * HOUR)[-5]).all()


def test_the_dataset_is_that_of_a_market_that_ends_there(
    market: Market, task: Task, recording_model: type[TailModel]
) -> None:
    end = market.times[2000]
    for known in (market, market.until(end), with_another_future(market, end)):
        History(known, (recording_model,)).fit(recording_model, end, task)
    first, *others = recording_model.fitted_on  # type: ignore[attr-defined]
    for other in others:
        np.testing.assert_array_equal(other.features.values, first.features.values)
        pd.testing.assert_frame_equal(other.closes, first.closes)


def test_a_model_trains_on_no_more_than_it_wants(
    market: Market, task: Task, recording_model: type[TailModel]
) -> None:
    class Short(recording_model):  # type: ignore[misc, valid-type]
        trains_on = 30 * DAY

    end = market.times[2000]
    fit = History(market, (Short,)).fit(Short, end, task)
    dataset = Short.fitted_on[-1]
    assert fit.start == dataset.features.times[0] == end - 30 * DAY
    # The window's first row is not in warm-up: its features come from the bars before it.
    whole = Pipeline.fit(market.until(end), ("ewma_volatility",)).batch(market.until(end))
    np.testing.assert_array_equal(
        dataset.features["ewma_volatility"], whole.between(fit.start, None)["ewma_volatility"]
    )


def test_a_window_is_cut_once_for_any_settings(history: History, market: Market, task: Task) -> None:
    end = market.times[2000]
    window = history.window(EwmaModel, end, task)
    shipped, pooled = window.fit(EwmaModel()), window.fit(EwmaModel(Settings(min_rows=2500)))
    assert isinstance(shipped.model, EwmaModel)
    assert isinstance(pooled.model, EwmaModel)
    whole = history.fit(EwmaModel, end, task)
    assert (shipped.start, shipped.end) == (whole.start, whole.end) == (market.times[0], end)
    np.testing.assert_array_equal(shipped.model.tails, whole.model.tails)  # type: ignore[attr-defined]
    # Too few losses for a tail of its own: each symbol has the pooled one.
    np.testing.assert_array_equal(pooled.model.tails[:, 1], pooled.model.tails[:, 0])
    assert not np.array_equal(shipped.model.tails[:, 1], shipped.model.tails[:, 0])


def test_forecasts_do_not_change_with_the_future(history: History, market: Market, task: Task) -> None:
    end, now = market.times[2000], market.times[2100]
    other = History(with_another_future(market, now), history.models)
    tables = []
    for known in (history, other):
        fit = known.fit(EwmaModel, end, task)
        tables.append(known.forecast(fit.model, fit.pipeline, end + DAY, now).to_table("ewma"))
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_forecasts_in_a_batch_equal_forecasts_online(history: History, market: Market, task: Task) -> None:
    fit = history.fit(EwmaModel, market.times[2000], task)
    now = market.times[2100]
    batch = history.forecast(fit.model, fit.pipeline, market.times[2050], now)
    online = fit.model.predict(fit.pipeline.online(market.until(now)))
    np.testing.assert_allclose(batch.var[-len(market.symbols) :], online.var, rtol=1e-12)


def test_too_little_history_is_refused_by_name(history: History, market: Market, task: Task) -> None:
    with pytest.raises(TrainingRefusedError, match="ewma cannot be fitted on"):
        history.fit(EwmaModel, market.times[100], task)
    with pytest.raises(TrainingRefusedError, match="no bar closed by"):
        history.fit(EwmaModel, market.times[0] - DAY, task)


def test_a_folder_is_read_in_the_order_asked_for(bars_folder: Path, market: Market, task: Task) -> None:
    turned = tuple(reversed(market.symbols))
    assert read_history(MarketSource(bars_folder, symbols=turned), ["ewma"], task).market.symbols == turned
    with pytest.raises(ValueError, match="unknown; choose among"):
        read_history(MarketSource(bars_folder), ["nothing"], task)
    with pytest.raises(ValueError, match="not a whole number of 1h bars"):
        read_history(MarketSource(bars_folder), ["ewma"], Task((pd.Timedelta(minutes=90),), (0.99, 0.999)))


@pytest.mark.realdata
def test_real_bars_make_a_dataset(real_data: Path, task: Task) -> None:
    folder = real_data / "bars" / "binance-spot" / "1h"
    source = MarketSource(folder, HOUR, ("BTCUSDT", "ETHUSDT"))
    history = read_history(source, ["ewma"], task)
    end = pd.Timestamp("2023-03-24 18:00", tz="UTC")  # just after the outage: one bar is missing
    fit = history.fit(EwmaModel, end, task)
    forecast = history.forecast(fit.model, fit.pipeline, end + 4 * HOUR, end + 10 * DAY)
    assert len(forecast.rows) == 2 * (10 * 24 - 3)
    losses = history.market.until(end).close
    assert losses.isna().sum().tolist() == [1, 1]
    # The same bars give the same fingerprint; one bar less does not.
    assert history.fingerprint == read_history(source, [], task).fingerprint
