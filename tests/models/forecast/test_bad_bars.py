"""Bars that are flat, holed or alone, and horizons of any length, found by discovery: every model forecasts
soundly or says why it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest

from features.bars import BarError, Market, check_bars
from features.pipeline import FeatureFrame, Pipeline
from features.sources.simulated import simulate
from models.forecast.base import SIDES, Dataset, TailForecast, TailModel
from models.forecast.discovery import model_class, model_names

HOUR = pd.Timedelta(hours=1)
#: One horizon and level, so that fits in such number stay quick; the models add 0.999 themselves.
HORIZONS, LEVELS = (4 * HOUR,), (0.975,)
#: Half of the longest window, from which on every feature is known.
WARM_UP = pd.Timedelta(days=15)
NewModel = Callable[[str], TailModel]
DatasetFor = Callable[[Market, str], Dataset]


@pytest.fixture(scope="module")
def market() -> Market:
    """Three symbols, 100 days of hourly bars, the crash in their last hours."""
    return simulate(symbols=3, days=100, seed=3, crash_at=0.999)


@pytest.fixture(scope="module")
def dataset_for() -> DatasetFor:
    """``dataset_for(market, name)``: what the model of that name learns from."""

    def make(market: Market, name: str) -> Dataset:
        features = Pipeline.fit(market, model_class(name).feature_names()).batch(market)
        return Dataset(features, market.close, HORIZONS, LEVELS)

    return make


@pytest.fixture(scope="module")
def fitted(market: Market, dataset_for: DatasetFor, new_model: NewModel) -> Callable[[str], TailModel]:
    return cache(lambda name: new_model(name).fit(dataset_for(market, name)))


@pytest.fixture(params=model_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def changed(market: Market, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Market:
    """The market with each column's frame changed alike."""
    return Market(market.interval, {c: change(f) for c, f in market.columns.items()})


def with_rows(market: Market, symbol: str, rows: slice, value: dict[str, float]) -> Market:
    """The market with these columns of one symbol set over some rows."""
    columns = {c: f.copy() for c, f in market.columns.items()}
    for column, price in value.items():
        columns[column].iloc[rows, columns[column].columns.get_loc(symbol)] = price
    return Market(market.interval, columns)


def flat(price: float) -> dict[str, float]:
    return {**dict.fromkeys(("open", "high", "low", "close"), price), "volume": 1.0}


def test_a_symbol_that_stopped_moving_spoils_no_forecast(
    name: str, market: Market, dataset_for: DatasetFor, new_model: NewModel
) -> None:
    """Halted for good at its last price: the others' tails are about those fitted without it."""
    halted, price = market.symbols[2], float(market.close.iloc[499, 2])
    still = with_rows(market, halted, slice(500, None), flat(price))
    both = []
    for seen in (still, still.select(market.symbols[:2])):
        data = dataset_for(seen, name)
        forecast = new_model(name).fit(data).predict(data.features.between(market.times[1500], None))
        moving = forecast.rows.get_level_values("symbol") != halted
        assert moving.sum() == 2 * 900
        both.append(forecast.es[moving][..., 0].mean())
        if not moving.all():
            assert forecast.es[~moving].max() < forecast.es[moving].min(), "a flat price asks next to nothing"
    assert both[0] == pytest.approx(both[1], rel=0.13)


def test_an_entirely_flat_market_is_refused(
    name: str, market: Market, dataset_for: DatasetFor, new_model: NewModel
) -> None:
    still = market
    for symbol in market.symbols:
        still = with_rows(still, symbol, slice(None), flat(50.0))
    with pytest.raises(ValueError, match=r"exactly zero; a flat price has no tail|prices do not stand still"):
        new_model(name).fit(dataset_for(still, name))


def test_a_single_symbol_is_enough(
    name: str, market: Market, dataset_for: DatasetFor, new_model: NewModel
) -> None:
    alone = market.select(market.symbols[1:2])
    data = dataset_for(alone, name)
    forecast = new_model(name).fit(data).predict(data.features)
    assert len(forecast.rows) >= len(alone.times) - WARM_UP // HOUR
    assert set(forecast.rows.get_level_values("symbol")) == {market.symbols[1]}


def test_bars_without_order_flow_give_the_same_forecast(
    name: str, market: Market, dataset_for: DatasetFor, new_model: NewModel
) -> None:
    """No model reads the taker columns; one that does must say so by refusing, not by guessing."""
    bare = market.reading(("open", "high", "low", "close", "volume"))
    whole, without = (dataset_for(m, name) for m in (market, bare))
    last = whole.features.times[-24]
    a, b = (new_model(name).fit(d).predict(d.features.between(last, None)) for d in (whole, without))
    assert np.array_equal(a.var, b.var)
    assert np.array_equal(a.es, b.es)


def test_missing_bars_are_left_out_and_nothing_reaches_across_them(
    name: str, market: Market, dataset_for: DatasetFor, new_model: NewModel
) -> None:
    """One bar in fifty is missing somewhere, and three days everywhere."""
    gone = np.random.default_rng(5).random(market.close.shape) < 0.02
    gone[1600:1672] = True
    holed = changed(market, lambda frame: frame.mask(gone))
    data = dataset_for(holed, name)
    assert not np.isfinite(data.forward_returns(HOUR)[1599:1672]).any()
    forecast = new_model(name).fit(data).predict(data.features)
    time = holed.times.get_indexer(pd.DatetimeIndex(forecast.rows.get_level_values("time")))
    symbol = holed.close.columns.get_indexer(forecast.rows.get_level_values("symbol"))
    assert not gone[time, symbol].any()
    assert len(forecast.rows) > 0.7 * (~gone).sum()
    assert (time >= 1672).any()


def test_duplicate_and_irregular_bars_are_refused(market: Market, dataset_for: DatasetFor) -> None:
    table = market.bars(market.symbols[0])
    twice = pd.concat([table, table.tail(1)])
    with pytest.raises(BarError, match="open time occurs twice; keep one bar per open time"):
        check_bars(twice, HOUR, "AUSDT")
    # Past the checks of bars, a row that was dropped or repeated would move every later loss by a bar.
    data = dataset_for(market, "ewma")
    for rows in (np.delete(np.arange(500), 100), np.insert(np.arange(500), 100, 100)):
        f = data.features
        holed = FeatureFrame(f.times[rows], f.symbols, f.names, f.interval, f.values[rows])
        with pytest.raises(ValueError, match="not one row every 1h"):
            Dataset(holed, data.closes.iloc[rows], data.horizons, data.levels)


def test_a_horizon_that_is_not_whole_bars_is_refused(
    name: str, market: Market, dataset_for: DatasetFor, fitted: Callable[[str], TailModel]
) -> None:
    data = dataset_for(market, name)
    with pytest.raises(ValueError, match="horizon 90m is not a whole number of 1h bars"):
        Dataset(data.features, data.closes, (HOUR, pd.Timedelta(minutes=90)), LEVELS)
    f = data.features.between(data.features.times[-24], None)
    coarser = FeatureFrame(f.times, f.symbols, f.names, 3 * HOUR, f.values)
    with pytest.raises(ValueError, match="horizon 4h is not a whole number of 3h bars"):
        fitted(name).predict(coarser)


def test_a_feature_that_is_missing_is_named(
    name: str,
    market: Market,
    dataset_for: DatasetFor,
    new_model: NewModel,
    fitted: Callable[[str], TailModel],
) -> None:
    data = dataset_for(market, name)
    f = data.features
    read = [n for n in f.names if n in (model_class(name).feature_names() or f.names)]
    for absent in {read[0], read[-1]}:
        kept = [n for n in f.names if n != absent]
        values = f.values[:, :, [f.names.index(n) for n in kept]]
        less = FeatureFrame(f.times, f.symbols, tuple(kept), f.interval, values)
        with pytest.raises((ValueError, KeyError), match=absent):
            new_model(name).fit(Dataset(less, data.closes, data.horizons, data.levels))
        with pytest.raises((ValueError, KeyError), match=absent):
            fitted(name).predict(less)


@pytest.mark.parametrize(
    ("minutes", "days", "horizons"),
    [(60, 120, ("2h", "7h", "36h")), (30, 70, ("30min", "1h")), (15, 50, ("15min", "26h"))],
)
def test_horizons_are_any_whole_number_of_bars(
    name: str, minutes: int, days: int, horizons: tuple[str, ...], new_model: NewModel
) -> None:
    interval = pd.Timedelta(minutes=minutes)
    market = simulate(symbols=2, days=days, interval=interval, seed=6)
    features = Pipeline.fit(market, model_class(name).feature_names()).batch(market)
    wanted = tuple(pd.Timedelta(h) for h in horizons)
    data = Dataset(features, market.close, wanted, LEVELS)
    model = new_model(name).fit(data)
    forecast = model.predict(features)
    assert forecast.horizons == model.horizons == wanted
    assert len(forecast.rows) >= market.close.size - 2 * (WARM_UP // interval)
    typical = forecast.var[..., 0].mean(axis=0)
    assert (np.diff(typical, axis=0) > 0).all(), "a longer horizon asks for more"
    # No horizon is far off what its own losses did: a wrong number of bars would be off by their root.
    for h, horizon in enumerate(wanted):
        returns = data.forward_returns(horizon)
        for side, losses in enumerate((-returns, returns)):
            asked = typical[h, side] / np.nanquantile(losses, LEVELS[0])
            assert 0.5 < asked < 2.0, (horizons[h], SIDES[side])


def test_a_symbol_that_was_not_there_to_train_on_is_forecast(
    name: str, market: Market, new_model: NewModel
) -> None:
    """It lists a month before the end; features and model were fitted before, on the others."""
    listed = market.times[len(market.times) * 2 // 3]
    late = market.symbols[2]
    columns = {c: f.copy() for c, f in market.columns.items()}
    for frame in columns.values():
        frame.loc[frame.index < listed, late] = np.nan
    grown = Market(market.interval, columns)
    before = grown.until(listed - HOUR)
    for known in (before.select(market.symbols[:2]), before):  # the name absent, or there without a bar
        pipeline = Pipeline.fit(known, model_class(name).feature_names())
        model = new_model(name).fit(Dataset(pipeline.batch(known), known.close, HORIZONS, LEVELS))
        forecast = model.predict(pipeline.batch(grown))
        rows = forecast.rows.get_level_values("symbol") == late
        assert rows.sum() > 24 * 14
        assert_sized_like_its_losses(forecast, rows, grown)


def assert_sized_like_its_losses(forecast: TailForecast, rows: np.ndarray, market: Market) -> None:
    """Hits of the rows at the lowest level: within a factor of four of those promised."""
    bars = forecast.horizons[0] // market.interval
    log_close = np.log(market.close)
    returns = (log_close.shift(-bars) - log_close).stack().reindex(forecast.rows[rows]).to_numpy()
    for side, loss in enumerate((-returns, returns)):
        hit = np.mean(loss[np.isfinite(loss)] > forecast.var[rows, 0, side, 0][np.isfinite(loss)])
        promised = 1 - forecast.levels[0]
        assert promised / 4 < hit < promised * 4
