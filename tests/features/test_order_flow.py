"""Features of the trade columns, by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.columns import TRADE_COLUMNS
from features.flow import SCORE_BOUND
from features.order_flow import FEATURES
from features.volatility import LOG_RATIO_BOUND

HOUR = pd.Timedelta(hours=1)
WEEK = 7 * 24
#: On the decision grid; those on finer grids differ by their name.
HERE = {name: f for f in FEATURES if f.resolution is None for name in f.outputs}

Tape = Callable[..., Market]


@pytest.fixture
def tape(market_of_closes: Callable[..., Market]) -> Tape:
    """Hourly bars of one symbol at one price, with these trade columns; the others are 1."""

    def make(bars: int, **columns: list[float]) -> Market:
        market = market_of_closes({"A": [100.0] * bars})
        every = {c.name: columns.get(c.name, [1.0] * bars) for c in TRADE_COLUMNS}
        return market.with_columns(
            {c: pd.DataFrame({"A": values}, market.times) for c, values in every.items()}
        )

    return make


def value(market: Market, name: str) -> np.ndarray:
    return HERE[name].compute(market, {})[name]["A"].to_numpy()


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *(("tape_vpin", "vpin"), ("tape_runs", "run_mean"), ("tape_long_runs", "run_longest")),
        *(("tape_sizes", "size_dispersion"), ("tape_bursts", "trade_gap_dispersion")),
        ("tape_spread", "roll_spread"),
    ],
)
def test_ratios_are_logarithms_against_the_last_week(tape: Tape, name: str, column: str) -> None:
    market = tape(WEEK, **{column: [2.0] * (WEEK - 4) + [6.0] * 4})
    mean = (2 * (WEEK - 4) + 6 * 4) / WEEK
    assert value(market, f"{name}_1h")[-1] == pytest.approx(np.log(6 / mean))
    assert value(market, f"{name}_4h")[-1] == pytest.approx(np.log(6 / mean))
    assert value(market, f"{name}_4h")[-2] == pytest.approx(np.log(5 / ((2 * (WEEK - 4) + 18) / (WEEK - 1))))
    assert value(market, f"{name}_1h")[-5] == 0


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *(("tape_large", "large_trade_share"), ("tape_large_push", "large_trade_imbalance")),
        *(("tape_impact", "kyle_lambda"), ("tape_persistence", "flow_autocorrelation")),
        ("tape_gap", "buy_sell_gap"),
    ],
)
def test_scores_are_in_deviations_of_the_last_week_and_keep_their_sign(
    tape: Tape, name: str, column: str
) -> None:
    x = [0.1, -0.1] * (WEEK // 2 - 2) + [0.3] * 4
    market = tape(WEEK, **{column: x})
    mean, deviation = np.mean(x), np.std(x)
    assert value(market, f"{name}_1h")[-1] == pytest.approx((0.3 - mean) / deviation)
    assert value(market, f"{name}_4h")[-1] == pytest.approx((0.3 - mean) * 2 / deviation)
    low = tape(WEEK, **{column: (-np.array(x)).tolist()})
    assert value(low, f"{name}_4h")[-1] == -value(market, f"{name}_4h")[-1]
    # A window shorter than a bar is one bar.
    np.testing.assert_array_equal(value(market, f"{name}_1m"), value(market, f"{name}_1h"))


def test_what_does_not_vary_or_was_never_known_has_no_value(tape: Tape) -> None:
    market = tape(WEEK, kyle_lambda=[0.5] * WEEK, vpin=[np.nan] * WEEK, run_mean=[0.0] * WEEK)
    for name in ("tape_impact_4h", "tape_vpin_4h", "tape_runs_4h"):
        assert np.isnan(value(market, name)).all()


def test_a_quarter_of_a_window_and_half_a_day_must_be_known(tape: Tape) -> None:
    nan = np.nan
    market = tape(WEEK, roll_spread=[2.0] * (WEEK - 6) + [nan, nan, 4.0, nan, nan, nan])
    four, one = value(market, "tape_spread_4h"), value(market, "tape_spread_1h")
    usual = (2 * (WEEK - 6) + 4) / (WEEK - 5)
    assert four[-1] == pytest.approx(np.log(4 / usual))
    assert np.isnan(one[-3:]).all() and np.isfinite(one[-4])
    assert np.isnan(value(market, "tape_runs_1h")[:11]).all()
    assert np.isfinite(value(market, "tape_runs_1h")[11:]).all()


def test_one_absurd_bar_stays_within_bounds(tape: Tape) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1e-6, WEEK)
    wild = tape(WEEK, kyle_lambda=[*x[:-1], 1e9], roll_spread=[*([1e-9] * (WEEK - 1)), 0.0])
    assert abs(value(wild, "tape_impact_1h")[-1]) <= SCORE_BOUND
    assert value(wild, "tape_spread_1h")[-1] == -LOG_RATIO_BOUND
