"""Bars from trades: against the slow way, however the trades are cut, and on tapes that are odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.bars import check_bars
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from features.trades.settings import TradeSettings
from features.trades.tables import NAMES, Table, bar_table, joined

SECOND, MINUTE, HOUR = (pd.Timedelta(1, unit=u) for u in ("s", "min", "h"))
NS = 10**9
START_NS = int(pd.Timestamp("2025-03-01", tz="UTC").value)
#: What is usual is known soon, so that short tapes have every column.
SOON = TradeSettings(
    usual_refresh_s=60, usual_half_life_s=1800, usual_warm_up_s=120, buckets_per_day=2000, vpin_buckets=5
)
SUMS = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
EXACT = ("open", "high", "low", "close", "trades", "run_mean", "run_longest")

Tape = Callable[..., Trades]


def built(trades: Trades, interval: pd.Timedelta, settings: TradeSettings, cuts: list[int]) -> Table:
    bars = TradeBars(interval, settings)
    edges = [0, *cuts, len(trades)]
    parts = [bars.add(trades.rows(slice(a, b))) for a, b in pairwise(edges)]
    return joined([*parts, bars.finish()])


def assert_same_bits(found: Table, expected: Table) -> None:
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("interval", [SECOND, 10 * SECOND, MINUTE, HOUR], ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bars_are_those_of_the_slow_way(
    random_tape: Tape, slow_bars: Callable[..., pd.DataFrame], interval: pd.Timedelta, seed: int
) -> None:
    settings = SOON.model_copy(update={"longest_silence_s": 200.0 if interval < HOUR else 5000.0})
    trades = random_tape(4000, 2.5, seed)
    found = built(trades, interval, settings, [])
    expected = slow_bars(trades, interval, settings)
    np.testing.assert_array_equal(found["open_time_ns"], expected["open_time_ns"])
    for name in EXACT:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for name in SUMS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=0, err_msg=name)
    for name in set(NAMES) - {*EXACT, *SUMS}:
        # What is taken out as a difference of sums loses digits where one side is small.
        lost = 1e-9 if name == "buy_sell_gap" else 1e-13
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=lost, err_msg=name)
    check_bars(bar_table(found), interval, "random tape")
    if interval < HOUR:
        known = bar_table(found)[found["volume"] > 0].notna().mean()
        assert (known[["vpin", "large_trade_share"]] > 0.5).all(), "the tape must say something"


@pytest.mark.parametrize("interval", [SECOND, MINUTE, 4 * HOUR], ids=str)
def test_bars_do_not_depend_on_the_cuts(random_tape: Tape, interval: pd.Timedelta) -> None:
    trades = random_tape(90_000, 5.0, 4)
    whole = built(trades, interval, SOON, [])
    rng = np.random.default_rng(0)
    for pieces in (1, 7, 200):
        cuts = np.sort(rng.integers(0, len(trades), pieces)).tolist()
        assert_same_bits(built(trades, interval, SOON, cuts), whole)


def test_trades_replayed_one_by_one_give_the_same_bits_through_restarts(random_tape: Tape) -> None:
    trades = random_tape(3000, 1.0, 5)
    whole = built(trades, MINUTE, SOON, [])
    bars, closed = TradeBars(MINUTE, SOON), []
    for i in range(len(trades)):
        closed.append(bars.add(trades.rows(slice(i, i + 1))))
        if i % 100 == 7:
            bars = TradeBars.from_json(json.loads(json.dumps(bars.to_json(), allow_nan=False)))
    assert_same_bits(joined([*closed, bars.finish()]), whole)
    assert len(whole["volume"]) >= 55


def test_a_bar_of_many_equal_trades_keeps_its_digits() -> None:
    n = 300_000
    trades = Trades(np.full(n, START_NS), np.full(n, 3.0), np.full(n, 0.1), np.ones(n, dtype=bool))
    found = built(trades, MINUTE, SOON, [1000, 1024, 1025, 200_000])
    # A plain running sum is off by 3e-12 here.
    assert found["volume"][0] == pytest.approx(30_000, rel=1e-13)
    assert found["taker_buy_volume"][0] == found["volume"][0]
    assert (found["trades"][0], found["run_longest"][0]) == (n, n)


def test_a_tape_by_hand(tape: Tape) -> None:
    trades = tape([0, 1, 3, 59.999, 60], [100, 101, 101, 99, 99], [1, 2, -1, -4, 5])
    found = bar_table(built(trades, MINUTE, SOON, []))
    first, second = found.iloc[0], found.iloc[1]
    assert first["open_time"] == pd.Timestamp("2025-03-01", tz="UTC")
    assert first[["open", "high", "low", "close"]].to_list() == [100, 101, 99, 99]
    assert first[["volume", "quote_volume", "trades"]].to_list() == [8, 100 + 202 + 101 + 396, 4]
    assert first[["taker_buy_volume", "taker_buy_quote_volume"]].to_list() == [3, 302]
    # Sizes 1, 2, 1, 4: mean 2, variance 3/2.
    assert first["size_dispersion"] == pytest.approx(np.sqrt(1.5) / 2)
    assert first["trade_gap_s"] == pytest.approx(59.999 / 3)
    assert (first["run_mean"], first["run_longest"]) == (2, 2)
    assert first["buy_sell_gap"] == pytest.approx((302 / 3) / (497 / 5) - 1)
    assert np.isnan(first[["kyle_lambda", "roll_spread", "vpin", "large_trade_share"]].astype(float)).all()
    assert second[["open", "close", "volume", "trades", "taker_buy_volume"]].to_list() == [99, 99, 5, 1, 5]
    assert np.isnan(second[["size_dispersion", "trade_gap_s", "buy_sell_gap"]].astype(float)).all()


def test_roll_lambda_and_autocorrelation_by_hand(tape: Tape) -> None:
    # The price bounces between 99 and 101: buys of 1 at 101, sells of 1 at 99.
    n = 20
    bounce = tape(list(range(n)), [101, 99] * (n // 2), [1, -1] * (n // 2))
    row = bar_table(built(bounce, MINUTE, SOON, [])).iloc[0]
    # Changes -2, 2, -2, ...: 19 of them, mean -2/19; the slope on s is 2, the VWAP 100.
    mean = -2 / 19
    covariance = sum((a - mean) * (-a - mean) for a in [-2, 2] * 9) / 18
    assert row["roll_spread"] == pytest.approx(2 * np.sqrt(-covariance) / 100)
    assert row["kyle_lambda"] == pytest.approx(2 / 100)
    assert row["flow_autocorrelation"] == pytest.approx(-(n - 1) / n)
    # A trend has a covariance of zero, and a spread of zero; one side alone has no slope.
    trend = tape(list(range(n)), [100 + i for i in range(n)], [1] * n)
    row = bar_table(built(trend, MINUTE, SOON, [])).iloc[0]
    assert row["roll_spread"] == 0
    assert np.isnan(row[["kyle_lambda", "flow_autocorrelation", "buy_sell_gap"]].astype(float)).all()
    assert row["size_dispersion"] == 0 and row["trade_gap_dispersion"] == 0
    # What keeps to a direction for two ticks at a time has a positive covariance: no spread.
    steps = np.cumsum([1, 1, -1, -1] * 5)
    row = bar_table(built(tape(list(range(n)), (100 + steps).tolist(), [1] * n), MINUTE, SOON, [])).iloc[0]
    assert row["roll_spread"] == pytest.approx(0, abs=0.01) or np.isnan(row["roll_spread"])


def test_vpin_and_large_trades_by_hand(tape: Tape) -> None:
    settings = TradeSettings(
        usual_refresh_s=10, usual_half_life_s=1e9, usual_warm_up_s=10, buckets_per_day=8640 / 4,
        vpin_buckets=2, large_quantile=0.9,
    )  # fmt: skip
    # Ten trades of 1 in the first ten seconds: 86400 a day, a bucket holds 40; large is beyond 1.
    quiet = [float(s) for s in range(10)]
    trades = tape(
        [*quiet, 10, 11, 12, 13],
        [100.0] * 14,
        [*([1.0] * 10), 30.0, -20.0, -20.0, 90.0],
    )
    found = built(trades, SECOND, settings, [])
    # Buckets: 30 - 10 of 40 -> 20/40; then -10 - 20 = -30, + 10 -> 20/40; then 40 and 40 of the last: 1, 1.
    np.testing.assert_allclose(found["vpin"][10:], [np.nan, np.nan, np.nan, 1.0])
    found = built(trades, SECOND, settings.model_copy(update={"vpin_buckets": 1}), [])
    np.testing.assert_allclose(found["vpin"][10:], [np.nan, 0.5, 0.5, 1.0])
    assert np.isnan(found["large_trade_share"][:10]).all()
    np.testing.assert_array_equal(found["large_trade_share"][10:], 1.0)
    small = built(tape([*quiet, 10], [100.0] * 11, [1.0] * 11), SECOND, settings, [])
    assert small["large_trade_share"][10] == 0


def test_silence_is_flat_for_a_while_and_then_missing(tape: Tape) -> None:
    settings = TradeSettings(longest_silence_s=180)
    trades = tape([30, 630], [100, 105], [1, 1])
    found = bar_table(built(trades, MINUTE, settings, []))
    minutes = ((found["open_time"] - found["open_time"].iloc[0]) / MINUTE).to_list()
    # Bars that close by 30 s + 180 s: those that open at 1 and 2 minutes.
    assert minutes == [0, 1, 2, 10]
    flat = found.iloc[1]
    assert flat[["open", "high", "low", "close"]].to_list() == [100] * 4
    assert flat[["volume", "quote_volume", "trades", "taker_buy_volume"]].to_list() == [0] * 4
    assert np.isnan(flat[["run_mean", "size_dispersion"]].astype(float)).all()
    check_bars(found, MINUTE, "silence")


def test_nothing_is_flat_where_ids_are_missing(tape: Tape) -> None:
    gapless = tape([30, 150, 270], [100, 101, 102], [1, 1, 1], id=[7, 8, 9])
    assert len(built(gapless, MINUTE, TradeSettings(), [])["volume"]) == 5
    jumping = tape([30, 150, 270], [100, 101, 102], [1, 1, 1], id=[7, 8, 10])
    for cuts in ([], [1, 2]):
        found = built(jumping, MINUTE, TradeSettings(), cuts)
        assert ((found["open_time_ns"] - START_NS) // (60 * NS)).tolist() == [0, 1, 2, 4]


def test_the_clock_closes_bars_and_late_trades_are_refused(tape: Tape) -> None:
    bars = TradeBars(MINUTE, TradeSettings(longest_silence_s=300))
    assert len(bars.close_until(START_NS)["volume"]) == 0
    bars.add(tape([10], [100], [2]))
    assert len(bars.close_until(START_NS + 59 * NS)["volume"]) == 0
    closed = bars.close_until(START_NS + 185 * NS)
    assert closed["volume"].tolist() == [2, 0, 0]
    assert bars.closed_until_ns == START_NS + 180 * NS
    with pytest.raises(ValueError, match="in a bar of 1m that is closed; leave it out"):
        bars.add(tape([170], [100], [1]))
    # The bar is open at its first instant; silence before it goes on where it was.
    closed = bars.add(tape([300, 361], [101, 102], [1, 1]))
    assert ((closed["open_time_ns"] - START_NS) // (60 * NS)).tolist() == [3, 4, 5]
    assert closed["close"].tolist() == [100, 100, 101]
    assert bars.close_until(START_NS + 10_000 * NS)["volume"].tolist() == [1, 0, 0, 0, 0]


def test_disorder_is_refused_and_changes_nothing(tape: Tape) -> None:
    bars = TradeBars(MINUTE)
    bars.add(tape([10, 20], [100, 100], [1, 1]))
    before = bars.to_json()
    for seconds, row in (([19.0, 30.0], 0), ([30.0, 29.0], 1)):
        with pytest.raises(ValueError, match=f"trade {row} is at .* before the trade before it"):
            bars.add(tape(seconds, [100, 100], [1, 1]))
    assert bars.to_json() == before


def test_counts_of_single_trades_are_the_trades_of_the_bar(tape: Tape) -> None:
    trades = tape([1, 2, 61], [100, 101, 102], [1, -1, 1], count=[3, 4, 2])
    for cuts in ([], [1]):
        found = built(trades, MINUTE, TradeSettings(), cuts)
        assert found["trades"].tolist() == [7, 2]
        assert found["run_longest"].tolist() == [1, 1]


def test_nothing_in_nothing_out() -> None:
    bars = TradeBars(MINUTE)
    none = Trades(np.zeros(0, "int64"), np.zeros(0), np.zeros(0), np.zeros(0, "bool"))
    for table in (bars.add(none), bars.finish(), bars.close_until(START_NS)):
        assert list(table) == ["open_time_ns", *NAMES] and len(table["volume"]) == 0
    assert (bars.last_time_ns, bars.closed_until_ns) == (None, None)
    with pytest.raises(ValueError, match="give a positive one"):
        TradeBars(pd.Timedelta(0))
    with pytest.raises(ValueError, match="form 7, and this version knows"):
        TradeBars.from_json({"form": 7})


def test_what_is_usual_needs_a_memory_longer_than_its_warm_up() -> None:
    with pytest.raises(ValueError, match="give a warm-up of at most the half-life"):
        TradeSettings(usual_warm_up_s=7200, usual_half_life_s=3600)


def test_later_trades_change_no_bar_before_them(random_tape: Tape) -> None:
    trades = random_tape(6000, 2.0, 8)
    half = 3000
    later = Trades(
        trades.time_ns, np.where(np.arange(6000) < half, trades.price, trades.price * 3),
        np.where(np.arange(6000) < half, trades.size, trades.size * 50), trades.buy, trades.id,
    )  # fmt: skip
    a, b = built(trades, MINUTE, SOON, []), built(later, MINUTE, SOON, [])
    closed = a["open_time_ns"] + 60 * NS <= trades.time_ns[half]
    assert 20 < closed.sum() < len(closed)
    for name in a:
        np.testing.assert_array_equal(a[name][closed], b[name][closed])


@st.composite
def short_tapes(draw: st.DrawFn) -> tuple[Trades, list[int]]:
    """Up to 40 trades with few distinct gaps, prices and sizes, so that ties, full buckets, silences and
    holes are common, and where to cut them."""
    n = draw(st.integers(1, 40))
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 7, 60, 130, 400]), min_size=n, max_size=n))
    prices = draw(st.lists(st.sampled_from([99.9, 100.0, 100.1]), min_size=n, max_size=n))
    sizes = draw(st.lists(st.sampled_from([0.1, 0.2, 1.0, 25.0]), min_size=n, max_size=n))
    buy = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    ids = np.cumsum(draw(st.lists(st.sampled_from([1, 1, 1, 3]), min_size=n, max_size=n)))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    time_ns = START_NS + np.cumsum(gaps).astype("int64") * NS
    return Trades(time_ns, np.array(prices), np.array(sizes), np.array(buy), ids.astype("int64")), cuts


@given(short_tapes())
@settings(max_examples=60, deadline=None)
def test_short_tapes_of_every_kind(
    slow_bars: Callable[..., pd.DataFrame], drawn: tuple[Trades, list[int]]
) -> None:
    trades, cuts = drawn
    at_once = TradeSettings(
        usual_refresh_s=60, usual_half_life_s=600, usual_warm_up_s=60, buckets_per_day=1440, vpin_buckets=2,
        longest_silence_s=180,
    )  # fmt: skip
    found, expected = built(trades, MINUTE, at_once, []), slow_bars(trades, MINUTE, at_once)
    assert_same_bits(built(trades, MINUTE, at_once, cuts), found)
    check_bars(bar_table(found), MINUTE, "short tape")
    np.testing.assert_array_equal(found["open_time_ns"], expected["open_time_ns"])
    for name in NAMES:
        lost = 1e-9 if name == "buy_sell_gap" else 1e-12
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=lost, err_msg=name)
