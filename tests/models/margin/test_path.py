"""Rule 10: how fast a served rate may move. The contract serves 20 % and 10 % unless said otherwise."""

import pytest

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.path import lowest_since
from models.margin.types import Candidates, EngineState, Overrides, Served

NOW = (0.20, 0.10, 0.20, 0.10)
#: No model lies outside this band.
NO_BAND = Limits(band_low=0.001, band_high=1000.0, up_limit_1h=0.25, up_limit_24h=0.60)


def test_the_first_decision_has_no_path(answer, candidate) -> None:
    assert answer(candidate((0.9, 0.5, 0.9, 0.5))).served_rates == (0.9, 0.5, 0.9, 0.5)


def test_up_by_a_quarter_within_an_hour(answer, candidate, served, t0) -> None:
    decision = answer(candidate((0.40, 0.11, 0.20, 0.10)), now_s=t0 + 60, state=served(NOW))
    assert decision.served_rates == pytest.approx((0.25, 0.11, 0.20, 0.10), rel=1e-12)
    [trace] = decision.traces
    assert (trace.rule, trace.side, trace.kind, trace.before) == (10, "long", "initial", 0.40)
    assert decision.rules(0) == ("step limits",)
    assert decision.rules(1) == ()
    assert decision.required_rates[0] == 0.40


def test_small_steps_within_the_hour_do_not_add_up(candidate, market, served, steps_alone, t0) -> None:
    state, rates = served(NOW), []
    for minute in range(1, 61):
        now_s = t0 + 60 * minute
        high = candidate((0.8, 0.4, 0.8, 0.4), made_at_s=now_s)
        decision, state = decide(
            Candidates(champion=high), market(now_s), steps_alone, Overrides(), state, now_s
        )
        rates.append(decision.served_rates[0])
    assert max(rates) == pytest.approx(0.25, rel=1e-12)


def test_up_by_sixty_percent_within_a_day(candidate, market, served, steps_alone, t0) -> None:
    state, rates = served(NOW), []
    for hour in range(1, 50):
        now_s = t0 + 3600 * hour
        high = candidate((0.9, 0.4, 0.9, 0.4), made_at_s=now_s)
        decision, state = decide(
            Candidates(champion=high), market(now_s), steps_alone, Overrides(), state, now_s
        )
        rates.append(decision.served_rates[0])
    # 0.20 x 1.25 = 0.25, then 0.3125, then 1.6 x 0.20 until the rate of a day ago is 0.25.
    expected = [0.25, 0.3125, *[0.32] * 22, 0.40, 0.50, *[0.512] * 22]
    assert rates[:48] == pytest.approx(expected, rel=1e-12)


def test_the_reference_is_the_lowest_rate_of_the_window(candidate, market, steps_alone, t0) -> None:
    # An hour ago 0.20, half an hour ago 0.195: the step of an hour begins at 0.195.
    lower = (0.195, 0.10, 0.20, 0.10)
    state = EngineState(
        served=(Served(t0, NOW, None), Served(t0 + 1800, lower, None)),
        rates=lower,
        rung="champion",
        mode="fresh",
        model_version="v1",
        valid_until_s=t0 + 7200,
        base_rates=(0.10, 0.05, 0.10, 0.05),
    )
    high = candidate((0.9, 0.4, 0.9, 0.4), made_at_s=t0 + 3600)
    decision, _ = decide(
        Candidates(champion=high), market(t0 + 3600), steps_alone, Overrides(), state, t0 + 3600
    )
    assert decision.served_rates == pytest.approx((0.24375, 0.125, 0.25, 0.125), rel=1e-12)


def test_lowest_since_counts_the_rate_in_force_when_the_window_began() -> None:
    entries = tuple(
        Served(time_s, (rate, rate, rate, rate), None)
        for time_s, rate in ((0.0, 1.0), (10.0, 2.0), (20.0, 4.0), (30.0, 3.0))
    )
    assert lowest_since(entries, 30.0) == (3.0,) * 4
    assert lowest_since(entries, 25.0) == (3.0,) * 4
    assert lowest_since(entries, 15.0) == (2.0,) * 4
    assert lowest_since(entries, 9.0) == (1.0,) * 4
    assert lowest_since(entries, -5.0) == (1.0,) * 4


def test_never_held_below_what_the_rules_engine_requires(answer, candidate, served, t0) -> None:
    high = candidate((0.9, 0.45, 0.9, 0.45))
    rules = candidate((0.60, 0.12, 0.21, 0.10), "rules")
    decision = answer(high, rules, now_s=t0 + 60, state=served(NOW), limits=NO_BAND)
    assert decision.rung == "champion"
    assert decision.served_rates == pytest.approx((0.60, 0.125, 0.25, 0.125), rel=1e-12)


def test_the_limit_pushes_no_rate_down(candidate, market, served, t0) -> None:
    # Breach: from 0.20 to 0.60 at once. Calm again, the limit would be 1.25 x 0.20; the rate stays.
    breached = candidate((0.60, 0.30, 0.60, 0.30), made_at_s=t0 + 60)
    seen = market(t0 + 60, close=95.9)
    first, state = decide(Candidates(champion=breached), seen, Limits(), Overrides(), served(NOW), t0 + 60)
    assert first.served_rates == (0.60, 0.30, 0.60, 0.30)
    higher = candidate((0.90, 0.45, 0.90, 0.45), made_at_s=t0 + 120)
    seen = market(t0 + 120, close=98.0)
    second, _ = decide(Candidates(champion=higher), seen, Limits(), Overrides(), state, t0 + 120)
    assert second.served_rates == (0.60, 0.30, 0.60, 0.30)


def test_a_rate_that_meets_no_limit_leaves_no_trace(answer, candidate, served, t0) -> None:
    decision = answer(candidate((0.25, 0.10, 0.20, 0.125)), now_s=t0 + 60, state=served(NOW))
    assert decision.served_rates == (0.25, 0.10, 0.20, 0.125)
    assert decision.traces == ()


def test_the_rules_engine_does_not_raise_what_the_model_asks(answer, candidate, served, t0) -> None:
    rules = candidate((0.60, 0.30, 0.60, 0.30), "rules")
    asks = candidate((0.22, 0.10, 0.20, 0.10))
    decision = answer(asks, rules, now_s=t0 + 60, state=served(NOW), limits=NO_BAND)
    assert decision.served_rates == (0.22, 0.10, 0.20, 0.10)


@pytest.mark.parametrize(
    ("close", "age_s", "free"),
    [
        (92.0, 3600, True),  # ln(100/92) = 8.34 % > 8 %, the initial VaR, and within 4 h
        (93.0, 3600, True),  # 7.26 % > 4 %, the maintenance VaR, just within 1 h
        (93.0, 3601, False),  # after 1 h only the initial VaR counts
        (92.0, 14400, True),
        (92.0, 14401, False),  # after 4 h none does
        (97.0, 3600, False),  # 3.05 %: within the VaR
        (108.5, 3600, True),  # the short's loss, 8.16 %
        (108.5, 14400, True),
        (107.0, 14400, False),
        (104.0, 3600, False),  # 3.92 %
    ],
)
def test_up_at_once_if_the_loss_so_far_breaches_the_var(
    answer, candidate, market, served, t0, close, age_s, free
) -> None:
    now_s = t0 + age_s
    high = (0.80, 0.40, 0.80, 0.40)
    decision = answer(
        candidate(high, made_at_s=now_s), now_s=now_s, state=served(NOW), seen=market(now_s, close=close)
    )
    # One breach frees all four values together.
    assert decision.served_rates == (high if free else pytest.approx((0.25, 0.125, 0.25, 0.125), rel=1e-12))


@pytest.mark.parametrize("close", [None, 0.0, -1.0, float("nan"), float("inf"), "92"])
def test_without_a_price_there_is_no_breach(answer, candidate, market, served, t0, close) -> None:
    decision = answer(
        candidate((0.8, 0.4, 0.8, 0.4)),
        now_s=t0 + 60,
        state=served(NOW),
        seen=market(t0 + 60, close=close),
    )
    assert decision.served_rates == pytest.approx((0.25, 0.125, 0.25, 0.125), rel=1e-12)


@pytest.mark.parametrize("horizons_s", [None, (3600.0,), ("1h", "4h"), (float("nan"), 1.0)])
def test_without_horizons_there_is_no_breach(answer, candidate, market, served, t0, horizons_s) -> None:
    decision = answer(
        candidate((0.8, 0.4, 0.8, 0.4)),
        now_s=t0 + 60,
        state=served(NOW),
        seen=market(t0 + 60, close=50.0, horizons_s=horizons_s),
    )
    assert decision.served_rates == pytest.approx((0.25, 0.125, 0.25, 0.125), rel=1e-12)


@pytest.mark.parametrize(
    ("age_s", "lowest"),
    [
        (3600, 0.19),
        (1800, 0.1949358868961793),  # 0.2 x sqrt(0.95)
        (0, 0.20),
        (10 * 3600, 0.19),  # an outage saves up one hour, no more
    ],
)
def test_down_by_five_percent_an_hour_pro_rata(
    answer, candidate, served, steps_alone, t0, age_s, lowest
) -> None:
    now_s = t0 + age_s
    low = candidate((0.12, 0.10, 0.199, 0.10), made_at_s=now_s)
    decision = answer(low, now_s=now_s, state=served(NOW), limits=steps_alone)
    assert decision.served_rates == pytest.approx((lowest, 0.10, max(lowest, 0.199), 0.10), rel=1e-12)


def test_bars_longer_than_an_hour_fall_by_the_bar(answer, candidate, market, served, steps_alone, t0) -> None:
    now_s = t0 + 7200
    low = candidate((0.12, 0.06, 0.12, 0.06), made_at_s=now_s)
    seen = market(now_s, interval_s=7200.0)
    decision = answer(low, now_s=now_s, state=served(NOW), seen=seen, limits=steps_alone)
    assert decision.served_rates[0] == pytest.approx(0.20 * 0.95**2, rel=1e-12)


def test_any_two_rates_an_hour_apart_keep_to_the_limits_whatever_the_tick(
    candidate, market, served, steps_alone, t0
) -> None:
    """A requirement that swings every tick, decided every five minutes for two days."""
    state, path = served(NOW), [(t0, NOW)]
    for tick in range(1, 24 * 24):
        now_s = t0 + 300 * tick
        level = (0.9, 0.05, 0.3, 0.9, 0.1, 0.1, 0.1)[tick % 7]
        swing = candidate((level, level / 2, level, level / 2), made_at_s=now_s)
        decision, state = decide(
            Candidates(champion=swing), market(now_s), steps_alone, Overrides(), state, now_s
        )
        path.append((now_s, decision.served_rates))
    for j, (end_s, end) in enumerate(path):
        for start_s, start in path[:j]:
            span_s = end_s - start_s
            assert end[0] >= start[0] * 0.95 ** (span_s / 3600) * (1 - 1e-9)
            if span_s <= 3600:
                assert end[0] <= start[0] * 1.25 * (1 + 1e-9)
            if span_s <= 86400:
                assert end[0] <= start[0] * 1.60 * (1 + 1e-9)
    assert len(state.served) <= 24 * 4 + 3


def test_the_reason_of_a_rise_at_once(answer, candidate, market, served, t0) -> None:
    high = candidate((0.80, 0.40, 0.80, 0.40), made_at_s=t0 + 7200)
    for close, why in (
        (92.0, "the long loss of 8.34% over the last 7200 s is beyond the initial VaR of 8.00%"),
        (109.0, "the short loss of 8.62% over the last 7200 s is beyond the initial VaR of 8.00%"),
    ):
        decision = answer(high, now_s=t0 + 7200, state=served(NOW), seen=market(t0 + 7200, close=close))
        assert [(t.rule, t.why) for t in decision.traces] == [(10, f"rises at once: {why}")] * 4
    soon = candidate((0.80, 0.40, 0.80, 0.40))
    decision = answer(soon, now_s=t0 + 60, state=served(NOW), seen=market(t0 + 60, close=95.0))
    why = "the long loss of 5.13% over the last 60 s is beyond the maintenance VaR of 4.00%"
    assert decision.traces[0].why == f"rises at once: {why}"
