"""What data was this? One SHA-256 over everything that a market holds, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from features.bars import Market


def fingerprint(market: Market) -> str:
    """Hex SHA-256 over interval, symbols in their order, close times, every column's name and values, and the
    same of each finer grid.

    Values enter as little-endian float64 bits, with one NaN for all missing values and no negative zero, so
    equal markets have equal fingerprints whatever platform or file they came from.
    """
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    add(str(market.interval // pd.Timedelta(1, unit="ns")).encode())
    for symbol in market.symbols:
        add(symbol.encode())
    add(market.times.as_unit("ns").asi8.astype("<i8").tobytes())
    for name in sorted(market.columns):
        values = market[name].to_numpy(dtype="float64")
        canonical = np.where(np.isnan(values), np.nan, values + 0.0)
        add(name.encode())
        add(np.ascontiguousarray(canonical, dtype="<f8").tobytes())
    for interval in sorted(market.finer):
        add(fingerprint(market.finer[interval]).encode())
    return digest.hexdigest()
