"""How fast trades become bars, and in how much memory: ``python benchmarks/trades.py [TRADES]`` (default
2,000,000; files ten times as long are read as well).

A random tape of a liquid symbol, about 35 trades a second, is written to a temporary folder as parquet and as
a zipped archive in Binance's form. Each line is a process of its own: seconds of processor time, trades a
second, and the peak of its memory above what it held before. The pandas line does the bar contract alone (no
trade columns, no checks) the usual way: the whole file in memory and ``groupby``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.commands.trades import make_trade_bars
from features.durations import parse_duration
from features.sources.trades import read_trades
from features.sources.trades_pieces import TradeChoice
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from features.trades.checks import TradeChecks

CHOICE = TradeChoice(symbol="AUSDT")
CHUNK = 1_000_000
START_MS = int(pd.Timestamp("2025-01-01", tz="UTC").value) // 10**6


def random_tape(trades: int, seed: int = 1) -> Iterator[Trades]:
    """Pieces of a tape: runs of sides, ticks of 0.1, sizes over five decades, times to the millisecond."""
    rng, done, price, time_ms = np.random.default_rng(seed), 0, 900_000, START_MS
    while done < trades:
        n = min(CHUNK, trades - done)
        buy = np.cumsum(rng.random(n) < 0.4) % 2 == 0
        ticks = price + np.cumsum(np.where(buy, 1, -1) * (rng.random(n) < 0.4))
        times = time_ms + np.cumsum(rng.exponential(28.0, n).astype("int64"))
        size = np.maximum(np.round(rng.lognormal(-4, 2, n), 5), 1e-5)
        yield Trades(times * 10**6, ticks / 10, size, buy, np.arange(done, done + n))
        price, time_ms, done = int(ticks[-1]), int(times[-1]), done + n


def write_parquet(path: Path, trades: int) -> None:
    writer = None
    for t in random_tape(trades):
        stamps = pa.array(t.time_ns).cast(pa.timestamp("ns", "UTC"))
        side = pa.array(np.where(t.buy, "buy", "sell"))
        table = pa.table(
            {"timestamp": stamps, "price": t.price, "size": t.size, "side": side, "trade_id": t.id}
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def write_archive(path: Path, trades: int) -> None:
    plain = pacsv.WriteOptions(include_header=False, quoting_style="none")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("AUSDT-trades.csv", "w", force_zip64=True) as stream,
    ):
        for t in random_tape(trades):
            columns = [t.id, t.price, t.size, t.price * t.size, t.time_ns // 10**6, ~t.buy]
            pacsv.write_csv(pa.table(columns, list("abcdef")), stream, plain)


def decode(path: Path) -> int:
    return sum(len(piece.trades) for piece in read_trades(path, CHOICE))


def decode_and_check(path: Path) -> int:
    checks = TradeChecks()
    return sum(
        len(checks.check(piece.trades, piece.where, piece.rows)) for piece in read_trades(path, CHOICE)
    )


def command(path: Path) -> None:
    make_trade_bars([path], parse_duration("1m"), path.parent / f"bars-{time.time_ns()}", CHOICE)


def by_pandas(path: Path) -> pd.DataFrame:
    """The bar contract, as one would write it in a notebook."""
    t = pd.read_parquet(path, columns=["timestamp", "price", "size", "side"])
    bought = t["side"] == "buy"
    quote = t["price"] * t["size"]
    t = t.assign(quote=quote, buy=t["size"].where(bought, 0.0), buy_quote=quote.where(bought, 0.0))
    by_bar = t.groupby(t["timestamp"].dt.floor("1min"))
    bars = by_bar["price"].agg(["first", "max", "min", "last", "count"])
    return bars.join(by_bar[["size", "quote", "buy", "buy_quote"]].sum())


WORK = {
    "reading": decode,
    "reading and checking": decode_and_check,
    "the command, bars of 1m": command,
    "pandas, the bar contract alone": by_pandas,
}


def build_only(trades: int, interval: str) -> tuple[float, int]:
    """Processor seconds that ``TradeBars`` takes, and bars, from arrays in memory."""
    bars, seconds, made = TradeBars(parse_duration(interval)), 0.0, 0
    for t in random_tape(trades):
        began = time.process_time()
        made += len(bars.add(t)["volume"])
        seconds += time.process_time() - began
    return seconds, made


def peak_mb() -> float:
    """Peak of this process alone (Linux; ``ru_maxrss`` would start with that of the process that began
    it)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def measure(name: str, where: str, trades: int) -> None:
    """One line, printed by the process that does the work."""
    if name == "building":
        seconds, bars = build_only(trades, where)
        more = f"   {bars / seconds:10,.0f} bars/s"
        shown = f"building alone, bars of {where}"
    else:
        before, began = peak_mb(), time.process_time()
        WORK[name](Path(where))
        seconds = time.process_time() - began
        more = f"   peak memory +{peak_mb() - before:6.0f} MB"
        shown = f"{name} ({Path(where).suffix[1:]})"
    print(f"  {shown:42s} {seconds:7.2f} s  {trades / seconds:12,.0f} trades/s{more}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trades", type=int, nargs="?", default=2_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "WHERE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(*given.measure, given.trades)
        return 0

    def line(name: str, where: str, trades: int) -> None:
        run = [sys.executable, __file__, str(trades), "--measure", name, where]
        subprocess.run(run, check=True)

    for interval in ("1s", "1m", "1h"):
        line("building", interval, given.trades)
    for times in (1, 10):
        trades = times * given.trades
        with tempfile.TemporaryDirectory() as folder:
            tape, archive = Path(folder) / "AUSDT.parquet", Path(folder) / "AUSDT-trades-2025.zip"
            write_parquet(tape, trades)
            write_archive(archive, trades)
            print(
                f"{trades:,} trades: parquet {tape.stat().st_size / 1e6:,.0f} MB, zip "
                f"{archive.stat().st_size / 1e6:,.0f} MB",
                flush=True,
            )
            for name in WORK:
                for path in (tape, archive)[: 1 if name.startswith("pandas") else 2]:
                    line(name, str(path), trades)
    return 0


if __name__ == "__main__":
    sys.exit(main())
