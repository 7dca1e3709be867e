"""How many trades a second the server takes: ``python benchmarks/ingest.py [--trades 1000000]``.

Starts a server with bars of a minute beneath hours, and a bare BentoML endpoint beside it that reads the same
requests and forgets them. Both get the same simulated trades over one connection, in requests of several
sizes, each with all symbols; the largest also out of order, and every request twice. Printed are rows a
second on the wall, rows a second of the server process's time (one core), and how many times as long as the
bare endpoint it takes; then the same of order books. The server checks, stores and remembers each row, and
makes bars of them: time goes on by ten minutes in each run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.serving import ROOT, free_port, started

#: 2024-01-01T00:00Z, and the stretch of time that the trades of a run are spread over.
START_US, SPAN_US = 1_704_067_200_000_000, 600_000_000
LEVELS = 10


class Tape:
    """Requests of simulated trades, each run later than the one before."""

    def __init__(self, symbols: int, seed: int = 1) -> None:
        self._symbols = [f"SYM{i:03d}" for i in range(symbols)]
        self._random = np.random.default_rng(seed)
        self._run = 0

    def trades(self, count: int, a_request: int, shuffled: bool = False) -> Iterator[bytes]:
        """``count`` trades over ten minutes, ``a_request`` at a time."""
        times, symbol = self._times(count), self._random.integers(0, len(self._symbols), count)
        price = np.round(50_000 * np.exp(self._random.normal(0, 1e-5, count).cumsum()), 1)
        size = np.round(self._random.exponential(0.1, count) + 1e-5, 5)
        buy = self._random.random(count) < 0.5
        id = self._run * 10**9 + np.arange(count)
        order = np.arange(count)
        if shuffled:
            # As much out of order as the server's tolerance allows.
            order = np.argsort(times + self._random.uniform(0, 1_900_000, count))
        for first in range(0, count, a_request):
            rows = order[first : first + a_request]
            blocks = [
                {
                    "symbol": name,
                    "id": id[own].tolist(),
                    "time_us": times[own].tolist(),
                    "price": price[own].tolist(),
                    "size": size[own].tolist(),
                    "side": np.where(buy[own], "buy", "sell").tolist(),
                }
                for at, name in enumerate(self._symbols)
                if len(own := rows[symbol[rows] == at])
            ]
            yield json.dumps({"trades": blocks}, separators=(",", ":")).encode()

    def books(self, count: int, a_request: int) -> Iterator[bytes]:
        """``count`` snapshots of ten levels over ten minutes, one symbol a request."""
        times, step = self._times(count), np.arange(1, LEVELS + 1) * 0.1
        mid = 50_000 + np.round(self._random.normal(0, 1, count).cumsum(), 1)
        for at, first in enumerate(range(0, count, a_request)):
            rows = slice(first, first + a_request)
            shape = (len(times[rows]), LEVELS)
            block = {
                "symbol": self._symbols[at % len(self._symbols)],
                "time_us": times[rows].tolist(),
                "bid_price": np.round(mid[rows, np.newaxis] - step, 1).tolist(),
                "bid_size": np.round(self._random.exponential(1, shape) + 1e-3, 3).tolist(),
                "ask_price": np.round(mid[rows, np.newaxis] + step, 1).tolist(),
                "ask_size": np.round(self._random.exponential(1, shape) + 1e-3, 3).tolist(),
            }
            yield json.dumps({"book": [block]}, separators=(",", ":")).encode()

    def _times(self, count: int) -> np.ndarray:
        """Distinct times over the next ten minutes."""
        self._run += 1
        return START_US + self._run * SPAN_US + np.arange(count) * (SPAN_US // count)


def spent(
    client: httpx.Client, path: str, bodies: Iterable[bytes], process: psutil.Process
) -> tuple[float, float]:
    """Seconds on the wall and of the process, for all requests one after the other."""
    own = [process, *process.children(recursive=True)]

    def busy_s() -> float:
        return sum(sum(p.cpu_times()[:2]) for p in own)

    busy, wall = busy_s(), 0.0
    for body in bodies:
        began = time.perf_counter()
        answer = client.post(path, content=body)
        wall += time.perf_counter() - began
        answer.raise_for_status()
        assert answer.json().get("late", 0) == 0, "nothing of this comes too late"
    return wall, busy_s() - busy


def line(name: str, rows: int, own: tuple[float, float], bare: tuple[float, float] | None = None) -> None:
    ratio = "" if bare is None else f"{own[0] / bare[0]:12.2f} {own[1] / bare[1]:10.2f}"
    print(f"{name:44}{rows / own[0]:12,.0f} {rows / own[1]:14,.0f} {ratio}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trades", type=int, default=1_000_000)
    parser.add_argument("--symbols", type=int, default=10)
    options = parser.parse_args()
    os.environ["FOREMARGIN_SERVING__FINER_INTERVAL_S"] = "60"
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        url, bare = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        serve = ["-m", "serving", "serve", "--port", url.rsplit(":", 1)[1], "--clock", "bars"]
        plain = ["-m", "bentoml", "serve", "benchmarks.bare_service:Bare", "--port", bare.rsplit(":", 1)[1]]
        plain += ["--working-dir", str(ROOT)]
        try:
            for command, at in ((serve, url), (plain, bare)):
                processes.append(started([sys.executable, *command], at, work / f"{len(processes)}.log"))
            measure(options.trades, Tape(options.symbols), url, bare, processes)
            size = sum(f.stat().st_size for f in work.glob("foremargin.db*"))
            print(f"\nstore at the end: {size / 2**20:.1f} MiB")
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=60)
    return 0


def measure(count: int, tape: Tape, url: str, bare: str, processes: list[subprocess.Popen[bytes]]) -> None:
    own, other = (psutil.Process(p.pid) for p in processes)
    headers = {"Content-Type": "application/json"}
    print(f"{'rows a second, one client':44}{'wall':>12} {'of one core':>14} {'x wall':>12} {'x core':>10}")
    with (
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
        httpx.Client(base_url=bare, headers=headers, timeout=60) as plain,
    ):
        list(spent(client, "/v1/trades", tape.trades(10_000, 1000), own))
        for a_request in (100, 1_000, 10_000):
            rows = min(count, a_request * 500)
            bodies = list(tape.trades(rows, a_request))
            read = spent(plain, "/trades", bodies, other)
            line(f"trades, {a_request:,} a request", rows, spent(client, "/v1/trades", bodies, own), read)
        bodies = list(tape.trades(count, a_request, shuffled=True))
        line("... out of order by up to 1.9 s", count, spent(client, "/v1/trades", bodies, own))
        twice = [body for body in tape.trades(count, a_request) for _ in range(2)]
        line("... every request twice", 2 * count, spent(client, "/v1/trades", twice, own))
        line("trades, read and forgotten (bare endpoint)", count, spent(plain, "/trades", bodies, other))
        snapshots = max(1000, count // 20)
        books = list(tape.books(snapshots, 100))
        line("books of 2 x 10 levels, 100 a request", snapshots, spent(client, "/v1/book", books, own))
        told = client.get("/live/status").json()["tapes"]
        print(f"\ntaken: {told['trades']['accepted']:,} trades, {told['book']['accepted']:,} snapshots")
        print(f"memory of the server: {memory_mib(own):,.0f} MiB")


def memory_mib(process: psutil.Process) -> float:
    return sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 2**20


if __name__ == "__main__":
    sys.exit(main())
