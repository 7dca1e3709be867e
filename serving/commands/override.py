"""``python -m serving override``: set, list, confirm and end orders of a running server, over HTTP."""

from __future__ import annotations

import getpass
import math
import sys
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.table import Table

from features.durations import parse_duration
from serving.replay import refusal_words
from serving.times import parse_time

app = typer.Typer(
    help="Set, list, confirm and end overrides of a running server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Url = Annotated[str, typer.Option(help="the server")]
Token = Annotated[str | None, typer.Option(envvar="FOREMARGIN_TOKEN", help="your override token")]
By = Annotated[
    str | None, typer.Option(help="who you are; default: your login. A token says it, where there is one")
]
_URL = "http://127.0.0.1:3000"


class OverrideRefusedError(RuntimeError):
    """The server refused an order, or does not answer; the message is the server's."""


@app.command("set")
def set_command(
    kind: Annotated[str, typer.Argument(help="freeze, floor, cap, rung or kill")],
    reason: Annotated[str, typer.Option(help="why, in words; it goes into every answer")],
    symbol: Annotated[str | None, typer.Option(help="the contract; default: every contract")] = None,
    multiplier: Annotated[float | None, typer.Option(help="of floor and cap: times the base rate")] = None,
    rung: Annotated[str | None, typer.Option(help="of rung: last_good, rules, static or cap")] = None,
    lasts: Annotated[str | None, typer.Option("--for", help="how long: 30m, 6h, 2d")] = None,
    until: Annotated[str | None, typer.Option(help="or until when: 2026-03-10T12:00:00Z")] = None,
    by: By = None,
    url: Url = _URL,
    token: Token = None,
) -> None:
    """Give an order."""
    if multiplier is not None and not math.isfinite(multiplier):
        raise ValueError(f"--multiplier is {multiplier}; give a finite number")
    given = {
        "kind": kind,
        "reason": reason,
        "symbol": symbol,
        "multiplier": multiplier,
        "rung": rung,
        "lasts_s": None if lasts is None else parse_duration(lasts).total_seconds(),
        "expires_at": None if until is None else parse_time(until).isoformat(),
    }
    body = {name: value for name, value in given.items() if value is not None}
    _show([_ask(url, token, "POST", "/v1/overrides", {**body, **_who(by, token)})["override"]])


@app.command("list")
def list_command(
    ended: Annotated[bool, typer.Option(help="also those that are over")] = False,
    url: Url = _URL,
    token: Annotated[str | None, typer.Option(envvar="FOREMARGIN_TOKEN", help="any token")] = None,
) -> None:
    """List the orders that stand, wait for a second person, or ended."""
    found = _ask(url, token, "GET", "/v1/overrides", None)
    groups = ("standing", "pending", "ended") if ended else ("standing", "pending")
    _show([order for group in groups for order in found[group]])


@app.command("confirm")
def confirm_command(
    order: Annotated[str, typer.Argument(help="its id")],
    by: By = None,
    url: Url = _URL,
    token: Token = None,
) -> None:
    """Confirm, as a second person, an order or the end of a kill switch."""
    path = f"/v1/overrides/{quote(order, safe='')}/confirm"
    _show([_ask(url, token, "POST", path, _who(by, token))["override"]])


@app.command("end")
def end_command(
    order: Annotated[str, typer.Argument(help="its id")],
    reason: Annotated[str, typer.Option(help="why, in words")],
    by: By = None,
    url: Url = _URL,
    token: Token = None,
) -> None:
    """End an order, or withdraw one that waits for a second person."""
    body = {"reason": reason, **_who(by, token)}
    path = f"/v1/overrides/{quote(order, safe='')}/end"
    _show([_ask(url, token, "POST", path, body)["override"]])


def _who(by: str | None, token: str | None) -> dict[str, str]:
    if by is None and token is not None:
        return {}
    return {"by": getpass.getuser() if by is None else by}


def _ask(
    url: str, token: str | None, method: str, path: str, body: Mapping[str, Any] | None
) -> dict[str, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        answer = httpx.request(method, url + path, json=body, headers=headers, timeout=30)
    except httpx.TransportError as error:
        raise OverrideRefusedError(
            f"{url} does not answer ({str(error) or type(error).__name__}); start it with "
            f"`python -m serving serve`, or name another --url"
        ) from error
    if answer.is_error:
        raise OverrideRefusedError(refusal_words(answer))
    found: dict[str, Any] = answer.json()
    return found


def _show(orders: list[dict[str, Any]]) -> None:
    if not orders:
        typer.echo("no orders")
        return
    table = Table("id", "state", "contract", "order", "until", "by", "reason")
    for order in orders:
        parts = (order["kind"], order["multiplier"], order["rung"])
        people = [f"{e['event']} by {e['by']}" for e in order["history"]]
        table.add_row(
            order["id"],
            order["state"],
            order["symbol"] or "all",
            " ".join(str(p) for p in parts if p is not None),
            order["expires_at"],
            "\n".join(people),
            order["reason"],
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table, highlight=False)
