"""What lies beneath and beside the bars, from the command line and the settings to what a champion uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from features.bars import Market
from features.resample import merged
from features.sources.market import MarketSource, read_market
from features.sources.parquet import write_folder
from features.sources.simulated import simulate
from models.artifact import read_artifact
from models.forecast.discovery import model_class
from models.forecast.ewma import EwmaModel
from models.forecast.refined import RefinedModel, Settings
from models.registry import Registry
from training.benchmark import Plan, run_benchmark
from training.cli import main
from training.commands.tables import show_trials
from training.dataset import History, ModelLookup, Task, describe_market, ends_early, read_history
from training.importance import permutation_importance
from training.lives_on import by_trial
from training.nightly import nightly
from training.promotion import judge
from training.publish import publish_trained
from training.report import html
from training.settings import TrainingSettings
from training.train import task_of, train

MINUTE, QUARTER, HOUR = (pd.Timedelta(minutes=m) for m in (1, 15, 60))
Captured = pytest.CaptureFixture[str]


class QuickRefined(RefinedModel):
    """``refined`` of a few steps and trees."""

    def __init__(self, settings: Settings | None = None) -> None:
        quick: dict[str, Any] = {
            "network": {"steps": 40, "members": 1, "batch_rows": 512, "device": "cpu"},
            "quantile": {"trees": 10, "learning_rate": 0.2, "leaf_tail_rows": 10, "fit_threads": 1},
        }
        super().__init__(settings or Settings(ensemble=quick, refinement={"min_rows": 1000}))


@pytest.fixture(scope="module")
def lookup() -> ModelLookup:
    return lambda name: QuickRefined if name == "refined" else model_class(name)


def write_both(folder: Path, symbols: int, days: int) -> Market:
    fine = simulate(symbols=symbols, days=days, interval=QUARTER, seed=5)
    bars = Market(HOUR, merged(fine.columns, QUARTER, HOUR))
    write_folder(fine, folder / "fine")
    write_folder(bars, folder / "bars")
    return bars


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bars`` of an hour, 100 days of two symbols; ``fine`` bars of a quarter of an hour beneath; ``book``
    columns and ``funding.parquet`` beside."""
    folder = tmp_path_factory.mktemp("market")
    bars = write_both(folder, symbols=2, days=100)
    (folder / "book").mkdir()
    rng = np.random.default_rng(1)
    opens = bars.times - HOUR
    for symbol in bars.symbols:
        spread = pd.DataFrame({"open_time": opens, "book_spread": rng.uniform(1e-4, 2e-4, len(opens))})
        spread.to_parquet(folder / "book" / f"{symbol}.parquet")
    times = pd.date_range(opens[0], opens[-1], freq="8h")
    funding = pd.DataFrame({"symbol": "ALPHA", "funding_time": times, "funding_interval_hours": 8})
    funding["funding_rate"] = rng.normal(0, 1e-4, len(times))
    funding.to_parquet(folder / "funding.parquet")
    return folder


@pytest.fixture(scope="module")
def source(folders: Path) -> MarketSource:
    return MarketSource(folders / "bars", finer=(folders / "fine",))


@pytest.fixture(scope="module")
def over_finer_bars(source: MarketSource) -> Market:
    return read_market(source)


def everything(folders: Path) -> list[str]:
    found = ["--bars", str(folders / "bars"), "--finer", str(folders / "fine")]
    return [*found, "--book", str(folders / "book"), "--context", str(folders / "funding.parquet")]


def test_two_processes_read_and_forecast_the_same_as_one(
    folders: Path, tmp_path: Path, capsys: Captured
) -> None:
    """The shipped model, with as much history as its correction needs."""
    write_both(tmp_path, symbols=6, days=90)
    (tmp_path / "book").symlink_to(folders / "book")
    (tmp_path / "funding.parquet").symlink_to(folders / "funding.parquet")
    asked = ["--models", "ewma,refined", "--horizons", "1h", "--levels", "0.99", "--since", "2024-01-03"]
    asked += ["--start", "2024-03-28", "--end", "2024-03-29"]
    tables = {}
    for name, more in (
        ("one", [*everything(tmp_path), "--jobs", "1"]),
        ("two", [*everything(tmp_path), "--jobs", "2"]),
        ("bare", ["--bars", str(tmp_path / "bars")]),
    ):
        out = tmp_path / f"{name}.parquet"
        assert main(["backtest", *more, *asked, "--out", str(out)]) == 0
        tables[name] = pd.read_parquet(out)
    printed = capsys.readouterr().out
    assert "2024-01-03 00:00 to 2024-03-31 00:00 UTC, over bars of 15m, 30m" in printed
    assert "with columns: 1 of book, 1 of context" in printed
    pd.testing.assert_frame_equal(tables["one"], tables["two"], check_exact=True)
    same = tables["one"]["var"] == tables["bare"]["var"]
    refined = tables["one"]["model"] == "refined"
    assert same[~refined].all(), "the baseline looks at bars alone"
    assert not same[refined].any(), "and the other at what lies beneath"


@pytest.mark.parametrize(
    ("option", "folder", "message"),
    [
        ("--finer", "bars", "bars: bars of 1h do not divide bars of 1h into two or more"),
        ("--finer", "others", r"others holds files of ['OMEGA'], and the market is of"),
        ("--finer", "nowhere", "nowhere holds no parquet files"),
        ("--book", "bars", "are not of features.columns"),
        ("--context", "bars", "are of no series that is known"),
        ("--since", "someday", "--since is 'someday'"),
        ("--since", "2031-01-01", "closed since 2031-01-01"),
    ],
)
def test_what_does_not_fit_ends_every_command_with_2(
    folders: Path, tmp_path: Path, capsys: Captured, option: str, folder: str, message: str
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "OMEGA.parquet").write_bytes((folders / "fine" / "ALPHA.parquet").read_bytes())
    places = {"bars": str(folders / "bars"), "others": str(others), "nowhere": str(tmp_path / "nowhere")}
    bad = [option, places.get(folder, folder)]
    span = ["--start", "2024-03-01", "--end", "2024-03-02"]
    for verb, more in (
        ("train", []),
        ("nightly", []),
        ("backtest", [*span, "--out", str(tmp_path / "x.parquet")]),
        ("benchmark", [*span, "--out", str(tmp_path / "x"), "--models", "ewma"]),
        ("unseen", [*span, "--model", "ewma"]),
        ("tune", [*span, "--model", "gbm"]),
        ("regimes", []),
        ("ablate", [*span, "--out", str(tmp_path / "x")]),
    ):
        assert main([verb, "--bars", str(folders / "bars"), *more, *bad]) == 2, verb
        assert message in capsys.readouterr().err.replace("\n", ""), verb


def test_settings_say_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foremargin.toml").write_text(
        '[training]\nfiner_folders = ["15m", "1m"]\nbook_folder = "book"\n'
        'context_files = ["funding.parquet"]\nsince = 2024-02-01\n'
    )
    settings = TrainingSettings()
    source = settings.source(Path("bars"), HOUR, ("A",))
    since = pd.Timestamp("2024-02-01", tz="UTC")
    assert source == MarketSource(
        Path("bars"), HOUR, ("A",), (Path("15m"), Path("1m")), Path("book"), (Path("funding.parquet"),), since
    )
    assert source.absolute().finer == (tmp_path / "15m", tmp_path / "1m")
    assert TrainingSettings(symbols="A,B").source(Path("bars")).symbols == ("A", "B")
    monkeypatch.setenv("FOREMARGIN_TRAINING__FINER_FOLDERS", "5m, 1m")
    monkeypatch.setenv("FOREMARGIN_TRAINING__SINCE", "2024-03-01T02:00:00+02:00")
    again = TrainingSettings()
    assert again.finer_folders == (Path("5m"), Path("1m"))
    assert again.source(Path("bars")).since == pd.Timestamp("2024-03-01", tz="UTC")
    assert again.digest() == settings.digest(), "where data lies does not decide; what it is does"
    assert TrainingSettings(evaluation_days=30).digest() != settings.digest()


def test_a_market_is_described_by_all_that_is_there(over_finer_bars: Market) -> None:
    assert describe_market(over_finer_bars).endswith("UTC, over bars of 15m, 30m")
    assert describe_market(dataclasses.replace(over_finer_bars, finer={})).endswith("UTC")


def test_what_has_ended_before_the_bars_is_said(over_finer_bars: Market) -> None:
    market, day = over_finer_bars, pd.Timedelta(days=1)
    assert ends_early(market, day) == []
    fine, last = market.finer[QUARTER], market.times[-1]
    until = fine.until(last - day)
    spread = market.close.copy()
    spread.loc[last - 10 * HOUR :] = np.nan
    stale = dataclasses.replace(market, finer={}).with_finer(until)
    stale = stale.with_columns({"book_spread": spread, "open_interest": market.close * np.nan})
    assert ends_early(stale, day) == [
        "bars of 15m: known to 2024-04-09 00:00 alone",
        "bars of 30m: known to 2024-04-09 00:00 alone",
        "open_interest: none is known",
    ]
    spread.loc[last - 2 * day :] = np.nan
    (told,) = ends_early(market.with_columns({"book_spread": spread}), day)
    assert told == "book_spread: known to 2024-04-07 23:00 alone"
    spread.iloc[-1, 1] = 1.0
    assert ends_early(market.with_columns({"book_spread": spread}), day) == [], "of one symbol it lives"


def settings_of(folders: Path, **given: Any) -> TrainingSettings:
    """One horizon and level, and a gate that any sound model passes."""
    quick: dict[str, Any] = {
        **{"model": "refined", "horizons": "1h", "levels": "0.99"},
        **{"evaluation_days": 20, "minimum_train_days": 40, "finer_folders": (folders / "fine",)},
        "gate": {"worse_t": 10, "worse_t_overall": 10, "too_few_hits_error": 1e-12},
    }
    return TrainingSettings(**(quick | given))


def test_nightly_trains_judges_and_promotes_with_finer_bars(
    folders: Path, tmp_path: Path, mlflow_store: str, lookup: ModelLookup
) -> None:
    def no_pictures(*_: object) -> dict[str, Figure]:
        return {}

    def run(settings: TrainingSettings, say: Callable[[str], None]) -> Any:
        return nightly(
            folders / "bars",
            None,
            settings,
            registry,
            tmp_path / "work",
            say,
            lookup=lookup,
            draw=no_pictures,
        )

    said: list[str] = []
    registry, settings = Registry(mlflow_store), settings_of(folders)
    outcome, verdict = run(settings, said.append)
    assert (outcome.result, outcome.version) == ("promoted", 1), verdict.reason
    assert "over bars of 15m, 30m" in said[0]
    version = registry.version(1)
    artifact = read_artifact(registry.fetch(version, tmp_path / "cache"), lookup)
    assert {t.family for t in artifact.model.trials() if t.used} >= {"fine"}
    resolutions = {f.resolution for f in artifact.pipeline.chosen}
    assert QUARTER in resolutions
    # The judge looked at the finer bars too: it found on the same days what training had found.
    own = verdict.table.set_index("model")["fz0"]
    assert own["challenger"] == artifact.info.scores["fz0/1h/0.99"]
    assert "judged without" not in verdict.reason
    # The same data and settings are the same run; without the finer bars it is other data.
    assert run(settings, said.append) == (outcome, None)
    bare = settings.model_copy(update={"finer_folders": ()})
    with pytest.raises(ValueError, match="minimum_new_hours"):
        run(bare, said.append)


def test_a_version_judged_without_its_finer_bars_is_said_to_be(
    folders: Path, tmp_path: Path, mlflow_store: str, lookup: ModelLookup
) -> None:
    registry, settings = Registry(mlflow_store), settings_of(folders)
    history = read_history(settings.source(folders / "bars"), ("refined", "ewma"), task_of(settings), lookup)
    trained = train(history, settings, lookup=lookup)
    assert not trained.fitted.pipeline.missing(history.market)
    assert len(trained.fitted.pipeline.names) < len(history.static_features.names)
    challenger = publish_trained(registry, "foremargin", trained)
    whole = judge(registry, challenger, folders / "bars", settings, tmp_path / "c", lookup=lookup)
    bare = settings.model_copy(update={"finer_folders": ()})
    found = judge(registry, challenger, folders / "bars", bare, tmp_path / "c", lookup=lookup)
    assert "the challenger was judged without fine" in found.reason
    assert "judged without" not in whole.reason
    scores = [v.table.set_index("model")["fz0"] for v in (whole, found)]
    assert scores[0]["ewma"] == scores[1]["ewma"]
    assert scores[0]["challenger"] != scores[1]["challenger"]


def test_a_benchmark_shows_which_families_were_tried(over_finer_bars: Market, capsys: Captured) -> None:
    task = Task((HOUR,), (0.99, 0.999))
    start, end = (pd.Timestamp(f"2024-04-{day}", tz="UTC") for day in ("01", "05"))
    history = History(over_finer_bars, (EwmaModel, QuickRefined))
    plan = Plan(history.models, task, (0.99,), start, end, explained_times=20)
    found = run_benchmark(history, plan)
    trials = found.tables["trials"]
    assert set(trials["model"]) == {"refined"}
    assert trials["family"].tolist() == ["core", "fine", "fine_flow", "flow"]
    assert trials["train_end"].unique().tolist() == [start - HOUR]
    assert by_trial(trials, "ewma").empty
    page = html(found)
    assert "refined: families that it tried" in page
    assert "ewma: families that it tried" not in page
    show_trials(trials, plan.names)
    assert "Families that refined tried" in capsys.readouterr().out
    # An input that was turned down is not asked what it is worth.
    fit = history.fit(QuickRefined, start - HOUR, task)
    read = set(fit.model.reads() or ())
    asked = history.features(fit.pipeline, start, end)
    shown = permutation_importance(fit.model, asked, history.market, 5)
    assert set(shown["feature"]) == read & set(asked.names) < set(asked.names)
