"""The command that measures a margin table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from features.sources.parquet import read_folder
from training.cli import main
from training.margin.losses import static_table
from training.margin.report import PAGE_FILE, TABLES


@pytest.fixture
def margins(bars_folder: Path, tmp_path: Path) -> Path:
    """Two static margins over the last 40 days, one of them from the losses of the first 30 days alone."""
    market = read_folder(bars_folder)
    times = market.times[80 * 24 :]
    early = static_table(market, times, before=market.times[30 * 24])
    both = pd.concat([early.assign(series="early"), static_table(market, times).assign(series="late")])
    both.to_parquet(tmp_path / "margins.parquet", index=False)
    return tmp_path / "margins.parquet"


def test_a_page_its_tables_and_what_is_printed(
    bars_folder: Path, margins: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    arguments = ["--bars", bars_folder, "--margins", margins, "--out", out, "--resamples", "20"]
    more = ["--equal-to", "late", "--compared-with", "late"]
    assert main(["margin-report", *map(str, arguments), *more]) == 0
    printed = capsys.readouterr().out
    assert "Served margin: maintenance margin, over 1h" in printed
    assert str(out / PAGE_FILE) in printed
    assert {path.name for path in out.iterdir()} == {PAGE_FILE, *(f"{name}.parquet" for name in TABLES)}
    summary = pd.read_parquet(out / "summary.parquet").set_index(["series", "kind"])
    assert set(summary.index.get_level_values("series")) == {"early", "late"}
    assert summary.loc[("late", "initial"), "ratio"] == pytest.approx(1)


def test_the_static_rate_is_made_at_the_time_asked_for(
    bars_folder: Path, margins: Path, tmp_path: Path
) -> None:
    market = read_folder(bars_folder)
    arguments = {
        **{"--bars": bars_folder, "--margins": margins, "--out": tmp_path / "report", "--resamples": 0},
        "--static-before": market.times[30 * 24].isoformat(),
    }
    assert main(["margin-report", *(str(part) for pair in arguments.items() for part in pair)]) == 0
    summary = pd.read_parquet(tmp_path / "report" / "summary.parquet").set_index(["series", "kind"])
    same = summary.loc["early", "mean_margin"] - summary.loc["static", "mean_margin"]
    assert same.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"--compared-with": "nobody"},
            "series 'nobody' is not in the margin table; it has ['early', 'late']",
        ),
        ({"--margins": "absent.parquet"}, "absent.parquet"),
        ({"--static-before": "soon"}, "--static-before is 'soon'"),
        ({"--static-before": "1999-01-01"}, "has no loss over"),
    ],
)
def test_what_cannot_be_measured_ends_with_2(
    change: dict[str, str],
    words: str,
    bars_folder: Path,
    margins: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = {
        "--bars": str(bars_folder),
        "--margins": str(margins),
        "--out": str(tmp_path / "r"),
        **change,
    }
    assert main(["margin-report", *(part for pair in arguments.items() for part in pair)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
