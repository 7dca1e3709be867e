"""Find models by name. Imports are lazy: asking for ``ewma`` loads neither LightGBM nor PyTorch."""

from __future__ import annotations

import importlib
import pkgutil

import models.forecast
from models.forecast.base import TailModel

_NOT_MODELS = {"base", "discovery", "calibration", "confidence"}


def model_names() -> tuple[str, ...]:
    """Every module of ``models.forecast`` whose name is a model's."""
    return tuple(
        m.name
        for m in pkgutil.iter_modules(models.forecast.__path__)
        if m.name not in _NOT_MODELS and not m.name.startswith("_")
    )


def model_class(name: str) -> type[TailModel]:
    """The model class of that name. Raises ``ValueError`` listing the names there are."""
    if name not in model_names():
        raise ValueError(f"model {name!r} is unknown; choose among {list(model_names())}")
    module = importlib.import_module(f"models.forecast.{name}")
    for item in vars(module).values():
        if isinstance(item, type) and issubclass(item, TailModel) and getattr(item, "name", None) == name:
            return item
    raise ValueError(f"module models.forecast.{name} defines no TailModel named {name!r}")
