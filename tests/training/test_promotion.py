"""The gate: what passes it, what does not, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.durations import parse_duration
from models.artifact import read_info, write_artifact
from models.registry import Registry, Version
from training.dataset import ModelLookup, read_history
from training.promotion import Check, Verdict, coverage_checks, judge, promote
from training.settings import GateSettings, TrainingSettings
from training.tracking import log_run
from training.train import task_of, train

Train = Callable[..., Version]


@pytest.fixture
def registry(mlflow_store: str) -> Registry:
    return Registry(mlflow_store)


@pytest.fixture
def trained(
    registry: Registry,
    bars_folder: Path,
    settings: TrainingSettings,
    scaled_lookup: ModelLookup,
    tmp_path: Path,
) -> Train:
    """Train, log and register a model; ``days_before`` the bars' end its training ends. No pictures."""

    def make(model: str, days_before: int | None = None, **changes: object) -> Version:
        used = settings.model_copy(update={"model": model, **changes})
        history = read_history(
            used.source(bars_folder), (model, *used.baselines), task_of(used), scaled_lookup
        )
        end = None if days_before is None else history.market.times[-1] - pd.Timedelta(days=days_before)
        artifact = tmp_path / f"artifact-{len(registry.versions())}"
        info = write_artifact(artifact, train(history, used, end, lookup=scaled_lookup).fitted)
        run = log_run(registry.tracking_uri, "test", artifact, info, dict)
        return registry.register(run.run_id, run.source, info)

    return make


@pytest.fixture
def judged(
    registry: Registry,
    bars_folder: Path,
    settings: TrainingSettings,
    scaled_lookup: ModelLookup,
    tmp_path: Path,
) -> Callable[[Version], Verdict]:
    def judge_version(version: Version) -> Verdict:
        return judge(registry, version, bars_folder, settings, tmp_path / "cache", lookup=scaled_lookup)

    return judge_version


Judged = Callable[[Version], Verdict]


def failed(verdict: Verdict) -> list[str]:
    return [c.name for c in verdict.checks if not c.passed]


def test_an_equal_challenger_passes_and_the_alias_moves(
    registry: Registry, trained: Train, judged: Judged
) -> None:
    old = trained("ewma", 40)
    assert promote(registry, judged(old)) == old
    new = trained("same", 30)
    verdict = judged(new)
    assert (verdict.promote, verdict.champion, failed(verdict)) == (True, old.number, [])
    # Both have seen nothing later than 30 days before the end; the embargo is 4 hours.
    assert set(verdict.table["model"]) == {"ewma", "champion", "challenger"}
    assert promote(registry, verdict) == new
    champion = registry.champion()
    assert champion is not None
    assert champion.number == new.number
    assert registry.history()[-1].reason == verdict.reason


def test_only_times_that_both_have_not_seen_are_compared(
    registry: Registry, trained: Train, judged: Judged
) -> None:
    promote(registry, judged(trained("ewma", 25)))
    verdict = judged(trained("same", 45))
    (span,) = [c for c in verdict.checks if c.name == "span"]
    assert span.value == "24.8 days"  # 25 days less the embargo of 4 hours


def test_a_champion_that_has_seen_nearly_all_stays(
    registry: Registry, trained: Train, judged: Judged
) -> None:
    registry.promote(trained("ewma", 5))
    verdict = judged(trained("same", 45))
    assert not verdict.promote
    assert failed(verdict) == ["span"]
    assert "bring newer bars" in verdict.reason
    assert promote(registry, verdict) is None


@pytest.mark.parametrize(
    ("model", "coverage"), [("halved", "coverage, too many hits"), ("tripled", "coverage, too few hits")]
)
def test_a_worse_challenger_stays_one(
    registry: Registry, trained: Train, judged: Judged, model: str, coverage: str
) -> None:
    champion = trained("ewma", 30)
    registry.promote(champion)
    verdict = judged(trained(model, 25))
    assert not verdict.promote
    assert {"FZ0 1h 97.5 % against ewma", "FZ0 1h 97.5 % against champion", coverage} <= set(failed(verdict))
    assert promote(registry, verdict) is None
    assert registry.champion() == registry.version(champion.number)


def test_the_first_challenger_must_pass_the_baseline(trained: Train, judged: Judged) -> None:
    verdict = judged(trained("tiny", 30))
    assert (verdict.champion, verdict.promote) == (None, False)
    assert "FZ0 overall against ewma" in failed(verdict)


def test_the_gate_judges_forecasts_as_they_would_have_been_served(
    registry: Registry, trained: Train, judged: Judged, tmp_path: Path
) -> None:
    new = trained("calibrated", 30)
    own = read_info(tmp_path / "artifact-0").scores
    found = judged(new).table.set_index(["model", "horizon", "level"])
    assert found.loc[("challenger", "4h", 0.99), "fz0"] == own["fz0/4h/0.99"], "as its training judged it"

    # The older one has been calibrated for three weeks more when the comparison begins.
    registry.promote(trained("calibrated", 50))
    hits = judged(new).table.set_index(["model", "horizon", "level"])["hit_ratio"]
    assert hits["champion", "1h", 0.975] < hits["challenger", "1h", 0.975] - 0.1


def test_the_same_model_is_not_promoted_twice(registry: Registry, trained: Train, judged: Judged) -> None:
    registry.promote(trained("ewma", 30))
    verdict = judged(trained("ewma", 30))
    assert not verdict.promote
    assert "same model" in verdict.reason


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({"horizons": ("1h",)}, "horizon 4h"),
        ({"levels": (0.975,)}, "level 0.99"),
        ({"symbols": ("ALPHA",)}, "symbol BETA"),
    ],
    ids=["horizon", "level", "symbol"],
)
def test_a_challenger_must_cover_what_the_champion_does(
    registry: Registry, trained: Train, judged: Judged, changes: dict[str, object], lacking: str
) -> None:
    registry.promote(trained("ewma", 30))
    verdict = judged(trained("same", 30, **changes))
    assert not verdict.promote
    assert lacking in verdict.reason


def test_a_champion_whose_artifact_is_gone_can_be_replaced(
    registry: Registry, trained: Train, judged: Judged
) -> None:
    champion = trained("ewma", 30)
    registry.promote(champion)
    (Path(champion.source) / "pipeline.json").write_text("{}")
    verdict = judged(trained("same", 25))
    assert verdict.promote
    assert "the champion was left out" in verdict.reason
    assert set(verdict.table["model"]) == {"ewma", "challenger"}


def cells(**p_values: tuple[float, float, float]) -> pd.DataFrame:
    rows = [
        {
            "horizon": "1h",
            "level": 0.99,
            "symbol": name,
            "side": "long",
            "rows": 1000,
            "hit_ratio": ratio,
            "pof_p": pof,
            "conditional_p": conditional,
        }
        for name, (ratio, pof, conditional) in p_values.items()
    ]
    return pd.DataFrame(rows)


def test_the_coverage_bound_is_shared_by_all_cells() -> None:
    gate = GateSettings(too_many_hits_error=0.01, too_few_hits_error=1e-6)
    # Four cells: rejected below 0.0025 (of twice the smaller p) and below 2.5e-7.
    base = {"A": (1.0, 1.0, 1.0), "B": (0.9, 0.8, 0.9), "C": (0.2, 3e-7, 1e-9)}
    many, few = coverage_checks(cells(**base, D=(1.8, 0.0013, 0.2)), gate)
    assert many.passed
    assert few.passed
    many, _ = coverage_checks(cells(**base, D=(1.8, 0.0012, 0.2)), gate)
    assert not many.passed
    assert "D long 1h 99 %, hit ratio 1.80" in many.value
    many, _ = coverage_checks(cells(**base, D=(1.1, 0.5, 0.0012)), gate)
    assert not many.passed, "hits in clusters count as well"
    _, few = coverage_checks(cells(**base, D=(0.1, 2e-7, 1.0)), gate)
    assert not few.passed


def test_cells_without_enough_rows_are_left_out() -> None:
    many, few = coverage_checks(cells(A=(3.0, np.nan, np.nan)), GateSettings())
    assert (many.value, few.value) == ("no such cell", "no such cell")


def test_a_verdict_survives_its_file() -> None:
    verdict = Verdict(
        3, None, True, "why", (Check("span", "30 days", ">= 14", True),), pd.DataFrame({"fz0": [0.5]})
    )
    again = Verdict.from_json(verdict.to_json())
    assert (again.challenger, again.champion, again.promote, again.checks) == (3, None, True, verdict.checks)
    pd.testing.assert_frame_equal(again.table, verdict.table)


def test_horizons_of_the_settings_are_durations() -> None:
    assert [parse_duration(h) for h in TrainingSettings().horizons] == list(
        TrainingSettings().horizon_durations
    )
