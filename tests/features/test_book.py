"""Book features by hand-computed values, holes and books that do not vary."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.book import FLOW_LEVELS, fit_component
from features.columns import BOOK_COLUMNS
from features.pipeline import Pipeline, all_features

MakeMarket = Callable[..., Market]
#: A day of bars of 15 minutes, against which windows of 1 min and 10 min (one bar) and 1 h (four) are held.
BARS = 96
QUARTER = pd.Timedelta("15min")


@pytest.fixture
def newest(market_of_closes: MakeMarket) -> Callable[..., dict[str, float]]:
    """The newest value of each book feature that can be made of the columns given (without ``book_``)."""

    def of(**columns: list[float]) -> dict[str, float]:
        named = {f"book_{name}": values for name, values in columns.items()}
        market = market_of_closes({"A": [100.0] * BARS}, QUARTER, **named)
        possible = (f for f in all_features() if f.family == "book" and f.lacks(market) is None)
        names = [name for f in possible for name in f.outputs]
        frame = Pipeline.fit(market, names).batch(market)
        return {n.removeprefix("book_"): float(frame[n][-1, 0]) for n in names}

    return of


def test_spread_against_its_day(newest: Callable[..., dict[str, float]]) -> None:
    spread = [1e-4] * 92 + [3e-4] * 4
    values = newest(spread=spread, spread_max=[2 * s for s in spread])
    for name in ("spread_1min", "spread_10min", "spread_1h", "spread_max_1h"):
        assert values[name] == pytest.approx(np.log(3 / (104 / 96))), name


def test_depth_and_imbalance_against_their_day(newest: Callable[..., dict[str, float]]) -> None:
    imbalance = [0.5, -0.5] * 46 + [0.5] * 4
    values = newest(
        depth_1=[10.0] * 92 + [7.6] * 4, imbalance_1=imbalance, imbalance_1_last=[0.0] * 95 + [-0.5]
    )
    assert values["depth_1_1h"] == pytest.approx(7.6 - 9.9), "ln of depth, less its mean of 9.9"
    assert values["imbalance_1_1h"] == pytest.approx((0.5 - 2 / 96) / 0.5)
    assert values["one_sidedness_1_1h"] == pytest.approx(0.0)
    assert values["imbalance_1_now"] == pytest.approx((-0.5 - 2 / 96) / 0.5)
    assert not any(name.startswith(("depth_5", "imbalance_10")) for name in values)


def test_order_flow_of_the_best_level(newest: Callable[..., dict[str, float]]) -> None:
    values = newest(ofi_1=[1.0, -1.0] * 46 + [1.0] * 4)
    assert values["ofi_10min"] == values["ofi_now"] == pytest.approx(1 - 4 / 96)
    assert values["ofi_1h"] == pytest.approx(2 * (1 - 4 / 96)), "four bars that agree"
    assert values["ofi_size_1h"] == pytest.approx(0.0)
    values = newest(ofi_1=[1.0, -1.0] * 46 + [3.0, -3.0] * 2)
    assert values["ofi_1h"] == pytest.approx(0.0)
    assert values["ofi_size_1h"] == pytest.approx(0.5 * np.log(9 / (128 / 96)))


def test_microprice_over_windows_and_at_the_close(newest: Callable[..., dict[str, float]]) -> None:
    lean = [1e-6, -1e-6] * 48
    values = newest(microprice=lean, microprice_last=[0.0] * 95 + [3e-6], microprice_drift=lean)
    assert values["microprice_10min"] == pytest.approx(-1.0)
    assert values["microprice_now"] == pytest.approx(3.0)
    assert values["microprice_drift_1h"] == pytest.approx(0.0)


def flows(market_of_closes: MakeMarket, by_level: np.ndarray) -> Market:
    """A market whose symbols A, B, ... have these flows, (symbol, bar, level)."""
    names = [f"book_ofi_{m + 1}" for m in range(FLOW_LEVELS)]
    symbols = [chr(ord("A") + s) for s in range(len(by_level))]
    market = market_of_closes({s: [100.0] * by_level.shape[1] for s in symbols}, QUARTER)
    return market.with_columns(
        {name: pd.DataFrame(by_level[:, :, m].T, market.times, symbols) for m, name in enumerate(names)}
    )


def test_levels_that_move_together_weigh_as_they_move(market_of_closes: MakeMarket) -> None:
    one = np.random.default_rng(1).choice([-1.0, 1.0], (1, BARS, 1))
    loadings = np.arange(1.0, FLOW_LEVELS + 1)
    state = fit_component(flows(market_of_closes, one * loadings))
    assert state["weights"] == pytest.approx(list(loadings / loadings.sum()))
    assert state["explained"] == pytest.approx(1.0)
    # A component that points to selling is turned round, and one level alone gets all the weight.
    alone = np.zeros(FLOW_LEVELS)
    alone[3] = -2.0
    assert fit_component(flows(market_of_closes, one * alone))["weights"] == pytest.approx(
        [0.0] * 3 + [1.0] + [0.0] * 6
    )


def test_symbols_weigh_alike_in_the_component(market_of_closes: MakeMarket) -> None:
    one = np.random.default_rng(2).choice([-1.0, 1.0], (BARS, 1))
    first, second = np.eye(FLOW_LEVELS)[:2]
    loud, quiet = one * 1000 * (2 * first + second), one * (first + 2 * second)
    weights = fit_component(flows(market_of_closes, np.stack([loud, quiet])))["weights"]
    assert weights[:2] == pytest.approx([0.5, 0.5])


def test_one_absurd_snapshot_is_not_the_component(market_of_closes: MakeMarket) -> None:
    values = np.random.default_rng(3).choice([-1.0, 1.0], (1, 2000, 1)) * np.ones(FLOW_LEVELS)
    values[0, 7, 6] = 600.0
    weights = fit_component(flows(market_of_closes, values))["weights"]
    assert max(weights) < 0.25


def test_the_integrated_flow_is_the_weighted_sum(market_of_closes: MakeMarket) -> None:
    signs = np.array([1.0, -1.0] * 46 + [1.0] * 4)
    market = flows(market_of_closes, signs[np.newaxis, :, np.newaxis] * np.arange(1.0, FLOW_LEVELS + 1))
    values = Pipeline.fit(market, ["book_ofi_integrated_1h"]).batch(market)["book_ofi_integrated_1h"]
    assert values[-1, 0] == pytest.approx(2 * (1 - 4 / 96)), "as the score of any one level"


def test_flows_that_do_not_vary_weigh_alike(
    market_of_closes: MakeMarket, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        state = fit_component(flows(market_of_closes, np.zeros((1, BARS, FLOW_LEVELS))))
    assert state["weights"] == [0.1] * FLOW_LEVELS
    assert "does not vary" in caplog.text
    assert fit_component(flows(market_of_closes, np.full((1, BARS, FLOW_LEVELS), np.nan))) == state


def test_depletions_and_what_comes_back(newest: Callable[..., dict[str, float]]) -> None:
    nan = float("nan")
    values = newest(
        depletions=[2.0] * 92 + [0.0, 0.0, 0.0, 8.0], resilience=[0.8, nan] * 46 + [nan, nan, 0.2, nan]
    )
    assert values["depletions_10min"] == pytest.approx(np.log(4))
    assert values["depletions_1h"] == pytest.approx(0.0)
    assert values["resilience_1h"] == pytest.approx(0.2 - (46 * 0.8 + 0.2) / 47)
    assert np.isnan(values["resilience_10min"]), "no depletion of this bar is answered"


def test_disorder_and_updates(newest: Callable[..., dict[str, float]]) -> None:
    values = newest(
        **{name: [0.0] * 92 + [0.12] * 4 for name in ("locked", "crossed", "one_sided", "empty")},
        snapshots=[30.0] * 92 + [60.0] * 4,
    )
    assert values["locked_1h"] == pytest.approx(0.12 - 0.005)
    assert values["disorder_1h"] == pytest.approx(3 * (0.12 - 0.005))
    assert values["updates_1h"] == pytest.approx(np.log(60 / 31.25))


def test_a_hole_is_missing_and_a_constant_has_no_score(newest: Callable[..., dict[str, float]]) -> None:
    nan = float("nan")
    values = newest(slope=[20.0] * 93 + [nan] * 3, ofi_1=[0.0] * 96)
    assert np.isnan(values["slope_10min"]) and np.isnan(values["slope_1h"])
    assert np.isnan(values["ofi_1h"]) and np.isnan(values["ofi_size_1h"])
    warming = newest(slope=[nan] * 49 + [20.0] * 47)
    assert np.isnan(warming["slope_1h"]), "less than half a day is known"


def test_absurd_values_stay_in_bounds(newest: Callable[..., dict[str, float]]) -> None:
    rng = np.random.default_rng(5)
    columns = {c.name.removeprefix("book_"): list(rng.pareto(0.2, BARS)) for c in BOOK_COLUMNS}
    for name, value in newest(**columns).items():
        assert abs(value) <= 10, name
