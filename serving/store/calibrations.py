"""Where the calibration of each artifact stands, in the store: one row each, replaced as it goes on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update

from serving.store.tables import Calibration


def read_calibration(connection: Connection, artifact: str) -> dict[str, Any] | None:
    """The newest state of an artifact, by its fingerprint; None before the first."""
    return connection.scalar(select(Calibration.state).where(Calibration.artifact == artifact))


def save_calibration(connection: Connection, artifact: str, state: dict[str, Any]) -> None:
    """Put a state in the place of the one before."""
    row = {"artifact": artifact, "state": state}
    done = connection.execute(update(Calibration).where(Calibration.artifact == artifact).values(**row))
    if done.rowcount == 0:
        connection.execute(insert(Calibration).values(**row))
