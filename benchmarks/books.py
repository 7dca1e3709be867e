"""How fast order-book snapshots become book columns, and in how much memory:
``python benchmarks/books.py [SNAPSHOTS]`` (default 200,000; a file ten times as long is read as well).

Random books of ten levels, four a second, are written to a parquet file in a temporary folder. Each line is a
process of its own: seconds of processor time, snapshots a second, and the peak of its memory above what it
held before. The pandas line does part of the same (spread, depth and imbalance of three groups of levels,
order flow of ten) the usual way: the whole file in memory, ``shift`` and ``groupby``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.books.bars import BookBars
from features.commands.book import make_book_columns
from features.sources.books import read_books

LEVELS = 10
TEN_SECONDS = pd.Timedelta("10s")
ROW_GROUP = 50_000


def write_books(path: Path, rows: int, seed: int = 1) -> None:
    """A wandering mid, ticks of 0.1, sizes in steps of 0.001."""
    rng, first, mid = np.random.default_rng(seed), 0, 500_000
    start = pd.Timestamp("2025-01-01", tz="UTC").value
    writer = None
    while first < rows:
        n = min(ROW_GROUP, rows - first)
        ticks = mid + np.cumsum(rng.integers(-2, 3, n))
        mid = int(ticks[-1])
        times = start + 250_000_000 * np.arange(first, first + n)
        columns = {"timestamp": pa.array(times.astype("datetime64[ns]")).cast(pa.timestamp("ns", "UTC"))}
        for side, sign in (("bid", -1), ("ask", 1)):
            prices = ticks[:, np.newaxis] + sign * np.cumsum(rng.integers(1, 4, (n, LEVELS)), axis=1)
            sizes = rng.integers(1, 4000, (n, LEVELS)) / 1000
            for i in range(LEVELS):
                columns[f"{side}_px_{i}"], columns[f"{side}_sz_{i}"] = prices[:, i] / 10, sizes[:, i]
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        first += n
    assert writer is not None
    writer.close()


def by_pandas(path: Path) -> pd.DataFrame:
    """Part of the columns, as one would write them in a notebook."""
    book = pd.read_parquet(path).set_index("timestamp")
    bid, ask = book["bid_px_0"], book["ask_px_0"]
    out = pd.DataFrame({"spread": (ask - bid) / ((ask + bid) / 2)})
    for n in (1, 5, 10):
        bids = sum(book[f"bid_sz_{i}"] for i in range(n))
        asks = sum(book[f"ask_sz_{i}"] for i in range(n))
        out[f"depth_{n}"] = sum(
            book[f"{side}_px_{i}"] * book[f"{side}_sz_{i}"] for side in ("bid", "ask") for i in range(n)
        )
        out[f"imbalance_{n}"] = (bids - asks) / (bids + asks)
    for i in range(LEVELS):
        p, q, a, r = (book[f"{c}_{i}"] for c in ("bid_px", "bid_sz", "ask_px", "ask_sz"))
        bought = q.where(p >= p.shift(), 0) - q.shift().where(p <= p.shift(), 0)
        sold = r.where(a <= a.shift(), 0) - r.shift().where(a >= a.shift(), 0)
        out[f"ofi_{i + 1}"] = bought - sold
    sums = [f"ofi_{i + 1}" for i in range(LEVELS)]
    how = {c: "sum" if c in sums else "mean" for c in out}
    return out.groupby(out.index.floor("10s")).agg(how)


def decode(path: Path) -> int:
    return sum(len(books) for books in read_books(path))


def build_only(path: Path) -> float:
    """Seconds that ``BookBars`` takes, without reading."""
    bars, seconds = BookBars(TEN_SECONDS), 0.0
    for books in read_books(path):
        began = time.process_time()
        bars.add(books)
        seconds += time.process_time() - began
    return seconds


WORK = {
    "reading and checking": decode,
    "reading, checking, columns, file": lambda path: make_book_columns(
        [path], TEN_SECONDS, path.parent / "out", symbol="A", replace=True
    ),
    "pandas, part of the columns": by_pandas,
}


def peak_mb() -> float:
    """Peak of this process alone (Linux; ``ru_maxrss`` would start with that of the process that began
    it)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def measure(name: str, path: Path) -> None:
    """One line, printed by the process that does the work."""
    if name == "columns alone":
        seconds, before = build_only(path), None
    else:
        before, began = peak_mb(), time.process_time()
        WORK[name](path)
        seconds = time.process_time() - began
    rows = pq.ParquetFile(path).metadata.num_rows
    memory = "" if before is None else f"   peak memory +{peak_mb() - before:6.0f} MB"
    print(f"  {name:32s} {seconds:8.2f} s  {rows / seconds:12,.0f} snapshots/s{memory}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("snapshots", type=int, nargs="?", default=200_000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.measure:
        measure(told.measure, told.file)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for rows in (told.snapshots, 10 * told.snapshots):
            path = Path(folder) / f"{rows}.parquet"
            write_books(path, rows)
            size = path.stat().st_size / 2**20
            print(f"{rows:,} snapshots of {LEVELS} levels, {size:,.0f} MB of parquet")
            for name in (*WORK, "columns alone"):
                command = [sys.executable, __file__, "--measure", name, "--file", str(path)]
                subprocess.run(command, check=True)
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
