"""Context series beside bars, in a folder of their own."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from features.columns import CONTEXT_COLUMNS
from features.commands.replacing import refuse_existing
from features.sources.as_of import with_context
from features.sources.context import Context
from features.sources.parquet import read_folder, write_folder


def add_context(bars: Path, context: Context, out: Path, replace: bool = False) -> list[str]:
    """Write the bars of a folder with the columns of the series given (``features.sources.as_of``) into
    ``out``, and say how much of each is known. Raises ``ValueError`` where no series is given, or a file
    is there and is not to be replaced, and what ``read_folder`` raises."""
    if all(getattr(context, f.name) is None for f in fields(context)):
        raise ValueError("no series given; give --funding, --index, --open-interest or --liquidations")
    market = with_context(read_folder(bars), context)
    refuse_existing((out / f"{symbol}.parquet" for symbol in market.symbols), replace)
    write_folder(market, out)
    told = []
    there = market.close.notna()
    for column in CONTEXT_COLUMNS:
        if column.name not in market:
            continue
        known = market[column.name].notna().sum() / there.sum()
        absent = [str(s) for s in known.index[known == 0]]
        line = (
            f"{column.name}: known in {known[known > 0].mean() if (known > 0).any() else 0:.1%} of the bars"
        )
        told.append(line + (f", and for none of {absent}" if absent else ""))
    return told
