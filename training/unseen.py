"""How good forecasts are for a contract that no one trained on: each symbol left out in turn.

One fit on all symbols, and one for each symbol on the others alone, model and learned features both, all on
what was known an embargo before the span. A symbol left out is then forecast over the span by the fit that
never saw it, with the whole market as context, itself included, as a server would that was given its bars.
Nothing is refitted on the way and nothing is calibrated, so this is the fit of a model and not what would be
served: a calibration starts neutral on a new contract, and learns.

Signs and units as in ``training.evaluation``: losses are log returns against the side, positive is bad; FZ0
is in percent units, lower is better.

Where the first symbol is left out, the next one leads the training (``features.spillover``), but the forecast
is led by the first again: the row of the first symbol is also of a change of leader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from features.bars import Market
from models.forecast.base import TailModel
from training.backtest import Progress, keep_levels
from training.dataset import Fit, History, Task, TrainingRefusedError
from training.diagnostics import symbol_scores, with_excursions
from training.evaluation import common_rows, summary, with_losses
from training.parallel import IN_THIS_PROCESS, Workers, run_jobs
from training.splits import Fold, walk_forward

#: What the forecast table calls the model where it had not seen the symbol: its name and this.
UNSEEN = "-unseen"
#: In the table of scores, the mean over all symbols.
EVERY_SYMBOL = "all symbols"


@dataclass(frozen=True)
class LeaveOut:
    """One fit and its forecasts: of ``symbol``, by a model that saw the others alone; None: of all symbols,
    by one that saw all."""

    model: type[TailModel]
    fold: Fold
    task: Task
    symbol: str | None


def unseen_forecasts(
    history: History,
    model: type[TailModel],
    task: Task,
    start: pd.Timestamp,
    end: pd.Timestamp,
    levels: Sequence[float],
    progress: Progress = lambda *_: None,
    workers: Workers = IN_THIS_PROCESS,
) -> pd.DataFrame:
    """The forecast table of every symbol at the decision times in [start, end] twice: by the model that saw
    it (named as it is), and by the one that did not (``UNSEEN`` after the name).

    Columns as of ``training.backtest.backtest``; uncalibrated; rows without the inputs of a forecast are
    absent. The table is the same whoever works.

    Raises ``ValueError`` where the market has fewer than two symbols, no decision time lies in the span,
    nothing lies before it, or a symbol has no bar to be seen; ``TrainingRefusedError`` naming the symbol left
    out where the others cannot carry a fit.
    """
    market = history.market
    if len(market.symbols) < 2:
        raise ValueError(
            f"the market has {len(market.symbols)} symbol, {list(market.symbols)}, and without it nothing is "
            f"left to train on; give bars of at least two symbols"
        )
    # A refit only after the end: a single fold.
    (fold,) = walk_forward(market.times, start, end, end - start + market.interval, task.embargo)
    known = market.until(fold.train_end).close.notna().any()
    never = [symbol for symbol in market.symbols if not known[symbol]]
    if never:
        raise ValueError(
            f"symbols {never} have no bar by {fold.train_end}, where training ends, so that no model has "
            f"seen them; start later, or name the other symbols"
        )
    jobs = [LeaveOut(model, fold, task, symbol) for symbol in (None, *market.symbols)]
    found: dict[int, pd.DataFrame] = {}
    progress(model.name, 0, len(jobs))
    for position, table in run_jobs(forecast_left_out, history, jobs, workers):
        found[position] = table
        progress(model.name, len(found), len(jobs))
    tables = [keep_levels(found[position], levels) for position in range(len(jobs))]
    return pd.concat(tables, ignore_index=True)


def fit_without(history: History, model: type[TailModel], end: pd.Timestamp, task: Task, symbol: str) -> Fit:
    """Fit on what was known at ``end`` of all symbols but this one, as if it did not exist. Raises
    ``TrainingRefusedError`` naming it where the others cannot carry the fit."""
    others = [other for other in history.market.symbols if other != symbol]
    try:
        return History(history.market.until(end).select(others), (model,)).fit(model, end, task)
    except TrainingRefusedError as error:
        raise TrainingRefusedError(f"without {symbol}: {error}") from error


def forecast_left_out(history: History, job: LeaveOut) -> pd.DataFrame:
    """Do one job: the forecast table at all levels of the model, of the symbol left out or of all."""
    end = job.fold.train_end
    if job.symbol is None:
        fit, name = history.fit(job.model, end, job.task), job.model.name
    else:
        fit, name = fit_without(history, job.model, end, job.task, job.symbol), job.model.name + UNSEEN
    forecast = history.forecast(fit.model, fit.pipeline, job.fold.test_start, job.fold.test_end)
    table = forecast.to_table(name)
    return table if job.symbol is None else table[table["symbol"] == job.symbol]


def unseen_scores(table: pd.DataFrame, market: Market) -> pd.DataFrame:
    """A row per horizon, level and symbol, and one of ``EVERY_SYMBOL`` after the symbols, both sides pooled,
    on the rows that both models forecast and whose loss is known.

    Columns: ``horizon, level, symbol``; ``rows``; ``fz0_seen`` and ``fz0_unseen`` (means); ``difference``
    (unseen less seen: positive is the price of not having seen it) with its HAC ``t``; ``hit_ratio_seen`` and
    ``hit_ratio_unseen`` (hits over those promised; 1 is right). Differences are averaged over sides, and in
    the row of ``EVERY_SYMBOL`` over symbols too, within each decision time before their error is estimated.

    Raises ``ValueError`` where a symbol has no such row at some horizon and level.
    """
    seen, unseen = table["model"].unique()
    scored = with_excursions(common_rows(with_losses(table, market)), market)
    every = summary(scored, market.interval).assign(symbol=EVERY_SYMBOL)
    both = pd.concat([symbol_scores(scored, seen, market.interval), every])
    key = ["horizon", "level", "symbol"]
    base, left_out = (both[both["model"] == model].set_index(key) for model in (seen, unseen))
    found = pd.DataFrame(
        {
            "rows": left_out["rows"],
            "fz0_seen": base["fz0"],
            "fz0_unseen": left_out["fz0"],
            "difference": left_out["difference"],
            "t": left_out["t"],
            "hit_ratio_seen": base["hit_ratio"],
            "hit_ratio_unseen": left_out["hit_ratio"],
        }
    )
    cases = every[["horizon", "level"]].drop_duplicates().itertuples(index=False, name=None)
    order = [(*case, symbol) for case in cases for symbol in (*market.symbols, EVERY_SYMBOL)]
    missing = [place for place in order if place not in found.index]
    if missing:
        raise ValueError(
            f"there is no forecast with a known loss of (horizon, level, symbol) {missing}; choose another "
            f"span, or name the other symbols"
        )
    return found.loc[order].reset_index()
