"""Open positions in the store: one row a contract, replaced by the next."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from serving.store.tables import OpenPositions

#: Equity over notional and notional, a bin.
Bins = Sequence[Sequence[float]]


def read_positions(connection: Connection) -> dict[str, tuple[float, Bins, Bins]]:
    """By symbol: when they came (s), the bins of longs and those of shorts."""
    columns = (OpenPositions.symbol, OpenPositions.made_at, OpenPositions.long, OpenPositions.short)
    return {symbol: (at_s, long, short) for symbol, at_s, long, short in connection.execute(select(*columns))}


def save_positions(connection: Connection, symbol: str, at_s: float, long: Bins, short: Bins) -> None:
    """Put a contract's positions in the place of the former."""
    row = {"symbol": symbol, "made_at": at_s, "long": long, "short": short}
    done = connection.execute(update(OpenPositions).where(OpenPositions.symbol == symbol).values(**row))
    if done.rowcount == 0:
        connection.execute(insert(OpenPositions).values(**row))
