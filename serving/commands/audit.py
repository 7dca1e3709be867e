"""``python -m serving audit``: check, tell and hand out what was decided.

Exit codes: 0 good, 1 something was altered (a line each), 2 the store cannot be read, or a wrong argument.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from features.atomic import written_whole
from models.margin.types import KINDS, SIDES
from serving.audit.chain import is_hash
from serving.audit.days import holding, inclusion_proof, root_of_proof
from serving.audit.explain import Record, explain
from serving.audit.export import export_days, export_decisions
from serving.audit.summary import summary
from serving.audit.verify import Published, verify
from serving.settings import ServingSettings
from serving.store.engine import reading_engine
from serving.store.trail import (
    StoredDecision,
    Trail,
    find_decision,
    find_row,
    in_force,
    read_decisions,
    read_decisions_after,
    read_trail,
    unreadable,
)
from serving.times import parse_day, parse_time

app = typer.Typer(
    help="Check that nothing decided was rewritten, tell why a margin moved, hand the trail out.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL; default: that of [serving]")]


@app.command("verify")
def verify_command(
    database: Database = None,
    symbol: Annotated[str | None, typer.Option(help="check this contract only")] = None,
    since: Annotated[
        str | None, typer.Option(help="a closed day (UTC): take it as it is, check what came after")
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="a root (or hash of a day) that was published; with --day")
    ] = None,
    day: Annotated[str | None, typer.Option(help="the day (UTC) of --root")] = None,
    recompute: Annotated[bool, typer.Option(help="decide every decision again, the slow part")] = True,
) -> None:
    """Check every hash, link and day, and decide every decision again. Exit code 1: something was altered."""
    published = _published(root, day)
    with _reading(database) as engine:
        trail = read_trail(engine)
        if symbol is not None:
            _known(trail, symbol)
        start = None if since is None else holding(trail.days, parse_day(since))
        heads = {} if start is None else {h.symbol: h.seq for h in start.heads}
        after = {s: heads.get(s, 0) for s in trail.contracts if symbol in (None, s)}
        if start is None:
            rows = read_decisions(engine, trail.last_id, symbol)
        else:
            rows = read_decisions_after(engine, trail.last_id, after)
        with _progress("verify", _count(trail, after)) as step:
            found = verify(
                trail,
                rows,
                symbol=symbol,
                since=start,
                published=published,
                recompute=recompute,
                step=step,
            )
    if start is not None:
        typer.echo(f"what came after {start.day}, whose root {start.root} is taken as it is")
    for line in summary(found, published):
        typer.echo(line)
    if found.broken:
        raise typer.Exit(1)


@app.command("explain")
def explain_command(
    decision: Annotated[
        str, typer.Argument(help="SYMBOL/NUMBER, as answers have it; SYMBOL; number of a row")
    ],
    at: Annotated[str | None, typer.Option(help="with SYMBOL: the decision in force at this time")] = None,
    side: Annotated[str | None, typer.Option(help="long or short only")] = None,
    kind: Annotated[str | None, typer.Option(help="initial or maintenance only")] = None,
    database: Database = None,
) -> None:
    """Tell in words why a margin moved, or did not: against the decision before, rule by rule."""
    for name, value, allowed in (("side", side, SIDES), ("kind", kind, KINDS)):
        if value not in (None, *allowed):
            raise ValueError(f"--{name} is {value!r}; choose one of {list(allowed)}")
    with _reading(database) as engine, engine.begin() as connection:
        row = _asked(connection, decision, at)
        before = find_decision(connection, row.columns.symbol, row.columns.seq - 1)
    told_before = None if before is None else (before, _record(before))
    for line in explain(row, _record(row), told_before, side, kind):
        typer.echo(line)


@app.command("root")
def root_command(
    day: Annotated[str | None, typer.Option(help="this day (UTC) only; default: all that are closed")] = None,
    database: Database = None,
) -> None:
    """Print the roots of closed days, to be published: day, root, hash of the day, number of leaves."""
    with _reading(database) as engine:
        trail = read_trail(engine)
    if day is None:
        for closed in trail.days:
            typer.echo(f"{closed.day} {closed.root} {closed.hash} {len(closed.heads)}")
        typer.echo(f"open: {trail.open_day or 'nothing was decided yet'}", err=True)
        return
    holds = holding(trail.days, parse_day(day))
    typer.echo(f"{holds.day} {holds.root} {holds.hash} {len(holds.heads)}")


@app.command("prove")
def prove_command(
    symbol: Annotated[str, typer.Argument(help="the contract")],
    day: Annotated[str, typer.Option(help="the day (UTC) under whose root it is")],
    out: Annotated[Path | None, typer.Option(help="file to write; default: the screen")] = None,
    database: Database = None,
) -> None:
    """Write what shows that a contract's newest decision of a day is under the day's root."""
    with _reading(database) as engine:
        holds = holding(read_trail(engine).days, parse_day(day))
    text = json.dumps(inclusion_proof(holds.day, holds.heads, symbol), indent=1)
    if out is None:
        typer.echo(text)
        return
    with written_whole(out) as draft:
        draft.write_text(text + "\n")
    typer.echo(f"written: {out}")


@app.command("check")
def check_command(
    proof: Annotated[Path, typer.Argument(help="a file that `audit prove` wrote")],
    root: Annotated[str, typer.Option(help="the root that was published")],
) -> None:
    """Check a proof against a published root; needs no store. Exit code 1: it is not under that root."""
    try:
        content = json.loads(proof.read_text())
    except ValueError as error:
        raise ValueError(f"{proof} is no JSON ({error}); give a file that `audit prove` wrote") from error
    _hash(root, "--root")
    leads_to = root_of_proof(content)
    if leads_to != root:
        typer.echo(f"NOT under the root: the proof leads to {leads_to}, published is {root}")
        raise typer.Exit(1)
    head = content["leaf"]
    typer.echo(f"{head['symbol']}/{head['seq']} with hash {head['hash']} is under the root")


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(help="FILE.parquet of the decisions")],
    days: Annotated[Path | None, typer.Option(help="FILE.parquet of the closed days too")] = None,
    symbol: Annotated[str | None, typer.Option(help="this contract only")] = None,
    database: Database = None,
) -> None:
    """Write the trail as parquet: every column that is hashed, the hashes, and the records to the byte."""
    for file in (out, days):
        if file is not None and file.suffix != ".parquet":
            raise ValueError(f"{file} has another suffix; name it FILE.parquet")
    with _reading(database) as engine:
        trail = read_trail(engine)
        if symbol is not None:
            _known(trail, symbol)
        after = {s: 0 for s in trail.contracts if symbol in (None, s)}
        with _progress("export", _count(trail, after)) as step:
            rows = _stepped(read_decisions(engine, trail.last_id, symbol), step)
            written = export_decisions(rows, out)
    typer.echo(f"written: {out}, {written:,} decisions")
    if days is not None:
        typer.echo(f"written: {days}, {export_days(trail.days, days):,} days")


@contextmanager
def _reading(database: str | None) -> Iterator[Engine]:
    engine = reading_engine(database or ServingSettings().database)
    try:
        yield engine
    except SQLAlchemyError as error:
        raise unreadable(engine, error) from error
    finally:
        engine.dispose()


@contextmanager
def _progress(verb: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows how far a reader has come, by rows."""
    columns = (TextColumn(verb), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda: bar.advance(task)
        bar.update(task, completed=total)


def _count(trail: Trail, after: Mapping[str, int]) -> int:
    """How many decisions the contracts say that they have beyond these numbers."""
    return sum(trail.contracts[symbol].seq - number for symbol, number in after.items())


def _stepped(rows: Iterable[StoredDecision], step: Callable[[], None]) -> Iterator[StoredDecision]:
    for row in rows:
        yield row
        step()


def _published(root: str | None, day: str | None) -> Published | None:
    if root is None and day is None:
        return None
    if root is None or day is None:
        raise ValueError("--root and --day go together; give both, or none")
    _hash(root, "--root")
    return Published(parse_day(day), root)


def _hash(value: str, name: str) -> None:
    if not is_hash(value):
        raise ValueError(f"{name} is {value!r}; give 64 hexadecimal digits in lower case")


def _known(trail: Trail, symbol: str) -> None:
    if symbol not in trail.contracts:
        some = ", ".join(list(trail.contracts)[:10]) or "none"
        raise ValueError(f"no contract {symbol!r} here; choose one of: {some}")


def _asked(connection: Connection, name: str, at: str | None) -> StoredDecision:
    """The decision that an id names."""
    symbol, _, number = name.rpartition("/")
    if at is not None:
        row = in_force(connection, name, parse_time(at).timestamp())
        missing = f"nothing was decided on {name!r} by {at}"
    elif symbol and number.isdecimal():
        row, missing = find_decision(connection, symbol, int(number)), f"there is no decision {name}"
    elif name.isdecimal():
        row, missing = find_row(connection, int(name)), f"there is no row {name}"
    else:
        row, missing = in_force(connection, name, math.inf), f"nothing was decided on {name!r}"
    if row is None:
        raise ValueError(f"{missing}; an answer names its decision as SYMBOL/NUMBER")
    return row


def _record(row: StoredDecision) -> Record:
    try:
        content: Record = json.loads(row.record)
    except ValueError as error:
        raise ValueError(f"the record of {row.name} is no JSON ({error}); run `audit verify`") from error
    return content
