"""A store with two days of decisions of two contracts, and a hand that writes into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from serving.audit.verify import Findings, verify
from serving.store.engine import reading_engine, store_engine
from serving.store.migrate import migrate
from serving.store.trail import read_decisions, read_trail

TABLES = ("decisions", "day_roots")


class Hand:
    """Somebody who may write into the database, triggers or not."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.url = engine.url.render_as_string(hide_password=False)
        with engine.begin() as connection:
            self._disarm(connection)

    def write(self, statement: str, **values: Any) -> int:
        """How many rows a statement changed."""
        with self.engine.begin() as connection:
            # Without values as it is: a colon in it names none.
            done = connection.execute(text(statement), values) if values else None
            return (done or connection.exec_driver_sql(statement)).rowcount

    def read(self, query: str, **values: Any) -> list[Any]:
        with self.engine.begin() as connection:
            return list(connection.execute(text(query), values).all())

    def verify(self, **options: Any) -> Findings:
        """What an audit finds now."""
        engine = reading_engine(self.url)
        try:
            trail = read_trail(engine)
            return verify(trail, read_decisions(engine, trail.last_id, options.get("symbol")), **options)
        finally:
            engine.dispose()

    def _disarm(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            for table in TABLES:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            return
        for table in TABLES:
            for change in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER {table}_no_{change}"))


@pytest.fixture(scope="session")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of ``hand`` lies once it was made."""
    return tmp_path_factory.mktemp("audit") / "decided.db"


@pytest.fixture
def fill(
    bench: Callable[..., Any], champion: Callable[..., Any], tail: list[Any]
) -> Callable[[Engine], None]:
    """Lets the loop decide 24 closes, on two days, with a champion."""

    def decide(engine: Engine) -> None:
        made = bench(engine, champion())
        for bars in tail:
            made.feed(bars)

    return decide


@pytest.fixture
def hand(decided: Path, fill: Callable[[Engine], None], tmp_path: Path) -> Iterator[Hand]:
    """A hand on a SQLite store of its own: about 50 decisions of ALPHA and BETA, the first day closed."""
    if not decided.exists():
        draft = decided.with_name("draft.db")
        engine = store_engine(f"sqlite:///{draft}")
        migrate(engine)
        fill(engine)
        engine.dispose()
        draft.rename(decided)
    own = tmp_path / "audited.db"
    shutil.copyfile(decided, own)
    engine = store_engine(f"sqlite:///{own}")
    yield Hand(engine)
    engine.dispose()


@pytest.fixture
def hand_on(engine: Engine, fill: Callable[[Engine], None]) -> Hand:
    """A hand on a store of each kind."""
    fill(engine)
    return Hand(engine)
