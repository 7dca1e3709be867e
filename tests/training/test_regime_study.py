"""The study of regimes from the command line: its tables, its page, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.sources.parquet import read_folder, write_folder
from features.sources.simulated import simulate
from training.cli import main
from training.regime_report import around_the_worst, html, markdown, over_time
from training.regime_study import MARKET, RegimeStudy, study_regimes

RULES = ["regimes", "volatility at 1/2", "volatility", "ewma"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two symbols, 200 days of hourly bars from New Year, a crash in the third quarter."""
    folder = tmp_path_factory.mktemp("bars")
    start = pd.Timestamp("2023-01-01", tz="UTC")
    write_folder(simulate(symbols=2, days=200, seed=9, start=start, crash_at=0.95), folder)
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> RegimeStudy:
    return study_regimes(read_folder(folder), worst=5)


def test_every_rule_is_asked_about_the_market_and_every_symbol(study: RegimeStudy) -> None:
    found = [(row.scope, row.rule) for row in study.costs.itertuples()]
    assert found == [(s, rule) for s in (MARKET, *study.market.symbols) for rule in RULES]
    assert study.warnings["rule"].value_counts().to_dict() == dict.fromkeys(RULES, 5)
    assert study.observed == ("volatility", "toxicity", "illiquidity", "togetherness")


def test_rules_that_are_brought_to_the_same_share_have_it(study: RegimeStudy) -> None:
    for _, costs in study.costs.groupby("scope"):
        share = costs.set_index("rule")["in_alarm"]
        assert share["regimes"] > 0
        np.testing.assert_allclose(
            share[["volatility", "ewma"]], share["regimes"], atol=2 / len(study.scores)
        )


def test_the_worst_hours_are_those_of_the_market_after_the_first_refit(study: RegimeStudy) -> None:
    assert study.moves.index[0] == pd.Timestamp("2023-04-01", tz="UTC")
    log_close = np.log(study.market.close)
    mean = log_close.diff().mean(axis=1).loc["2023-04-01 01:00":]
    worst = study.warnings.iloc[0]
    assert abs(worst["move"]) == pytest.approx(mean.abs().max())
    assert worst["begins"] + study.market.interval == mean.abs().idxmax()


def test_a_span_limits_what_is_asked_and_not_what_is_learned(folder: Path, study: RegimeStudy) -> None:
    first, last = pd.Timestamp("2023-05-01", tz="UTC"), pd.Timestamp("2023-06-15", tz="UTC")
    part = study_regimes(read_folder(folder), 5, first, last)
    assert (part.scores.index[0], part.scores.index[-1]) == (first, last)
    pd.testing.assert_frame_equal(part.scores, study.scores.loc[first:last])


def test_the_command_writes_tables_and_a_page_that_needs_nothing_else(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(["regimes", "--bars", str(folder), "--worst", "4", "--out", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"warnings.parquet", "costs.parquet", "stability.parquet", "regimes.md", "regimes.html"}
    assert (out / "regimes.md").read_text() in capsys.readouterr().out
    assert len(pd.read_parquet(out / "warnings.parquet")) == 4 * len(RULES)
    page = (out / "regimes.html").read_text()
    assert "Plotly.newPlot" in page
    assert 'src="http' not in page


def test_the_tables_say_what_the_frames_hold(study: RegimeStudy) -> None:
    text = markdown(study)
    costs = study.costs.iloc[0]
    line = next(line for line in text.splitlines() if line.startswith("| regimes |"))
    assert f"| {costs['in_alarm']:.1%} | {costs['false']:.1%} |" in line
    for begins in study.warnings["begins"].unique():
        assert f"| {begins:%Y-%m-%d %H:%M} |" in text
    assert "<td>regimes</td>" in html(study)


def test_pictures_show_every_worst_hour(study: RegimeStudy) -> None:
    panels = around_the_worst(study)
    bars = [trace for trace in panels.data if trace.type == "bar"]
    assert len(bars) == 5
    # The worst hour ends at 0, where its return stands.
    worst = study.warnings["move"].iloc[0]
    assert bars[0].y[list(bars[0].x).index(0.0)] == pytest.approx(100 * worst)
    begins = study.warnings["begins"].iloc[:5].dt.tz_localize(None)
    np.testing.assert_array_equal(over_time(study).data[-1].x, begins.to_numpy())


def test_a_span_with_too_few_hours_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    given = ["regimes", "--bars", str(folder), "--out", str(out), "--start", "2023-07-10"]
    assert main([*given, "--worst", "50"]) == 2
    assert "ask for fewer or give a longer span" in capsys.readouterr().err
    assert main([*given[:-1], "2031-01-01"]) == 2
    assert "no decision time lies between 2031-01-01" in capsys.readouterr().err
    assert not out.exists()


def test_a_history_of_one_quarter_has_a_report_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, out = tmp_path / "bars", tmp_path / "study"
    write_folder(read_folder(folder).until(pd.Timestamp("2023-06-25", tz="UTC")), short)
    assert main(["regimes", "--bars", str(short), "--worst", "3", "--out", str(out)]) == 0
    assert "learned again" in capsys.readouterr().out
    assert pd.read_parquet(out / "stability.parquet").empty
