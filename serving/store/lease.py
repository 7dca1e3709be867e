"""Who may decide: one process for each store, held as long as it lives.

SQLite: a lock on the file beside the database, which the system releases when the process ends, however it
ends. PostgreSQL: an advisory lock of one connection, which the server releases when that connection is gone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine, text

from serving.store.engine import StoreError

_KEY = 0x466F7266


@contextmanager
def sole_decider(
    engine: Engine, wait_s: float = 10.0, pause: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold the lease of this store. Raises ``StoreError`` where somebody else still does after ``wait_s``,
    which is how long a killed server's worker may take to notice."""
    with _postgres_lease(engine) if engine.dialect.name == "postgresql" else _file_lease(engine) as take:
        tries = max(1, round(wait_s / 0.2))
        for attempt in range(tries):
            if take():
                break
            if attempt + 1 < tries:
                pause(0.2)
        else:
            raise StoreError(
                f"another server decides on {engine.url.render_as_string()}; "
                f"stop it, or name another database"
            )
        yield


@contextmanager
def _file_lease(engine: Engine) -> Iterator[Callable[[], bool]]:
    database = engine.url.database
    if not database or database == ":memory:":
        yield lambda: True
        return
    descriptor = os.open(Path(f"{database}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def take() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        yield take
    finally:
        os.close(descriptor)


@contextmanager
def _postgres_lease(engine: Engine) -> Iterator[Callable[[], bool]]:
    # A connection of its own, outside any transaction: idle sessions keep it, transactions would age.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

        def take() -> bool:
            return bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}))

        try:
            yield take
        finally:
            with suppress(Exception):
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _KEY})
