"""Context features by hand-computed values, and what is not known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from features.bars import Market
from features.pipeline import Pipeline, all_features

MakeMarket = Callable[..., Market]
#: Half of the 30 days that everything is held against, and a day: the least that can be known.
BARS = 16 * 24


@pytest.fixture
def newest(market_of_closes: MakeMarket) -> Callable[..., dict[str, float]]:
    """The newest value of each context feature that can be made of the columns given."""

    def of(**columns: list[float]) -> dict[str, float]:
        closes = [100 * float(np.exp(0.01 * (i % 2))) for i in range(BARS)]
        market = market_of_closes({"A": closes}, **columns)
        possible = (f for f in all_features() if f.family == "context" and f.lacks(market) is None)
        names = [name for f in possible for name in f.outputs]
        frame = Pipeline.fit(market, names).batch(market)
        return {n: float(frame[n][-1, 0]) for n in names}

    return of


def test_funding_against_its_month(newest: Callable[..., dict[str, float]]) -> None:
    values = newest(funding_rate=[1e-4, 3e-4] * (BARS // 2 - 12) + [4e-4] * 24)
    rates = np.array([1e-4, 3e-4] * (BARS // 2 - 12) + [4e-4] * 24)
    assert values["funding"] == pytest.approx((4e-4 - rates.mean()) / rates.std())
    assert values["funding_change_1d"] == pytest.approx((4e-4 - 2e-4) / rates.std()), "2e-4 on average before"
    assert values["funding_1w"] == pytest.approx((rates[-168:].mean() - rates.mean()) / rates.std())


def test_funding_that_never_moved_is_measured_by_the_unit(newest: Callable[..., dict[str, float]]) -> None:
    values = newest(funding_rate=[1e-4] * (BARS - 1) + [1.2e-4])
    mean = 1e-4 + 0.2e-4 / BARS
    assert values["funding"] == pytest.approx((1.2e-4 - mean) / 1e-5, rel=1e-3)
    assert newest(funding_rate=[1e-4] * BARS)["funding"] == pytest.approx(0, abs=1e-9)
    assert newest(funding_rate=[0.0] * (BARS - 1) + [0.05])["funding"] == 10.0, "held within its bound"


def test_implied_volatility_over_the_markets_own(newest: Callable[..., dict[str, float]]) -> None:
    # Every hour moves by 1 %, which is 0.01 sqrt(8760) a year.
    implied = 0.01 * np.sqrt(8760)
    values = newest(implied_volatility=[implied] * (BARS - 24) + [2 * implied] * 24)
    assert values["implied_premium"] == pytest.approx(np.log(2))
    assert values["implied_change_1d"] == pytest.approx(np.log(2))
    assert values["implied_change_1h"] == pytest.approx(0.0)
    assert values["implied_level"] == pytest.approx(np.log(2 / (1 + 24 / BARS)))
    # The premium is known once a day of returns is, and its mean over that.
    warm = BARS - 24
    assert values["implied_premium_against_usual"] == pytest.approx(np.log(2) * (1 - 24 / warm))


def test_open_interest_against_its_month(newest: Callable[..., dict[str, float]]) -> None:
    values = newest(open_interest=[100.0] * (BARS - 1) + [110.0])
    assert values["open_interest_level"] == pytest.approx(np.log(110 / (100 + 10 / BARS)))
    assert values["open_interest_change_1h"] == 10.0, "the one change of the month, held within its bound"
    wavy = newest(open_interest=[100.0, 110.0] * (BARS // 2))
    assert wavy["open_interest_change_1h"] == pytest.approx(1.0)
    assert np.isnan(newest(open_interest=[100.0] * BARS)["open_interest_change_1d"]), "nothing ever changed"


def test_liquidations_against_their_month(newest: Callable[..., dict[str, float]]) -> None:
    quiet = [10.0] * (BARS - 4)
    values = newest(liquidations_long=quiet + [70.0] * 4, liquidations_short=quiet + [10.0] * 4)
    usual = 20 + 4 * 60 / BARS
    assert values["liquidations_4h"] == pytest.approx(np.log(80 / usual))
    assert values["liquidation_side_4h"] == pytest.approx(60 / usual)
    silent = newest(liquidations_long=quiet + [0.0] * 4, liquidations_short=quiet + [0.0] * 4)
    assert silent["liquidations_4h"] == -5.0, "silence is known, and far from usual"
    assert silent["liquidation_side_4h"] == 0.0


def test_what_is_too_old_is_missing_and_heals(newest: Callable[..., dict[str, float]]) -> None:
    nan = float("nan")
    values = newest(implied_volatility=[0.5] * (BARS - 1) + [nan])
    assert all(np.isnan(values[n]) for n in ("implied_premium", "implied_level", "implied_change_1h"))
    healed = newest(implied_volatility=[0.5] * (BARS - 26) + [nan] * 5 + [0.5] * 21)
    assert healed["implied_change_1d"] == pytest.approx(0.0), "of the half day that ended a day ago, enough"
    short = newest(funding_rate=[nan] * (BARS - 300) + [1e-4] * 300)
    assert np.isnan(short["funding"]), "less than half of the month is known"
