"""``ablate``: what each family of inputs is worth, all else equal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from features.durations import format_duration
from models.artifact import code_version
from models.registry import default_tracking_uri
from training.ablation import ablate
from training.ablation_report import markdown, write_ablation
from training.ablation_runs import log_ablation
from training.commands.options import (
    Bars,
    Book,
    Cluster,
    Context,
    Finer,
    Horizons,
    Interval,
    Jobs,
    Levels,
    Since,
    Symbols,
    beneath_and_beside,
    interval_of,
    settings_with,
    utc,
)
from training.dataset import describe_market, read_history
from training.parallel import Workers
from training.train import task_of


def ablate_command(
    bars: Bars,
    start: Annotated[str, typer.Option(help="first decision time (UTC)")],
    end: Annotated[str, typer.Option(help="last decision time (UTC)")],
    interval: Interval = None,
    horizons: Horizons = None,
    levels: Levels = None,
    symbols: Symbols = None,
    finer: Finer = None,
    book: Book = None,
    context: Context = None,
    since: Since = None,
    families: Annotated[
        str | None, typer.Option(help="comma-separated families; default: all that the bars allow")
    ] = None,
    seeds: Annotated[str, typer.Option(help="comma-separated; each fits its own ensembles")] = "1,2,3",
    base: Annotated[
        Literal["ensemble", "network"],
        typer.Option(help="the model that is corrected; the network does with days of history"),
    ] = "ensemble",
    jobs: Jobs = 1,
    cluster: Cluster = None,
    out: Annotated[Path, typer.Option(help="folder to write tables and report to")] = Path("ablation"),
) -> None:
    """Leave each family out and take each alone, on the same ensembles; tables, a page and one MLflow run.

    Exit codes: 2 bad bars, arguments or settings; 3 a model cannot be fitted on the span; 5 the tracking
    store does not answer; 6 it refuses the run.
    """
    settings = settings_with(
        horizons=horizons,
        levels=levels,
        symbols=symbols,
        **beneath_and_beside(finer, book, context, since),
    )
    task, first, last = task_of(settings), utc("start", start), utc("end", end)
    history = read_history(settings.source(bars, interval_of(interval)), ("refined",), task)
    typer.echo(describe_market(history.market))
    out.mkdir(parents=True, exist_ok=True)  # now, and not after hours of work
    chosen = None if families is None else [f.strip() for f in families.split(",") if f.strip()]
    given = [_seed(text) for text in seeds.split(",")]
    workers = Workers(jobs, cluster)
    found = ablate(history, task, first, last, settings.levels, given, chosen, workers, base)
    write_ablation(found, history.market, out)
    typer.echo(markdown(found))
    params = {
        "start": first.isoformat(),
        "end": last.isoformat(),
        "horizons": ",".join(format_duration(h) for h in task.horizons),
        "levels": ",".join(f"{level:g}" for level in settings.levels),
        "base": base,
        "seeds": ",".join(map(str, given)),
        "symbols": ",".join(history.market.symbols),
        "interval": format_duration(history.market.interval),
        "data_fingerprint": history.fingerprint,
        "code_version": code_version(),
    }
    run_id = log_ablation(default_tracking_uri(), settings.experiment, found, params, out)
    typer.echo(f"{out / 'ablation.html'}: tables and picture; run {run_id}")


def _seed(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError(f"--seeds has {text.strip()!r}; give whole numbers from 0, 1,2,3 say")
    return int(text)
