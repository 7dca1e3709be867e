"""``python -m serving replay``: feed recorded bars into a running server, close by close, in order of time.

All bars of a close go in one request, so that they are decided on together; finer bars, where there are some,
go before the close that they lie beneath. The server takes a bar once, so a replay that was stopped is simply
started again. It waits for the server to decide where more than a few closes are pending.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from features.bars import VALUE_COLUMNS, Market
from features.durations import format_duration
from features.resample import fine_bars
from features.sources.parquet import read_folder

#: Fewer than the server's ``catch_up_bars``, so that no close is passed over.
_MOST_PENDING = 8
_RETRIES = 60
#: Finer bars a request; more might not fit into the body limit.
_MOST_BARS = 5000


class ReplayError(RuntimeError):
    """The server refused bars, or does not answer; the message is the server's."""


def parse_speed(text: str) -> float | None:
    """``3600x`` plays an hour a second; ``max`` (None) as fast as the server decides. Raises
    ``ValueError``."""
    if text == "max":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"speed {text!r} is not understood; write max, or a factor such as 3600x")
    return float(match[1])


def closes(
    market: Market, start: pd.Timestamp, end: pd.Timestamp | None
) -> Iterator[tuple[pd.Timestamp, list[dict[str, Any]]]]:
    """The bars that close after ``start`` up to ``end``, as requests take them, one list a close."""
    names = [c for c in VALUE_COLUMNS if c in market]
    values = np.stack([market[c].to_numpy() for c in names])
    for t, close in enumerate(market.times):
        if close <= start or (end is not None and close > end):
            continue
        opened = (close - market.interval).isoformat()
        bars = [
            {"symbol": s, "open_time": opened} | {c: float(values[i, t, k]) for i, c in enumerate(names)}
            for k, s in enumerate(market.symbols)
            if np.isfinite(values[:, t, k]).all()
        ]
        if bars:
            yield close, bars


class Feed:
    """Sends bars to a server and waits while it is busy or restarting."""

    def __init__(self, client: httpx.Client, pause: Callable[[float], None] = time.sleep) -> None:
        self._client, self._pause = client, pause
        self.accepted = self.repeats = 0

    def send(self, bars: list[dict[str, Any]], interval: str | None = None) -> None:
        """Post one close, or the finer bars beneath one with their ``interval``. Raises ``ReplayError`` where
        the server refuses it, or stays away for a minute."""
        answer = self._ask("POST", "/v1/bars", {"bars": bars, "interval": interval})
        self.accepted += answer["accepted"]
        self.repeats += answer["repeats"]
        if answer["pending_closes"] > _MOST_PENDING:
            self.wait_until_decided(_MOST_PENDING)

    def wait_until_decided(self, most: int = 0) -> None:
        """Wait until at most ``most`` closes are pending."""
        while self._ask("GET", "/live/status", None)["pending_closes"] > most:
            self._pause(0.02)

    def multipliers(self) -> list[dict[str, Any]]:
        """What the server answers now."""
        found: list[dict[str, Any]] = self._ask("GET", "/live/multipliers", None)["multipliers"]
        return found

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        last = ""
        for _ in range(_RETRIES):
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                last = str(error) or type(error).__name__
                self._pause(1.0)
                continue
            if answer.status_code == 503:
                last = answer.text
                self._pause(1.0)
                continue
            if answer.is_error:
                raise ReplayError(refusal_words(answer))
            content: dict[str, Any] = answer.json()
            return content
        raise ReplayError(
            f"{self._client.base_url} does not answer ({last}); start it with `python -m serving serve`"
        )


def refusal_words(answer: httpx.Response) -> str:
    """A server's refusal in one line."""
    try:
        error = answer.json()["error"]
        return f"the server refused ({answer.status_code}): {error['message']}; {error['remedy']}"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code}: {answer.text[:200]}"


def beneath(
    fine: Market, interval: pd.Timedelta, start: pd.Timestamp, end: pd.Timestamp | None
) -> Iterator[tuple[pd.Timestamp, list[dict[str, Any]]]]:
    """The finer bars that close after ``start``, as requests take them, each list with the close of
    ``interval`` that it lies beneath."""
    for close, steps in groupby(closes(fine, start, end), lambda step: step[0].ceil(interval)):
        bars = [bar for _, found in steps for bar in found]
        for first in range(0, len(bars), _MOST_BARS):
            yield close, bars[first : first + _MOST_BARS]


def replay(
    folder: Path,
    url: str,
    start: pd.Timestamp,
    end: pd.Timestamp | None,
    speed: float | None,
    token: str | None,
    console: Console,
    finer: Path | None = None,
) -> None:
    """Feed the folder's bars, with those of the folder ``finer`` beneath them, and print the multipliers at
    the end. Raises ``ReplayError``, ``BarError`` or ``ValueError``."""
    market = read_folder(folder)
    fine = None if finer is None else read_folder(finer)
    if fine is not None:
        fine_bars(market.interval, fine.interval)  # the lengths fit
    steps = list(closes(market, start, end))
    if not steps:
        raise ValueError(
            f"{folder} has no bar that closes after {start} (up to {end}); give an earlier --from"
        )
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    columns = (
        TextColumn("replay {task.fields[close]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with (
        httpx.Client(base_url=url, headers=headers, timeout=30) as client,
        Progress(*columns, console=console) as bar,
    ):
        feed = Feed(client)
        task = bar.add_task("replay", total=len(steps), close="")
        waiting = iter(()) if fine is None else beneath(fine, market.interval, start, end)
        lower = next(waiting, None)
        began = time.monotonic()
        for close, bars in steps:
            if speed is not None:
                due_s = (close - steps[0][0]).total_seconds() / speed
                time.sleep(max(0.0, began + due_s - time.monotonic()))
            while fine is not None and lower is not None and lower[0] <= close:
                feed.send(lower[1], format_duration(fine.interval))
                lower = next(waiting, None)
            feed.send(bars)
            bar.update(task, advance=1, close=f"{close:%Y-%m-%d %H:%M}")
        feed.wait_until_decided()
        answers = feed.multipliers()
    console.print(
        f"{len(steps):,} closes, {feed.accepted:,} bars new, {feed.repeats:,} already there", highlight=False
    )
    console.print(multiplier_table(answers))
    for line in why(answers):
        console.print(line, highlight=False, soft_wrap=True)


def why(answers: list[dict[str, Any]]) -> list[str]:
    """The reasons of the value with the largest multiplier, a line each; nothing where none is explained."""
    told = [value for value in answers if value.get("explanation") is not None]
    if not told:
        return []
    most = max(told, key=lambda value: float(value["multiplier"]))
    reasons = most["explanation"]
    return [
        f"Why {most['symbol']} {most['side']} {most['kind']} requires {most['required_rate']:.2%}, where "
        f"{reasons['against']} would require {reasons['average_rate']:.2%}:",
        *(f"  {reason['words']}" for reason in reasons["reasons"]),
    ]


def multiplier_table(answers: list[dict[str, Any]]) -> Table:
    """Required and served rate, multiplier, regime and rung of every value."""
    table = Table(title="Margin in force (rates are fractions of notional)")
    numbers = {"required", "served", "multiplier"}
    for column in ("symbol", "side", "kind", "required", "served", "multiplier", "regime", "rung"):
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for value in answers:
        regime = value["regime"]
        table.add_row(
            value["symbol"],
            value["side"],
            value["kind"],
            f"{value['required_rate']:.2%}",
            f"{value['served_rate']:.2%}",
            f"{value['multiplier']:.2f}",
            max(regime, key=regime.__getitem__) if regime else "-",
            value["rung"],
        )
    return table
