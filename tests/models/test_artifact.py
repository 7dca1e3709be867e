"""Artifacts: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.artifact import ArtifactError, Fitted, code_version, read_artifact, read_info, write_artifact
from models.forecast.calibration import CalibrationSettings, CalibrationState
from models.forecast.confidence import Confidence
from models.forecast.ewma import EwmaModel

FitUntil = Callable[[int], Fitted]


@pytest.fixture
def folder(tmp_path: Path, fit_until: FitUntil) -> Path:
    write_artifact(tmp_path / "artifact", fit_until(80))
    return tmp_path / "artifact"


def test_a_read_model_forecasts_to_the_bit_as_the_written_one(
    folder: Path, fit_until: FitUntil, small_market: Market
) -> None:
    fitted, artifact = fit_until(80), read_artifact(folder)
    expected = fitted.model.predict(fitted.pipeline.online(small_market))
    found = artifact.model.predict(artifact.pipeline.online(small_market))
    np.testing.assert_array_equal(found.var, expected.var)
    np.testing.assert_array_equal(found.es, expected.es)
    assert found.rows.equals(expected.rows)


def test_the_info_says_what_it_was_made_from(folder: Path, fit_until: FitUntil) -> None:
    fitted, info = fit_until(80), read_info(folder)
    assert (info.model, info.symbols) == ("ewma", fitted.symbols)
    assert info.features == fitted.pipeline.names
    assert (info.look_back, info.interval) == (fitted.pipeline.look_back, fitted.pipeline.interval)
    assert (info.horizons, info.levels) == (fitted.model.horizons, fitted.model.levels)
    assert (info.train_start, info.train_end) == (fitted.train_start, fitted.train_end)
    assert info.data_fingerprint == fitted.data_fingerprint
    assert info.scores == {"fz0/1h/0.99": 0.75, "fz0/4h/0.99": None}
    assert info.code_version == code_version()
    assert set(info.files) == {"pipeline.json", "model/forecast.json"}


def calibrated(fitted: Fitted, **changes: Any) -> Fitted:
    """``fitted`` with a calibration that has seen something."""
    model, rng = fitted.model, np.random.default_rng(1)
    theta = rng.uniform(-0.1, 0.1, (3, len(model.horizons), 2, len(model.levels)))
    state = CalibrationState(
        CalibrationSettings(var_step=0.03),
        fitted.pipeline.interval,
        model.horizons,
        model.levels,
        fitted.train_end,
        ("ALPHA", "BETA"),
        theta[:2],
        theta[2],
    )
    return dataclasses.replace(fitted, calibration=dataclasses.replace(state, **changes))


def test_a_calibration_is_read_to_the_bit_as_it_was_written(tmp_path: Path, fit_until: FitUntil) -> None:
    fitted = calibrated(fit_until(80))
    info = write_artifact(tmp_path / "artifact", fitted)
    state, expected = read_artifact(tmp_path / "artifact").calibration, fitted.calibration
    assert state is not None
    assert expected is not None
    np.testing.assert_array_equal(state.theta_v, expected.theta_v)
    np.testing.assert_array_equal(state.theta_e, expected.theta_e)
    assert (state.settings, state.until) == (expected.settings, expected.until)
    assert state.contracts == expected.contracts
    assert (state.interval, state.horizons, state.levels) == (info.interval, info.horizons, info.levels)
    plain = write_artifact(tmp_path / "plain", fit_until(80))
    assert read_artifact(tmp_path / "plain").calibration is None
    assert info.fingerprint != plain.fingerprint


def doubting(fitted: Fitted, *inputs: str) -> Fitted:
    """``fitted`` with the ranges of some inputs."""
    ends = np.random.default_rng(2).uniform(0, 1, (2, len(inputs)))
    return dataclasses.replace(fitted, confidence=Confidence(inputs, ends[0] - 1, ends[1], 0.1 + 0.2))


def test_what_was_usual_is_read_to_the_bit_as_it_was_written(tmp_path: Path, fit_until: FitUntil) -> None:
    fitted = doubting(fit_until(80), "ewma_volatility")
    info = write_artifact(tmp_path / "artifact", fitted)
    found, expected = read_artifact(tmp_path / "artifact").confidence, fitted.confidence
    assert found is not None
    assert expected is not None
    assert (found.inputs, found.spread) == (expected.inputs, expected.spread)
    np.testing.assert_array_equal(found.low, expected.low)
    np.testing.assert_array_equal(found.high, expected.high)
    plain = write_artifact(tmp_path / "plain", fit_until(80))
    assert read_artifact(tmp_path / "plain").confidence is None
    assert info.fingerprint != plain.fingerprint


def test_ranges_of_what_the_pipeline_does_not_give_are_refused(tmp_path: Path, fit_until: FitUntil) -> None:
    write_artifact(tmp_path / "artifact", doubting(fit_until(80), "ewma_volatility", "tea_leaves"))
    with pytest.raises(ArtifactError, match=r"confidence.json has ranges of \['tea_leaves'\]"):
        read_artifact(tmp_path / "artifact")


@pytest.mark.parametrize(
    "changes",
    [
        {"interval": pd.Timedelta("15min")},
        {"levels": (0.9, 0.99, 0.999)},
        {"horizons": (pd.Timedelta("2h"),) * 2},
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_calibration_of_another_model_is_refused(
    tmp_path: Path, fit_until: FitUntil, changes: dict[str, Any]
) -> None:
    write_artifact(tmp_path / "artifact", calibrated(fit_until(80), **changes))
    with pytest.raises(ArtifactError, match="other horizons, levels or bars"):
        read_artifact(tmp_path / "artifact")


def test_a_calibration_with_one_factor_for_all_contracts_is_refused(
    tmp_path: Path, fit_until: FitUntil
) -> None:
    class Pooled(CalibrationState):
        def to_json(self) -> dict[str, Any]:
            content = super().to_json()
            return {k: v for k, v in content.items() if "theta" not in k} | {
                "theta": [content["theta_e"]] * 2
            }

    fitted = calibrated(fit_until(80))
    assert fitted.calibration is not None
    state = fitted.calibration
    pooled = Pooled(**{field.name: getattr(state, field.name) for field in dataclasses.fields(state)})
    write_artifact(tmp_path / "artifact", dataclasses.replace(fitted, calibration=pooled))
    with pytest.raises(ArtifactError, match=r"a calibration consists of .*'theta_v'.* train the model anew"):
        read_artifact(tmp_path / "artifact")


def test_two_identical_trainings_share_a_fingerprint(
    folder: Path, fit_until: FitUntil, tmp_path: Path
) -> None:
    again = write_artifact(tmp_path / "again", fit_until(80))
    first = read_info(folder)
    assert again.fingerprint == first.fingerprint
    assert again.made_at > first.made_at


@pytest.mark.parametrize(
    "change",
    [
        {"scores": {"fz0/1h/0.99": 0.76}},
        {"data_fingerprint": "0" * 64},
        {"symbols": ("BETA", "ALPHA")},
    ],
    ids=lambda c: next(iter(c)),
)
def test_another_content_has_another_fingerprint(
    folder: Path, fit_until: FitUntil, tmp_path: Path, change: dict[str, object]
) -> None:
    other = dataclasses.replace(fit_until(80), **change)  # type: ignore[arg-type]
    assert write_artifact(tmp_path / "other", other).fingerprint != read_info(folder).fingerprint


def test_other_training_data_has_another_fingerprint(
    folder: Path, fit_until: FitUntil, tmp_path: Path
) -> None:
    other = dataclasses.replace(fit_until(70), train_end=fit_until(80).train_end)
    assert write_artifact(tmp_path / "other", other).fingerprint != read_info(folder).fingerprint


@pytest.mark.parametrize("name", ["pipeline.json", "model/forecast.json"])
def test_an_altered_byte_is_found(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} was altered"):
        read_artifact(folder)


def test_an_altered_info_is_found(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    content["train_end"] = "2030-01-01T00:00:00+00:00"
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="does not match its own fingerprint"):
        read_artifact(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model" / "forecast.json").unlink()
    with pytest.raises(ArtifactError, match=r"lacks model/forecast.json"):
        read_artifact(folder)


def test_a_file_that_nobody_listed_is_refused(folder: Path) -> None:
    (folder / "model" / "extra.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ArtifactError, match=r"has model/extra.pkl, which model.json does not list"):
        read_artifact(folder)


def test_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    (folder / "pipeline.json").rename(outside)
    (folder / "pipeline.json").symlink_to(outside)
    with pytest.raises(ArtifactError, match="is a link"):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has format None"),
        ('{"format": 99}', "has format 99; this version reads format 1"),
        ('{"format": 1, "model": "ewma"}', "is incomplete or malformed"),
        ('{"format": 1, "model": "ewma", "features": 3}', "is incomplete or malformed"),
    ],
)
def test_a_broken_info_is_refused(folder: Path, content: str, message: str) -> None:
    (folder / "model.json").write_text(content)
    with pytest.raises(ArtifactError, match=message):
        read_info(folder)


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no readable model.json"):
        read_artifact(tmp_path / "nowhere")


def test_a_model_that_this_version_lacks_is_refused(fit_until: FitUntil, tmp_path: Path) -> None:
    class Retired(EwmaModel):
        name = "retired"

    fitted = fit_until(80)
    model = Retired()
    model.__dict__.update(fitted.model.__dict__)
    write_artifact(tmp_path / "artifact", dataclasses.replace(fitted, model=model))
    with pytest.raises(ArtifactError, match=r"cannot be loaded.*model 'retired' is unknown"):
        read_artifact(tmp_path / "artifact")
    assert read_artifact(tmp_path / "artifact", lambda _: Retired).info.model == "retired"


def test_an_artifact_is_never_overwritten(folder: Path, fit_until: FitUntil) -> None:
    before = read_info(folder)
    with pytest.raises(ArtifactError, match="exists already"):
        write_artifact(folder, fit_until(70))
    assert read_info(folder) == before


def test_a_failed_write_leaves_nothing(tmp_path: Path, fit_until: FitUntil) -> None:
    class Failing(EwmaModel):
        def save(self, folder: Path) -> None:
            (folder / "half").write_text("written")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_artifact(tmp_path / "artifact", dataclasses.replace(fit_until(80), model=Failing()))
    assert list(tmp_path.iterdir()) == []


def test_a_score_that_is_not_a_number_is_refused(tmp_path: Path, fit_until: FitUntil) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_artifact(
            tmp_path / "artifact", dataclasses.replace(fit_until(80), scores={"fz0": float("nan")})
        )
    assert list(tmp_path.iterdir()) == []
