"""The search over policies: the grid, what is measured, what is kept, and who dominates whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.margin.limits import Limits, LimitsError
from models.settings import MarginSettings
from training.margin import policy_study
from training.margin.frontier import facts, frontier, write_frontier
from training.margin.measures import measure
from training.margin.policy import Policy, Trial, grid, measured, non_dominated, shipped, trial
from training.margin.policy_study import StudyError, inputs_of, study
from training.margin.series import margin_table
from training.parallel import IN_THIS_PROCESS, Workers

MarketOf = Callable[..., Market]
ForecastsOf = Callable[..., pd.DataFrame]

HOURS = 24 * 30
FIRST = HOURS - 120
MARGIN = MarginSettings(
    default_base_rate={"initial": 0.06, "maintenance": 0.03},
    limits={
        **{"model_warm_up_bars": 0, "rules_warm_up_bars": 0, "floor_of_base": 0.5},
        **{"up_limit_1h": 0.25, "up_limit_24h": 0.6},
    },
)
DEFAULT = shipped(MARGIN.limits)
INPUTS = {"forecasts": "a", "bars": "b", "champion": "model"}


@pytest.fixture(scope="module")
def market(market_of: MarketOf) -> Market:
    rng = np.random.default_rng(8)
    return market_of(
        {name: 100 * np.exp(np.cumsum(0.012 * rng.standard_normal(HOURS))) for name in ("A", "B")}
    )


@pytest.fixture(scope="module")
def forecasts(market: Market, forecasts_of: ForecastsOf) -> pd.DataFrame:
    es = 0.03 * np.exp(0.3 * np.sin(np.arange(120) / 4))
    return forecasts_of(market.since(market.times[FIRST]), {"model": es, "ewma": 0.03})


@pytest.fixture(scope="module")
def on(forecasts: pd.DataFrame, market: Market) -> Trial:
    return trial(forecasts, market, MARGIN, "model")


def test_a_grid_is_every_combination_with_the_default_first() -> None:
    axes = {"scale": [1.0, 1.2], "up_limit_1h,up_limit_24h": [(0.25, 0.6), (0.5, 1.0)]}
    found = grid(axes, DEFAULT)
    assert found[0] == DEFAULT
    assert len(found) == 4
    assert {(p.scale, p.up_limit_1h, p.up_limit_24h) for p in found} == {
        (scale, *ups) for scale in (1.0, 1.2) for ups in ((0.25, 0.6), (0.5, 1.0))
    }
    assert {p.floor_of_base for p in found} == {0.5}
    assert grid({}, DEFAULT) == [DEFAULT]
    assert len(grid({"scale": [2.0]}, DEFAULT)) == 2


def test_a_policy_leaves_the_other_limits_as_they_are() -> None:
    limits = Policy(floor_of_base=0.3, down_limit_1h=0.1).limits(MARGIN.limits)
    assert (limits.floor_of_base, limits.down_limit_1h, limits.model_warm_up_bars) == (0.3, 0.1, 0)
    assert DEFAULT.limits(MARGIN.limits) == MARGIN.limits
    assert shipped(Limits()) == Policy()


def test_impossible_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="axis 'cap_rate'"):
        grid({"cap_rate": [1.0]}, DEFAULT)
    with pytest.raises(ValueError, match="axis 'scale' is"):
        grid({"scale": []}, DEFAULT)
    with pytest.raises(ValueError, match="a scale is 0"):
        grid({"scale": [0.0]}, DEFAULT)
    with pytest.raises(LimitsError, match="up_limit_1h"):
        grid({"up_limit_1h": [2.0]}, DEFAULT)


def test_a_policy_is_measured_as_its_margin_table_is(
    on: Trial, forecasts: pd.DataFrame, market: Market
) -> None:
    rows = measured(on, DEFAULT).set_index("kind")
    table = margin_table(forecasts, market, MARGIN, "model")
    of = measure(table, market, resamples=0)
    name = "model through engine"
    summary = of.summary[of.summary["series"] == name].set_index("kind")
    moves = of.procyclicality[of.procyclicality["series"] == name].set_index("kind")
    for kind in ("initial", "maintenance"):
        for column in ("rows", "mean_margin", "total_shortfall", "coverage", "ratio"):
            assert rows.loc[kind, column] == pytest.approx(summary.loc[kind, column]), (kind, column)
        for column in ("rise_1d", "rise_5d_worst", "changes", "peak_to_trough"):
            assert rows.loc[kind, column] == pytest.approx(moves.loc[kind, column]), (kind, column)
        assert rows.loc[kind, "scale_to_static"] == pytest.approx(summary.loc[kind, "scale"])
    assert rows["floor_of_base"].tolist() == [0.5, 0.5]


def test_more_requirement_is_more_margin_and_less_shortfall(on: Trial) -> None:
    low, high = (measured(on, Policy(scale=scale)).set_index("kind") for scale in (0.8, 1.5))
    assert (high["mean_margin"] > low["mean_margin"]).all()
    assert (high["total_shortfall"] < low["total_shortfall"]).all()


def test_a_wide_release_moves_less(on: Trial) -> None:
    tight, wide = (measured(on, Policy(release_ratio=ratio)).set_index("kind") for ratio in (0.0, 0.3))
    assert (wide["changes"] < tight["changes"]).all()
    assert (wide["mean_margin"] > tight["mean_margin"]).all()


def test_a_study_goes_on_where_it_was_interrupted(
    on: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = grid({"scale": [0.9, 1.1]}, DEFAULT)
    tried: list[Policy] = []

    def until_two_are_done(
        on: Trial,
        policies: list[Policy],
        workers: Workers,  # noqa: ARG001 # those of the real one
    ) -> Iterator[tuple[Policy, pd.DataFrame]]:
        for policy in policies:
            if len(tried) == 2:
                raise KeyboardInterrupt
            tried.append(policy)
            yield policy, measured(on, policy)

    monkeypatch.setattr(policy_study, "try_policies", until_two_are_done)
    with pytest.raises(KeyboardInterrupt):
        study(on, policies, INPUTS, tmp_path, IN_THIS_PROCESS)
    assert tried == policies[:2]
    monkeypatch.undo()
    said: list[tuple[int, int]] = []
    rest = study(on, policies, INPUTS, tmp_path, IN_THIS_PROCESS, lambda *done: said.append(done))
    assert said == [(2, 3), (3, 3)]
    assert rest["scale"].tolist() == [1.0, 1.0, 0.9, 0.9, 1.1, 1.1]
    pd.testing.assert_frame_equal(rest, pd.concat([measured(on, p) for p in policies], ignore_index=True))
    # Nothing is done twice, and all that there is comes back.
    pd.testing.assert_frame_equal(study(on, policies[2:], INPUTS, tmp_path, IN_THIS_PROCESS), rest)


def test_a_study_on_other_inputs_is_refused(on: Trial, tmp_path: Path) -> None:
    study(on, [DEFAULT], INPUTS, tmp_path, IN_THIS_PROCESS)
    with pytest.raises(StudyError, match="measured on other bars, champion; choose another folder"):
        study(on, [DEFAULT], INPUTS | {"bars": "c", "champion": "ewma"}, tmp_path, IN_THIS_PROCESS)
    assert json.loads((tmp_path / "inputs.json").read_text()) == INPUTS


def test_inputs_tell_what_decides_the_measures(forecasts: pd.DataFrame, market: Market) -> None:
    own = inputs_of(forecasts, market, MARGIN, "model")
    assert own == inputs_of(forecasts.copy(), market, MARGIN, "model")
    other = forecasts.assign(es=1.01 * forecasts["es"])
    assert inputs_of(other, market, MARGIN, "model")["forecasts"] != own["forecasts"]
    limits = MarginSettings(limits={"band_strikes": 7})
    assert inputs_of(forecasts, market, limits, "model")["margin_settings"] != own["margin_settings"]


def test_what_no_other_dominates() -> None:
    values = np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 2.0], [2.0, 3.0, 2.0], [1.0, 3.0, 2.0], [3.0, 1.0, 9.0]])
    assert non_dominated(values).tolist() == [True, True, False, True, True]
    with pytest.raises(ValueError, match="NaN"):
        non_dominated(np.array([[1.0, np.nan]]))


@pytest.fixture
def table(on: Trial) -> pd.DataFrame:
    return pd.concat([measured(on, p) for p in grid({"scale": [0.8, 1.3]}, DEFAULT)], ignore_index=True)


def test_the_frontier_marks_who_stands_kind_by_kind(table: pd.DataFrame) -> None:
    table = table.assign(mean_margin=0.05, total_shortfall=1.0, rise_1d=1.0)
    cheap = (table["scale"] == 0.8) & (table["kind"] == "initial")
    table.loc[cheap, "mean_margin"] = 0.04
    found = frontier(table, DEFAULT)
    assert found.of("initial")["stands"].tolist() == [True, False, False]
    assert found.of("maintenance")["stands"].all()
    assert found.better("initial")["scale"].tolist() == [0.8]
    assert found.better("maintenance").empty
    # By another measure, where the cheap one is worse, nobody dominates it.
    table.loc[cheap, "changes"] = 1.0
    assert frontier(table, DEFAULT, "changes").better("initial").empty


def test_a_frontier_without_the_shipped_policy_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="shipped policy is not among"):
        frontier(table[table["scale"] != 1], DEFAULT)
    with pytest.raises(ValueError, match="procyclicality is measured by 'mean'"):
        frontier(table, DEFAULT, "mean")


def test_page_and_picture_are_whole(table: pd.DataFrame, on: Trial, tmp_path: Path) -> None:
    found = frontier(table, DEFAULT)
    page, picture = write_frontier(found, "model", on.times, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "3 policies of model through the engine" in facts(found, "model", on.times)
    assert "scale 0.8, 1, 1.3" in text
    assert "Frontier, maintenance" in text
    assert "https://" not in text.split("</script>")[-1]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["frontier.png", "policy.html"]
