"""Bring a store to the tables of this version, in one transaction: all of it or nothing."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from serving.store.engine import StoreError

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
#: Two servers that start together migrate one after the other.
_LOCK = 0x466F7265


def migrate(engine: Engine) -> None:
    """Run the migrations that are missing. Raises ``StoreError`` where the store is newer than this version,
    or cannot be reached."""
    config = Config()
    # "%" would be read as an interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"the database {engine.url.render_as_string()} cannot be migrated ({error}); "
            f"it was written by a newer version: run that one, or name another database"
        ) from error
    except OperationalError as error:
        raise StoreError(
            f"the database {engine.url.render_as_string()} cannot be opened ({error.orig}); "
            f"check that it runs, that the URL is right and that nobody else holds it"
        ) from error
