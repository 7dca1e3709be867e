"""Tables of inputs and families, by hand, and what the command prints of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.forecast.base import FamilyTrial
from training.commands.tables import show_families, show_trials
from training.importance import COLUMNS
from training.lives_on import by_family, by_input, by_trial, trials_of

NAN = float("nan")


@pytest.fixture
def importance() -> pd.DataFrame:
    """Two horizons of a model that explains itself, one of a model that does not."""
    rows = [
        ("har_1h", "volatility", "1h", 0.99, 0.010, 0.30, 0.04, 0.10),
        ("har_1h", "volatility", "4h", 0.99, 0.030, 0.30, 0.06, 0.12),
        ("har_4h", "volatility", "1h", 0.99, 0.001, 0.10, 0.07, 0.10),
        ("har_4h", "volatility", "4h", 0.99, 0.003, 0.10, 0.09, 0.12),
        ("imbalance_1h", "flow", "1h", 0.99, -0.001, 0.60, 0.20, 0.20),
        ("imbalance_1h", "flow", "4h", 0.99, -0.003, 0.60, 0.24, 0.24),
    ]
    told = pd.DataFrame(rows, columns=list(COLUMNS)).assign(model="told")
    quiet = told[told["horizon"] == "1h"].assign(model="quiet", gain=NAN, effect=NAN, family_effect=NAN)
    return pd.concat([told, quiet], ignore_index=True)


def test_families_are_ordered_by_what_they_move(importance: pd.DataFrame) -> None:
    found = by_family(importance, "told")
    assert found["family"].tolist() == ["flow", "volatility"]
    assert found["inputs"].tolist() == [1, 2]
    assert found["effect"].to_numpy() == pytest.approx([0.22, 0.11])
    assert found["importance"].to_numpy() == pytest.approx([-0.002, 0.022])
    assert found["gain"].to_numpy() == pytest.approx([0.6, 0.4])


def test_inputs_have_their_words(importance: pd.DataFrame) -> None:
    found = by_input(importance, "told", 2)
    assert found["feature"].tolist() == ["imbalance_1h", "har_4h"]
    assert found["words"].tolist() == [
        "taker buying over 1 h",
        "volatility over 4 h against its current level",
    ]
    assert found["effect"].to_numpy() == pytest.approx([0.22, 0.08])
    assert by_input(importance, "told", 9)["importance"].to_numpy() == pytest.approx([-0.002, 0.002, 0.02])


def test_a_model_that_explains_nothing_is_ordered_by_importance(importance: pd.DataFrame) -> None:
    found = by_input(importance, "quiet", 9)
    assert found["feature"].tolist() == ["har_1h", "har_4h", "imbalance_1h"]
    assert np.isnan(by_family(importance, "quiet")[["effect", "gain"]]).all(axis=None)


def test_the_command_prints_who_explains_itself(
    importance: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    show_families(importance, ("quiet", "told"))
    printed = capsys.readouterr().out
    assert "What told lives on" in printed
    assert "quiet" not in printed
    assert [line.split()[1] for line in printed.splitlines() if "%" in line] == ["flow", "volatility"]
    assert "22.0%" in printed
    show_families(importance.iloc[:0], ("quiet", "told"))
    assert capsys.readouterr().out == ""


def test_trials_are_counted_over_fits(capsys: pytest.CaptureFixture[str]) -> None:
    hour, end = pd.Timedelta(hours=1), pd.Timestamp("2024-01-01", tz="UTC")
    fits = [
        [FamilyTrial(hour, "fine", t, t < -2), FamilyTrial(4 * hour, "fine", 0.0, False)]
        for t in (-9.0, -1.0, -3.0)
    ]
    tables = [trials_of(fit, "choosy", end + i * hour) for i, fit in enumerate(fits)]
    trials = pd.concat([trials_of([], "plain", end), *tables], ignore_index=True)
    assert len(trials) == 6
    assert trials["used"].tolist() == [True, False, False, False, True, False]
    found = by_trial(trials, "choosy")
    assert found.to_dict("list") == {
        **{"horizon": ["1h", "4h"], "family": ["fine", "fine"]},
        **{"fits": [3, 3], "used": [2, 0], "t": [-3.0, 0.0]},
    }
    assert by_trial(trials, "plain").empty
    show_trials(trials, ["plain", "choosy"])
    printed = capsys.readouterr().out
    assert "Families that choosy tried" in printed
    assert "plain" not in printed
