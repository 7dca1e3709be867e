"""The walk-forward backtest: every decision time once, never trained on what it forecasts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.sources.simulated import simulate
from models.forecast.base import TailModel
from models.forecast.confidence import Confidence
from models.forecast.ewma import EwmaModel
from training.backtest import backtest, fold_jobs, write_table
from training.dataset import History, ModelLookup, Task
from training.evaluation import summary, with_losses

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
KEYS = ["time", "symbol", "horizon", "side", "level"]
COLUMNS = ["time", "symbol", "horizon", "side", "level", "model", "var", "es"]


def test_the_table_has_a_row_for_every_forecast(history: History, task: Task) -> None:
    start, end = history.market.times[2000], history.market.times[2400]
    table = backtest(history, [EwmaModel], task, start, end, (0.975, 0.99))
    assert table.columns.tolist() == COLUMNS
    assert len(table) == 401 * 2 * 2 * 2 * 2  # times, symbols, horizons, sides, levels
    assert not table.duplicated(COLUMNS[:6]).any()
    assert sorted(table["level"].unique()) == [0.975, 0.99]
    assert set(table["horizon"]) == {"1h", "4h"}
    assert str(table["time"].dtype) == "datetime64[ns, UTC]"
    assert (table["var"] > 0).all()
    assert (table["es"] >= table["var"]).all()


def test_judged_each_decision_has_its_confidence_and_drift(
    history: History, task: Task, tmp_path: Path
) -> None:
    start, end = history.market.times[2250], history.market.times[2400]
    plain = backtest(history, [EwmaModel], task, start, end, (0.975, 0.99))
    table = backtest(history, [EwmaModel], task, start, end, (0.975, 0.99), judged=True)
    pd.testing.assert_frame_equal(table[COLUMNS], plain)
    job, *_ = fold_jobs(history, [EwmaModel], task, start, end)
    fit = history.fit(EwmaModel, job.fold.train_end, task)
    known = history.window(EwmaModel, job.fold.train_end, task).dataset.features
    features = history.features(fit.pipeline, start, job.fold.test_end)
    forecast = fit.model.predict(features)
    expected = Confidence.learned(fit.model, known).judge(features, forecast)
    assert expected.drift.max() > 0, "some hour is unlike any before"
    values = table.groupby(["time", "symbol"], sort=False)[["confidence", "drift"]]
    assert (values.nunique() == 1).all(axis=None)
    found = values.first().loc[forecast.rows]
    np.testing.assert_array_equal(found["confidence"], expected.confidence)
    np.testing.assert_array_equal(found["drift"], expected.drift)
    write_table(table, tmp_path / "judged.parquet")
    assert pd.read_parquet(tmp_path / "judged.parquet").columns.tolist() == [*COLUMNS, "confidence", "drift"]


def test_each_fold_is_trained_before_its_embargo(
    market: Market, task: Task, recording_model: type[TailModel]
) -> None:
    start, end = market.times[2000], market.times[2400]
    seen: list[tuple[int, int]] = []
    table = backtest(
        History(market, (recording_model,)),
        [recording_model],
        task,
        start,
        end,
        task.levels,
        lambda _, done, folds: seen.append((done, folds)),
    )
    ends = [d.features.times[-1] for d in recording_model.fitted_on]  # type: ignore[attr-defined]
    starts = [start + i * 5 * DAY for i in range(4)]
    assert ends == [s - 4 * HOUR for s in starts]
    assert seen == [(i, 4) for i in range(5)]
    assert table["time"].nunique() == 401


def test_a_forecast_is_the_same_whatever_came_after_it(history: History, task: Task) -> None:
    market = history.market
    start, cut = market.times[2000], market.times[2300]
    whole = backtest(history, [EwmaModel], task, start, market.times[-1], (0.99,))
    until = backtest(History(market.until(cut), (EwmaModel,)), [EwmaModel], task, start, cut, (0.99,))
    pd.testing.assert_frame_equal(whole[whole["time"] <= cut].reset_index(drop=True), until)


def test_a_model_that_asks_for_it_is_calibrated_over_all_folds(
    market: Market, task: Task, scaled_lookup: ModelLookup
) -> None:
    asked = scaled_lookup("calibrated")
    plain = type("Plain", (asked,), {"name": "plain", "calibration": None})
    history, start, end = History(market, (asked, plain)), market.times[2000], market.times[2500]
    whole, raw = (backtest(history, [model], task, start, end, task.levels) for model in (asked, plain))
    factor = (whole.set_index(KEYS)["var"] / raw.set_index(KEYS)["var"]).xs(
        ("1h", "long", 0.975), level=("horizon", "side", "level")
    )
    by_time = factor.groupby("time").first()
    assert by_time.iloc[0] == 1, "with as little history it starts neutral"
    assert by_time.iloc[-1] > 1.05, "0.7 of what is needed is noticed"
    refits = [start + i * asked.refit_every for i in range(1, 3)]
    assert all(t in by_time.index and by_time[t] > 1 for t in refits), "and not forgotten at a refit"
    # What comes to light later is not known earlier.
    cut = market.times[2300]
    until = backtest(History(market.until(cut), (asked,)), [asked], task, start, cut, task.levels)
    pd.testing.assert_frame_equal(whole[whole["time"] <= cut].reset_index(drop=True), until)


@pytest.fixture(scope="module")
def long_market() -> Market:
    """180 days, which are enough for a warm-up, of bars of four hours."""
    return simulate(symbols=2, days=180, interval=4 * HOUR, seed=5)


SLOW = Task((4 * HOUR, 8 * HOUR), (0.975, 0.99, 0.999))


def test_a_calibration_has_run_for_sixty_days_before_the_first_decision_time(
    long_market: Market, scaled_lookup: ModelLookup
) -> None:
    """As if the table had begun at the warm-up, with one fold as long, and were cut."""
    times, bars_a_day = long_market.times, 6
    asked = type("Slow", (scaled_lookup("calibrated"),), {"refit_every": 60 * DAY})
    history = History(long_market, (asked,))
    start, end = times[160 * bars_a_day], times[170 * bars_a_day]
    found = backtest(history, [asked], SLOW, start, end, SLOW.levels)
    assert found["time"].min() == start
    earlier = backtest(history, [asked], SLOW, start - 60 * DAY, end, SLOW.levels)
    assert earlier["time"].min() == start - 60 * DAY
    cut = earlier[earlier["time"] >= start].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, cut, check_exact=True)
    plain = type("Plain", (asked,), {"name": "plain", "calibration": None})
    raw = backtest(History(long_market, (plain,)), [plain], SLOW, start, end, SLOW.levels)
    factor = (found.set_index(KEYS)["var"] / raw.set_index(KEYS)["var"]).loc[start]
    assert (factor.xs("4h", level="horizon").xs(0.975, level="level") > 1.02).all()
    # What comes to light later is not known earlier.
    until = times[165 * bars_a_day]
    short = backtest(History(long_market.until(until), (asked,)), [asked], SLOW, start, until, SLOW.levels)
    pd.testing.assert_frame_equal(found[found["time"] <= until].reset_index(drop=True), short)


def test_only_a_calibrated_model_with_enough_history_warms_up(
    long_market: Market, scaled_lookup: ModelLookup
) -> None:
    asked, plain = scaled_lookup("calibrated"), scaled_lookup("same")
    history, times = History(long_market, (asked, plain)), long_market.times
    start = times[0] + 150 * DAY + 8 * HOUR  # 60 days, the embargo, and 90 to train on
    warm, *rest = fold_jobs(history, [asked, plain], SLOW, start, start + 10 * DAY)
    assert (warm.model, warm.warm_up) == (asked, True)
    fold = warm.fold
    assert (fold.train_end, fold.test_start) == (times[0] + 90 * DAY, start - 60 * DAY)
    assert fold.test_end == start - 4 * HOUR
    assert [(job.model, job.warm_up) for job in rest] == [(asked, False)] * 2 + [(plain, False)] * 2
    before = fold_jobs(history, [asked], SLOW, start - 4 * HOUR, start)
    assert [job.warm_up for job in before] == [False]


def test_shuffled_returns_give_no_skill(history: History, task: Task) -> None:
    """Against labels in random order, following volatility is worth nothing: a constant is better."""
    market = history.market
    start, end = market.times[1500], market.times[-2]
    table = backtest(history, [EwmaModel], task, start, end, (0.975,))
    table = table[table["horizon"] == "1h"]
    flat = table.assign(model="flat", **table.groupby(["symbol", "side"])[["var", "es"]].transform("median"))
    both = pd.concat([flat, table], ignore_index=True)
    skill = {}
    rng = np.random.default_rng(0)
    returns = market.close.pct_change().fillna(0)
    for name, order in (("true", np.arange(len(returns))), ("shuffled", rng.permutation(len(returns)))):
        closes = (1 + returns.iloc[order].set_axis(returns.index)).cumprod()
        scored = with_losses(both, Market(market.interval, {"close": closes}))
        skill[name] = summary(scored, HOUR).set_index("model")["difference"]["ewma"]
    assert skill["true"] < 0 < skill["shuffled"]


def test_forecasts_shifted_later_are_worse(history: History, task: Task) -> None:
    market = history.market
    table = backtest(history, [EwmaModel], task, market.times[1500], market.times[-30], (0.975,))
    table = table[table["horizon"] == "1h"]
    late = table.assign(model="late", time=table["time"] + 6 * HOUR)
    found = summary(with_losses(pd.concat([table, late]), market), HOUR).set_index("model")
    assert found["fz0"]["late"] > found["fz0"]["ewma"]


def test_a_table_is_written_whole_or_not_at_all(history: History, task: Task, tmp_path: Path) -> None:
    start = history.market.times[2000]
    table = backtest(history, [EwmaModel], task, start, start + DAY, (0.99,))
    path = tmp_path / "new" / "forecasts.parquet"
    write_table(table, path)
    pd.testing.assert_frame_equal(pd.read_parquet(path), table, check_dtype=False)
    with pytest.raises(KeyError):
        write_table(table.drop(columns="es"), path)
    broken = table.assign(var=[object()] * len(table))
    with pytest.raises(Exception, match="object"):
        write_table(broken, path)
    assert [p.name for p in path.parent.iterdir()] == ["forecasts.parquet"]
    pd.testing.assert_frame_equal(pd.read_parquet(path), table, check_dtype=False)
