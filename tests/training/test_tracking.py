"""What MLflow holds after a run: parameters, metrics, pictures and the artifact itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from models.artifact import ArtifactInfo, read_artifact, write_artifact
from models.registry import RUN_KEY_TAG, open_client
from training.dataset import History
from training.plots import figures
from training.settings import TrainingSettings
from training.tracking import log_run
from training.train import CHALLENGER, Trained, train

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def trained(history: History, settings: TrainingSettings) -> Trained:
    return train(history, settings)


@pytest.fixture
def artifact(trained: Trained, tmp_path: Path) -> tuple[Path, ArtifactInfo]:
    return tmp_path / "artifact", write_artifact(tmp_path / "artifact", trained.fitted)


def test_a_run_holds_all_there_is_to_know(
    mlflow_store: str, trained: Trained, artifact: tuple[Path, ArtifactInfo]
) -> None:
    folder, info = artifact
    logged = log_run(mlflow_store, "test", folder, info, lambda: figures(trained.scored, CHALLENGER))
    run = open_client(mlflow_store).get_run(logged.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["data_fingerprint"] == trained.fitted.data_fingerprint
    assert run.data.params["artifact_fingerprint"] == info.fingerprint
    told = dict(part.split() for part in run.data.params["features"].split(", "))
    assert told["scale"] == "1"
    assert sum(map(int, told.values())) == len(info.features)
    assert (run.data.params["horizons"], run.data.params["levels"]) == ("1h,4h", "0.975,0.99,0.999")
    assert run.data.metrics == pytest.approx({k: v for k, v in info.scores.items() if v is not None})
    assert run.data.metrics["fz0/4h/0.99"] == info.scores["fz0/4h/0.99"]
    assert read_artifact(Path(logged.source)).info == info
    pictures = Path(logged.source).parent / "plots"
    assert {p.name for p in pictures.iterdir()} == {
        "worst_days.png",
        "reliability.png",
        "rolling_coverage.png",
    }
    assert all(p.read_bytes().startswith(PNG) for p in pictures.iterdir())


def test_pictures_show_what_they_say(trained: Trained) -> None:
    drawn = figures(trained.scored, CHALLENGER)
    own = trained.scored[
        (trained.scored["model"] == CHALLENGER)
        & (trained.scored["horizon"] == "1h")
        & (trained.scored["level"] == 0.99)
    ]
    worst = own.loc[own["loss"].idxmax()]
    titles = [ax.get_title() for ax in drawn["worst_days.png"].axes]
    assert len(titles) == 3
    assert titles[0] == f"{worst['symbol']} {worst['side']}, 1h, VaR 99 %"
    lines = {line.get_label(): line.get_ydata() for line in drawn["reliability.png"].axes[0].get_lines()}
    table = trained.table[trained.table["model"] == "ewma"]
    assert list(lines["ewma"]) == pytest.approx(table["hit_ratio"].tolist())
    assert [line.get_label() for line in drawn["rolling_coverage.png"].axes[0].get_lines()[:2]] == [
        "1h",
        "4h",
    ]


def test_one_finished_run_a_key(mlflow_store: str, artifact: tuple[Path, ArtifactInfo]) -> None:
    folder, info = artifact
    client = open_client(mlflow_store)

    def broken() -> dict[str, Figure]:
        raise KeyboardInterrupt

    def once() -> str:
        return log_run(mlflow_store, "test", folder, info, dict, "the-key").run_id

    with pytest.raises(KeyboardInterrupt):
        log_run(mlflow_store, "test", folder, info, broken, "the-key")
    experiment = client.get_experiment_by_name("test").experiment_id
    client.create_run(experiment, tags={RUN_KEY_TAG: "the-key"})  # cut short after it had begun
    first = once()
    assert once() == first
    runs = client.search_runs([experiment])
    assert [(r.info.run_id, r.info.status) for r in runs] == [(first, "FINISHED")]


def test_artifacts_lie_beside_the_database(mlflow_store: str, artifact: tuple[Path, ArtifactInfo]) -> None:
    logged = log_run(mlflow_store, "test", *artifact, dict)
    assert Path(logged.source).is_relative_to(Path(mlflow_store.removeprefix("sqlite:///")).parent)
