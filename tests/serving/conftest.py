"""Stores on both databases, a small market, fakes for clock, model and registry, and a real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, create_engine, text

from features.bars import Market
from features.pipeline import FeatureFrame, Pipeline
from features.sources.parquet import write_folder
from features.sources.simulated import simulate
from models.artifact import Artifact, ArtifactInfo
from models.forecast.base import Dataset, TailForecast, TailModel
from models.forecast.calibration import CalibrationSettings, CalibrationState
from models.settings import MarginSettings
from serving.champion import Champion
from serving.clock import Clock, clock_named
from serving.desk import TapeDesk
from serving.finer import FinerGrid
from serving.history import load_history
from serving.ingest import Ingest
from serving.loop import DecisionLoop
from serving.overrides.desk import OverrideDesk
from serving.positions import PositionDesk
from serving.replay import closes
from serving.requests import BarsRequest
from serving.settings import ServingSettings
from serving.store.engine import store_engine
from serving.store.migrate import migrate
from serving.tape_ingest import TapeIngest

ROOT = Path(__file__).resolve().parent.parent.parent
POSTGRES = os.environ.get("FOREMARGIN_TEST_POSTGRES", "postgresql+psycopg://root@127.0.0.1:5432/test")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind, by URL; PostgreSQL in a schema of its own, dropped at the end."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    admin = create_engine(POSTGRES)
    schema = f"foremargin_{uuid.uuid4().hex}"
    try:
        with admin.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except Exception as error:
        admin.dispose()
        pytest.skip(f"no PostgreSQL at {POSTGRES} ({type(error).__name__}); set FOREMARGIN_TEST_POSTGRES")
    yield f"{POSTGRES}?options=-csearch_path%3D{schema}"
    with admin.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """A migrated store of each kind."""
    made = store_engine(database)
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """A migrated SQLite store, for what does not depend on the kind."""
    made = store_engine(f"sqlite:///{tmp_path / 'store.db'}")
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def market() -> Market:
    """Two contracts, 50 days of hours."""
    return simulate(symbols=2, days=50, seed=5)


@pytest.fixture(scope="session")
def folder(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The market as a folder of bars."""
    made = tmp_path_factory.mktemp("bars")
    write_folder(market, made)
    return made


class ScaledVolatility(TailModel):
    """VaR and ES as fixed multiples of the EWMA volatility; ``misbehave`` is called first, and a number that
    it gives is written over the VaR."""

    name: ClassVar[str] = "scaled"
    refit_every = pd.Timedelta(days=1)
    levels = (0.99, 0.999)
    horizons = (pd.Timedelta(hours=1), pd.Timedelta(hours=4))

    def __init__(self, misbehave: Callable[[], object] = lambda: None) -> None:
        self.misbehave = misbehave

    @classmethod
    def feature_names(cls) -> tuple[str, ...] | None:
        return ("ewma_volatility",)

    def fit(self, dataset: Dataset) -> Self:  # noqa: ARG002
        return self

    def predict(self, features: FeatureFrame) -> TailForecast:
        strange = self.misbehave()
        sigma = features["ewma_volatility"].ravel()
        rows = features.rows()
        known = np.isfinite(sigma)
        base = sigma[known, None, None, None] * np.array([1.0, 2.0])[None, :, None, None]
        var = base * np.array([3.0, 4.0])[None, None, None, :] * np.ones((1, 1, 2, 1))
        forecast = TailForecast(rows[known], self.horizons, self.levels, var, var * 1.2)
        if isinstance(strange, float):
            # The class refuses what is no tail; a broken model may write into its arrays afterwards.
            forecast.var[...] = strange
        return forecast

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:  # noqa: ARG003
        return cls()


def artifact_of(
    market: Market, model: TailModel, calibration: CalibrationState | None = None, fingerprint: str = "print"
) -> Artifact:
    pipeline = Pipeline.fit(market, model.feature_names())
    info = ArtifactInfo(
        model=model.name,
        features=pipeline.names,
        look_back=pipeline.look_back,
        interval=pipeline.interval,
        horizons=model.horizons,
        levels=model.levels,
        symbols=market.symbols,
        train_start=market.times[0],
        train_end=market.times[-1],
        data_fingerprint="data",
        scores={},
        files={},
        code_version="test",
        made_at=market.times[-1],
        fingerprint=fingerprint,
    )
    return Artifact(model, pipeline, info, calibration)


@dataclass
class Champions:
    """What the loop asks for the model in use: none at first."""

    current: Champion | None = None
    asked: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def champion(market: Market) -> Callable[..., Champion]:
    """Makes a champion: ``champion("1")`` behaves, ``champion("1", f)`` calls ``f`` before each forecast."""

    def make(version: str = "1", misbehave: Callable[[], object] = lambda: None) -> Champion:
        return Champion(version, artifact_of(market, ScaledVolatility(misbehave)))

    return make


#: So quick that a few hours move the factors.
QUICK = CalibrationSettings(var_step=0.2, es_step=0.2, theta_max=0.6)


@pytest.fixture
def calibrated_champion(market: Market) -> Callable[..., Champion]:
    """Makes a champion that is calibrated: its artifact's state ends ``hours`` before the history that a
    bench begins with (0: with it), every factor being 1 there."""

    def make(version: str = "1", hours: int = 0, misbehave: Callable[[], object] = lambda: None) -> Champion:
        model = ScaledVolatility(misbehave)
        state = CalibrationState.neutral(QUICK, market.interval, model.horizons, model.levels)
        begun = replace(state, until=market.times[-25 - hours])
        return Champion(version, artifact_of(market, model, begun, f"print of {version}"))

    return make


def with_wide_band(settings: MarginSettings) -> MarginSettings:
    """Takes the fake for a model: the rules engine, which knows the market's jumps, asks for twice as
    much."""
    return settings.model_copy(update={"limits": replace(settings.limits, band_low=0.01, band_high=100)})


@dataclass
class SetClock:
    """A clock that a test sets."""

    time_s: float
    runs_alone: bool = True

    def now_s(self, newest_close_s: float | None) -> float:  # noqa: ARG002
        return self.time_s


@dataclass
class Bench:
    """A loop on a store without its thread, and the bars that it is fed."""

    loop: DecisionLoop
    ingest: Ingest
    champions: Champions
    engine: Engine
    tapes: TapeIngest
    positions: PositionDesk
    overrides: OverrideDesk

    def feed(self, bars: list[dict[str, Any]], decide: bool = True) -> dict[str, Any]:
        taken = self.ingest.take(BarsRequest.model_validate({"bars": bars}, strict=False))
        if decide:
            self.loop.follow_champion()
            self.loop.run_pending()
        return taken

    def answer(self, symbol: str) -> list[dict[str, Any]]:
        return self.loop.board.values[symbol]

    def rungs(self) -> set[str]:
        return {v["rung"] for values in self.loop.board.values.values() for v in values}


@pytest.fixture
def bench(market: Market) -> Callable[..., Bench]:
    """Makes a bench on a store: loaded and begun, with all but the last 24 closes as its history."""

    def make(
        engine: Engine,
        champion: Champion | None = None,
        clock: Clock | None = None,
        history: bool = True,
        follow: bool = True,
        margin: MarginSettings | None = None,
        **settings: Any,
    ) -> Bench:
        chosen = ServingSettings(
            **{"database": engine.url.render_as_string(hide_password=False), "clock": "bars", **settings}
        )
        chosen_margin = margin or with_wide_band(MarginSettings())
        used = clock or clock_named(chosen.clock)
        if history:
            load_history(engine, chosen.source, market, market.times[-25])
        champions = Champions(champion)
        champions.asked.set()
        desk = finer = None
        if chosen.finer_interval_s is not None:
            desk = TapeDesk(engine, chosen)
            desk.load()
            finer = FinerGrid(engine, chosen, desk)
        positions = PositionDesk(engine, chosen.positions_valid_s)
        positions.load()
        overrides = OverrideDesk(
            engine,
            chosen_margin.limits,
            two_person=chosen.two_person,
            longest_s=chosen.override_longest_s,
        )
        overrides.refresh()
        loop = DecisionLoop(
            engine, chosen, chosen_margin, used, champions, finer, overrides, positions=positions
        )
        loop.publish_stored()
        loop.load()
        loop.begin()
        if follow:
            loop.follow_champion()
        ingest = Ingest(engine, chosen, used, loop.offer, offer_beside=loop.offer_beside)
        if finer is not None:
            ingest = replace(ingest, offer_finer=finer.offer)
        tapes = TapeIngest(desk, chosen, used, loop.wake)
        return Bench(loop, ingest, champions, engine, tapes, positions, overrides)

    return make


@pytest.fixture(scope="session")
def tail(market: Market) -> list[list[dict[str, Any]]]:
    """The bars of the last 24 closes, one list a close, as requests take them."""
    return [bars for _, bars in closes(market, market.times[-25], None)]


@dataclass
class Server:
    """A server of its own process group."""

    url: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended:\n{self.log.read_text()}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"the server was not ready in time:\n{self.log.read_text()}")

    def end(self, with_signal: int = signal.SIGTERM) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, with_signal)
            self.process.wait(timeout=30)
            self.process = None
            self._await_silence()

    def _await_silence(self) -> None:
        """A worker outlives a killed parent for a moment, and would answer for the next server."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/livez", timeout=5)
            except httpx.ConnectError:
                return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{self.url} still answers after its server was ended")


@pytest.fixture(scope="session")
def make_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Makes servers on free ports; all are ended with the session."""
    made: list[Server] = []

    def make(*arguments: str, **variables: str) -> Server:
        work = tmp_path_factory.mktemp("server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "serving",
            "serve",
            "--port",
            str(port),
            "--clock",
            "bars",
            *arguments,
        ]
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{work / 'none.db'}",
            "PYTHONPATH": str(ROOT),
            **variables,
        }
        server = Server(f"http://127.0.0.1:{port}", command, environment, work / "server.log")
        made.append(server)
        return server

    yield make
    for server in made:
        server.end()


@pytest.fixture(scope="session")
def server(make_server: Callable[..., Server], folder: Path, market: Market) -> Server:
    """A server with history up to a day before the market's end, and no model."""
    made = make_server("--history", str(folder), "--until", market.times[-25].isoformat())
    made.start()
    return made


@pytest.fixture
def set_clock() -> Callable[[float], SetClock]:
    """Makes a clock that shows what it is told."""
    return SetClock


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits for something that another thread or process does; fails after a generous while."""

    def wait(holds: Callable[[], bool], within_s: float = 30) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    return wait
