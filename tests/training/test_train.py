"""Training holds out the newest days, and says so where there are too few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.artifact import write_artifact
from training.dataset import History, ModelLookup, TrainingRefusedError
from training.settings import TrainingSettings
from training.train import CHALLENGER, default_train_end, scores, train

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


def test_the_newest_days_are_held_out(history: History, settings: TrainingSettings) -> None:
    trained, times = train(history, settings), history.market.times
    assert trained.fitted.train_end == times[-1] - 20 * DAY - 4 * HOUR
    held_out = trained.scored["time"]
    assert held_out.min() == times[-1] - 20 * DAY + HOUR
    assert held_out.max() == times[-2]
    assert list(dict.fromkeys(trained.scored["model"])) == ["ewma", CHALLENGER]


def test_a_given_end_is_kept(history: History, settings: TrainingSettings) -> None:
    end = history.market.times[-1] - 30 * DAY
    trained = train(history, settings, end)
    assert trained.fitted.train_end == end
    assert trained.scored["time"].min() == end + 5 * HOUR


def test_what_was_usual_is_learned_of_the_training_window_alone(
    history: History, settings: TrainingSettings
) -> None:
    end = history.market.times[-1] - 30 * DAY
    found = train(history, settings, end).fitted.confidence
    shorter = History(history.market.until(end + 25 * DAY), history.models)
    again = train(shorter, settings, end).fitted.confidence
    assert found is not None
    assert again is not None
    assert found.to_json() == again.to_json()
    assert "ewma_volatility" in found.inputs


def test_scores_are_named_by_horizon_and_level(history: History, settings: TrainingSettings) -> None:
    trained = train(history, settings)
    table = trained.table.set_index(["horizon", "level", "model"])
    found = trained.fitted.scores
    assert found["fz0/4h/0.99"] == table.loc[("4h", 0.99, CHALLENGER), "fz0"]
    assert found["fz0_ewma/4h/0.99"] == table.loc[("4h", 0.99, "ewma"), "fz0"]
    assert found["difference/1h/0.975"] == pytest.approx(
        found["fz0/1h/0.975"] - found["fz0_ewma/1h/0.975"]  # type: ignore[operator]
    )
    assert len(found) == 6 * 2 * 2 * 2  # scores, models, horizons, levels


def test_a_score_that_is_unknown_is_none() -> None:
    row = {"horizon": "1h", "level": 0.99, "model": CHALLENGER, "fz0": 1.0, "pinball": 0.1, "hit_ratio": 1.0}
    table = pd.DataFrame([row | {"worst_cell": float("nan"), "difference": 0.0, "t": float("inf")}])
    found = scores(table)
    assert (found["worst_cell/1h/0.99"], found["t/1h/0.99"], found["fz0/1h/0.99"]) == (None, None, 1.0)


def test_training_twice_gives_the_same_artifact(
    history: History,
    settings: TrainingSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("twice")
    infos = [write_artifact(folder / name, train(history, settings).fitted) for name in ("a", "b")]
    assert infos[0].fingerprint == infos[1].fingerprint


def test_too_little_history_is_refused(history: History, settings: TrainingSettings) -> None:
    assert default_train_end(history, settings) < history.market.times[-1]
    more = settings.model_copy(update={"minimum_train_days": 200})
    with pytest.raises(TrainingRefusedError, match=r"leaves 99 days before .* minimum_train_days \(200\)"):
        train(history, more)


def test_nothing_to_judge_on_is_refused(history: History, settings: TrainingSettings) -> None:
    with pytest.raises(TrainingRefusedError, match="leaves no row to judge on"):
        train(history, settings, history.market.times[-1] - 5 * HOUR)


def test_a_model_that_asks_for_half_is_seen(
    history: History, settings: TrainingSettings, scaled_lookup: ModelLookup
) -> None:
    halved = train(history, settings.model_copy(update={"model": "halved"}), lookup=scaled_lookup)
    table = halved.table.set_index(["model", "horizon", "level"])
    assert table.loc[(CHALLENGER, "1h", 0.99), "hit_ratio"] > 3
    assert table.loc[(CHALLENGER, "1h", 0.99), "difference"] > 0.3


def test_the_held_out_days_calibrate_what_is_judged_and_stored(
    history: History, settings: TrainingSettings, scaled_lookup: ModelLookup
) -> None:
    trained = train(history, settings.model_copy(update={"model": "calibrated"}), lookup=scaled_lookup)
    plain = type("Plain", (scaled_lookup("calibrated"),), {"name": "plain", "calibration": None})
    without = train(
        history,
        settings.model_copy(update={"model": "plain"}),
        lookup=lambda name: plain if name == "plain" else scaled_lookup(name),
    )
    rows = [t.table.set_index(["model", "horizon", "level"]) for t in (trained, without)]
    calibrated, raw = (t.loc[(CHALLENGER, "1h", 0.975), "hit_ratio"] for t in rows)
    assert 1 < calibrated < raw - 0.3
    assert without.fitted.calibration is None

    state, times = trained.fitted.calibration, history.market.times
    assert state is not None
    assert (state.until, state.settings) == (times[-1], scaled_lookup("calibrated").calibration)
    # It begins at 1, after the embargo, and ends where the judged forecasts do.
    by_time = [
        t.scored.query("model == 'challenger' and horizon == '1h' and side == 'long' and level == 0.975")
        .groupby("time")["var"]
        .first()
        for t in (trained, without)
    ]
    factor = by_time[0] / by_time[1]
    assert factor.iloc[0] == 1
    assert factor.index[-1] == times[-2]
    first = state.contracts.index(history.market.symbols[0])
    assert abs(np.log(factor.iloc[-1]) - state.theta_v[first, 0, 0, 0]) < 0.1
    assert (state.theta_v[:, 0, 0, 0] > 0.05).all()
