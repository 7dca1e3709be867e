"""The whole of Foremargin in one command: bars, a trained model, a promotion, a server, and its answers.

``make demo`` simulates a market; ``make demo DATA=DIR`` uses a folder of bar files. Everything it makes lies
in ``demo/`` (bars, MLflow store, the server's database), and the registry in ``mlruns/`` is not touched. Each
step is a command that can be typed by hand, and is printed as such.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pandas as pd
from rich.console import Console

from features.durations import format_duration
from features.sources.parquet import read_folder

ROOT = Path(__file__).resolve().parent
SYMBOLS, DAYS, SEED = 7, 420, 7
#: The simulated crash begins two days before the end, in front of the server's eyes.
CRASH_AT = (DAYS - 2) / DAYS
#: The last days, which the server sees bar by bar; the model's training ends long before them.
REPLAY = pd.Timedelta(days=3)
READY_WITHIN_S = 90

console = Console()


def run(step: str, *arguments: str, environment: dict[str, str]) -> int:
    """Run one command of the project and show it; its exit code."""
    console.rule(f"[bold]{step}")
    console.print(f"[dim]$ python {shlex.join(arguments)}", soft_wrap=True)
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=False).returncode


def must(step: str, *arguments: str, environment: dict[str, str]) -> None:
    code = run(step, *arguments, environment=environment)
    if code != 0:
        sys.exit(f"{step}: the command above ended with exit code {code}; the demo stops here")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    with console.status("waiting for the server"):
        while time.monotonic() < deadline:
            if server.poll() is not None:
                sys.exit(f"the server ended with exit code {server.returncode} before it was ready")
            try:
                if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.3)
    sys.exit(f"the server was not ready within {READY_WITHIN_S} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a folder of bar files; without it a market is simulated")
    parser.add_argument("--leave", action="store_true", help="end after the table, not at Ctrl-C")
    options = parser.parse_args()

    work = ROOT / "demo"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    tracking = f"sqlite:///{work / 'mlflow.db'}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking, "PYTHONUNBUFFERED": "1"}

    bars = options.data.expanduser().resolve() if options.data else work / "bars"
    if options.data is None:
        must(
            "1  Simulate a market",
            *("-m", "features", "simulate", str(bars), "--symbols", str(SYMBOLS), "--days", str(DAYS)),
            *("--interval", "1h", "--seed", str(SEED), "--crash-at", f"{CRASH_AT:.5f}"),
            environment=environment,
        )
    else:
        must("1  Look at the bars", "-m", "features", "describe", str(bars), environment=environment)
    market = read_folder(bars)
    replay_from = market.times[-1] - REPLAY

    must(
        "2  Train the model and register it as challenger",
        *("-m", "training", "train", "--bars", str(bars), "--horizons", "1h,4h,24h"),
        *("--levels", "0.975,0.99"),
        environment=environment,
    )
    must(
        "3  Promote it if it earned it",
        *("-m", "training", "promote", "--bars", str(bars)),
        environment=environment,
    )

    console.rule("[bold]4  Serve")
    url = f"http://127.0.0.1:{free_port()}"
    database = f"sqlite:///{work / 'serving.db'}"
    serve = [
        *("-m", "serving", "serve", "--port", url.rsplit(":", 1)[1], "--clock", "bars"),
        *(
            "--database",
            f"sqlite:///{work / 'serving.db'}",
            "--history",
            str(bars),
            "--until",
            replay_from.isoformat(),
        ),
    ]
    console.print(f"[dim]$ python {shlex.join(serve)}", soft_wrap=True)
    with (work / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *serve],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_ready(url, server)
        must(
            f"5  Replay the last {format_duration(REPLAY)}, bar by bar",
            *(
                "-m",
                "serving",
                "replay",
                str(bars),
                "--from",
                replay_from.isoformat(),
                "--speed",
                "max",
                "--url",
                url,
            ),
            environment=environment,
        )
        picture = work / "multipliers.png"
        must(
            "6  Draw what was decided",
            *("-m", "serving", "draw", market.symbols[0], str(picture), "--database", database),
            environment=environment,
        )
        console.print(f"The server is up. Open   {url}/live/multipliers", soft_wrap=True)
        console.print(f"The runs and the model:  mlflow ui --backend-store-uri {tracking}", soft_wrap=True)
        console.print("(`mlflow` lies in .venv/bin.) Ctrl-C stops the server.")
        if not options.leave:
            server.wait()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
    return 0


if __name__ == "__main__":
    sys.exit(main())
