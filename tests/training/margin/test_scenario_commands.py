"""The commands that draw scenarios and impulse responses, and the page that shows them."""

from pathlib import Path

import pytest

from training.cli import main
from training.margin.impulse import SERIES, SHOCKS
from training.margin.scenarios.drawing import draw_scenario
from training.margin.scenarios.registry import SCENARIOS, tape

ROOT = Path(__file__).resolve().parents[3]


def test_scenarios_draws_those_that_are_asked_for(tmp_path, capsys) -> None:
    out = tmp_path / "pictures"
    given = ["scenarios", "--out", str(out), "--only", "restart-mid-raise", "--only", "print-as-a-close"]
    assert main(given) == 0
    assert sorted(p.name for p in out.iterdir()) == ["print-as-a-close.svg", "restart-mid-raise.svg"]
    told = capsys.readouterr().out
    assert "restart-mid-raise" in told
    assert "static 9" in told


def test_the_same_scenario_is_the_same_file(tmp_path) -> None:
    one, other = (draw_scenario(tape("print-as-a-close"), tmp_path / f"{name}.svg") for name in "ab")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["scenarios", "--out", "x", "--only", "march-2020"], "there is no scenario 'march-2020'"),
        (["scenarios", "--out", "x", "--format", "gif"], "cannot be drawn"),
        (["impulse", "--out", "x.gif"], "cannot be drawn"),
        (["impulse", "--out", "x.svg", "--kind", "both"], "--kind is 'both'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(given, words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(given) == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_impulse_tells_every_shock_and_series_and_draws_them(tmp_path, capsys) -> None:
    out = tmp_path / "impulse.svg"
    assert main(["impulse", "--out", str(out), "--paths", "2", "--kind", "initial"]) == 0
    told = capsys.readouterr().out
    assert all(told.count(name) >= len(SERIES) for name in SHOCKS)
    assert all(told.count(name) >= len(SHOCKS) for name in SERIES)
    assert "initial margin" in told
    assert out.read_text(encoding="utf-8").startswith("<?xml")


def test_the_page_shows_every_scenario() -> None:
    page = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    for name in SCENARIOS:
        assert f"(scenarios/{name}.svg)" in page
        assert (ROOT / "docs" / "scenarios" / f"{name}.svg").is_file()
    assert (ROOT / "docs" / "scenarios" / "impulse.svg").is_file()
