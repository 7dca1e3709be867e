"""Regimes learned quarter by quarter: what each knows, and how far two of them may differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import Pipeline
from features.sources.simulated import simulate
from training.regime_refits import Refit, followed, quarterly_refits, stability, tense

DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def year() -> Market:
    start = pd.Timestamp("2023-01-01", tz="UTC")
    return simulate(symbols=3, days=300, seed=5, start=start)


@pytest.fixture(scope="module")
def refits(year: Market) -> tuple[Refit, ...]:
    return quarterly_refits(year)


def test_quarters_cover_the_history_once_it_is_long_enough(year: Market, refits: tuple[Refit, ...]) -> None:
    assert [f"{r.start:%Y-%m-%d}" for r in refits] == ["2023-04-01", "2023-07-01", "2023-10-01"]
    assert [r.end for r in refits[:-1]] == [r.start for r in refits[1:]]
    found = followed(year, refits)["regime_calm"]
    pd.testing.assert_index_equal(found.index, year.times[year.times >= refits[0].start], check_names=False)
    assert np.isfinite(found).all(axis=None)


def test_each_quarter_is_learned_on_what_was_known_at_its_beginning(
    year: Market, refits: tuple[Refit, ...]
) -> None:
    second = refits[1]
    alone = Pipeline.fit(year.until(second.start), ["regime_calm"])
    assert alone.states["regime_calm"] == second.state
    cut = quarterly_refits(year.until(second.start + 2 * DAY))
    assert [r.state for r in cut] == [r.state for r in refits[:2]]
    # The probabilities of the second quarter are those of that pipeline, computed over the whole history.
    expected = alone.batch(year).between(second.start, second.end - year.interval)
    found = followed(year, [second])
    for name, frame in found.items():
        np.testing.assert_allclose(frame.to_numpy(), expected[name], atol=1e-12)


def test_volatility_alone_observes_nothing_else(year: Market) -> None:
    plain = quarterly_refits(year, ["volatility"])
    assert {tuple(r.state[chain]["observations"]) for r in plain for chain in ("symbol", "market")} == {
        ("volatility",)
    }


def test_tense_is_what_is_not_calm_or_normal(year: Market, refits: tuple[Refit, ...]) -> None:
    found = followed(year, refits)
    rest = 1 - found["market_regime_calm"] - found["market_regime_normal"]
    pd.testing.assert_frame_equal(tense(found, "market_regime"), rest)


def test_stability_of_a_refit_that_learned_the_same(year: Market, refits: tuple[Refit, ...]) -> None:
    same = [Refit(r.start, r.end, refits[0].state) for r in refits]
    found = stability(year, same)
    assert found["chain"].tolist() == ["symbol", "market"] * 2
    assert (found["agreement"] == 1).all()
    assert (found["distance"] == 0).all()
    quarter = int((refits[1].end - refits[1].start) / year.interval)
    assert found["rows"].tolist()[:2] == [3 * quarter, quarter]


def test_stability_of_names_that_changed_places(year: Market, refits: tuple[Refit, ...]) -> None:
    """A chain whose means are turned round calls calm what was a crisis."""
    state = refits[1].state
    turned = {**state, "symbol": {**state["symbol"], "mean": state["symbol"]["mean"][::-1]}}
    found = stability(year, [refits[0], Refit(refits[1].start, refits[1].end, turned)])
    by_chain = found.set_index("chain")
    assert by_chain.loc["symbol", "agreement"] < 0.5
    assert by_chain.loc["symbol", "distance"] > 0.5
    assert by_chain.loc["market", "distance"] < 0.2


def test_a_history_without_a_quarter_to_follow_is_refused() -> None:
    short = simulate(symbols=1, days=80, seed=5, start=pd.Timestamp("2023-01-01", tz="UTC"))
    with pytest.raises(ValueError, match="hold no beginning of a quarter with 89 days before it"):
        quarterly_refits(short)


def test_a_single_quarter_has_nothing_to_be_held_against(year: Market) -> None:
    first = quarterly_refits(year.until(pd.Timestamp("2023-05-01", tz="UTC")))
    assert len(first) == 1
    found = stability(year, first)
    assert found.empty
    assert list(found) == ["start", "chain", "rows", "agreement", "distance", "distance_99"]
