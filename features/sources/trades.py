"""Trades of one symbol from files, piece by piece: Binance's archives and parquet.

Files may be larger than memory: a piece is a few hundred thousand trades. A file is parquet where its name
ends with ``.parquet``, else an archive as Binance publishes them (``features.sources.trades_binance``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from features.sources.trades_binance import read_archive
from features.sources.trades_parquet import read_parquet
from features.sources.trades_pieces import Piece, TradeChoice
from features.trades.arrays import Trades
from features.trades.checks import TradeChecks, TradeError


def read_trades(path: Path, choice: TradeChoice) -> Iterator[Piece]:
    """The trades of one file, as it has them. Raises ``TradeError`` where it is not such a file."""
    if not path.exists():
        raise TradeError(str(path), "the file does not exist", "give files that are there")
    return read_parquet(path, choice) if path.suffix == ".parquet" else read_archive(path, choice)


def checked_trades(
    paths: Sequence[Path], choice: TradeChoice, checks: TradeChecks
) -> Iterator[tuple[Piece, Trades]]:
    """The pieces of all files in the order given, each with its trades as ``checks`` let them through. Raises
    ``TradeError``, and ``ValueError`` without files."""
    if not paths:
        raise ValueError("no trade files given; give at least one")
    for path in paths:
        found = False
        for piece in read_trades(Path(path), choice):
            found = found or len(piece.trades) > 0
            yield piece, checks.check(piece.trades, piece.where, piece.rows)
        if not found:
            raise TradeError(str(path), "the file has no trades", "leave it out")
