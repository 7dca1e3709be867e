"""What the models of a benchmark live on, by family and by input, in tables for people.

``effect`` is the mean size of what an input (or a family as a whole) does to ln ES, so that 0.05 is about 5 %
of the margin; ``importance`` is what FZ0 loses where the input is shuffled, the sum over a family; ``gain``
the share of the trees' gain. All are means over horizons and levels; NaN where a model has no such thing.

A model may try families before it uses them (``TailModel.trials``): which it used, in how many of its fits.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from features.durations import format_duration
from models.forecast.base import FamilyTrial
from models.wording import phrase_of

FAMILIES = (
    ("family", "family", "{}"),
    ("inputs", "inputs", "{:,}"),
    ("effect", "moves ES by", "{:.1%}"),
    ("importance", "FZ0 without", "{:+.4f}"),
    ("gain", "trees' gain", "{:.1%}"),
)
TRIALS = (
    ("horizon", "horizon", "{}"),
    ("family", "family", "{}"),
    ("fits", "tried in fits", "{:,}"),
    ("used", "used in", "{:,}"),
    ("t", "t, median", "{:+.1f}"),
)
INPUTS = (
    ("feature", "input", "{}"),
    ("words", "what it is", "{}"),
    ("family", "family", "{}"),
    *FAMILIES[2:],
)


def by_family(importance: pd.DataFrame, model: str) -> pd.DataFrame:
    """A row per family of inputs of a model, with the columns of ``FAMILIES``, what moves ES most first.

    ``importance`` is ``Benchmark.importance``. Inputs of a family that stand in for each other have less
    importance one by one than together, so that the sum is a lower bound.
    """
    own = _means(importance, model)
    found = own.groupby("family", as_index=False).agg(
        inputs=("feature", "size"),
        effect=("family_effect", "mean"),
        importance=("importance", "sum"),
        gain=("gain", lambda shares: shares.sum(min_count=1)),
    )
    return _ordered(found)


def by_input(importance: pd.DataFrame, model: str, most: int) -> pd.DataFrame:
    """The ``most`` inputs of a model that move its ES most, with the columns of ``INPUTS``."""
    own = _means(importance, model)
    own["words"] = own["feature"].map(lambda name: phrase_of(name).words())
    return _ordered(own).head(most)


def trials_of(trials: Sequence[FamilyTrial], model: str, train_end: pd.Timestamp) -> pd.DataFrame:
    """What one fit of a model tried, a row per horizon and family: ``model, train_end, horizon, family, t,
    used``."""
    table = pd.DataFrame(
        {
            "horizon": pd.Series([format_duration(t.horizon) for t in trials], dtype="str"),
            "family": pd.Series([t.family for t in trials], dtype="str"),
            "t": pd.Series([t.t for t in trials], dtype="float64"),
            "used": pd.Series([t.used for t in trials], dtype="bool"),
        }
    )
    table.insert(0, "model", pd.Series(model, table.index, dtype="str"))
    table.insert(1, "train_end", pd.Series(train_end, table.index, dtype="datetime64[ns, UTC]"))
    return table


def by_trial(trials: pd.DataFrame, model: str) -> pd.DataFrame:
    """A row per horizon and family that a model tried, with the columns of ``TRIALS``, in the order of the
    trials; empty for a model that tries none. ``t`` below 0: with the family there was less error."""
    own = trials[trials["model"] == model]
    return own.groupby(["horizon", "family"], as_index=False, sort=False).agg(
        fits=("t", "size"), used=("used", "sum"), t=("t", "median")
    )


def _means(importance: pd.DataFrame, model: str) -> pd.DataFrame:
    own = importance[importance["model"] == model]
    figures = ["effect", "family_effect", "importance", "gain"]
    return own.groupby(["feature", "family"], as_index=False, sort=False)[figures].mean()


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """By effect, and by importance where the model has no effects."""
    return table.sort_values(["effect", "importance"], ascending=False, kind="stable").reset_index(drop=True)
