"""The walk-forward backtest: every decision time once, never trained on what it forecasts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.forecast.base import TailModel
from models.forecast.ewma import EwmaModel
from training.backtest import backtest, write_table
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
    assert by_time.iloc[0] == 1, "it starts neutral"
    assert by_time.iloc[-1] > 1.05, "0.7 of what is needed is noticed"
    refits = [start + i * asked.refit_every for i in range(1, 3)]
    assert all(t in by_time.index and by_time[t] > 1 for t in refits), "and not forgotten at a refit"
    # What comes to light later is not known earlier.
    cut = market.times[2300]
    until = backtest(History(market.until(cut), (asked,)), [asked], task, start, cut, task.levels)
    pd.testing.assert_frame_equal(whole[whole["time"] <= cut].reset_index(drop=True), until)


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
