"""What holds for every forecast model, found by discovery: a new model is tested by being there."""

from __future__ import annotations

import json
import pickletools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame
from models.forecast.base import BREAKER_LEVEL, Dataset, TailForecast, TailModel
from models.forecast.confidence import Confidence
from models.forecast.discovery import model_class, model_names

HOURS = (1, 4)
#: The feature that a model scales by, where it is not the EWMA.
SCALES = {"garch": "garch_variance"}
MakeDataset = Callable[..., Dataset]
NewModel = Callable[[str], TailModel]


@pytest.fixture(scope="module")
def data_of(market: Market, make_dataset: MakeDataset) -> Callable[[str], Dataset]:
    return cache(lambda name: make_dataset(market, names=model_class(name).feature_names()))


@pytest.fixture(scope="module")
def fitted(data_of: Callable[[str], Dataset], new_model: NewModel) -> Callable[[str], TailModel]:
    return cache(lambda name: new_model(name).fit(data_of(name)))


@pytest.fixture(params=model_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(name: str, data_of: Callable[[str], Dataset]) -> Dataset:
    return data_of(name)


@pytest.fixture
def model(name: str, fitted: Callable[[str], TailModel]) -> TailModel:
    return fitted(name)


def with_closes(data: Dataset, closes: pd.DataFrame) -> Dataset:
    return Dataset(data.features, closes, data.horizons, data.levels)


def cut(data: Dataset, first: int, end: int) -> Dataset:
    times = data.features.times
    features = data.features.between(times[first], times[end - 1])
    return Dataset(features, data.closes.iloc[first:end], data.horizons, data.levels)


def same(a: TailForecast, b: TailForecast) -> bool:
    return a.rows.equals(b.rows) and np.array_equal(a.var, b.var) and np.array_equal(a.es, b.es)


def test_the_class_says_what_it_is(name: str, model: TailModel, data: Dataset) -> None:
    cls = model_class(name)
    assert cls.name == name
    assert cls.refit_every > pd.Timedelta(0)
    assert model.horizons == data.horizons
    assert model.levels == (0.975, 0.99, BREAKER_LEVEL)


def test_it_forecasts_most_rows_and_plausibly(model: TailModel, data: Dataset) -> None:
    forecast = model.predict(data.features)
    assert len(forecast.rows) > 0.85 * data.closes.size
    assert forecast.rows.is_unique
    # Within a factor of three of what a fixed normal scale asks for, on average.
    typical = np.nanstd(data.forward_returns(data.horizons[0])) * 2.326
    assert typical / 3 < forecast.var[:, 0, :, 1].mean() < typical * 3
    assert (forecast.var[:, 1].mean(axis=0) > forecast.var[:, 0].mean(axis=0)).all(), "4 h asks more than 1 h"


def test_rows_without_a_scale_are_left_out(name: str, model: TailModel, data: Dataset) -> None:
    features = data.features.between(data.features.times[-50], None)
    values = features.values.copy()
    values[10, 1, features.names.index(SCALES.get(name, "ewma_volatility"))] = np.nan
    values[20] = np.nan
    holed = FeatureFrame(features.times, features.symbols, features.names, features.interval, values)
    forecast = model.predict(holed)
    whole = model.predict(features)
    missing = [
        (features.times[10], features.symbols[1]),
        *((features.times[20], s) for s in features.symbols),
    ]
    assert not forecast.rows.isin(missing).any()
    assert len(forecast.rows) == len(whole.rows) - len(missing)
    assert forecast.var == pytest.approx(whole.var[~whole.rows.isin(missing)], rel=1e-5)
    values[:] = np.nan
    nothing = FeatureFrame(features.times, features.symbols, features.names, features.interval, values)
    assert len(model.predict(nothing).rows) == 0


def test_saved_and_loaded_it_forecasts_the_same_bits(
    name: str, model: TailModel, data: Dataset, tmp_path: Path
) -> None:
    model.save(tmp_path)
    loaded = model_class(name).load(tmp_path)
    assert (loaded.horizons, loaded.levels) == (model.horizons, model.levels)
    assert same(loaded.predict(data.features), model.predict(data.features))
    assert loaded.gain() == model.gain()
    assert not model.gain() or sum(model.gain().values()) == pytest.approx(1)


def test_its_ordinary_forecasts_are_not_doubted(
    name: str, model: TailModel, data: Dataset, tmp_path: Path
) -> None:
    usual = Confidence.learned(model, data.features)
    assert set(usual.inputs) <= set(data.features.names)
    found = usual.judge(data.features, model.predict(data.features))
    assert len(found.confidence) == len(found.drift) == len(model.predict(data.features).rows)
    for values in found:
        assert ((values >= 0) & (values <= 1)).all()
    assert (found.confidence == 1).mean() > 0.9
    assert (found.drift >= 0.25).mean() < 0.01
    model.save(tmp_path)
    again = Confidence.from_json(json.loads(json.dumps(usual.to_json(), allow_nan=False)))
    loaded = again.judge(data.features, model_class(name).load(tmp_path).predict(data.features))
    for values, expected in zip(loaded, found, strict=True):
        np.testing.assert_array_equal(values, expected)


def is_pickle(content: bytes) -> bool:
    try:
        operations = [op.name for op, _, _ in pickletools.genops(content)]
    except Exception:  # pickletools raises whatever its parser met; not a pickle then
        return False
    return bool(operations) and operations[-1] == "STOP" and len(operations) > 1


def test_the_saved_files_are_plain(name: str, model: TailModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    files = sorted(f for f in tmp_path.rglob("*") if f.is_file())
    assert {f.suffix for f in files} <= {".json", ".txt", ".safetensors"}
    for file in files:
        content = file.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
        assert not is_pickle(content)
    assert json.loads((tmp_path / "forecast.json").read_text())["model"] == name


def test_the_pickle_check_would_notice_one() -> None:
    assert is_pickle(b"\x80\x04K\x01.")
    assert not is_pickle(b"tree\nversion=v4\n")


def test_another_models_folder_is_refused(name: str, model: TailModel, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        model_class(name).load(tmp_path)
    model.save(tmp_path)
    path = tmp_path / "forecast.json"
    path.write_text(path.read_text().replace(f'"model": "{name}"', '"model": "other"'))
    with pytest.raises(ValueError, match=r"'other' model and was loaded as"):
        model_class(name).load(tmp_path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a saved forecast model"):
        model_class(name).load(tmp_path)


def test_a_seed_gives_one_model(name: str, model: TailModel, data: Dataset, new_model: NewModel) -> None:
    assert same(new_model(name).fit(data).predict(data.features), model.predict(data.features))


def test_one_row_online_equals_its_batch_row(model: TailModel, data: Dataset) -> None:
    batch = model.predict(data.features)
    for position in (-1, -200):
        time = data.features.times[position]
        one = model.predict(data.features.between(time, time))
        rows = batch.rows.get_level_values("time") == time
        assert one.rows.equals(batch.rows[rows])
        assert one.var == pytest.approx(batch.var[rows], rel=1e-5)
        assert one.es == pytest.approx(batch.es[rows], rel=1e-5)


def test_an_unseen_symbol_gets_a_forecast(model: TailModel, data: Dataset) -> None:
    last = data.features.between(data.features.times[-24], None)
    renamed = FeatureFrame(last.times, ("X", "Y", "Z"), last.names, last.interval, last.values)
    forecast = model.predict(renamed)
    assert len(forecast.rows) == 72
    assert set(forecast.rows.get_level_values("symbol")) == {"X", "Y", "Z"}


def test_what_came_after_the_training_window_changes_nothing(
    name: str, data: Dataset, new_model: NewModel
) -> None:
    half = len(data.closes) * 2 // 3
    known = cut(data, 0, half)
    later = data.closes.copy()
    later.iloc[half:] *= 7.0
    values = data.features.values.copy()
    values[half:] *= 3.0
    changed = FeatureFrame(
        data.features.times, data.features.symbols, data.features.names, data.features.interval, values
    )
    altered = cut(Dataset(changed, later, data.horizons, data.levels), 0, half)
    a, b = (new_model(name).fit(d).predict(known.features) for d in (known, altered))
    assert same(a, b)


def test_losses_that_have_not_matured_are_not_labels(data: Dataset) -> None:
    for horizon, hours in zip(data.horizons, HOURS, strict=True):
        assert np.isnan(data.forward_returns(horizon)[-hours:]).all()


def test_a_flat_market_is_refused(name: str, data: Dataset, new_model: NewModel) -> None:
    flat = pd.DataFrame(100.0, index=data.closes.index, columns=data.closes.columns)
    with pytest.raises(ValueError, match=r"exactly zero|needs"):
        new_model(name).fit(with_closes(data, flat))


def test_a_short_history_is_refused(name: str, data: Dataset, new_model: NewModel) -> None:
    with pytest.raises(ValueError, match=r"matured rows at horizon 1h where the model\s+needs"):
        new_model(name).fit(cut(data, 1000, 1100))


def test_no_history_is_refused(name: str, data: Dataset, new_model: NewModel) -> None:
    with pytest.raises(ValueError, match="matured rows"):
        new_model(name).fit(cut(data, 0, 30))
