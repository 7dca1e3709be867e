import math

import numpy as np
import pytest

from models.margin.base_rate import BaseRateError, BaseRates, Cycle, base_rates, rate_pair
from models.margin.types import Tail

HOUR, DAY = 3600.0, 86400.0
INITIAL, MAINTENANCE = Tail(0.99, 4 * HOUR), Tail(0.99, HOUR)
DEFAULT = (0.10, 0.05, 0.10, 0.05)
START = float(np.datetime64("2024-01-01T00:00:00", "s").astype("int64"))
MARCH = float(np.datetime64("2024-03-01T00:00:00", "s").astype("int64"))
APRIL = float(np.datetime64("2024-04-01T00:00:00", "s").astype("int64"))
MAY = float(np.datetime64("2024-05-01T00:00:00", "s").astype("int64"))


def history(days: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Hourly closes from 2024-01-01 01:00 on."""
    rng = np.random.default_rng(seed)
    bars = 24 * days
    return START + HOUR * np.arange(1, bars + 1), 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))


def made(times: np.ndarray, closes: np.ndarray, **changes: object) -> BaseRates:
    options = {
        "interval_s": HOUR,
        "initial": INITIAL,
        "maintenance": MAINTENANCE,
        "default": DEFAULT,
    } | changes
    return base_rates(times, closes, **options)


def by_hand(closes: np.ndarray) -> tuple[float, ...]:
    found = []
    for sign in (-1, 1):
        for bars in (4, 1):
            losses = sign * (np.log(closes[bars:]) - np.log(closes[:-bars]))
            es = losses[losses >= np.quantile(losses, 0.99)].mean()
            found.append(1 - math.exp(-es) if sign < 0 else math.exp(es) - 1)
    return tuple(found)


def test_the_rate_is_the_es_of_all_losses_before_the_month() -> None:
    times, closes = history(130)
    rates, long_run, _, _ = made(times, closes).at(APRIL + 5 * DAY)
    known = closes[times <= APRIL]
    assert rates == pytest.approx(by_hand(known), rel=1e-12)
    variance = np.mean(np.diff(np.log(known)) ** 2)
    loss = 2.3263478740408408 * math.sqrt(4 * variance)
    assert long_run[0] == pytest.approx(1 - math.exp(-loss), rel=1e-12)
    assert long_run[2] == pytest.approx(math.exp(loss) - 1, rel=1e-12)
    assert long_run[1] == pytest.approx(1 - math.exp(-loss / 2), rel=1e-12)


def test_it_stands_still_for_a_month() -> None:
    schedule = made(*history(130))
    assert schedule.at(APRIL) == schedule.at(MAY - 1)
    assert schedule.at(MAY) != schedule.at(MAY - 1)


def test_the_default_stands_until_there_are_ninety_days() -> None:
    schedule = made(*history(130))
    assert schedule.at(MARCH) == Cycle(DEFAULT)  # 60 days
    assert schedule.at(APRIL)[0] != DEFAULT  # 91 days


def test_days_before_the_first_trade_do_not_count() -> None:
    times, closes = history(130)
    closes[: 24 * 10] = np.nan
    assert made(times, closes).at(APRIL) == Cycle(DEFAULT)
    assert made(times, np.full(len(times), np.nan)).at(APRIL) == Cycle(DEFAULT)


def test_no_backtest_sees_the_future() -> None:
    times, closes = history(130)
    other = np.where(times > APRIL, closes * 3, closes)
    for time_s in (START, MARCH, APRIL, MAY - 1):
        assert made(times, other).at(time_s) == made(times, closes).at(time_s)
    cut = times <= MAY - 1
    assert made(times[cut], closes[cut]).at(MAY - 1) == made(times, closes).at(MAY - 1)


def test_a_server_asks_for_the_present_month_only() -> None:
    times, closes = history(130)
    everything = made(times, closes)
    now_s = times[-1] + 600
    present = made(times, closes, since_s=now_s)
    assert len(present.from_s) == 1
    assert present.at(now_s) == everything.at(now_s)


def test_a_month_without_bars_still_begins() -> None:
    times, closes = history(110)
    assert times[-1] < MAY < times[-1] + 30 * DAY
    rates = made(times, closes, since_s=MAY + DAY).at(MAY + DAY).base
    assert rates == pytest.approx(by_hand(closes), rel=1e-12)


def test_the_venues_own_rates_stand_at_all_times_and_rule_2_keeps_its_variance() -> None:
    given = (0.2, 0.1, 0.2, 0.1)
    schedule = made(*history(130), given=given)
    assert schedule.at(MARCH) == Cycle(given)
    rates, long_run, _, stressed = schedule.at(APRIL)
    assert rates == given
    assert min(long_run) > 0
    assert min(stressed) > 0


def test_a_price_that_does_not_move_gets_the_default() -> None:
    times, closes = history(130)
    assert made(times, np.full(len(closes), 5.0)).at(APRIL) == Cycle(DEFAULT)


def test_rates_do_not_exceed_the_notional() -> None:
    times, closes = history(130)
    closes = np.exp(np.log(closes) * 60)
    rates, _, _, stressed = made(times, closes).at(APRIL)
    assert max(rates) == 1.0
    assert rates[0] >= rates[1]
    assert rates[2] >= rates[3]
    assert max(stressed) == 1.0


def test_no_bars_at_all() -> None:
    schedule = made(np.array([]), np.array([]))
    assert schedule.at(APRIL) == Cycle(DEFAULT)


def test_before_the_first_month_the_first_entry_counts() -> None:
    schedule = BaseRates((10.0, 20.0), (Cycle((0.1,) * 4), Cycle((0.2,) * 4)))
    assert [schedule.at(t).base[0] for t in (0.0, 10.0, 19.9, 20.0, 1e9)] == [0.1, 0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize("pair", [(0.05, 0.1), (0.1, 0.0), (1.5, 0.1), (math.nan, 0.1), (0.1, None)])
def test_an_impossible_pair_is_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(BaseRateError, match="0 < maintenance <= initial <= 1"):
        rate_pair(*pair, "base rate of X")
    with pytest.raises(BaseRateError, match="given base rate, short"):
        made(*history(1), given=(0.2, 0.1, *pair))
    assert rate_pair(0.1, 0.05, "X") == (0.1, 0.05, 0.1, 0.05)


def test_bad_closes_and_shapes_are_refused() -> None:
    times, closes = history(5)
    with pytest.raises(ValueError, match="as long"):
        made(times[1:], closes)
    closes[3] = 0.0
    with pytest.raises(ValueError, match="in row 3"):
        made(times, closes)
