"""Connections to the store: SQLite in WAL mode, or PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from serving.audit.chain import CanonicalText

#: How long a writer waits for another before it gives up.
BUSY_S = 5


class StoreError(RuntimeError):
    """The store cannot be used; the message says which, why and what to do."""


def store_engine(url: str) -> Engine:
    """An engine whose transactions are real on both databases. Raises ``StoreError`` where the folder is
    missing."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, json_serializer=_json_text, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        folder = Path(parsed.database).parent
        if not folder.is_dir():
            raise StoreError(f"database folder {folder} does not exist; make it, or name another database")
    engine = create_engine(url, json_serializer=_json_text, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver begins no transaction of its own, so that ours cover table changes too.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Two that read first and write later would deadlock; take the write lock at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _json_text(value: Any) -> str:
    # What is hashed is stored as the text that was hashed.
    if isinstance(value, CanonicalText):
        return value
    # A NaN in a record would be read back by SQLite and refused by PostgreSQL; refuse it in both.
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
