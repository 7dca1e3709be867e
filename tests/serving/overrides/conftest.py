"""Desks on a store with two contracts, and benches whose loop obeys them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from models.margin.limits import Limits
from serving.overrides.desk import OverrideDesk
from serving.overrides.requests import SetRequest
from serving.store.decisions import list_contracts

#: A time at which most tests give their orders.
NOW_S = 1_700_000_000.0


@pytest.fixture(scope="session")
def order() -> Callable[..., SetRequest]:
    """Makes a request: a freeze of everything for an hour, but for what is given."""

    def make(**given: Any) -> SetRequest:
        lasts = {} if "expires_at" in given else {"lasts_s": 3600.0}
        return SetRequest.model_validate({"kind": "freeze", "reason": "a test", **lasts, **given})

    return make


@pytest.fixture(scope="session")
def make_desk() -> Callable[..., OverrideDesk]:
    """Makes a desk on a store that lists A and B."""

    def make(engine: Engine, *, two_person: bool = False, longest_s: float = 86400.0) -> OverrideDesk:
        with engine.begin() as connection:
            list_contracts(connection, ["A", "B"])
        desk = OverrideDesk(engine, Limits(), two_person=two_person, longest_s=longest_s)
        desk.refresh()
        return desk

    return make


@pytest.fixture
def now_s() -> float:
    return NOW_S
