"""What families are worth: variants on shared ensembles, scored against the right reference."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from features.bars import Market
from features.resample import merged
from features.sources.simulated import simulate
from models.forecast._refinement import Settings as RefinementSettings
from models.forecast.ensemble import Settings as EnsembleSettings
from models.forecast.refined import RefinedModel
from training import ablation
from training.ablation import (
    REFERENCE,
    SHIPPED,
    UNCORRECTED,
    Ablation,
    Variant,
    ablate,
    families_of,
    over_seeds,
    variants,
)
from training.ablation_report import PAGE_FILE, SCORES_FILE, TABLE_FILE, markdown, write_ablation
from training.dataset import History, Task

HOUR, HALF = pd.Timedelta(hours=1), pd.Timedelta(minutes=30)


@pytest.fixture(scope="module")
def market() -> Market:
    fine = simulate(symbols=2, days=100, interval=HALF, seed=5)
    return Market(HOUR, merged(fine.columns, HALF, HOUR)).with_finer(fine)


@pytest.fixture(scope="module", autouse=True)
def quick_ensemble() -> Iterator[None]:
    """Two quick members are enough to see that every variant corrects the same ensemble."""
    patch = pytest.MonkeyPatch()
    whole = ablation._seeded

    def quick(seed: int) -> EnsembleSettings:
        s = whole(seed)
        network = s.network.model_copy(update={"steps": 30, "members": 2, "device": "cpu"})
        quantile = s.quantile.model_copy(update={"trees": 5, "leaf_tail_rows": 10.0, "fit_threads": 1})
        return s.model_copy(update={"network": network, "quantile": quantile})

    patch.setattr(ablation, "_seeded", quick)
    patch.setattr(ablation, "RefinementSettings", partial(RefinementSettings, min_rows=1000))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def found(market: Market) -> Ablation:
    history = History(market, (RefinedModel,))
    task = Task((HOUR,), (0.975, 0.99, 0.999))
    times = history.market.times
    return ablate(history, task, times[80 * 24], times[-2], (0.975,), (1, 2), ("fine", "flow"))


def test_each_family_is_left_out_and_taken_alone() -> None:
    assert [(v.name, v.families, v.tried) for v in variants(("fine", "flow"))] == [
        ("uncorrected", None, True),
        ("core", (), True),
        ("core + fine", ("fine",), False),
        ("core + flow", ("flow",), False),
        ("all", ("fine", "flow"), True),
        ("without fine", ("flow",), True),
        ("without flow", ("fine",), True),
    ]


def test_what_is_untried_is_kept_whatever_its_trial_says() -> None:
    assert Variant("core + flow", ("flow",), tried=False).settings().untried == ("flow",)
    assert Variant("all", ("flow",)).settings().untried == ()


def test_the_families_are_those_that_the_market_has(market: Market) -> None:
    assert families_of(History(market, (RefinedModel,))) == ("fine", "fine_flow", "flow")
    plain = market.reading(["open", "high", "low", "close", "volume"])
    assert families_of(History(plain, (RefinedModel,))) == ("flow",)


def test_every_variant_is_scored_on_the_same_rows(found: Ablation) -> None:
    assert found.scores["rows"].nunique() == 1
    assert len(found.scores) == 2 * len(variants(("fine", "flow")))
    assert set(found.scores["variant"]) == {v.name for v in variants(("fine", "flow"))}


def test_differences_are_to_the_stated_reference(found: Ablation) -> None:
    for seed, rows in found.scores.groupby("seed"):
        fz0 = rows.set_index("variant")["fz0"]
        for row in rows.to_dict("records"):
            assert row["difference"] == pytest.approx(row["fz0"] - fz0[row["reference"]], abs=1e-9), seed
        assert rows.set_index("variant")["reference"]["without fine"] == SHIPPED
        assert rows.set_index("variant")["reference"][UNCORRECTED] == REFERENCE


def test_seeds_have_ensembles_of_their_own(found: Ablation) -> None:
    plain = found.scores[found.scores["variant"] == UNCORRECTED]
    assert plain["fz0"].nunique() == 2


def test_the_trials_of_the_shipped_variant_are_told(found: Ablation) -> None:
    assert set(found.trials["family"]) == {"core", "fine", "flow"}
    assert (found.trials["kept"] == (found.trials["t"] < -RefinementSettings().least_t)).all()


def test_over_seeds_takes_the_t_nearest_to_zero() -> None:
    rows = [
        {"seed": s, "horizon": "1h", "level": 0.99, "variant": "core + flow", "rows": 10, "fz0": 1.0 + s}
        | {"hit_ratio": 1.0, "reference": "core", "difference": -0.1 * s, "t": t}
        for s, t in ((1, -4.0), (2, -2.0), (3, -3.0))
    ]
    row = over_seeds(pd.DataFrame(rows)).iloc[0]
    assert (row["t_weakest"], row["t_strongest"], row["seeds"]) == (-2.0, -4.0, 3)
    assert row["fz0"] == pytest.approx(3.0)
    assert row["difference"] == pytest.approx(-0.2)


def test_the_report_holds_every_variant(found: Ablation, market: Market, tmp_path: Path) -> None:
    write_ablation(found, market, tmp_path)
    assert (tmp_path / TABLE_FILE).read_text() == markdown(found)
    for variant in variants(("fine", "flow")):
        assert f"| {variant.name} |" in markdown(found)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / SCORES_FILE), found.scores)
    assert "without flow" in (tmp_path / PAGE_FILE).read_text()


def test_a_history_too_short_for_any_trial_is_told(found: Ablation, market: Market, tmp_path: Path) -> None:
    untried = Ablation(found.scores, pd.DataFrame())
    write_ablation(untried, market, tmp_path)
    said = "No family was tried: the training windows have too few rows."
    assert said in markdown(untried) and said in (tmp_path / PAGE_FILE).read_text()
    assert said not in markdown(found)
    assert "t of its trials" in markdown(found) and "t of its trials" not in markdown(untried)
