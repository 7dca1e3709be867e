"""The simulated market has the traits that it promises."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import BAR_COLUMNS, Market, check_bars
from features.sources.simulated import simulate, simulated_symbols

HOUR = pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def year() -> Market:
    return simulate(symbols=6, days=365, seed=7)


@pytest.fixture(scope="module")
def returns(year: Market) -> pd.DataFrame:
    return year.log_returns().iloc[1:]


def test_the_seed_is_all_that_is_random() -> None:
    first, again, other = (simulate(2, 12, seed=s) for s in (1, 1, 2))
    for column in first.columns:
        pd.testing.assert_frame_equal(first[column], again[column])
    assert not np.array_equal(first.close, other.close)


@pytest.mark.parametrize(
    ("interval", "days", "bars"),
    [("1s", 1, 86400), ("1min", 3, 4320), ("15min", 20, 1920), ("4h", 40, 240), ("24h", 90, 90)],
)
def test_any_interval_gives_good_bars(interval: str, days: int, bars: int) -> None:
    step = pd.Timedelta(interval)
    market = simulate(2, days, step, seed=3)
    assert len(market.times) == bars
    for symbol in market.symbols:
        table = check_bars(market.bars(symbol), step, symbol)
        assert tuple(table.columns) == BAR_COLUMNS
        assert len(table) == bars
        # Each bar opens where the one before closed.
        np.testing.assert_allclose(table["open"].iloc[1:], table["close"].iloc[:-1], rtol=1e-12)


def test_volatility_is_that_of_crypto(returns: pd.DataFrame) -> None:
    volatility = returns.std() * np.sqrt(365 * 24)
    assert ((volatility > 0.45) & (volatility < 0.95)).all()
    assert volatility.iloc[-1] > volatility.iloc[0]


def test_tails_are_fat_without_the_crash(returns: pd.DataFrame) -> None:
    calm = returns.drop(returns.abs().sum(axis=1).nlargest(100).index)
    assert (calm.kurt() > 1.5).all()
    assert (returns.kurt() > 8).all()


def test_volatility_clusters(returns: pd.DataFrame) -> None:
    size = returns.abs().clip(upper=returns.abs().quantile(0.99), axis=1)
    for symbol in returns:
        assert size[symbol].autocorr(1) > 0.15
        assert size[symbol].autocorr(24) > 0.08
        assert abs(returns[symbol].clip(-0.02, 0.02).autocorr(1)) < 0.06


def test_symbols_share_a_factor(returns: pd.DataFrame) -> None:
    correlation = returns.clip(-0.03, 0.03).corr().to_numpy()
    off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
    assert off_diagonal.min() > 0.4
    assert off_diagonal.max() < 0.95


def test_afternoons_are_busy_and_weekends_are_quiet(year: Market, returns: pd.DataFrame) -> None:
    opened = pd.DatetimeIndex(returns.index) - HOUR
    size = returns.abs().clip(upper=0.02)
    hourly = size.groupby(opened.hour).mean().mean(axis=1)
    assert hourly.loc[13:17].mean() > 1.25 * hourly.loc[[0, 1, 2, 3, 4, 22, 23]].mean()
    weekend = opened.day_of_week >= 5
    assert size[weekend].mean().mean() < 0.9 * size[~weekend].mean().mean()
    assert year["volume"][np.append([False], weekend)].mean().mean() < year["volume"].mean().mean()


def test_there_is_one_crash_for_all(returns: pd.DataFrame) -> None:
    four_hours = returns.rolling(4).sum()
    worst = four_hours.idxmin()
    assert worst.max() - worst.min() <= pd.Timedelta(hours=6)
    assert (four_hours.min() < -0.15).all()
    assert (four_hours.min() > -0.80).all()
    place = (worst.iloc[0] - returns.index[0]) / (returns.index[-1] - returns.index[0])
    assert 0.55 < place < 0.90


def test_the_crash_comes_where_it_is_told() -> None:
    market = simulate(2, 40, seed=3, crash_at=0.5)
    worst = np.log(market.close).diff(2).idxmin()
    assert (worst - market.times[len(market.times) // 2]).abs().max() <= pd.Timedelta(hours=3)
    before = market.times[len(market.times) // 2 - 10]
    untold = simulate(2, 40, seed=3)
    pd.testing.assert_frame_equal(market.until(before).close, untold.until(before).close)


@pytest.mark.parametrize("crash_at", [0.0, 1.0, -0.5, float("nan")])
def test_a_crash_outside_the_history_is_refused(crash_at: float) -> None:
    with pytest.raises(ValueError, match="crash_at"):
        simulate(1, 20, crash_at=crash_at)


def test_order_flow_leads_volatility(year: Market, returns: pd.DataFrame) -> None:
    """Volume above its usual foretells larger moves beyond what the moves so far foretell; shuffled it does
    not."""
    rng = np.random.default_rng(0)
    size = np.log(returns.abs() + 1e-4)
    scale = np.log(returns.abs().ewm(halflife=12).mean())
    volume = np.log(year["volume"]).iloc[1:]
    surprise = volume - volume.ewm(halflife=72).mean()
    honest, shuffled = [], []
    for symbol in returns:
        y = size[symbol].shift(-2).rolling(2).mean().shift(-1).iloc[200:-4].to_numpy()
        x = np.column_stack([np.ones(len(y)), scale[symbol].iloc[200:-4], size[symbol].iloc[200:-4]])
        flow = surprise[symbol].iloc[200:-4].to_numpy()
        for store, column in ((honest, flow), (shuffled, rng.permutation(flow))):
            design = np.column_stack([x, column])
            beta, *_ = np.linalg.lstsq(design, y, rcond=None)
            residual = y - design @ beta
            error = np.sqrt(np.linalg.inv(design.T @ design)[-1, -1] * residual.var())
            store.append(beta[-1] / error)
    assert np.mean(honest) > 4
    assert abs(np.mean(shuffled)) < 2


def test_takers_move_the_price(year: Market, returns: pd.DataFrame) -> None:
    imbalance = (2 * year["taker_buy_volume"] / year["volume"] - 1).iloc[1:]
    for symbol in returns:
        assert imbalance[symbol].corr(returns[symbol]) > 0.2
        assert imbalance[symbol].autocorr(1) > 0.05


def test_names_and_the_leader(year: Market) -> None:
    assert simulated_symbols(3) == ("ALPHA", "BETA", "GAMMA")
    assert len(set(simulated_symbols(40))) == 40
    turnover = year["quote_volume"].iloc[: 30 * 24].sum()
    assert turnover.idxmax() == year.symbols[0] == "ALPHA"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbols": 0}, "give at least 1 of each"),
        ({"days": 0}, "give at least 1 of each"),
        ({"interval": pd.Timedelta(minutes=7)}, "7m cannot be simulated"),
        ({"interval": pd.Timedelta(hours=5)}, "5h cannot be simulated"),
        ({"interval": pd.Timedelta(days=2)}, "2d cannot be simulated"),
        ({"interval": pd.Timedelta(milliseconds=500)}, "cannot be simulated"),
    ],
)
def test_what_cannot_be_simulated_is_told(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)  # type: ignore[arg-type]


def test_a_single_symbol_is_a_market() -> None:
    assert simulate(1, 12).symbols == ("ALPHA",)
