"""The champion in use: what the registry names, and what stays when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from models.artifact import Artifact, ArtifactError
from models.forecast.confidence import FAR_SHARE, NEAR_SHARE, Confidence
from serving.champion import Champion, ChampionWatch


@dataclass
class Version:
    number: int
    fingerprint: str = "print"


class FakeRegistry:
    """A registry whose champion a test sets; ``error`` is raised instead."""

    def __init__(self) -> None:
        self.version: Version | None = None
        self.error: Exception | None = None
        self.fetched: list[int] = []

    def champion(self) -> Version | None:
        if self.error is not None:
            raise self.error
        return self.version

    def fetch(self, version: Version, cache: Path) -> Path:
        self.fetched.append(version.number)
        return cache / str(version.number)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def watch(
    registry: FakeRegistry, champion: Callable[..., Champion], tmp_path: Path
) -> tuple[ChampionWatch, list[str]]:
    """A watch on the fake registry, and the log of its changes. Folder 13 holds a broken artifact."""
    artifact = champion("1").artifact
    changes: list[str] = []

    def load(folder: Path) -> Artifact:
        if folder.name == "13":
            raise ArtifactError("artifact 13 was altered")
        return artifact

    made = ChampionWatch(
        lambda: registry,
        tmp_path,
        pd.Timedelta(hours=1),
        poll_s=0.01,
        on_change=lambda: changes.append("changed"),
        load=load,
    )
    return made, changes


def test_without_a_champion_nothing_is_in_use(watch: tuple[ChampionWatch, list[str]]) -> None:
    made, changes = watch
    assert not made.asked.is_set()
    made.poll()
    assert (made.current, made.error, changes) == (None, None, [])
    assert made.asked.is_set()


def test_a_champion_is_loaded_once(watch: tuple[ChampionWatch, list[str]], registry: FakeRegistry) -> None:
    made, changes = watch
    registry.version = Version(4)
    made.poll()
    made.poll()
    assert made.current is not None
    assert made.current.version == "4"
    assert registry.fetched == [4]
    assert changes == ["changed"]
    assert made.status()["model"] == "scaled"


@pytest.mark.parametrize("trouble", ["artifact", "registry"])
def test_trouble_leaves_the_model_in_use(
    watch: tuple[ChampionWatch, list[str]], registry: FakeRegistry, trouble: str
) -> None:
    made, changes = watch
    registry.version = Version(4)
    made.poll()
    if trouble == "artifact":
        registry.version = Version(13)
    else:
        registry.error = ConnectionError("nobody answers")
    made.poll()
    assert made.current is not None
    assert made.current.version == "4"
    assert made.error is not None
    assert ("altered" if trouble == "artifact" else "nobody answers") in made.error
    registry.error, registry.version = None, Version(4)
    made.poll()
    assert made.error is None
    assert changes == ["changed"]


def test_trouble_from_the_start_means_no_model(
    watch: tuple[ChampionWatch, list[str]], registry: FakeRegistry
) -> None:
    made, _ = watch
    registry.version = Version(13)
    made.poll()
    assert made.current is None
    assert made.asked.is_set()
    registry.version = Version(14)
    made.poll()
    assert made.current is not None


def test_a_withdrawn_champion_is_not_used(
    watch: tuple[ChampionWatch, list[str]], registry: FakeRegistry
) -> None:
    made, changes = watch
    registry.version = Version(4)
    made.poll()
    registry.version = None
    made.poll()
    assert made.current is None
    assert changes == ["changed", "changed"]


def test_a_model_of_another_interval_is_refused(
    registry: FakeRegistry, champion: Callable[..., Champion], tmp_path: Path
) -> None:
    registry.version = Version(4)
    artifact = champion("1").artifact
    made = ChampionWatch(
        lambda: registry, tmp_path, pd.Timedelta(minutes=15), poll_s=1, load=lambda _: artifact
    )
    made.poll()
    assert made.current is None
    assert made.error is not None
    assert "interval_s" in made.error


def test_a_registry_that_cannot_even_be_opened_is_told(tmp_path: Path) -> None:
    def no_registry() -> Any:
        raise ImportError("mlflow is broken")

    made = ChampionWatch(no_registry, tmp_path, pd.Timedelta(hours=1), poll_s=1)
    made.poll()
    assert made.error == "ImportError: mlflow is broken"
    assert made.asked.is_set()


def test_the_thread_polls_until_it_is_stopped(
    watch: tuple[ChampionWatch, list[str]], registry: FakeRegistry, eventually: Callable[..., None]
) -> None:
    made, _ = watch
    made.start()
    registry.version = Version(4)
    eventually(lambda: made.current is not None)
    made.stop()


def test_the_leader_of_the_training_leads_whatever_the_order_here(
    champion: Callable[..., Champion], market: Market
) -> None:
    made = champion("1")
    straight, _ = made.look(market)
    turned, _ = made.look(market.select(list(reversed(market.symbols))))
    assert straight.rows.equals(turned.rows)
    assert list(straight.rows.get_level_values("symbol")) == list(market.symbols)
    np.testing.assert_array_equal(straight.var, turned.var)


def test_what_was_said_can_be_said_again(champion: Callable[..., Champion], market: Market) -> None:
    made, closes = champion("1"), market.times[-5:]
    past = made.past(market.last(made.look_back_bars + 4), closes[0])
    said = [made.look(market.until(close).last(made.look_back_bars))[0] for close in closes]
    assert past.rows.equals(said[0].rows.append([s.rows for s in said[1:]]))
    np.testing.assert_array_equal(past.var, np.concatenate([s.var for s in said]))
    np.testing.assert_array_equal(past.es, np.concatenate([s.es for s in said]))


def test_a_contract_without_inputs_is_left_out(champion: Callable[..., Champion], market: Market) -> None:
    holed = replace(market, columns={c: f.copy() for c, f in market.columns.items()})
    for frame in holed.columns.values():
        frame.iloc[-1, 1] = np.nan
    found, _ = champion("1").look(holed)
    assert list(found.rows.get_level_values("symbol")) == [market.symbols[0]]


def test_what_was_said_is_judged_by_what_was_usual(champion: Callable[..., Champion], market: Market) -> None:
    made = champion("1")
    frame = made.frame(market)
    said, _ = made.foresee(frame)
    assert made.trust(frame, said) == {}, "an artifact of an earlier version knows nothing of it"
    volatility = frame["ewma_volatility"][-1]
    # Of the first the volatility is the largest usual one, of the second it lies outside.
    first, second = (volatility[0], volatility[1]) if volatility[0] < volatility[1] else volatility[::-1]
    usual = Confidence(("ewma_volatility",) * 20, np.zeros(20), np.full(20, first), None)
    judged = replace(made, artifact=replace(made.artifact, confidence=usual)).trust(frame, said)
    calm, wild = (market.symbols[i] for i in np.argsort(volatility))
    drift = min(1.0, (second / first - 1 - NEAR_SHARE) / (FAR_SHARE - NEAR_SHARE))
    assert judged[calm] == (1.0, 0.0)
    assert judged[wild] == pytest.approx((1 - drift, drift))


def test_an_artifact_that_cannot_judge_is_told_in_the_log(
    watch: tuple[ChampionWatch, list[str]], registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = watch
    registry.version = Version(4)
    made.poll()
    assert "version 4 was trained before forecasts were judged" in caplog.text
