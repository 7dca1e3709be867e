"""The rules rung's weekly tail against the forecast that it stands for."""

import json

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.margin import fhs
from models.settings import MarginSettings
from serving.outlook import Needs
from serving.rules_rung import WeeklyTail, rules_forecast, scale_at, week_of, weekly_tail

HOUR = 3600


@pytest.fixture(scope="module")
def needs() -> Needs:
    return Needs.of(MarginSettings())


def test_weeks_begin_on_monday_midnight() -> None:
    monday = int(pd.Timestamp("2025-09-01T00:00Z").timestamp())
    assert week_of(monday) == monday
    assert week_of(monday - 1) == monday - 7 * 86400
    assert week_of(monday + 6 * 86400 + 86399) == monday


def test_the_scale_needs_the_newest_closes_alone(market: Market) -> None:
    closes = market.close["ALPHA"].to_numpy(copy=True)
    closes[-30:-20] = np.nan
    assert scale_at(closes, HOUR) == fhs.scale(closes, HOUR)[-1]
    assert np.isnan(scale_at(closes[:5], HOUR))


def test_within_the_week_the_forecast_moves_with_the_scale(market: Market, needs: Needs) -> None:
    monday = next(i for i in range(900, 1200) if week_of(seconds(market, i)) == seconds(market, i))
    closes = market.close["ALPHA"].to_numpy()
    tail = weekly_tail(closes[: monday + 1], seconds(market, monday), HOUR, needs)
    var, es = fhs.filtered_historical_simulation(closes[: monday + 1], HOUR, needs.horizons_s, needs.levels)
    at_once = rules_forecast(tail, closes[: monday + 1], HOUR)
    assert at_once is not None
    np.testing.assert_allclose(at_once.var, var, rtol=1e-12)
    np.testing.assert_allclose(at_once.es, es, rtol=1e-12)

    later = monday + 50
    kept = weekly_tail(closes[: later + 1], seconds(market, later), HOUR, needs)
    assert (kept.week_s, kept.scale) == (tail.week_s, tail.scale)
    np.testing.assert_array_equal(kept.forecast.var, tail.forecast.var)
    moved = rules_forecast(tail, closes[: later + 1], HOUR)
    assert moved is not None
    ratio = scale_at(closes[: later + 1], HOUR) / tail.scale
    np.testing.assert_allclose(moved.var, var * ratio, rtol=1e-12)


def test_a_tail_survives_its_json_to_the_bit(market: Market, needs: Needs) -> None:
    closes = market.close["BETA"].to_numpy()
    tail = weekly_tail(closes, seconds(market, -1), HOUR, needs)
    again = WeeklyTail.from_json(json.loads(json.dumps(tail.to_json())))
    np.testing.assert_array_equal(again.forecast.es, tail.forecast.es)
    assert again.scale == tail.scale
    assert again.fits(tail.week_s, needs)
    assert not again.fits(tail.week_s + 7 * 86400, needs)


def test_a_week_that_began_too_early_takes_its_own_closes(market: Market, needs: Needs) -> None:
    start = next(i for i in range(400, 700) if week_of(seconds(market, i)) == seconds(market, i))
    closes = market.close["ALPHA"].to_numpy()[start - 100 :]
    end = 300
    tail = weekly_tail(closes[:end], seconds(market, start - 100 + end - 1), HOUR, needs)
    assert tail.forecast.flaw is None
    with pytest.raises(fhs.TooShortError):
        weekly_tail(closes[:120], seconds(market, start + 19), HOUR, needs)


def test_a_flat_price_has_a_small_forecast_above_zero(market: Market, needs: Needs) -> None:
    flat = np.full(1000, 5.0)
    forecast = rules_forecast(weekly_tail(flat, seconds(market, 999), HOUR, needs), flat, HOUR)
    assert forecast is not None
    assert (forecast.var >= fhs.LOSS_FLOOR).all()
    assert (forecast.es >= forecast.var).all()


def seconds(market: Market, row: int) -> int:
    return int(market.times[row].timestamp())
