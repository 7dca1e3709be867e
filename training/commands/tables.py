"""Tables for people: summaries of forecasts, what an unseen symbol costs, and the checks of a verdict."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from training.lives_on import FAMILIES, TRIALS, by_family, by_trial
from training.promotion import Verdict


def show_summary(table: pd.DataFrame, title: str) -> None:
    """Print ``training.evaluation.summary``: FZ0 in percent units, lower is better."""
    shown = Table(title=title)
    for column in ("horizon", "level", "model"):
        shown.add_column(column)
    for column in ("rows", "FZ0", "hit ratio", "worst cell", "difference", "t"):
        shown.add_column(column, justify="right")
    reference = table["model"].iloc[0]
    for row in table.to_dict("records"):
        own = row["model"] == reference
        shown.add_row(
            row["horizon"],
            f"{100 * row['level']:g} %",
            row["model"],
            f"{row['rows']:,}",
            f"{row['fz0']:.4f}",
            f"{row['hit_ratio']:.2f}",
            f"{row['worst_cell']:.2f}",
            "" if own else f"{row['difference']:+.4f}",
            "" if own else f"{row['t']:+.2f}",
            end_section=bool(row["model"] == table["model"].iloc[-1]),
        )
    console = Console(width=_width())
    console.print(shown)
    console.print(
        f"FZ0 in percent units, lower is better; difference to {reference}, averaged over symbols and sides "
        f"at each time, HAC t (negative: better). Hit ratio: hits over those promised.",
        highlight=False,
        soft_wrap=True,
    )


def show_unseen(table: pd.DataFrame, model: str) -> None:
    """Print ``training.unseen.unseen_scores``: FZ0 in percent units, lower is better."""
    shown = Table(title=f"{model} for a symbol that it has seen, and for one that it has not")
    for column in ("horizon", "level", "symbol"):
        shown.add_column(column)
    for column in ("rows", "FZ0 seen", "unseen", "difference", "t", "hit ratio seen", "unseen"):
        shown.add_column(column, justify="right")
    for row in table.to_dict("records"):
        shown.add_row(
            row["horizon"],
            f"{100 * row['level']:g} %",
            row["symbol"],
            f"{row['rows']:,}",
            f"{row['fz0_seen']:.4f}",
            f"{row['fz0_unseen']:.4f}",
            f"{row['difference']:+.4f}",
            f"{row['t']:+.2f}",
            f"{row['hit_ratio_seen']:.2f}",
            f"{row['hit_ratio_unseen']:.2f}",
            end_section=bool(row["symbol"] == table["symbol"].iloc[-1]),
        )
    console = Console(width=_width())
    console.print(shown)
    console.print(
        "Trained once, before the span; not calibrated. FZ0 in percent units, lower is better; difference: "
        "unseen less seen, averaged over sides (and symbols) at each time, HAC t (positive: the unseen is "
        "worse). Hit ratio: hits over those promised.",
        highlight=False,
        soft_wrap=True,
    )


def show_families(importance: pd.DataFrame, models: tuple[str, ...]) -> None:
    """Print ``training.lives_on.by_family`` of the models that say what moves their ES; nothing where none
    does."""
    known = importance.dropna(subset=["effect"])
    for model in (name for name in models if name in set(known["model"])):
        shown = Table(title=f"What {model} lives on")
        for name, words, _ in FAMILIES:
            shown.add_column(words, justify="left" if name == "family" else "right")
        for row in by_family(known, model).to_dict("records"):
            shown.add_row(
                *("" if pd.isna(row[name]) else form.format(row[name]) for name, _, form in FAMILIES)
            )
        Console(width=_width()).print(shown)


def show_trials(trials: pd.DataFrame, models: Sequence[str]) -> None:
    """Print ``training.lives_on.by_trial`` of the models that try families; nothing where none does."""
    for model in models:
        table = by_trial(trials, model)
        if table.empty:
            continue
        shown = Table(title=f"Families that {model} tried; t below 0 where there is less error with it")
        for name, words, _ in TRIALS:
            shown.add_column(words, justify="left" if name in ("horizon", "family") else "right")
        for row in table.to_dict("records"):
            shown.add_row(*(form.format(row[name]) for name, _, form in TRIALS))
        Console(width=_width()).print(shown)


def show_verdict(verdict: Verdict) -> None:
    """Print every check of a verdict, and what follows."""
    shown = Table(
        title=f"Challenger version {verdict.challenger} against champion "
        f"{'(none)' if verdict.champion is None else f'version {verdict.champion}'}"
    )
    for column in ("check", "found", "bound", ""):
        shown.add_column(column)
    for check in verdict.checks:
        shown.add_row(check.name, check.value, check.bound, "pass" if check.passed else "[bold red]FAIL")
    console = Console(width=_width())
    if verdict.checks:
        console.print(shown)
    decided = "promoted" if verdict.promote else "kept champion"
    console.print(f"{decided}: {verdict.reason}", markup=False, highlight=False, soft_wrap=True)


def _width() -> int | None:
    """As wide as the terminal; where there is none, wide enough that no cell is cut."""
    return None if Console().is_terminal else 140
