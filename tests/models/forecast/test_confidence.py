"""Confidence and drift by hand, what is learned of a training window, and what a broken feed does to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.pipeline import FeatureFrame, Pipeline
from models.forecast.base import BREAKER_LEVEL, Dataset, ForecastError, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings, track
from models.forecast.confidence import Confidence, read_inputs
from models.forecast.network import NetworkModel

HOUR = pd.Timedelta(hours=1)
MakeDataset = Callable[..., Dataset]
NewModel = Callable[[str], TailModel]


def frame_of(rows: list[list[float]], names: tuple[str, ...] = ("a", "b")) -> FeatureFrame:
    """One symbol, a row an hour."""
    times = pd.date_range("2024-01-01", periods=len(rows), freq=HOUR, tz="UTC", unit="ns")
    return FeatureFrame(times, ("A",), names, HOUR, np.array(rows, dtype="float64")[:, np.newaxis])


def forecast_of(frame: FeatureFrame, spread: list[float] | None = None) -> TailForecast:
    rows, shape = frame.rows(), (len(frame.rows()), 1, 2, 1)
    known = None if spread is None else np.array(spread)
    return TailForecast(rows, (HOUR,), (BREAKER_LEVEL,), np.full(shape, 0.01), np.full(shape, 0.02), known)


class Reader(TailModel):
    """Forecasts every row; its spread is the first input where ``spreads``."""

    name = "reader"

    def __init__(self, spreads: bool = False, reads: tuple[str, ...] | None = None) -> None:
        self.spreads, self.read = spreads, reads
        self.asked: list[int] = []

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return None

    def reads(self) -> tuple[str, ...] | None:
        return self.read

    def fit(self, dataset: Dataset) -> Reader:
        raise NotImplementedError(dataset)

    def predict(self, features: FeatureFrame) -> TailForecast:
        self.asked.append(len(features.times))
        found = forecast_of(features)
        return replace(found, spread=features[features.names[0]].ravel()) if self.spreads else found

    def save(self, folder: Path) -> None:
        raise NotImplementedError(folder)

    @classmethod
    def load(cls, folder: Path) -> Reader:
        raise NotImplementedError(folder)


TWENTY = tuple("abcdefghijklmnopqrst")
#: Twenty inputs between 0 and 2.
USUAL = Confidence(TWENTY, np.zeros(20), np.full(20, 2.0), 0.1)
ORDINARY = [1.0] * 20


@pytest.mark.parametrize(
    ("moved", "drift"),
    [
        ({}, 0.0),
        ({"a": 2.0, "b": 0.0}, 0.0),  # at the ends
        ({"a": 2.2}, 0.0),  # a tenth of a width in a twentieth of the inputs counts as none
        ({"a": 3.65}, 0.25),  # 0.825 of a width: 0.04125, a quarter of the way from 0.005 to 0.15
        ({"a": -1.65}, 0.25),
        ({"a": 4.0}, 0.045 / 0.145),
        ({"a": 1e9}, 0.045 / 0.145),  # one input alone is no more than one
        ({"a": np.inf}, 0.045 / 0.145),
        ({"a": 4.0, "b": -1.1}, 0.5),
        ({"a": 9.0, "b": 9.0, "c": 9.0}, 1.0),
    ],
)
def test_drift_is_the_share_of_inputs_far_outside(moved: dict[str, float], drift: float) -> None:
    frame = frame_of([[moved.get(name, 1.0) for name in TWENTY]], TWENTY)
    found = USUAL.judge(frame, forecast_of(frame))
    assert found.drift == pytest.approx([drift])
    assert found.confidence == pytest.approx([1 - drift])


@pytest.mark.parametrize(
    ("spread", "confidence"), [(0.0, 1.0), (0.1, 1.0), (0.125, 0.5), (0.15, 0.0), (9.0, 0.0)]
)
def test_confidence_falls_where_the_members_disagree(spread: float, confidence: float) -> None:
    frame = frame_of([ORDINARY], TWENTY)
    found = USUAL.judge(frame, forecast_of(frame, [spread]))
    assert found.confidence == pytest.approx([confidence])
    assert found.drift == pytest.approx([0.0])


def test_drift_takes_confidence_too() -> None:
    frame = frame_of([[9.0, 3.1, *ORDINARY[2:]]], TWENTY)
    assert USUAL.judge(frame, forecast_of(frame, [0.125])).confidence == pytest.approx([0.5 * 0.5])


def test_without_members_only_the_range_counts() -> None:
    frame = frame_of([ORDINARY], TWENTY)
    for usual, forecast in (
        (USUAL, forecast_of(frame)),
        (replace(USUAL, spread=None), forecast_of(frame, [9.0])),
    ):
        assert usual.judge(frame, forecast).confidence == pytest.approx([1.0])


def test_what_is_missing_is_neither_inside_nor_outside() -> None:
    names = (*TWENTY, *(letter.upper() for letter in TWENTY))
    usual = Confidence(names, np.zeros(40), np.full(40, 2.0), None)
    far = [9.0, 9.0]
    frame = frame_of([far + [1.0] * 38, far + [np.nan] * 20 + [1.0] * 18, [np.nan] * 40], names)
    found = usual.judge(frame, forecast_of(frame)).drift
    assert found == pytest.approx([0.045 / 0.145, 0.095 / 0.145, 0.0])


def test_a_model_of_few_inputs_is_not_far_out_where_one_is() -> None:
    one = Confidence(("a",), np.zeros(1), np.full(1, 2.0), None)
    frame = frame_of([[4.0], [9.0]], ("a",))
    assert one.judge(frame, forecast_of(frame)).drift == pytest.approx([0.045 / 0.145] * 2)


def test_of_an_input_that_never_moved_any_other_value_is_far_out_and_a_rounding_is_not() -> None:
    usual = Confidence(TWENTY, np.full(20, 0.3), np.full(20, 0.3), None)
    frame = frame_of([[0.3 + 1e-9] * 20, [0.3] * 19 + [0.31]], TWENTY)
    assert usual.judge(frame, forecast_of(frame)).drift == pytest.approx([0.0, 0.045 / 0.145])


def test_each_row_of_the_forecast_is_judged_by_its_own_inputs() -> None:
    frame = frame_of([ORDINARY, [9.0] * 20, ORDINARY], TWENTY)
    whole = forecast_of(frame)
    some = TailForecast(whole.rows[[1, 2]], whole.horizons, whole.levels, whole.var[:2], whole.es[:2])
    assert USUAL.judge(frame, some).drift.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"2024-01-01 01:00.* is forecast and not among the features"):
        USUAL.judge(frame.between(None, frame.times[0]), some)
    nothing = USUAL.judge(
        frame, TailForecast(whole.rows[:0], (HOUR,), whole.levels, whole.var[:0], whole.es[:0])
    )
    assert (len(nothing.confidence), len(nothing.drift)) == (0, 0)


def test_ranges_are_quantiles_of_the_training_rows() -> None:
    values = np.random.default_rng(1).permutation(10_001).astype("float64")
    frame = frame_of([[v, np.nan, -v if v > 4 else np.nan] for v in values], ("a", "b", "c"))
    found = Confidence.learned(Reader(), frame)
    assert found.inputs == ("a", "c"), "of an input that was never known nothing is learned"
    assert found.low.tolist() == [5.0, -9995.0]
    assert found.high.tolist() == [9995.0, -10.0]
    assert found.spread is None


def test_the_usual_spread_is_learned_of_so_many_rows_and_no_more() -> None:
    values = np.random.default_rng(1).permutation(50_001).astype("float64")
    frame = frame_of([[v, 0.0] for v in values])
    model = Reader(spreads=True)
    found = Confidence.learned(model, frame)
    assert model.asked == [10_000]
    assert found.spread == pytest.approx(49_500, rel=0.01)
    assert Confidence.learned(model, frame).spread == found.spread
    still = frame_of([[0.0, v] for v in values[:100]])
    assert Confidence.learned(model, still).spread is None, "members that always agree tell nothing"


def test_only_what_the_model_reads_is_judged() -> None:
    assert read_inputs(Reader(), ("a", "b")) == ("a", "b")
    assert read_inputs(Reader(reads=("b", "z")), ("a", "b")) == ("b",)
    frame = frame_of([[float(v), 1.0] for v in range(100)])
    assert Confidence.learned(Reader(reads=("b",)), frame).inputs == ("b",)


def test_what_was_learned_is_read_back_to_the_bit() -> None:
    usual = Confidence(("a", "b"), np.array([0.1, -1 / 3]), np.array([0.7, 1e-300]), 0.1 + 0.2)
    again = Confidence.from_json(usual.to_json())
    assert (again.inputs, again.spread) == (usual.inputs, usual.spread)
    np.testing.assert_array_equal(again.low, usual.low)
    np.testing.assert_array_equal(again.high, usual.high)
    assert Confidence.from_json(replace(usual, spread=None).to_json()).spread is None
    empty = Confidence.from_json({"ranges": {}, "spread": None})
    frame = frame_of([[1.0, 2.0]])
    found = empty.judge(frame, forecast_of(frame))
    assert (found.confidence.tolist(), found.drift.tolist()) == ([1.0], [0.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ranges": {"a": [1.0, 0.0]}, "spread": None}, "low end lies above"),
        ({"ranges": {"a": [0.0, float("nan")]}, "spread": None}, "not finite"),
        ({"ranges": {"a": [0.0]}, "spread": None}, "reshape"),
        ({"ranges": {}, "spread": 0.0}, "must be above 0"),
        ({"ranges": {}, "spread": float("nan")}, "must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Confidence.from_json(content)


@pytest.mark.parametrize("spread", [[0.1, 0.2], [-0.1], [np.nan], [np.inf]])
def test_a_spread_that_cannot_be_is_refused(spread: list[float]) -> None:
    with pytest.raises(ForecastError, match="the spread of the members"):
        forecast_of(frame_of([[1.0, 1.0]]), spread)


def test_a_spread_is_joined_where_all_have_one_and_survives_calibration() -> None:
    frame = frame_of([[1.0, 1.0]] * 3)
    with_it, without = forecast_of(frame, [0.1, 0.2, 0.3]), forecast_of(frame)
    joined = TailForecast.joined([with_it, with_it]).spread
    assert joined is not None
    assert joined.tolist() == [0.1, 0.2, 0.3] * 2
    assert TailForecast.joined([with_it, without]).spread is None
    closes = pd.DataFrame({"A": [1.0, 1.1, 1.0]}, index=frame.times)
    calibrated, _ = track(with_it, closes, HOUR, CalibrationSettings())
    assert calibrated.spread is with_it.spread


@pytest.fixture(scope="module")
def data(market: Market, make_dataset: MakeDataset) -> Dataset:
    return make_dataset(market, NetworkModel.feature_names())


@pytest.fixture(scope="module")
def network(data: Dataset, new_model: NewModel) -> NetworkModel:
    found = new_model("network").fit(data)
    assert isinstance(found, NetworkModel)
    return found


def alone(model: NetworkModel, member: int) -> NetworkModel:
    """One member of the network, as a network."""
    found = NetworkModel(model.settings.model_copy(update={"members": 1}))
    for name in ("horizons", "levels", "inputs", "mean", "deviation", "start", "usual"):
        setattr(found, name, getattr(model, name))
    members = model.settings.members
    found.weights = {
        key: w[member : member + 1] if len(w) == members else w for key, w in model.weights.items()
    }
    return found


def test_the_spread_is_that_of_the_networks_members(network: NetworkModel, data: Dataset) -> None:
    found = network.predict(data.features)
    parts = [alone(network, m).predict(data.features) for m in range(network.settings.members)]
    assert [part.spread for part in parts] == [None, None]
    logs = np.log([part.es for part in parts])
    assert found.spread is not None
    # Of two, the standard deviation is half the distance.
    assert found.spread == pytest.approx(
        np.abs(logs[0] - logs[1]).mean(axis=(1, 2, 3)) / 2, rel=1e-3, abs=1e-5
    )
    assert found.spread.min() > 0


def test_most_rows_are_as_usual_and_a_broken_feed_is_not(
    network: NetworkModel, data: Dataset, market: Market
) -> None:
    usual = Confidence.learned(network, data.features)
    ordinary = usual.judge(data.features, network.predict(data.features))
    assert (ordinary.drift == 0).mean() > 0.9
    assert (ordinary.confidence == 1).mean() > 0.9
    assert (ordinary.drift >= 0.25).mean() < 0.001, "an extreme hour is no drift"
    # The decimal point of one contract's last bar is one place off.
    symbol, columns = market.symbols[2], {name: frame.copy() for name, frame in market.columns.items()}
    for name in ("open", "high", "low", "close"):
        columns[name][symbol] = np.append(
            columns[name][symbol].iloc[:-1], 10 * columns[name][symbol].iloc[-1]
        )
    pipeline = Pipeline.fit(market, network.feature_names())
    frame = pipeline.online(replace(market, columns=columns))
    said = network.predict(frame)
    drift = dict(zip(said.rows.get_level_values("symbol"), usual.judge(frame, said).drift, strict=True))
    assert drift[symbol] >= 0.5, "red for rule 19"
    assert max(drift[other] for other in market.symbols[:2]) < 0.25
