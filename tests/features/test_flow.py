"""Order-flow features against hand-computed values and degenerate tapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from features.bars import Market
from features.pipeline import Pipeline

MakeMarket = Callable[..., Market]
BARS = 31 * 24
FLOW = [
    *("volume_1h", "trade_intensity_1h", "imbalance_1h", "flow_persistence_1d"),
    *("toxicity_4h", "illiquidity_4h", "impact_4h"),
]


def zigzag(bars: int = BARS) -> list[float]:
    return [100 * float(np.exp(0.01 * (i % 2))) for i in range(bars)]


def values(market: Market, name: str) -> np.ndarray:
    return Pipeline.fit(market, [name]).batch(market)[name]


def tape(make: MakeMarket, bought: list[float], volume: list[float] | None = None) -> Market:
    volume = volume or [10.0] * BARS
    return make({"A": zigzag()}, volume=volume, trades=[5.0] * BARS, taker_buy_volume=bought)


def test_volume_trades_and_size_against_their_month(market_of_closes: MakeMarket) -> None:
    volume = [10.0] * (BARS - 4) + [40.0] * 4
    market = tape(market_of_closes, [5.0] * BARS, volume)
    usual = (716 * 10 + 4 * 40) / 720
    assert values(market, "volume_4h")[-1, 0] == pytest.approx(np.log(40 / usual))
    assert values(market, "volume_1d")[-1, 0] == pytest.approx(np.log((20 * 10 + 4 * 40) / 24 / usual))
    assert values(market, "trade_intensity_4h")[-1, 0] == pytest.approx(0.0, abs=1e-12)
    assert values(market, "trade_size_4h")[-1, 0] == pytest.approx(np.log((40 / 5) / (usual / 5)))


def test_levels_do_not_matter(market: Market) -> None:
    """Ten times the volume and trades, always, changes no feature: drifting levels are not a signal."""
    scaled = Market(
        market.interval,
        {c: f * 10 if "volume" in c or c == "trades" else f for c, f in market.columns.items()},
    )
    for name in FLOW:
        np.testing.assert_allclose(values(scaled, name), values(market, name), rtol=1e-9, atol=1e-9)


def test_imbalance_counts_against_its_usual(market_of_closes: MakeMarket) -> None:
    # Balanced in turns of 6 and 4 bought of 10, then four hours of 8 of 10: s = +-2, then 6.
    bought = [6.0 if i % 2 else 4.0 for i in range(BARS - 4)] + [8.0] * 4
    market = tape(market_of_closes, bought)
    mean = 4 * 0.6 / 720
    deviation = np.sqrt((716 * 0.2**2 + 4 * 0.6**2) / 720)
    assert values(market, "imbalance_4h")[-1, 0] == pytest.approx((0.6 - mean) * 2 / deviation)
    assert values(market, "imbalance_1h")[-1, 0] == pytest.approx((0.6 - mean) / deviation)
    selling = tape(market_of_closes, [10 - b for b in bought])
    np.testing.assert_allclose(values(selling, "imbalance_1d"), -values(market, "imbalance_1d"), atol=1e-12)


def test_persistence_tells_a_trend_of_buyers_from_turns(market_of_closes: MakeMarket) -> None:
    turns = [6.0 if i % 2 else 4.0 for i in range(BARS)]
    stubborn = turns[:-24] + [6.0] * 24
    assert values(tape(market_of_closes, turns), "flow_persistence_1d")[-1, 0] == pytest.approx(
        0.0, abs=1e-12
    )
    # The day: 23 products +4, and one across its start; s = 2 (bought - 5): bar -25 bought 6, so +4 as well.
    day = values(tape(market_of_closes, stubborn), "flow_persistence_1d")[-1, 0]
    month = (24 - (720 - 24)) / 720
    assert day == pytest.approx(1.0 - month)


def test_toxicity_is_the_one_sided_share_of_volume(market_of_closes: MakeMarket) -> None:
    bought = [6.0 if i % 2 else 4.0 for i in range(BARS - 4)] + [9.0, 1.0, 9.0, 1.0]
    usual = (716 * 2 + 4 * 8) / 7200
    found = values(tape(market_of_closes, bought), "toxicity_4h")[-1, 0]
    assert found == pytest.approx(np.log(0.8 / usual))


def test_illiquidity_rises_when_the_same_move_takes_less_volume(market_of_closes: MakeMarket) -> None:
    thin = tape(market_of_closes, [0.5] * BARS, [10.0] * (BARS - 24) + [1.0] * 24)
    # |r| is 0.01 in every bar; turnover alternates with the price, in both windows alike.
    assert values(thin, "illiquidity_1d")[-1, 0] == pytest.approx(np.log(10 / (1 + 9 * 24 / 720)), rel=1e-6)


def test_impact_is_the_slope_of_returns_on_signed_volume(market_of_closes: MakeMarket) -> None:
    # The price goes up on odd bars; buyers are there on odd bars at first, and in the last day twice as
    # strongly.
    signed = [2.0 if i % 2 else -2.0 for i in range(BARS)]
    calm = [5 + s / 2 for s in signed]
    heavy = calm[:-24] + [5 + s for s in signed[-24:]]
    market = tape(market_of_closes, heavy)
    month_slope = 0.01 * (696 * 2 + 24 * 4) / (696 * 4 + 24 * 16)
    unit = np.sqrt((696 * 4 + 24 * 16) / 720) / 0.01
    assert values(market, "impact_1d")[-1, 0] == pytest.approx((0.01 / 4 - month_slope) * unit, rel=1e-6)


def test_no_trade_at_all_has_no_flow(market_of_closes: MakeMarket) -> None:
    dead = market_of_closes(
        {"A": [100.0] * BARS}, volume=[0.0] * BARS, trades=[0.0] * BARS, taker_buy_volume=[0.0] * BARS
    )
    for name in ("imbalance_1h", "toxicity_1d", "volume_1d", "trade_size_1d", "illiquidity_1d"):
        assert np.isnan(values(dead, name)).all()


def test_a_quiet_day_in_a_living_market_stays_bounded(market_of_closes: MakeMarket) -> None:
    volume = [10.0] * (BARS - 24) + [0.0] * 24
    bought = [6.0 if i % 2 else 4.0 for i in range(BARS - 24)] + [0.0] * 24
    market = tape(market_of_closes, bought, volume)
    assert values(market, "volume_1d")[-1, 0] == -5.0
    for name in ("imbalance_1d", "toxicity_1d"):
        assert np.isnan(values(market, name)[-1, 0]), "a share of nothing is unknown"
