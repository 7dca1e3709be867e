"""What it costs to say why: ``python benchmarks/explain.py [--contracts 10,300]``.

The default model is fitted on ten simulated symbols (few steps of the network: how long it learned does not
change what it costs to ask it). Then, for one close of so many contracts, the median of 20 on one core, in
milliseconds, and as a multiple of the forecast that is explained:

- ``forecast``: ``TailModel.predict``,
- ``explained``: ``serving.explain.explanations``, all four values of each contract, in words,
- ``effects``: of that the contributions alone, by model.

And the largest rest that integrated gradients left and shared out, and the bytes that reasons add to an
answer. ``explain = "always"`` in ``[serving]`` costs what ``explained`` says at each close.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.pipeline import FeatureFrame, Pipeline
from features.sources.simulated import simulate
from models.explanations import Cell
from models.forecast._ensemble_network import Settings as NetworkSettings
from models.forecast._path_gradients import path_gradients
from models.forecast.base import SIDES, Dataset
from models.forecast.ensemble import Settings as EnsembleSettings
from models.forecast.network import NetworkModel
from models.forecast.refined import RefinedModel, Settings
from models.settings import MarginSettings
from serving.calibration import as_served
from serving.explain import explanations
from serving.outlook import Needs, Seen

HOURS = (1, 4, 24)
CALLS = 20


def median_ms(call: Callable[[], object]) -> float:
    call()
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return 1e3 * float(np.median(took))


def of_contracts(features: FeatureFrame, contracts: int) -> FeatureFrame:
    """The newest rows as if they were so many contracts at one close."""
    times = math.ceil(contracts / len(features.symbols))
    rows = features.values[-times:].reshape(1, -1, len(features.names))
    names = tuple(f"C{i}" for i in range(contracts))
    return FeatureFrame(features.times[-1:], names, features.names, features.interval, rows[:, :contracts])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--contracts", default="10,300", help="comma-separated")
    contracts = [int(n) for n in parser.parse_args().contracts.split(",")]
    torch.set_num_threads(1)

    market = simulate(symbols=10, days=365)
    features = Pipeline.fit(market, RefinedModel.feature_names(), RefinedModel.optional_features()).batch(
        market
    )
    horizons = tuple(pd.Timedelta(hours=h) for h in HOURS)
    quick = NetworkSettings(steps=100, device="cpu")
    model = RefinedModel(Settings(ensemble=EnsembleSettings(network=quick)))
    model.fit(Dataset(features, market.close, horizons, (0.975, 0.99)))
    needs = Needs.of(MarginSettings())
    cells = tuple(Cell(pd.Timedelta(hours=h), side, 0.99) for side in SIDES for h in (4, 1))

    print(f"{'contracts':>9} {'forecast':>9} {'explained':>10} {'ratio':>6}  effects by model")
    for number in contracts:
        frame = of_contracts(features, number)
        served = as_served(model.predict(frame), None)
        seen = {s: Seen(needs.candidate("champion", f, 0.0, 3600.0, "1"), f) for s, f in served.items()}
        forecast_ms = median_ms(lambda frame=frame: model.predict(frame))  # type: ignore[misc]
        explained_ms = median_ms(
            lambda frame=frame, seen=seen: explanations(model, frame, seen, needs)  # type: ignore[misc]
        )
        parts = ", ".join(
            f"{m.name} {median_ms(lambda m=m, frame=frame: m.contributions(frame, cells)):.1f}"  # type: ignore[misc]
            for m in (*model.ensemble.members, model.ensemble, model)
        )
        ratio = explained_ms / forecast_ms
        print(f"{number:>9} {forecast_ms:>9.1f} {explained_ms:>10.1f} {ratio:>6.1f}  {parts}")
    told = explanations(model, frame, seen, needs)
    size = np.mean([len(json.dumps(entry)) for entries in told.values() for entry in entries])
    network = model.ensemble.members[0]
    assert isinstance(network, NetworkModel)
    x = network._standardised(features.matrix(network.inputs)[-3000:])
    places = [(h, s, 1) for h in range(2) for s in range(2)]
    rest = path_gradients(network.weights, x, network._shape(), places)[2]
    print(f"reasons add {size:.0f} bytes to an answer; largest rest of {len(x):,} rows {rest:.1e} in ln ES")
    return 0


if __name__ == "__main__":
    sys.exit(main())
