"""How fast the server answers: ``python benchmarks/serving.py [--symbols 7] [--requests 2000]``.

Starts the server on a simulated market (no model: the rules rung) and a bare BentoML endpoint beside it, asks
both in turn over one connection, and prints p50 and p99 in milliseconds with the ratio to the bare endpoint;
then the time from the POST of a close's bars until its decisions are published, and how the reads fare while
bars come in.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.sources.parquet import write_folder
from features.sources.simulated import simulate
from serving.replay import closes

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def started(command: list[str], url: str, log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{log.parent / 'none.db'}",
        "PYTHONPATH": str(ROOT),
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=log.parent, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return process
        except httpx.TransportError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the server did not start:\n{log.read_text()}")


def timed_ms(ask: Callable[[], httpx.Response]) -> float:
    began = time.perf_counter()
    ask().raise_for_status()
    return (time.perf_counter() - began) * 1e3


def line(name: str, times: list[float], beside: list[float] | None = None) -> None:
    p50, p99 = np.quantile(times, [0.5, 0.99])
    ratio = ""
    if beside is not None:
        b50, b99 = np.quantile(beside, [0.5, 0.99])
        ratio = f"{p50 / b50:8.2f} {p99 / b99:8.2f}"
    print(f"{name:48}{len(times):7} {p50:9.2f} {p99:9.2f} {ratio}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--symbols", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--closes", type=int, default=100)
    options = parser.parse_args()
    market = simulate(options.symbols, 90, seed=3)
    start = market.times[-1 - options.closes]
    processes = []
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        write_folder(market, work / "bars")
        url, bare = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        serve = ["-m", "serving", "serve", "--port", url.rsplit(":", 1)[1], "--clock", "bars"]
        serve += ["--history", str(work / "bars"), "--until", start.isoformat()]
        plain = ["-m", "bentoml", "serve", "benchmarks.bare_service:Bare", "--port", bare.rsplit(":", 1)[1]]
        try:
            processes.append(started([sys.executable, *serve], url, work / "server.log"))
            processes.append(
                started([sys.executable, *plain, "--working-dir", str(ROOT)], bare, work / "bare.log")
            )
            with httpx.Client(base_url=url) as client, httpx.Client(base_url=bare) as other:
                measure(client, other, options.requests)
                size = len(client.get("/live/multipliers").content)
                print(f"(all multipliers: {options.symbols} contracts, {size / 1024:.1f} KiB)\n")
                from_bar_to_decision(client, list(closes(market, start, None)))
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=30)
    return 0


def measure(client: httpx.Client, other: httpx.Client, requests: int) -> None:
    """Each endpoint and the bare one in turn, so that both meet the same machine."""
    print(f"{'milliseconds, one client':48}{'n':>7} {'p50':>9} {'p99':>9} {'x p50':>8} {'x p99':>8}")
    symbol = client.get("/live/multipliers").json()["multipliers"][0]["symbol"]
    size = len(client.get("/live/multipliers").content)
    asks: dict[str, Callable[[], httpx.Response]] = {
        "GET /live/multipliers": lambda: client.get("/live/multipliers"),
        "GET /live/multipliers/SYMBOL": lambda: client.get(f"/live/multipliers/{symbol}"),
        "POST /v1/multipliers, all": lambda: client.post("/v1/multipliers", json={}),
        "POST /v1/multipliers, one value": lambda: client.post(
            "/v1/multipliers", json={"symbols": [symbol], "side": "long", "kind": "initial"}
        ),
    }

    def bare_ask() -> httpx.Response:
        return other.post("/bare", json={"size": size})

    for ask in (*asks.values(), bare_ask):
        for _ in range(50):
            ask()
    for name, ask in asks.items():
        own, beside = [], []
        for _ in range(requests):
            own.append(timed_ms(ask))
            beside.append(timed_ms(bare_ask))
        line(name, own, beside)
    line("bare BentoML endpoint, a body as large", beside)


def from_bar_to_decision(client: httpx.Client, steps: list[tuple[object, list[dict[str, object]]]]) -> None:
    """POST one close, then ask until its version is published; reads go on beside it."""
    taken, published, reads = [], [], []
    done = threading.Event()

    def read() -> None:
        with httpx.Client(base_url=client.base_url) as reader:
            while not done.is_set():
                reads.append(timed_ms(lambda: reader.get("/live/multipliers")))
                time.sleep(0.005)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _, bars in steps:
            before = client.get("/live/multipliers").json()["version"]
            began = time.perf_counter()
            client.post("/v1/bars", json={"bars": bars}).raise_for_status()
            taken.append((time.perf_counter() - began) * 1e3)
            while client.get("/live/multipliers").json()["version"] == before:
                time.sleep(0.001)
            published.append((time.perf_counter() - began) * 1e3)
    finally:
        done.set()
        thread.join()
    line("POST /v1/bars, one close, until it is stored", taken)
    line("... until its decisions are published", published)
    line("GET /live/multipliers meanwhile", reads)


if __name__ == "__main__":
    sys.exit(main())
