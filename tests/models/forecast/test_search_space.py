"""What a model says may be tuned makes valid settings, wherever it is looked; found by discovery."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from features.pipeline import FeatureFrame
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.discovery import model_class, model_names
from models.forecast.ewma import Settings
from models.search_space import Choice, Range


def ends(found: Range) -> tuple[Any, ...]:
    return found.values if isinstance(found, Choice) else (found.low, found.high)


@pytest.mark.parametrize("name", model_names())
def test_every_corner_makes_settings_and_a_model(name: str) -> None:
    model = model_class(name)
    space = model.search_space()
    if not space:
        return  # nothing is promised
    assert model.settings_class is not None
    defaults = model.settings_class()
    for setting, found in space.items():
        assert getattr(defaults, setting) in found, f"the shipped {setting} lies outside its range"
    for corner in product(*(ends(found) for found in space.values())):
        chosen = dict(zip(space, corner, strict=True))
        settings = model.settings_class(**chosen)
        assert {setting: getattr(settings, setting) for setting in chosen} == chosen
        assert model(settings).settings == settings  # type: ignore[attr-defined]


def test_the_models_that_learn_have_something_to_tune() -> None:
    assert {name for name in model_names() if model_class(name).search_space()} >= {"gbm", "har", "quantile"}


def test_a_model_without_settings_takes_none() -> None:
    class Plain(TailModel):
        name = "plain"

        @classmethod
        def feature_names(cls) -> tuple[str, ...] | None:
            return None

        def fit(self, dataset: Dataset) -> Any:
            raise NotImplementedError

        def predict(self, features: FeatureFrame) -> TailForecast:
            raise NotImplementedError

        def save(self, folder: Any) -> None:
            raise NotImplementedError

        @classmethod
        def load(cls, folder: Any) -> Any:
            raise NotImplementedError

    assert Plain().search_space() == {}
    with pytest.raises(TypeError, match="plain takes no settings"):
        Plain(Settings())
