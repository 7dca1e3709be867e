"""Scores of forecasts against losses that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from training.evaluation import cell_coverage, common_rows, panel, summary, with_losses

HOUR = pd.Timedelta(hours=1)


def market_of(closes: dict[str, list[float]]) -> Market:
    rows = len(next(iter(closes.values())))
    index = pd.date_range("2026-01-01 01:00", periods=rows, freq="h", tz="UTC", unit="ns", name="time")
    return Market(HOUR, {"close": pd.DataFrame(closes, index=index)})


def forecasts(
    market: Market, model: str, var: float, horizon: str = "1h", level: float = 0.99
) -> pd.DataFrame:
    keys = pd.MultiIndex.from_product(
        [market.times, market.symbols, ["long", "short"]], names=["time", "symbol", "side"]
    )
    table = keys.to_frame(index=False)
    return table.assign(horizon=horizon, level=level, model=model, var=var, es=2 * var)


def test_losses_by_hand() -> None:
    market = market_of({"A": [100.0, 110.0, 99.0]})
    scored = with_losses(forecasts(market, "m", 0.1), market)
    # The last decision's loss has not matured and is dropped.
    assert scored["time"].tolist() == [t for t in market.times[:2] for _ in range(2)]
    up, down = np.log(1.1), np.log(0.9)
    np.testing.assert_allclose(scored["loss"], [-up, up, -down, down])
    assert scored["hit"].tolist() == [False, False, True, False]
    # FZ0 in percent: h (L - v) / (a e) + v / e + ln e - 1, with v = 10 % and e = 20 %.
    expected = (-100 * down - 10) / (0.01 * 20) + 0.5 + np.log(20) - 1
    np.testing.assert_allclose(scored["fz0"].iloc[2], expected)
    np.testing.assert_allclose(scored["fz0"].iloc[0], 0.5 + np.log(20) - 1)


def test_a_loss_across_a_missing_bar_is_unknown() -> None:
    market = market_of({"A": [100.0, np.nan, 90.0, 95.0]})
    one = with_losses(forecasts(market, "m", 0.1), market)
    assert one["time"].unique().tolist() == [market.times[2]]
    two = with_losses(forecasts(market, "m", 0.1, "2h"), market)
    assert two["time"].unique().tolist() == [market.times[0]]


def test_times_that_the_bars_lack_are_refused() -> None:
    market = market_of({"A": [100.0, 110.0, 99.0]})
    table = forecasts(market, "m", 0.1)
    with pytest.raises(ValueError, match="times or symbols that the bars lack"):
        with_losses(table.assign(symbol="B"), market)


def test_models_are_compared_on_the_rows_that_both_have() -> None:
    market = market_of({"A": [100.0, 110.0, 99.0, 101.0]})
    both = pd.concat([forecasts(market, "a", 0.1), forecasts(market, "b", 0.2).iloc[2:]])
    shared = common_rows(with_losses(both, market))
    assert shared.groupby("model").size().to_dict() == {"a": 4, "b": 4}
    assert shared["time"].min() == market.times[1]
    alone = pd.concat([forecasts(market, "a", 0.1).iloc[:2], forecasts(market, "b", 0.2).iloc[2:]])
    with pytest.raises(ValueError, match="share no row"):
        common_rows(with_losses(alone, market))


def test_the_summary_is_the_mean_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    market = market_of({s: (100 * np.exp(rng.normal(0, 0.01, 400).cumsum())).tolist() for s in "AB"})
    both = pd.concat([forecasts(market, m, v) for m, v in (("wide", 0.05), ("right", 0.0233))])
    scored = with_losses(both, market)
    table = summary(scored, HOUR).set_index("model")
    for model in ("wide", "right"):
        own = scored[scored["model"] == model]
        assert table.loc[model, "rows"] == len(own) == 399 * 4
        np.testing.assert_allclose(table.loc[model, "fz0"], own["fz0"].mean())
        np.testing.assert_allclose(table.loc[model, "hit_ratio"], own["hit"].mean() / 0.01)
    np.testing.assert_allclose(
        table.loc["right", "difference"], table.loc["right", "fz0"] - table.loc["wide", "fz0"]
    )
    assert table.loc["wide", "difference"] == 0
    assert table.loc["wide", "t"] == 0
    assert table.loc["right", "t"] < -2


def test_a_panel_keeps_rows_and_cells_in_place() -> None:
    market = market_of({"A": [100.0, 110.0, 99.0], "B": [50.0, 50.0, 40.0]})
    found = panel(with_losses(forecasts(market, "m", 0.1), market), "m", "1h", 0.99)
    assert found.cells.tolist() == [("A", "long"), ("A", "short"), ("B", "long"), ("B", "short")]
    np.testing.assert_array_equal(found.hit, [[0, 0, 0, 0], [1, 0, 1, 0]])


def test_coverage_is_tested_without_overlap() -> None:
    """One fall hits h overlapping losses of h bars; every interleaved series sees it once."""
    closes = np.full(1001, 100.0)
    closes[500:] = 80.0
    market = market_of({"A": closes.tolist()})
    scored = with_losses(forecasts(market, "m", 0.1, "4h"), market)
    cells = cell_coverage(scored, "m", HOUR).set_index("side")
    assert scored["hit"].sum() == 4
    # 997 matured rows: one hit in each of the four series of 249 or 250 rows at 1 %.
    assert cells.loc["long", "rows"] == 997
    np.testing.assert_allclose(cells.loc["long", "hit_ratio"], 4 / 997 / 0.01)
    from models.coverage import averaged, kupiec

    expected = averaged([kupiec(1, 250, 0.99)] + 3 * [kupiec(1, 249, 0.99)]).p_value
    np.testing.assert_allclose(cells.loc["long", "pof_p"], expected)
    # 0 hits in 250 rows at 1 %: a statistic of 5.02517.
    assert cells.loc["short", "pof_p"] == pytest.approx(0.0250, abs=2e-4)


def test_a_cell_with_too_few_rows_is_not_tested() -> None:
    market = market_of({"A": [100.0, 101.0, 100.0, 101.0, 100.0, 101.0]})
    cells = cell_coverage(with_losses(forecasts(market, "m", 0.1, "4h"), market), "m", HOUR)
    assert cells["rows"].tolist() == [2, 2]
    assert cells["pof_p"].isna().all()
