"""Forecasts for a symbol that no one trained on: what the fit knew, what is in the tables, and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.sources.market import MarketSource
from features.sources.parquet import read_folder, write_folder
from features.sources.simulated import simulate
from models.forecast.base import TailModel
from models.forecast.ewma import EwmaModel
from models.forecast.har import HarModel
from training.cli import main
from training.dataset import History, Task, TrainingRefusedError, read_history
from training.evaluation import ROW_KEYS, with_losses
from training.parallel import Workers
from training.unseen import EVERY_SYMBOL, UNSEEN, fit_without, unseen_forecasts, unseen_scores

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
MODELS = ("ewma", "har")
LEVELS = (0.975, 0.99)


@pytest.fixture(scope="module")
def three_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three symbols, 110 days of hourly bars."""
    folder = tmp_path_factory.mktemp("three")
    write_folder(simulate(symbols=3, days=110, interval=HOUR, seed=11), folder)
    return folder


@pytest.fixture(scope="module")
def three(three_folder: Path) -> Market:
    return read_folder(three_folder)


@pytest.fixture(scope="module")
def span(three: Market) -> tuple[pd.Timestamp, pd.Timestamp]:
    """A week and a half, from day 90 on."""
    return three.times[90 * 24], three.times[100 * 24]


@pytest.fixture(scope="module")
def table(three: Market, span: tuple[pd.Timestamp, pd.Timestamp], task: Task) -> pd.DataFrame:
    return unseen_forecasts(History(three, (HarModel,)), HarModel, task, *span, LEVELS)


def test_every_symbol_is_forecast_by_both_models_at_every_time(
    table: pd.DataFrame, three: Market, span: tuple[pd.Timestamp, pd.Timestamp]
) -> None:
    assert not table.duplicated([*ROW_KEYS, "model"]).any()
    assert set(table["model"]) == {"har", "har" + UNSEEN}
    assert (table["time"].min(), table["time"].max()) == span
    counts = table.groupby(["model", "symbol"]).size()
    assert set(counts.index.get_level_values("symbol")) == set(three.symbols)
    assert (counts == 241 * 2 * 2 * 2).all()  # times, horizons, sides, levels


@pytest.mark.parametrize("model", [EwmaModel, HarModel])
@pytest.mark.parametrize("left_out", [0, 2])
def test_the_fit_is_that_of_a_folder_without_the_symbol(
    model: type[TailModel],
    left_out: int,
    three: Market,
    span: tuple[pd.Timestamp, pd.Timestamp],
    task: Task,
    tmp_path: Path,
) -> None:
    """The slow way: a folder of the other bars, its own history, and the fit on it asked about the market."""
    symbol = three.symbols[left_out]
    others = tuple(s for s in three.symbols if s != symbol)
    write_folder(three.select(others), tmp_path / "others")
    alone = read_history(MarketSource(tmp_path / "others", symbols=others), MODELS, task)
    fit = alone.fit(model, span[0] - task.embargo, task)
    history = History(three, (model,))
    expected = history.forecast(fit.model, fit.pipeline, *span).to_table(model.name + UNSEEN)
    expected = expected[(expected["symbol"] == symbol) & expected["level"].isin(LEVELS)]
    found = unseen_forecasts(history, model, task, *span, LEVELS)
    own = found[(found["model"] == model.name + UNSEEN) & (found["symbol"] == symbol)]
    pd.testing.assert_frame_equal(
        own.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True
    )


def test_the_model_that_saw_all_is_the_ordinary_fit(
    table: pd.DataFrame, three: Market, span: tuple[pd.Timestamp, pd.Timestamp], task: Task
) -> None:
    history = History(three, (HarModel,))
    fit = history.fit(HarModel, span[0] - task.embargo, task)
    expected = history.forecast(fit.model, fit.pipeline, *span).to_table("har")
    expected = expected[expected["level"].isin(LEVELS)].reset_index(drop=True)
    found = table[table["model"] == "har"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_what_a_symbol_did_in_training_moves_only_the_forecasts_of_those_who_saw_it(
    table: pd.DataFrame, three: Market, span: tuple[pd.Timestamp, pd.Timestamp], task: Task
) -> None:
    """Jumps of a tenth there and back, before any bar that a feature of the span looks at."""
    symbol = three.symbols[1]
    factor = np.ones(len(three.times))
    factor[200 : 50 * 24 : 50] = 1.1
    prices = {
        name: frame.assign(**{symbol: frame[symbol] * factor})
        for name, frame in three.columns.items()
        if name in ("open", "high", "low", "close")
    }
    jumped = History(Market(three.interval, {**three.columns, **prices}), (HarModel,))
    found = unseen_forecasts(jumped, HarModel, task, *span, LEVELS)
    ratio = found["var"] / table["var"]
    own = found["symbol"] == symbol
    unseen = found["model"].str.endswith(UNSEEN)
    assert (ratio[own & unseen] == 1).all()
    assert (ratio[own & ~unseen] != 1).all()
    assert (ratio[~own & unseen] != 1).all(), "those were forecast by fits that saw it"


def test_learned_features_have_not_seen_it_either(
    three: Market, span: tuple[pd.Timestamp, pd.Timestamp], task: Task
) -> None:
    class Profiled(EwmaModel):
        @classmethod
        def feature_names(cls) -> tuple[str, ...] | None:
            return ("ewma_volatility", "hour_profile")

    history, symbol = History(three, (Profiled,)), three.symbols[2]
    fit = fit_without(history, Profiled, span[0] - task.embargo, task, symbol)
    assert fit.end == span[0] - task.embargo
    assert set(fit.pipeline.states["hour_profile"]["symbols"]) == set(three.symbols) - {symbol}


def test_scores_compare_like_with_like(table: pd.DataFrame, three: Market) -> None:
    found = unseen_scores(table, three)
    names = [*three.symbols, EVERY_SYMBOL]
    assert found["symbol"].tolist() == names * 4
    assert found[["horizon", "level"]].drop_duplicates().to_numpy().tolist() == [
        ["1h", 0.975],
        ["1h", 0.99],
        ["4h", 0.975],
        ["4h", 0.99],
    ]
    assert np.allclose(found["difference"], found["fz0_unseen"] - found["fz0_seen"], rtol=0, atol=1e-12)
    scored = with_losses(table, three)
    rows = scored[(scored["horizon"] == "4h") & (scored["level"] == 0.99)]
    one = found[(found["horizon"] == "4h") & (found["level"] == 0.99)].set_index("symbol")
    for symbol in three.symbols:
        own = rows[rows["symbol"] == symbol]
        for name, kind in (("har", "seen"), ("har" + UNSEEN, "unseen")):
            scores = own[own["model"] == name]
            assert one.loc[symbol, f"fz0_{kind}"] == pytest.approx(scores["fz0"].mean(), abs=1e-12)
            assert one.loc[symbol, f"hit_ratio_{kind}"] == pytest.approx(scores["hit"].mean() / 0.01)
        assert one.loc[symbol, "rows"] == 241 * 2
    assert one.loc[EVERY_SYMBOL, "rows"] == 241 * 2 * 3
    mean = one.loc[list(three.symbols), "difference"].mean()
    assert one.loc[EVERY_SYMBOL, "difference"] == pytest.approx(mean, abs=1e-12)
    assert (found["t"] * found["difference"] > 0).all()


def test_an_unseen_model_that_asks_too_little_scores_worse(table: pd.DataFrame, three: Market) -> None:
    """The sign: the unseen half of the table at a tenth of its margin."""
    unseen = table["model"] == "har" + UNSEEN
    little = table.assign(**{c: table[c].where(~unseen, 0.1 * table[c]) for c in ("var", "es")})
    found = unseen_scores(little, three)
    assert (found["difference"] > 0).all()
    assert (found["t"] > 0).all()
    assert (found["hit_ratio_unseen"] > found["hit_ratio_seen"]).all()


def test_a_symbol_without_a_score_is_refused(table: pd.DataFrame, three: Market) -> None:
    symbol = three.symbols[1]
    lacking = table[(table["symbol"] != symbol) | (table["horizon"] != "4h")]
    with pytest.raises(ValueError, match=re.escape(f"('4h', 0.975, '{symbol}')")):
        unseen_scores(lacking, three)


def test_two_processes_give_the_same_table(
    table: pd.DataFrame, three_folder: Path, span: tuple[pd.Timestamp, pd.Timestamp], task: Task
) -> None:
    shared, seen = read_history(MarketSource(three_folder), ("har",), task), []
    found = unseen_forecasts(
        shared, HarModel, task, *span, LEVELS, lambda *told: seen.append(told), Workers(processes=2)
    )
    pd.testing.assert_frame_equal(found, table, check_exact=True)
    assert seen == [("har", done, 4) for done in range(5)]


def test_one_symbol_is_no_market_to_leave_one_out_of(
    three: Market, span: tuple[pd.Timestamp, pd.Timestamp], task: Task
) -> None:
    alone = History(three.select(three.symbols[:1]), (EwmaModel,))
    with pytest.raises(ValueError, match=r"1 symbol.*at least two symbols"):
        unseen_forecasts(alone, EwmaModel, task, *span, LEVELS)


def without_bars_before(market: Market, symbol: str, time: pd.Timestamp) -> Market:
    def cut(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{symbol: frame[symbol].where(frame.index >= time)})

    return Market(market.interval, {name: cut(frame) for name, frame in market.columns.items()})


def test_a_symbol_that_no_fit_could_see_is_refused(
    three: Market, span: tuple[pd.Timestamp, pd.Timestamp], task: Task
) -> None:
    young = History(without_bars_before(three, three.symbols[2], span[0]), (EwmaModel,))
    with pytest.raises(ValueError, match=rf"\['{three.symbols[2]}'\] have no bar by"):
        unseen_forecasts(young, EwmaModel, task, *span, LEVELS)


def test_a_refused_fit_names_the_symbol_left_out(
    market: Market, span: tuple[pd.Timestamp, pd.Timestamp], task: Task
) -> None:
    """Two symbols, the second with 20 days before the span: too few to train on without the first."""
    first, second = market.symbols
    short = History(without_bars_before(market, second, span[0] - 20 * DAY), (EwmaModel,))
    with pytest.raises(TrainingRefusedError, match=f"without {first}: ewma cannot be fitted"):
        unseen_forecasts(short, EwmaModel, task, *span, LEVELS)


@pytest.fixture
def arguments(three_folder: Path) -> Callable[..., list[str]]:
    def make(*more: str) -> list[str]:
        given = ["unseen", "--bars", str(three_folder), "--model", "ewma", "--start", "2024-03-31"]
        return [*given, "--end", "2024-04-09", "--horizons", "1h,4h", "--levels", "0.99", *more]

    return make


def test_the_command_prints_the_scores_and_writes_the_forecasts(
    arguments: Callable[..., list[str]], three: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "unseen.parquet"
    assert main(arguments("--out", str(out))) == 0
    written = pd.read_parquet(out)
    assert len(written) == 217 * 3 * 2 * 2 * 2  # times, symbols, horizons, sides, models
    printed = capsys.readouterr().out
    assert f"{len(written):,} forecasts" in printed
    assert "not calibrated" in printed
    assert first_line(written, three) in printed
    assert printed.count(EVERY_SYMBOL) == 2


def first_line(written: pd.DataFrame, market: Market) -> str:
    """What must stand in the first row that is printed, from the file."""
    first = unseen_scores(written, market).iloc[0]
    return f"{first['fz0_seen']:.4f} │ {first['fz0_unseen']:.4f} │    {first['difference']:+.4f}"


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--symbols", "ALPHA"), 2, "at least two symbols"),
        (("--model", "oracle"), 2, "model 'oracle' is unknown"),
        (("--end", "2024-03-01"), 2, "no decision time lies between"),
        (("--start", "2024-01-10", "--end", "2024-01-12"), 3, "cannot be fitted on"),
    ],
)
def test_refusals_end_with_their_code_and_one_line(
    arguments: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    assert main(arguments(*more)) == code
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
