"""Where and when forecasts were right, against counts and paths that can be written down by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from training.dataset import History, Task
from training.diagnostics import (
    coverage_by_group,
    daily_difference,
    excursion_coverage,
    regimes,
    rolling_coverage,
    symbol_scores,
    with_excursions,
)
from training.evaluation import summary, with_losses

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


def market_of(close: list[float], low: list[float], high: list[float]) -> Market:
    index = pd.date_range("2026-01-01", periods=len(close), freq="h", tz="UTC", unit="ns", name="time")
    columns = {"close": close, "low": low, "high": high}
    return Market(HOUR, {name: pd.DataFrame({"A": values}, index=index) for name, values in columns.items()})


def constant(market: Market, model: str, var: float, horizon: str = "1h", level: float = 0.9) -> pd.DataFrame:
    keys = pd.MultiIndex.from_product(
        [market.times, market.symbols, ["long", "short"]], names=["time", "symbol", "side"]
    )
    table = keys.to_frame(index=False)
    return table.assign(horizon=horizon, level=level, model=model, var=var, es=2 * var)


def walk(hours: int, seed: int = 0) -> Market:
    """A random walk of 1 % an hour, with lows and highs of half of that around open and close."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(rng.normal(0, 0.01, (hours, 2)).cumsum(axis=0))
    before = np.vstack([close[:1], close[:-1]])
    index = pd.date_range("2026-01-01", periods=hours, freq="h", tz="UTC", unit="ns", name="time")
    frames = {
        "close": close,
        "low": np.minimum(close, before) * 0.995,
        "high": np.maximum(close, before) * 1.005,
    }
    return Market(HOUR, {name: pd.DataFrame(v, index, ["A", "B"]) for name, v in frames.items()})


def test_excursions_by_hand() -> None:
    market = market_of([100, 102, 101, 99], [99, 95, 100, 98], [101, 103, 110, 100])
    found = with_excursions(with_losses(constant(market, "m", 0.05, "2h"), market), market)
    # Over the two bars after the first close: low 95, high 110; after the second: low 98, high 110.
    np.testing.assert_allclose(
        found["excursion"], [np.log(100 / 95), np.log(110 / 100), np.log(102 / 98), np.log(110 / 102)]
    )
    assert found["beyond_var"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert found["beyond_es"].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_an_excursion_behind_a_missing_bar_is_unknown() -> None:
    market = market_of([100, np.nan, 90, 95], [99, np.nan, 89, 90], [101, np.nan, 99, 96])
    found = with_excursions(with_losses(constant(market, "m", 0.05, "2h"), market), market)
    assert len(found) == 2  # the close two bars on is known, but not what lay between
    assert found[["excursion", "beyond_var", "beyond_es"]].isna().all(axis=None)
    assert excursion_coverage(found).empty


def test_an_excursion_is_never_less_than_the_loss() -> None:
    market = walk(300)
    both = [constant(market, "m", 0.01, horizon) for horizon in ("1h", "5h")]
    found = with_excursions(with_losses(pd.concat(both), market), market)
    assert (found["excursion"] >= found["loss"]).all()
    table = excursion_coverage(found).set_index(["horizon", "side"])
    one = found[(found["horizon"] == "5h") & (found["side"] == "short")]
    expected = {
        "rows": 590,
        "hit_ratio": (one["loss"] > 0.01).mean() / 0.1,
        "excursion_ratio": (one["excursion"] > 0.01).mean() / 0.1,
        "es_excursion_ratio": (one["excursion"] > 0.02).mean() / 0.1,
        "worst_over_es": one["excursion"].max() / 0.02,
    }
    assert table.loc[("5h", "short"), list(expected)].to_dict() == pytest.approx(expected)
    assert expected["excursion_ratio"] > expected["hit_ratio"]


def test_regimes_know_nothing_of_later_bars(market: Market) -> None:
    start, cut = market.times[1500], market.times[1700]
    whole = regimes(market, start, market.times[-1])
    until = regimes(market.until(cut), start, cut)
    pd.testing.assert_frame_equal(whole.loc[:cut], until)
    assert set(np.unique(whole)) <= {"calm", "normal", "stressed", "crisis"}
    assert len(np.unique(whole)) > 1
    assert (regimes(market, market.times[5], market.times[10]) == "unknown").all(axis=None)  # warm-up


def test_groups_are_counted_apart() -> None:
    market = walk(24 * 14)  # two weeks from a Thursday
    scored = with_losses(constant(market, "m", 0.01), market)
    regime = pd.DataFrame("calm", market.times, ["A", "B"])
    regime.loc[market.times[100] :, "B"] = "crisis"
    table = coverage_by_group(scored, regime).set_index(["by", "group"])
    assert table.groupby("by")["rows"].sum().to_dict() == dict.fromkeys(("hour", "regime", "weekend"), 1340)
    assert table.loc[("weekend", "weekend"), "rows"] == 4 * 24 * 4
    assert table.loc[("hour", "23"), "rows"] == 13 * 4  # the last loss has not matured
    own = scored[(scored["symbol"] == "B") & (scored["time"] >= market.times[100])]
    found = table.loc[("regime", "crisis")]
    assert (found["rows"], found["hits"]) == (len(own), own["hit"].sum())
    np.testing.assert_allclose(found["promised"], 0.1 * len(own))
    np.testing.assert_allclose(found["hit_ratio"], own["hit"].mean() / 0.1)
    np.testing.assert_allclose(found["fz0"], own["fz0"].mean())


def test_rolling_coverage_looks_back_thirty_days() -> None:
    market = walk(24 * 40 + 1)
    scored = with_losses(constant(market, "m", 0.01), market)
    table = rolling_coverage(scored)
    # The first window is full at the last decision time of the 30th day; then one row a day.
    assert table["time"].tolist() == [market.times[24 * day - 1] for day in range(30, 41)]
    last = scored[scored["time"] > table["time"].iloc[-1] - 30 * DAY]
    assert last["time"].nunique() == 30 * 24
    np.testing.assert_allclose(table["hit_ratio"].iloc[-1], last["hit"].mean() / 0.1)
    assert rolling_coverage(scored[scored["time"] < market.times[24 * 29]]).empty


def test_daily_differences_add_up_to_the_mean() -> None:
    market = walk(24 * 10 + 1)
    scored = with_losses(pd.concat([constant(market, m, v) for m, v in (("a", 0.013), ("b", 0.02))]), market)
    table = daily_difference(scored, "a")
    assert set(table["model"]) == {"b"}
    assert len(table) == 10
    expected = summary(scored, HOUR).set_index("model").loc["b", "difference"]
    np.testing.assert_allclose(table["difference"].sum() / 240, expected)
    assert daily_difference(scored[scored["model"] == "a"], "a").empty


def test_symbols_are_scored_apart() -> None:
    market = walk(24 * 10 + 1)
    scored = with_losses(pd.concat([constant(market, m, v) for m, v in (("a", 0.013), ("b", 0.02))]), market)
    scored = with_excursions(scored, market)
    # All but one decision time of B are unknown: one difference has no error.
    few = (scored["symbol"] == "A") | (scored["time"] == market.times[3])
    table = symbol_scores(scored[few], "a", HOUR).set_index(["model", "symbol"])
    own = scored[(scored["model"] == "b") & (scored["symbol"] == "A")]
    base = scored[(scored["model"] == "a") & (scored["symbol"] == "A")]
    row = table.loc[("b", "A")]
    assert row["rows"] == 480
    np.testing.assert_allclose(row["fz0"], own["fz0"].mean())
    np.testing.assert_allclose(row["difference"], own["fz0"].mean() - base["fz0"].mean())
    np.testing.assert_allclose(row["hit_ratio"], own["hit"].mean() / 0.1)
    np.testing.assert_allclose(row["excursion_ratio"], own["beyond_var"].mean() / 0.1)
    alone = summary(scored[scored["symbol"] == "A"], HOUR).set_index("model")
    np.testing.assert_allclose(row["t"], alone.loc["b", "t"])
    assert table.loc[("a", "A"), ["difference", "t"]].tolist() == [0, 0]
    assert np.isnan(table.loc[("b", "B"), "t"])


def test_forecasts_of_a_model_keep_their_rows(history: History, task: Task) -> None:
    """Excursions are added beside the scores, in the order given."""
    market = history.market
    fit = history.fit(history.models[0], market.times[1500], task)
    forecast = history.forecast(fit.model, fit.pipeline, market.times[1600], market.times[1700])
    scored = with_losses(forecast.to_table("ewma"), market)
    found = with_excursions(scored, market)
    pd.testing.assert_frame_equal(found[scored.columns], scored)
    assert found["excursion"].notna().all()
