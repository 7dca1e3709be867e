"""Connections to the store: SQLite in WAL mode, or PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from serving.audit.chain import CanonicalText

#: How long a writer waits for another before it gives up.
BUSY_S = 5


class StoreError(RuntimeError):
    """The store cannot be used; the message says which, why and what to do."""


def store_engine(url: str) -> Engine:
    """An engine whose transactions are real on both databases. Raises ``StoreError`` where the folder is
    missing; ``reading_engine`` is for those who only read."""
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


def reading_engine(url: str) -> Engine:
    """An engine that cannot write, and never makes a writer wait. Raises ``StoreError`` where there is no
    store.

    Text that is not UTF-8 (somebody wrote into the file) is read as surrogates, not refused.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, execution_options={"postgresql_readonly": True})
    file = Path(parsed.database or "")
    if not file.is_file():
        raise StoreError(f"there is no store at {file}; name the database that the server uses")
    address = f"file:{quote(str(file.absolute()))}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=BUSY_S, check_same_thread=False)

    engine = create_engine(url, creator=connect)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _json_text(value: Any) -> str:
    # What is hashed is stored as the text that was hashed.
    if isinstance(value, CanonicalText):
        return value
    # A NaN in a record would be read back by SQLite and refused by PostgreSQL; refuse it in both.
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
