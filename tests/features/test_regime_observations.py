"""What the chains observe, by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.regime_observations import BOUND, OBSERVATIONS, observations, over_symbols, step_bars

MakeMarket = Callable[..., Market]
HOURS = 24 * 8


def changed(market: Market, column: str, last: list[float]) -> Market:
    """The newest rows of a column are these, for every symbol."""
    frame = market[column].copy()
    frame.iloc[-len(last) :] = np.array(last)[:, np.newaxis]
    return market.with_columns({column: frame})


def newest(market: Market, usual: float = 0.01) -> dict[str, float]:
    found = observations(market, np.full(len(market.symbols), usual))
    return {name: float(values[-1, 0]) for name, values in found.items()}


def swinging(n: int = HOURS) -> list[float]:
    """Closes that go up and down by 1 % in turn."""
    return [100.0 if t % 2 == 0 else 101.0 for t in range(n)]


@pytest.fixture
def market(market_of_closes: MakeMarket) -> Market:
    half = [0.5] * HOURS
    return market_of_closes({"A": swinging(), "B": swinging()}, taker_buy_volume=half)


def test_volatility_is_against_the_usual_one(market: Market) -> None:
    parkinson = np.log(1.01) / np.sqrt(4 * np.log(2))
    assert newest(market)["volatility"] == pytest.approx(np.log(parkinson / 0.01))
    assert newest(market, usual=1e-9)["volatility"] == 5.0


def test_toxicity_is_the_share_that_one_side_took(market: Market) -> None:
    """One hour of the week's 168 in five had takers on one side alone, |s| / v = 1: of the last 4 h one."""
    weekly = changed(market, "taker_buy_volume", ([1.0] + 4 * [0.5]) * 33 + [1.0, 0.5, 0.5])
    expected = np.log((1 / 4) / (34 / 168))
    assert newest(weekly)["toxicity"] == pytest.approx(expected)
    # Never one-sided: 0 / 0 is not known.
    assert np.isnan(newest(market)["toxicity"])


def test_illiquidity_is_the_move_a_turnover(market: Market) -> None:
    """Half the volume a day long, at the same moves: over the day twice what it was, over the week 8/7."""
    thin = changed(market, "volume", [0.5] * 24)
    assert newest(market)["illiquidity"] == pytest.approx(0.0, abs=1e-3)
    assert newest(thin)["illiquidity"] == pytest.approx(np.log(2 / (8 / 7)), abs=1e-3)


def test_spread_and_depth_of_books_where_there_are_any(market: Market) -> None:
    assert "spread" not in newest(market)
    flat = pd.DataFrame(0.001, market.times, list(market.symbols))
    books = market.with_columns({"book_spread": flat, "book_depth_5": flat * 0 + 12.0})
    books = changed(books, "book_spread", [0.002] * 4)
    books = changed(books, "book_depth_5", [11.0] * 4)
    found = newest(books)
    assert found["spread"] == pytest.approx(np.log(2 / (1 + 4 / 168)))
    assert found["depth"] == pytest.approx(-1 + 4 / 168)
    assert list(found) == list(OBSERVATIONS)


def test_togetherness_is_the_average_correlation(market_of_closes: MakeMarket) -> None:
    up, down = swinging(), [101.0 if c == 100.0 else 100.0 for c in swinging()]
    alike = newest(market_of_closes({"A": up, "B": up, "C": up}))
    assert alike["togetherness"] == pytest.approx(np.arctanh(0.99))
    # Pairs AB, AC, BC with 1, -1, -1: on average -1/3.
    apart = newest(market_of_closes({"A": up, "B": up, "C": down}))
    assert apart["togetherness"] == pytest.approx(np.arctanh(-1 / 3))
    alone = newest(market_of_closes({"A": up}))
    assert np.isnan(alone["togetherness"])


def test_a_missing_bar_has_no_observation_and_others_keep_theirs(market: Market) -> None:
    holed = {c: f.copy() for c, f in market.columns.items()}
    for frame in holed.values():
        frame.iloc[-1, 0] = np.nan
    found = observations(Market(market.interval, holed), np.full(2, 0.01))
    assert all(np.isnan(values[-1, 0]) for values in found.values())
    assert np.isfinite(found["volatility"][-1, 1])
    assert np.isfinite(found["illiquidity"][-1, 1])


def test_observations_are_bounded(market: Market) -> None:
    wild = changed(market, "volume", [1e-12] * 24)
    found = newest(wild)
    assert abs(found["illiquidity"]) <= BOUND
    tiny = changed(market, "taker_buy_volume", [0.5 + 1e-9] * 100 + [1.0] * 4)
    assert newest(tiny)["toxicity"] == BOUND


def test_the_mean_over_symbols_is_of_the_known() -> None:
    values = np.array([[1.0, 3.0], [np.nan, 3.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(over_symbols(values), [[2.0], [3.0], [np.nan]])


def test_a_step_is_an_hour_or_a_bar() -> None:
    assert [step_bars(pd.Timedelta(i)) for i in ("1min", "15min", "1h", "4h")] == [60, 4, 1, 1]
