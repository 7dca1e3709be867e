"""Real trades: ids that are missing, a side that is wrong, several symbols and markets in one file."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import check_bars
from features.sources.trades import checked_trades
from features.sources.trades_pieces import TradeChoice
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from features.trades.checks import CheckSettings, TradeChecks, TradeError
from features.trades.settings import TradeSettings
from features.trades.tables import Table, bar_table, joined

MINUTE = pd.Timedelta(minutes=1)
LTC, STANDX = "binance-spot-LTCUSDT-36h.parquet", "standx-BTCUSD.parquet"
HYPERLIQUID, BINANCE = "hyperliquid-BTC-ETH-SOL-35min.parquet", "binance-BTC-ETH-11min.parquet"

Read = Callable[..., tuple[Trades, TradeChecks]]

pytestmark = pytest.mark.realdata


@pytest.fixture
def read(real_data: Path) -> Read:
    def trades(name: str, checks: CheckSettings | None = None, **choice: str) -> tuple[Trades, TradeChecks]:
        checking = TradeChecks(checks)
        path = real_data / "trades" / name
        tape = Trades.joined([t for _, t in checked_trades([path], TradeChoice(**choice), checking)])
        return tape, checking

    return trades


def built(trades: Trades, cuts: list[int], settings: TradeSettings | None = None) -> Table:
    bars = TradeBars(MINUTE, settings)
    parts = [bars.add(trades.rows(slice(a, b))) for a, b in pairwise([0, *cuts, len(trades)])]
    return joined([*parts, bars.finish()])


def test_ids_that_are_missing_are_told_and_no_bar_is_made_of_the_hole(read: Read) -> None:
    trades, checks = read(LTC, symbol="LTCUSDT")
    assert checks.report.missing_share == pytest.approx(0.1435, abs=1e-3)
    (warning,) = checks.finish()
    assert "25,595 ids are missing (14.4%, at most 24,645 in a row)" in warning
    with pytest.raises(TradeError, match=r"more than 10\.0%; get the tape whole"):
        read(LTC, CheckSettings(most_missing_ids=0.1), symbol="LTCUSDT")[1].finish()
    table = bar_table(built(trades, []))
    check_bars(table, MINUTE, LTC)
    hole = table["open_time"].diff().max()
    assert hole == pd.Timedelta("0 days 03:57:00"), "the longest silence, 14191 s, is a hole and no flat bars"
    assert (table["volume"] > 0).mean() > 0.99


def test_bars_of_real_trades_do_not_depend_on_the_cuts(read: Read) -> None:
    trades, _ = read(LTC, symbol="LTCUSDT")
    whole = built(trades, [])
    rng = np.random.default_rng(0)
    for cuts in (list(range(2000)), np.sort(rng.integers(0, len(trades), 300)).tolist()):
        again = built(trades, cuts)
        for name in whole:
            np.testing.assert_array_equal(again[name], whole[name], err_msg=name)


def test_a_side_that_knows_nothing_is_warned_of_and_the_inferred_one_is_not(read: Read) -> None:
    _, wrong = read(STANDX, symbol="BTCUSD", side_column="side_as_recorded_UNRELIABLE")
    assert 0.45 < wrong.report.disagreement < 0.55
    assert "disagrees with the tick rule at 50% of price changes" in wrong.finish()[0]
    trades, inferred = read(STANDX, symbol="BTCUSD", side_column="side_inferred")
    assert inferred.report.disagreement < 0.2 and inferred.finish() == []
    table = bar_table(built(trades, []))
    check_bars(table, MINUTE, STANDX)
    known = table[table["volume"] > 0].iloc[-1000:].notna().mean()
    assert (known.drop("roll_spread") > 0.9).all()
    assert table["kyle_lambda"].median() > 0, "takers move the price their way"
    with pytest.raises(TradeError, match=r"columns .* are missing; .*'side_inferred'"):
        read(STANDX, symbol="BTCUSD")


def test_trades_sent_twice_are_refused_or_left_out(read: Read) -> None:
    trades, checks = read(HYPERLIQUID, symbol="BTC")
    assert (trades.id, len(trades), checks.finish()) == (None, 6675, [])
    with pytest.raises(TradeError, match="row 8064: trade_id = 376271294908225: the id occurs twice"):
        read(HYPERLIQUID, symbol="ETH")
    trades, checks = read(HYPERLIQUID, CheckSettings(repeats="leave_out"), symbol="ETH")
    assert (len(trades), checks.report.repeats) == (6867, 17)


def test_a_symbol_of_several_markets_is_asked_for(read: Read) -> None:
    with pytest.raises(TradeError, match=r"row 43249: market = usdm: BTCUSDT trades in several markets"):
        read(BINANCE, symbol="BTCUSDT")
    counts = {m: len(read(BINANCE, symbol="BTCUSDT", market=m)[0]) for m in ("spot", "usdm")}
    assert counts == {"spot": 19904, "usdm": 21313}
    trades, checks = read(BINANCE, symbol="ETHUSDT", market="usdm")
    assert checks.finish() == [] and checks.report.missing_ids == 0
    table = bar_table(built(trades, []))
    check_bars(table, MINUTE, BINANCE)
    assert table["trades"].sum() == len(trades)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_bars_of_trades_meet_the_bars_that_the_exchange_published(
    read: Read, real_data: Path, symbol: str
) -> None:
    """The trades are of eleven minutes around a midnight, where one published bar ends and one begins."""
    trades, _ = read(BINANCE, symbol=symbol, market="spot")
    table = bar_table(built(trades, [])).set_index("open_time")
    published = pd.read_parquet(real_data / "bars" / "binance-spot" / "30m" / f"{symbol}.parquet")
    published = published.set_index("open_time")
    midnight = pd.Timestamp("2024-08-09", tz="UTC")
    before, after = published.loc[midnight - pd.Timedelta("30min")], published.loc[midnight]
    assert table["close"][midnight - MINUTE] == before["close"]
    assert table["open"][midnight] == after["open"]
    evening, night = table[: midnight - MINUTE], table[midnight:]
    assert before["low"] <= evening["low"].min() and evening["high"].max() <= before["high"]
    assert after["low"] <= night["low"].min() and night["high"].max() <= after["high"]
    for bars, whole in ((evening, before), (night, after)):
        assert 0 < bars["taker_buy_volume"].sum() < whole["taker_buy_volume"]
        assert bars["trades"].sum() < whole["trades"]
