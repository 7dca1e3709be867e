"""Importance: an input that the forecast hangs on has some, one that it ignores has none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame, Pipeline
from models.explanations import Cell, Contributions
from models.forecast.base import TailForecast
from models.forecast.ewma import EwmaModel
from training.dataset import History, Task
from training.importance import COLUMNS, permutation_importance

HOUR = pd.Timedelta(hours=1)
SCALE = "ewma_volatility"


@pytest.fixture(scope="module")
def volatile() -> Market:
    """One symbol whose volatility is high and low in turns of four days, so that knowing it is worth much."""
    rng = np.random.default_rng(3)
    hours = 120 * 24
    deviation = np.where(np.arange(hours) // 96 % 2 == 0, 0.002, 0.02)
    index = pd.date_range("2025-01-01", periods=hours, freq="h", tz="UTC", unit="ns", name="time")
    closes = {s: 100 * np.exp((deviation * rng.standard_normal(hours)).cumsum()) for s in ("A", "B")}
    close = pd.DataFrame(closes, index=index)
    return Market(HOUR, {"close": close, "high": close * 1.001, "low": close * 0.999, "open": close})


def fitted(market: Market, task: Task) -> tuple[EwmaModel, FeatureFrame]:
    history = History(market, (EwmaModel,))
    fit = history.fit(EwmaModel, market.times[1900], task)
    pipeline = Pipeline.fit(market.until(market.times[1900]), (SCALE, "return_1d"))
    model = fit.model
    assert isinstance(model, EwmaModel)
    return model, history.features(pipeline, market.times[2000], market.times[-1])


def test_what_the_forecast_hangs_on_is_found(volatile: Market, task: Task) -> None:
    model, features = fitted(volatile, task)
    found = permutation_importance(model, features, volatile, times=300)
    assert len(found) == len(features.names) * 2 * 3  # inputs, horizons, levels
    assert set(zip(found["horizon"], found["level"], strict=True)) == {
        (h, level) for h in ("1h", "4h") for level in task.levels
    }
    assert found["gain"].isna().all()  # it has no trees
    assert found[["effect", "family_effect"]].isna().all(axis=None)  # and explains nothing
    assert dict(zip(found["feature"], found["family"], strict=True))["return_1d"] == "volatility"
    assert dict(zip(found["feature"], found["family"], strict=True))[SCALE] == "scale"
    by_input = found.groupby("feature")["importance"]
    assert by_input.min()[SCALE] > 0.2
    assert (found.loc[found["feature"] != SCALE, "importance"] == 0).all()


def test_the_size_of_what_an_input_does_is_told(volatile: Market, task: Task) -> None:
    """The scale by itself, and two returns that partly undo each other: +-0.2, and 0.1 for shorts alone."""
    model, features = fitted(volatile, task)

    class Telling(EwmaModel):
        horizons, levels = model.horizons, model.levels

        def predict(self, given: FeatureFrame) -> TailForecast:
            return model.predict(given)

        def contributions(self, given: FeatureFrame, cells: Sequence[Cell]) -> Contributions:
            rows = given.rows()
            odd = np.where(np.arange(len(rows)) % 2 == 0, 0.2, -0.2)
            effects = np.zeros((len(rows), len(cells), 3))
            effects[..., 0] = 0.3
            effects[..., 1] = odd[:, np.newaxis]
            effects[..., 2] = [0.0 if cell.side == "long" else 0.1 for cell in cells]
            names = (SCALE, "return_1d", "return_4h")
            values = np.zeros((len(rows), 3))
            return Contributions(
                rows, tuple(cells), names, values, values, np.zeros(effects.shape[:-1]), effects
            )

    sampled = features.between(volatile.times[-300], None)
    found = permutation_importance(Telling(), sampled, volatile, times=40).set_index("feature")
    for name, effect in ((SCALE, 0.3), ("return_1d", 0.2), ("return_4h", 0.05), ("return_1w", 0.0)):
        assert found.loc[name, "effect"].to_numpy() == pytest.approx(effect)
    # Longs: 0.2 always; shorts: 0.3 and 0.1 in turns.
    assert found.loc[SCALE, "family_effect"].to_numpy() == pytest.approx(0.3)
    assert found.loc["return_1w", "family_effect"].to_numpy() == pytest.approx(0.2)


def test_the_same_seed_gives_the_same_answer(volatile: Market, task: Task) -> None:
    model, features = fitted(volatile, task)
    first, again, other = (
        permutation_importance(model, features, volatile, times=50, seed=seed) for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not first["importance"].equals(other["importance"])


def test_nothing_to_sample_from_gives_no_rows(volatile: Market, task: Task) -> None:
    model, features = fitted(volatile, task)
    unknown = features.between(volatile.times[-3], volatile.times[-1])  # losses over 4 h have not matured
    found = permutation_importance(model, unknown, volatile, times=50)
    assert found.empty
    assert found.columns.tolist() == list(COLUMNS)


def test_a_model_that_drops_rows_is_refused(volatile: Market, task: Task) -> None:
    model, features = fitted(volatile, task)

    class Fickle(EwmaModel):
        """Forecasts only rows that are in order of their scale: shuffling loses some."""

        calls = 0

        def predict(self, given: FeatureFrame) -> TailForecast:
            found = model.predict(given)
            self.calls += 1
            if self.calls <= 2:
                return found
            return TailForecast(found.rows[1:], found.horizons, found.levels, found.var[1:], found.es[1:])

    with pytest.raises(ValueError, match="must depend on that row's inputs alone"):
        permutation_importance(Fickle(), features, volatile, times=50)
