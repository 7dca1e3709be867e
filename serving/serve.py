"""``python -m serving serve``: check the settings, load history, then BentoML in the foreground."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from features.bars import Market
from features.durations import format_duration
from features.sources.parquet import read_folder
from models.settings import MarginSettings, Section, SettingsError, in_words
from serving.decider import refuse_horizons_off_the_grid
from serving.history import load_history
from serving.settings import ServingSettings
from serving.store.engine import store_engine
from serving.store.lease import sole_decider
from serving.store.migrate import migrate


def chosen_settings(given: dict[str, Any]) -> tuple[ServingSettings, MarginSettings]:
    """The settings with the arguments in front. Raises ``SettingsError`` in one line."""
    section: type[Section] = ServingSettings
    try:
        settings = ServingSettings(**given)
        section = MarginSettings
        margin = MarginSettings()
    except ValidationError as error:
        raise SettingsError(f"settings: {in_words(error, section)}") from error
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        # The worker runs in another folder; a relative file means ours.
        absolute = url.set(database=str(Path(url.database).absolute()))
        settings = settings.model_copy(update={"database": absolute.render_as_string(hide_password=False)})
    refuse_horizons_off_the_grid(settings.interval_s, margin)
    return settings, margin


def serve(
    given: dict[str, Any], history: Path | None, finer_history: Path | None, until: pd.Timestamp | None
) -> None:
    """Serve until Ctrl-C or SIGTERM. ``given`` are the settings that came as arguments.

    Raises ``SettingsError``, ``StoreError``, ``BarError`` or ``ValueError`` before anything is served.
    """
    folders = {"interval_s": history, "finer_interval_s": finer_history}
    markets: dict[str, Market] = {}
    for name, folder in folders.items():
        if folder is not None:
            settings, _ = chosen_settings(given)
            markets[name] = read_folder(folder, symbols=list(settings.symbols) or None)
            # The folder knows its interval; a contradiction with what was asked for is told below.
            given = {name: int(markets[name].interval.total_seconds()), **given}
    settings, _ = chosen_settings(given)
    engine = store_engine(settings.database)
    migrate(engine)
    with sole_decider(engine):
        for name, market in markets.items():
            asked = getattr(settings, name)
            if market.interval != pd.Timedelta(seconds=asked):
                raise SettingsError(
                    f"the bars of {folders[name]} are of {format_duration(market.interval)}, and {name} is "
                    f"{asked}; leave it out, or give other bars"
                )
            new, known = load_history(engine, settings.source, market, until, contracts=name == "interval_s")
            typer.echo(f"{folders[name]}: {new:,} bars stored, {known:,} were there")
    engine.dispose()
    _run(settings, {**given, "database": settings.database})


def _run(settings: ServingSettings, given: dict[str, Any]) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"{settings.host} port {settings.port} cannot be bound ({error.strerror}); "
                f"stop what listens there, or give another --port"
            ) from error
    # The worker is a process of its own: it reads the arguments as variables.
    for name, value in given.items():
        os.environ[f"FOREMARGIN_SERVING__{name.upper()}"] = str(value)
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from serving.service import Foremargin

    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    typer.echo(f"Foremargin serves on http://{shown}:{settings.port} (Ctrl-C ends it)")
    Foremargin.serve_http(host=settings.host, port=settings.port)  # type: ignore[attr-defined]
