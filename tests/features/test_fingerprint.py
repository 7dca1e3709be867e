"""Equal markets have equal fingerprints, others have others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from features.bars import Market
from features.fingerprint import fingerprint
from features.sources.parquet import read_folder, write_folder

HOUR = pd.Timedelta(hours=1)


def test_it_is_the_same_on_every_machine(market_of_closes: Callable[..., Market]) -> None:
    """The bytes are written out: lengths and numbers little-endian, columns by name."""
    import hashlib
    import struct

    market = market_of_closes({"A": [1.0, 2.0]})
    parts = [b"3600000000000", b"A", struct.pack("<2q", *market.times.asi8)]
    for name, values in {
        "close": (1.0, 2.0),
        "high": (1.0, 2.0),
        "low": (1.0, 1.0),
        "open": (1.0, 1.0),
        "volume": (1.0, 1.0),
    }.items():
        parts += [name.encode(), struct.pack("<2d", *values)]
    written = b"".join(struct.pack("<Q", len(p)) + p for p in parts)
    assert fingerprint(market) == hashlib.sha256(written).hexdigest()


def test_files_and_units_of_time_do_not_matter(tmp_path: Path, market: Market) -> None:
    write_folder(market, tmp_path)
    assert fingerprint(read_folder(tmp_path)) == fingerprint(market)
    seconds = {c: f.set_axis(market.times.as_unit("s"), axis=0) for c, f in market.columns.items()}
    assert fingerprint(Market(market.interval, seconds)) == fingerprint(market)


def test_missing_values_and_zeros_have_one_form(market_of_closes: Callable[..., Market]) -> None:
    plain = market_of_closes({"A": [1.0, 2.0, 3.0]}, volume=[0.0, 1.0, 1.0])
    volume = plain["volume"].copy()
    volume.iloc[0, 0] = -0.0
    assert fingerprint(Market(HOUR, {**plain.columns, "volume": volume})) == fingerprint(plain)
    odd_nan = np.array([0x7FF8000000000123], dtype="uint64").view("float64")[0]
    one, other = (
        Market(HOUR, {**plain.columns, "volume": plain["volume"].where(plain.close != 2.0, nan)})
        for nan in (np.nan, odd_nan)
    )
    assert fingerprint(one) == fingerprint(other) != fingerprint(plain)


def test_every_change_shows(market: Market) -> None:
    closes = market.close.copy()
    closes.iloc[300, 1] = np.nextafter(closes.iloc[300, 1], np.inf)
    others = [
        Market(market.interval, {**market.columns, "close": closes}),
        market.select(["BETA", "ALPHA", "GAMMA"]),
        market.until(market.times[-2]),
        market.reading(["close", "high", "low", "open", "volume"]),
        Market(2 * market.interval, market.columns),
        Market(market.interval, {c: f.rename(columns={"BETA": "B"}) for c, f in market.columns.items()}),
        Market(
            market.interval, {c: f.set_axis(market.times + HOUR, axis=0) for c, f in market.columns.items()}
        ),
    ]
    assert len({fingerprint(m) for m in [market, *others]}) == len(others) + 1
