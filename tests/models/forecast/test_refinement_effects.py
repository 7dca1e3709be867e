"""What a correction adds, input by input: it adds up to the corrected forecast, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.pipeline import FeatureFrame
from models.explanations import Cell, Contributions
from models.forecast._refinement import LEVEL, MOST, Refinement, Settings, Step
from models.forecast._refinement_effects import corrected
from models.forecast.base import TailForecast
from models.wording import phrase_of

HOUR = pd.Timedelta(hours=1)
TIMES = pd.date_range("2024-01-01", periods=2, freq=HOUR, tz="UTC", unit="ns")
NAMES = ("ewma_volatility", "har_1h", "push_15m")
CELLS = (Cell(HOUR, "long", 0.99), Cell(4 * HOUR, "short", 0.99))


def step(family: str, inputs: tuple[str, ...], own: tuple[str, ...], weights: list[float]) -> Step:
    ones = np.ones(len(inputs))
    return Step(family, inputs, own, 0 * ones, 2 * ones, np.array(weights), -3.0)


@pytest.fixture
def features() -> FeatureFrame:
    """In the second row the order flow is missing."""
    values = np.array([[[0.01, 1.0, 4.0]], [[0.01, -1.0, np.nan]]])
    return FeatureFrame(TIMES, ("A",), NAMES, HOUR, values)


@pytest.fixture
def forecast(features: FeatureFrame) -> TailForecast:
    """VaR is 3 and 6 % over 1 h and 4 h in the first row, and twice that in the second."""
    var = np.array([1.0, 2.0])[:, None, None, None] * np.array([0.03, 0.06])[None, :, None, None]
    var = var * np.array([1.0, 1.5])[None, None, None, :] * np.ones((1, 1, 2, 1))
    return TailForecast(features.rows(), (HOUR, 4 * HOUR), (0.99, 0.999), var, 1.2 * var)


@pytest.fixture
def base(features: FeatureFrame, forecast: TailForecast) -> Contributions:
    effects = np.full((2, 2, 2), 0.1)
    log_es = np.log(np.stack([forecast.es[:, 0, 0, 0], forecast.es[:, 1, 1, 0]], axis=1))
    values = features.matrix(NAMES[:2])
    return Contributions(features.rows(), CELLS, NAMES[:2], values, 3 * values, log_es - 0.2, effects)


def refinement(*steps: tuple[Step, ...], strength: float = 0.5) -> Refinement:
    return Refinement(Settings(strength=strength), steps, tuple({} for _ in steps))


def test_terms_are_effects(features: FeatureFrame, forecast: TailForecast, base: Contributions) -> None:
    made = refinement(
        (step("core", ("har_1h",), ("har_1h",), [0.4]), step("fine_flow", NAMES[1:], NAMES[2:], [0.2, 0.1])),
        (),
    )
    found = corrected(base, made, features, forecast)
    assert found.inputs == NAMES
    # Half of 1 / 2 x 0.4 and 1 / 2 x 0.2, and of 4 / 2 x 0.1; without order flow its step is left out.
    assert found.effects[0, 0] == pytest.approx([0.1, 0.1 + 0.5 * (0.2 + 0.1), 0.5 * 0.2])
    assert found.effects[1, 0] == pytest.approx([0.1, 0.1 - 0.5 * 0.2, 0.0])
    assert found.effects[:, 1] == pytest.approx(np.tile([0.1, 0.1, 0.0], (2, 1))), "nothing is added at 4 h"
    assert found.baseline == pytest.approx(base.baseline)
    assert found.scores[0] == pytest.approx([0.03, 3.0, 2.0])
    assert found.values[0] == pytest.approx([0.01, 1.0, 4.0])
    assert np.isnan(found.values[1, 2])
    factor = made.log_factors(features, forecast)
    assert found.log_es - base.log_es == pytest.approx(factor)


def test_a_correction_that_is_held_is_told_as_it_is_held(
    features: FeatureFrame, forecast: TailForecast, base: Contributions
) -> None:
    made = refinement((), (step("core", NAMES[1:], NAMES[1:], [4.0, 2.0]),), strength=1.0)
    found = corrected(base, made, features, forecast)
    assert found.effects[0, 1] == pytest.approx([0.1, 0.1 + MOST / 3, MOST * 2 / 3])  # terms of 2 and 4
    assert found.log_es - base.log_es == pytest.approx(made.log_factors(features, forecast))


def test_the_level_of_the_forecast_is_told_by_name(
    features: FeatureFrame, forecast: TailForecast, base: Contributions
) -> None:
    made = refinement((step("core", (LEVEL,), (LEVEL,), [0.4]),), ())
    found = corrected(base, made, features, forecast)
    at = found.inputs.index(LEVEL)
    # ln of 3 and 6 times the scale.
    assert found.effects[:, 0, at] == pytest.approx(0.5 * 0.4 * np.log([3.0, 6.0]) / 2)
    assert np.isnan(found.values[:, at]).all()
    assert phrase_of(LEVEL).words()
