"""Simulated trades: they add up to their bars, and look like a tape."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.sources.simulated import simulate
from features.sources.simulated_trades import simulate_trades
from features.trades.bars import TradeBars
from features.trades.checks import TradeChecks
from features.trades.tables import bar_table, joined

INTERVAL = pd.Timedelta(minutes=15)


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(symbols=2, days=10, interval=INTERVAL, seed=3)


def test_trades_add_up_to_their_bars(market: Market) -> None:
    trades = simulate_trades(market, "BETA", seed=5)
    bars = TradeBars(INTERVAL)
    found = bar_table(joined([bars.add(trades), bars.finish()]))
    expected = market.bars("BETA")
    for name in ("open_time", "open", "high", "low", "close"):
        assert (found[name] == expected[name]).all(), name
    for name in ("volume", "taker_buy_volume"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
    known = found.iloc[len(found) // 2 :].notna().mean()
    assert (known.drop("roll_spread") == 1).all() and known["roll_spread"] > 0.1
    assert found["run_mean"].mean() > 2.2, "sides come in runs"
    assert found["trade_gap_dispersion"].mean() > 1.2, "trades come in bursts"


def test_they_pass_for_a_tape_and_come_from_the_seed(market: Market) -> None:
    trades = simulate_trades(market, "ALPHA", seed=1, most_per_bar=50)
    checks = TradeChecks()
    checks.check(trades, "simulated")
    assert checks.finish() == [] and checks.report.missing_ids == 0
    assert len(trades) == 50 * len(market.times)
    again, other = (simulate_trades(market, "ALPHA", seed=s, most_per_bar=50) for s in (1, 2))
    np.testing.assert_array_equal(again.size, trades.size)
    assert (other.size != trades.size).any()


def test_bars_without_trades_have_none(market: Market) -> None:
    volume = market["volume"].copy()
    volume.iloc[5] = 0.0
    silent = market.with_columns({"volume": volume})
    trades = simulate_trades(silent, "ALPHA", most_per_bar=4)
    closes = pd.DatetimeIndex(trades.time_ns.astype("datetime64[ns]"), tz="UTC").floor("15min") + INTERVAL
    assert set(market.times) - set(closes) == {market.times[5]}


def test_what_cannot_be_simulated(market: Market) -> None:
    with pytest.raises(ValueError, match="most_per_bar is 3; give at least 4"):
        simulate_trades(market, "ALPHA", most_per_bar=3)
    bare = market.reading(["open", "high", "low", "close", "volume", "trades"])
    with pytest.raises(ValueError, match=r"lacks the columns \['taker_buy_volume'\]"):
        simulate_trades(bare, "ALPHA")
