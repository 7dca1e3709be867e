"""What takers did in the newest fine bars: values by hand, and levels that drift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.fine_flow import FEATURES
from features.flow import SCORE_BOUND
from features.resample import merged

HOUR, QUARTER = pd.Timedelta(hours=1), pd.Timedelta(minutes=15)
BARS = 2 * 96

Make = Callable[..., Market]


@pytest.fixture(scope="module")
def make(market_of_closes: Callable[..., Market]) -> Make:
    """Two days of quarters beneath hours: one unit bought and one sold in each, in two trades, but for the
    last bar, which is given."""

    def market(volume: float = 2.0, bought: float = 1.0, trades: float = 2.0, level: float = 1.0) -> Market:
        def column(usual: float, newest: float) -> list[float]:
            return [usual * level] * (BARS - 1) + [newest * level]

        closes = np.where(np.arange(BARS) % 2 == 0, 100.0, 101.0).tolist()
        fine = market_of_closes(
            {"A": closes},
            QUARTER,
            volume=column(2.0, volume),
            # A usual imbalance of half the volume, to and fro, is what a push is held against.
            taker_buy_volume=[level * b for b in [0.5, 1.5] * (BARS // 2 - 1)] + [level, bought * level],
            trades=column(2.0, trades),
        )
        return Market(HOUR, merged(fine.columns, QUARTER, HOUR)).with_finer(fine)

    return market


def last(market: Market) -> dict[str, float]:
    feature = next(f for f in FEATURES if f.resolution == QUARTER)
    return {name: float(f.iloc[-1, 0]) for name, f in feature.compute(market, {}).items()}


def test_an_ordinary_quarter_says_nothing(make: Make) -> None:
    found = last(make())
    for part in ("turnover", "activity", "ticket", "push", "one_sided", "price_impact"):
        assert found[f"{part}_15m_at_15m"] == pytest.approx(0.0, abs=1e-12), part


def test_a_rush_of_buyers_by_hand(make: Make) -> None:
    found = last(make(volume=8.0, bought=8.0, trades=4.0))
    day = (95 * 2.0 + 8.0) / 96
    assert found["turnover_15m_at_15m"] == pytest.approx(np.log(8.0 / day))
    assert found["activity_15m_at_15m"] == pytest.approx(np.log(4.0 / ((95 * 2.0 + 4.0) / 96)))
    assert found["ticket_15m_at_15m"] == pytest.approx(np.log((8 / 4) / ((95 * 2 + 8) / (95 * 2 + 4))))
    ordinary = np.sqrt((94 * 0.5**2 + 0.0 + 1.0) / 96)  # rms of s / v over the day
    assert found["push_15m_at_15m"] == pytest.approx(1.0 / ordinary)
    assert found["one_sided_15m_at_15m"] == found["push_15m_at_15m"]
    # The hour: the rush, a balanced bar, and two that lean against each other.
    assert found["push_1h_at_15m"] == pytest.approx(8.0 / (3 * 2 + 8) * 2 / ordinary)


def test_sellers_push_the_other_way(make: Make) -> None:
    found = last(make(volume=8.0, bought=0.0))
    assert found["push_15m_at_15m"] < 0
    assert found["one_sided_15m_at_15m"] == -found["push_15m_at_15m"]
    assert abs(found["push_15m_at_15m"]) <= SCORE_BOUND


def test_the_level_of_volume_does_not_matter(make: Make) -> None:
    small, large = (last(make(volume=8.0, bought=6.0, level=level)) for level in (1.0, 1e6))
    assert small == pytest.approx(large, rel=1e-9)


def test_a_quarter_without_trades_is_quiet_and_its_shares_unknown(make: Make) -> None:
    found = last(make(volume=0.0, bought=0.0, trades=0.0))
    assert found["turnover_15m_at_15m"] == -5.0  # held at its bound
    assert np.isnan(found["push_15m_at_15m"])
    assert np.isnan(found["ticket_15m_at_15m"])
    assert np.isfinite(found["push_1h_at_15m"])
