"""Finer bars, trades and books in the decisions: what the champion is given, when a close waits for it, and
what a decision says of what was missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from features.bars import Market
from features.columns import EXTRA_COLUMNS, TRADE_COLUMNS
from features.pipeline import FeatureFrame, Pipeline
from features.resample import merged
from features.sources.simulated import simulate
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from models.forecast.base import TailForecast
from models.forecast.calibration import CalibrationSettings, CalibrationState
from serving.champion import Champion
from serving.errors import InvalidInputError, NotConfiguredError
from serving.history import load_history
from serving.inputs import Asked, missing_inputs
from serving.replay import closes
from serving.requests import BarsRequest
from serving.store.engine import store_engine
from serving.store.migrate import migrate
from serving.tape_requests import BookRequest, TradesRequest
from serving.window import MarketWindow

QUARTER, HOUR = pd.Timedelta(minutes=15), pd.Timedelta(hours=1)
LEFT = 6
FINE_INPUT = "realized_15m_at_15m"


#: What the model of these tests reads.
INPUTS = ("ewma_volatility", FINE_INPUT, "high_low_30m_at_30m")


@pytest.fixture(scope="module")
def fine() -> Market:
    return simulate(symbols=2, days=40, interval=QUARTER, seed=5)


@pytest.fixture(scope="module")
def coarse(fine: Market) -> Market:
    return Market(HOUR, merged(fine.columns, QUARTER, HOUR)).with_finer(fine)


@pytest.fixture
def fine_champion(champion: Callable[..., Champion], coarse: Market) -> Champion:
    """The champion of ``conftest``, its forecast widened by what the finest bars say, and as usual where they
    say nothing."""
    made = champion()

    class FineVolatility(type(made.artifact.model)):  # type: ignore[misc]
        #: What happens once while it forecasts.
        meanwhile: Callable[[], object] | None = None

        @classmethod
        def feature_names(cls) -> tuple[str, ...] | None:
            return INPUTS

        def predict(self, features: FeatureFrame) -> TailForecast:
            happens, self.meanwhile = self.meanwhile, None
            if happens is not None:
                happens()
            said = super().predict(features)
            known = np.isfinite(features["ewma_volatility"].ravel())
            more = np.exp(np.nan_to_num(features[FINE_INPUT].ravel()[known]))[:, None, None, None]
            return TailForecast(said.rows, said.horizons, said.levels, said.var * more, said.es * more)

    pipeline = Pipeline.fit(coarse, INPUTS)
    return Champion("1", replace(made.artifact, model=FineVolatility(), pipeline=pipeline))


@pytest.fixture
def begun(
    sqlite: Engine, bench: Callable[..., Any], coarse: Market, fine: Market, fine_champion: Champion
) -> Callable[..., Any]:
    """A bench with history up to the last closes, finer bars included."""

    def make(**given: Any) -> Any:
        until = coarse.times[-1 - LEFT]
        load_history(sqlite, "feed", coarse, until)
        load_history(sqlite, "feed", fine, until, contracts=False)
        return bench(sqlite, fine_champion, history=False, **given)

    return make


def record(made: Any, symbol: str) -> dict[str, Any]:
    with made.engine.begin() as connection:
        found = connection.execute(
            text("SELECT record FROM decisions WHERE symbol = :s ORDER BY seq DESC LIMIT 1"), {"s": symbol}
        ).scalar_one()
    content: dict[str, Any] = json.loads(found)
    return content


def fine_bars(fine: Market, close: pd.Timestamp) -> dict[str, Any]:
    """The request with the finer bars of one close of an hour."""
    hour = list(closes(fine, close - HOUR, close))
    return {"interval": "15m", "bars": [bar for _, bars in hour for bar in bars]}


def post(made: Any, request: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made.ingest.take(BarsRequest.model_validate(request, strict=False))
    return found


def test_a_decision_uses_the_finer_bars_that_were_posted_as_in_a_backtest(
    begun: Callable[..., Any], coarse: Market, fine: Market, fine_champion: Champion
) -> None:
    made = begun(finer_interval_s=900)
    for close, bars in closes(coarse, coarse.times[-1 - LEFT], None):
        assert post(made, fine_bars(fine, close)) == {
            "accepted": 8,
            "repeats": 0,
            "late": 0,
            "pending_closes": 0,
        }
        made.feed(bars)
        wanted, _ = fine_champion.look(coarse.until(close))
        for i, symbol in enumerate(coarse.symbols):
            told = record(made, symbol)
            assert told["decision"]["rung"] == "champion"
            assert told["forecast"]["es"] == wanted.es[i].tolist()
            assert told["known"] == {"finer_until_s": int(close.timestamp()), "missing": {}}
            answer = made.answer(symbol)[0]
            assert answer["finer_until"] == answer["decision_time"]
            assert answer["missing_inputs"] == []
    assert post(made, fine_bars(fine, coarse.times[-1]))["repeats"] == 8


def test_finer_bars_that_come_while_the_close_before_is_decided_are_used(
    begun: Callable[..., Any], coarse: Market, fine: Market, fine_champion: Champion
) -> None:
    made = begun(finer_interval_s=900)
    first, *later = closes(coarse, coarse.times[-1 - LEFT], None)

    def all_later_arrive() -> None:
        for close, bars in later:
            post(made, fine_bars(fine, close))
            post(made, {"bars": bars})

    post(made, fine_bars(fine, first[0]))
    fine_champion.artifact.model.meanwhile = all_later_arrive  # type: ignore[attr-defined]
    made.feed(first[1])
    for symbol in coarse.symbols:
        told = record(made, symbol)
        close_s = int(coarse.times[-1].timestamp())
        assert told["known"] == {"finer_until_s": close_s, "missing": {}}
        wanted, _ = fine_champion.look(coarse)
        assert told["forecast"]["es"] == wanted.es[coarse.symbols.index(symbol)].tolist()


def test_finer_bars_that_do_not_come_are_told_and_the_model_decides_all_the_same(
    begun: Callable[..., Any], coarse: Market, fine: Market
) -> None:
    made = begun(finer_interval_s=900)
    before = int(coarse.times[-1 - LEFT].timestamp())
    steps = list(closes(coarse, coarse.times[-1 - LEFT], None))
    for _, bars in steps[:2]:
        made.feed(bars)
    told = record(made, coarse.symbols[1])
    assert told["decision"]["rung"] == "champion"
    assert told["known"] == {
        "finer_until_s": before,
        "missing": {"fine": [FINE_INPUT, "high_low_30m_at_30m"]},
    }
    answer = made.answer(coarse.symbols[1])[0]
    assert answer["missing_inputs"] == ["fine"]
    assert answer["finer_until"] < answer["decision_time"]
    # Those that come late complete the history.
    for close, _ in steps[:3]:
        post(made, fine_bars(fine, close))
    made.feed(steps[2][1])
    assert record(made, coarse.symbols[1])["known"]["missing"] == {}


def test_without_a_finer_interval_the_model_decides_without_its_finer_inputs(
    begun: Callable[..., Any], coarse: Market
) -> None:
    made = begun()
    made.feed(next(iter(closes(coarse, coarse.times[-1 - LEFT], None)))[1])
    told = record(made, coarse.symbols[0])
    assert told["decision"]["rung"] == "champion"
    assert told["known"]["finer_until_s"] is None
    assert set(told["known"]["missing"]) == {"fine"}


def test_a_restart_has_the_finer_history_again(
    begun: Callable[..., Any],
    bench: Callable[..., Any],
    coarse: Market,
    fine: Market,
    fine_champion: Champion,
) -> None:
    made = begun(finer_interval_s=900)
    steps = list(closes(coarse, coarse.times[-1 - LEFT], None))
    for close, bars in steps[:-1]:
        post(made, fine_bars(fine, close))
        made.feed(bars)
    post(made, fine_bars(fine, coarse.times[-1]))
    again = bench(made.engine, fine_champion, history=False, finer_interval_s=900)
    again.feed(steps[-1][1])
    wanted, _ = fine_champion.look(coarse)
    assert record(again, coarse.symbols[0])["forecast"]["es"] == wanted.es[0].tolist()


def test_a_calibration_goes_on_after_a_restart_with_the_finer_bars_of_before(
    sqlite: Engine,
    tmp_path: Path,
    bench: Callable[..., Any],
    coarse: Market,
    fine: Market,
    fine_champion: Champion,
) -> None:
    """What the champion had said is said again, finer inputs included."""
    model = fine_champion.artifact.model
    quick = CalibrationSettings(var_step=0.2, es_step=0.2, theta_max=0.6)
    begun = CalibrationState.neutral(quick, HOUR, model.horizons, model.levels)
    begun = replace(begun, until=coarse.times[-30 - LEFT])
    calibrated = Champion("1", replace(fine_champion.artifact, calibration=begun))
    other = store_engine(f"sqlite:///{tmp_path / 'other.db'}")
    migrate(other)
    found = []
    for engine, restarts in ((sqlite, False), (other, True)):
        until = coarse.times[-1 - LEFT]
        load_history(engine, "feed", coarse, until)
        load_history(engine, "feed", fine, until, contracts=False)
        made = bench(engine, calibrated, history=False, finer_interval_s=900)
        for close, bars in closes(coarse, until, None):
            if restarts:
                made = bench(engine, calibrated, history=False, finer_interval_s=900)
            post(made, fine_bars(fine, close))
            made.feed(bars)
        found.append(record(made, coarse.symbols[0])["forecast"])
    other.dispose()
    assert found[0] == found[1]
    assert found[0]["factor"] != np.ones_like(found[0]["factor"]).tolist()


def test_a_grid_that_cannot_be_made_of_the_finer_bars_is_missing(
    fine_champion: Champion, fine: Market
) -> None:
    """A server of half hours has none of a quarter."""
    half = Market(HOUR, merged(fine.columns, QUARTER, HOUR)).with_finer(
        Market(QUARTER * 2, merged(fine.columns, QUARTER, QUARTER * 2))
    )
    frame = fine_champion.frame(half)
    assert np.isnan(frame[FINE_INPUT]).all()
    assert np.isfinite(frame["high_low_30m_at_30m"]).all()


def test_a_champion_that_looks_back_further_than_is_kept_is_refused(coarse: Market) -> None:
    asked = Asked.by(Pipeline.fit(coarse, ("ewma_volatility", FINE_INPUT)))
    assert asked == Asked((), {QUARTER: ("high", "low", "close")}, finer_look_back=pd.Timedelta(days=11))
    asked.refuse_longer(pd.Timedelta(days=11))
    with pytest.raises(ValueError, match="looks back 11d at finer bars and 10d are kept"):
        asked.refuse_longer(pd.Timedelta(days=10))
    with pytest.raises(ValueError, match="columns of trades"):
        Asked(columns_look_back=pd.Timedelta(days=61)).refuse_longer(pd.Timedelta(days=1))


def test_no_feature_fails_where_what_it_reads_is_lacking(coarse: Market) -> None:
    """Every feature there is, found by the pipeline, on markets that lack more and more of what it was fitted
    on; warnings are errors here."""
    r = np.random.default_rng(1)

    def wide(market: Market) -> Market:
        columns = {}
        for column in EXTRA_COLUMNS.values():
            low = column.low or 0.0
            high = low + 1 if column.high is None else column.high
            values = low + (high - low) * r.random(market.close.shape)
            columns[column.name] = pd.DataFrame(values, market.times, list(market.symbols))
        return market.with_columns(columns)

    bare = Market(HOUR, coarse.columns)
    full = wide(bare).with_finer(wide(coarse.finer[QUARTER]))
    pipeline = Pipeline.fit(full)
    symbol = full.symbols[1]

    def unknown(market: Market) -> dict[str, tuple[str, ...]]:
        frame = pipeline.online(market)
        assert frame.names == pipeline.names
        return missing_inputs(frame, frame.names)[symbol]

    young = {name for names in unknown(full).values() for name in names}  # still in warm-up

    def missing(market: Market) -> set[str]:
        found = unknown(market)
        assert {n for names in found.values() for n in names} == young | set(pipeline.missing(market))
        return set(found)

    finer = {f.family for f in pipeline.chosen if f.resolution is not None}
    beside = {f.family for f in pipeline.chosen if any(c in EXTRA_COLUMNS for c in f.needs)}
    assert finer >= {"fine", "fine_flow"}
    assert beside >= {"book", "context", "order_flow"}
    assert missing(Market(HOUR, full.columns)) >= finer
    assert missing(bare) >= finer | beside
    prices = Market(HOUR, {c: bare[c] for c in ("open", "high", "low", "close", "volume")})
    assert missing(prices) >= finer | beside | {"flow"}


@pytest.mark.parametrize("asked", ["30m", "2h", "quarter"])
def test_bars_of_another_interval_are_refused(begun: Callable[..., Any], coarse: Market, asked: str) -> None:
    made = begun(finer_interval_s=900)
    bars = next(iter(closes(coarse, coarse.times[-1 - LEFT], None)))[1]
    with pytest.raises(InvalidInputError, match="send bars of 1h or 15m") as caught:
        post(made, {"interval": asked, "bars": bars})
    assert caught.value.body["error"]["field"] == "interval"


# Trades


def tape(market: Market, first: pd.Timestamp, last: pd.Timestamp) -> dict[str, dict[str, Any]]:
    """Trades of every symbol from one time to another, one every 20 s or so."""
    found = {}
    for at, symbol in enumerate(market.symbols):
        r = np.random.default_rng(at)
        count = int((last - first).total_seconds() / 20)
        times = first.value // 1000 + np.sort(r.integers(0, count * 20 * 10**6, count))
        price = float(market.close[symbol].to_numpy()[market.times.get_loc(first)]) * np.exp(
            r.normal(0, 2e-4, count).cumsum()
        )
        found[symbol] = {
            "symbol": symbol,
            "id": np.arange(count),
            "time_us": times,
            "price": price,
            "size": r.exponential(1.0, count) + 1e-3,
            "side": np.where(r.random(count) < 0.5, "buy", "sell"),
        }
    return found


def upto(trades: dict[str, Any], first: pd.Timestamp, last: pd.Timestamp) -> dict[str, Any]:
    """The block of the trades from one time to another, as it is sent."""
    a, b = np.searchsorted(trades["time_us"], [first.value // 1000, last.value // 1000])
    return {n: v if n == "symbol" else v[a:b].tolist() for n, v in trades.items()}


def send(made: Any, *blocks: dict[str, Any], complete_until: pd.Timestamp | None = None) -> dict[str, Any]:
    request: dict[str, Any] = {"trades": list(blocks)}
    if complete_until is not None:
        request["complete_until_us"] = complete_until.value // 1000
    found: dict[str, Any] = made.tapes.take_trades(TradesRequest.model_validate_json(json.dumps(request)))
    return found


def test_a_contract_whose_bar_is_not_posted_is_decided_on_the_bar_of_its_trades(
    begun: Callable[..., Any], coarse: Market
) -> None:
    made = begun(finer_interval_s=900)
    first, second = coarse.symbols
    start = coarse.times[-1 - LEFT]
    trades = tape(coarse, start, start + 3 * HOUR)
    trades[first]["time_us"][0] = trades[second]["time_us"][0] = start.value // 1000
    steps = list(closes(coarse, start, None))
    for at in range(2):
        since, close = start + at * HOUR, start + (at + 1) * HOUR
        send(made, *(upto(trades[s], since, close + pd.Timedelta(minutes=1)) for s in coarse.symbols))
        # The bar of the first contract is posted, that of the second is not.
        made.feed([b for b in steps[at][1] if b["symbol"] == first])
        told = {s: record(made, s) for s in coarse.symbols}
        closed = {s: t["decision"]["bar_close_s"] for s, t in told.items()}
        assert closed == {s: close.timestamp() for s in coarse.symbols}
        posted = float(coarse.close[first].loc[close])
        traded = trades[second]["price"][trades[second]["time_us"] < close.value // 1000][-1]
        assert told[first]["decision"]["inputs"]["market"]["close"] == posted
        assert told[second]["decision"]["inputs"]["market"]["close"] == traded
        assert {t["known"]["finer_until_s"] for t in told.values()} == {int(close.timestamp())}
        assert {str(t["known"]["missing"]) for t in told.values()} == {"{}"}
    # A bar that is posted after the one of trades was decided on is late; it changes nothing.
    assert made.feed([b for b in steps[1][1] if b["symbol"] == second])["late"] == 1
    assert record(made, second) == told[second]


def test_columns_of_trades_reach_the_features_as_in_a_batch(
    begun: Callable[..., Any], coarse: Market
) -> None:
    made = begun(finer_interval_s=900)
    start = coarse.times[-1 - LEFT]
    trades = tape(coarse, start, start + 3 * HOUR)
    for s in coarse.symbols:
        trades[s]["time_us"][0] = start.value // 1000
    end = start + 2 * HOUR
    send(made, *(upto(t, start, end) for t in trades.values()), complete_until=end)
    made.loop.run_pending()
    window, finer = made.loop._window, made.loop._finer
    assert isinstance(window, MarketWindow)
    asked = Asked(("kyle_lambda", "run_mean"), {QUARTER: ("run_mean",), QUARTER * 2: ("run_mean",)})
    market = finer.laid_under(window.market(int(end.timestamp()), 2), asked)
    for symbol, t in trades.items():
        rows = t["time_us"] < end.value // 1000
        whole = Trades(t["time_us"][rows] * 1000, t["price"][rows], t["size"][rows], t["side"][rows] == "buy")
        for interval, there in ((HOUR, market), (QUARTER, market.finer[QUARTER])):
            bars = TradeBars(interval)
            parts = [bars.add(whole), bars.close_until(end.value)]
            for name in ("close", "run_mean", *(("kyle_lambda",) if interval == HOUR else ())):
                wanted = np.concatenate([p[name] for p in parts])
                np.testing.assert_array_equal(there[name][symbol], wanted)
    means = market.finer[QUARTER]["run_mean"].to_numpy().reshape(4, 2, 2).mean(axis=1)
    np.testing.assert_allclose(market.finer[QUARTER * 2]["run_mean"], means)
    assert set(market.columns) == {*coarse.columns, "kyle_lambda", "run_mean"}
    assert {"run_mean", "kyle_lambda"} <= {c.name for c in TRADE_COLUMNS}


def test_by_the_wall_clock_a_close_waits_for_its_trades_and_no_longer_than_the_tolerance(
    begun: Callable[..., Any], coarse: Market, set_clock: Callable[..., Any]
) -> None:
    start = coarse.times[-1 - LEFT]
    close = start + HOUR
    clock = set_clock(close.timestamp() + 0.5)
    made = begun(finer_interval_s=900, clock=clock)
    first, second = coarse.symbols
    trades = tape(coarse, start, close)
    blocks = {s: upto(trades[s], start, close) for s in coarse.symbols}
    for block in blocks.values():
        block["time_us"][0] = start.value // 1000
    after = {"id": 9999, "time_us": (close.value // 1000) + 10**6, "price": 1.0, "size": 1.0, "side": "buy"}
    for name, value in after.items():
        blocks[first][name].append(value)
    clock.time_s += 1
    send(made, *blocks.values())
    clock.time_s -= 1
    bars = next(iter(closes(coarse, start, None)))[1]
    made.feed(bars)
    before = record(made, first)
    assert before["decision"]["bar_close_s"] == start.timestamp()
    assert 0 < made.loop._rest_s() <= 1.5
    clock.time_s = close.timestamp() + 1.9
    assert made.loop.run_pending() == 0
    clock.time_s = close.timestamp() + 2.0
    assert made.loop.run_pending() == 1
    # The first has a trade from after the close; the tape of the second is silent, and is not waited for.
    known = {s: record(made, s)["known"] for s in coarse.symbols}
    assert known[first] == {"finer_until_s": int(close.timestamp()), "missing": {}}
    assert known[second]["finer_until_s"] == int((close - QUARTER).timestamp())
    assert known[second]["missing"] == {"fine": [FINE_INPUT, "high_low_30m_at_30m"]}


def test_a_close_without_finer_bars_does_not_wait(
    begun: Callable[..., Any], coarse: Market, set_clock: Callable[..., Any]
) -> None:
    clock = set_clock((coarse.times[-LEFT] + HOUR).timestamp() + 0.5)
    made = begun(finer_interval_s=900, clock=clock)
    steps = list(closes(coarse, coarse.times[-1 - LEFT], None))
    made.feed(steps[0][1])
    assert record(made, coarse.symbols[0])["decision"]["bar_close_s"] == coarse.times[-LEFT].timestamp()
    made.feed(steps[1][1])
    told = record(made, coarse.symbols[0])["decision"]["bar_close_s"]
    assert told == (coarse.times[-LEFT] + HOUR).timestamp()


def test_a_server_without_a_finer_interval_takes_no_trades(begun: Callable[..., Any]) -> None:
    made = begun()
    with pytest.raises(NotConfiguredError, match="finer interval"):
        made.tapes.take_trades(TradesRequest(trades=[]))
    with pytest.raises(NotConfiguredError, match="bars of book"):
        made.tapes.take_book(BookRequest(book=[]))
    assert made.tapes.status() == {}
