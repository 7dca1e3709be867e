"""What the models of a benchmark live on, by family and by input, in tables for people.

``effect`` is the mean size of what an input (or a family as a whole) does to ln ES, so that 0.05 is about 5 %
of the margin; ``importance`` is what FZ0 loses where the input is shuffled, the sum over a family; ``gain``
the share of the trees' gain. All are means over horizons and levels; NaN where a model has no such thing.
"""

from __future__ import annotations

import pandas as pd

from models.wording import phrase_of

FAMILIES = (
    ("family", "family", "{}"),
    ("inputs", "inputs", "{:,}"),
    ("effect", "moves ES by", "{:.1%}"),
    ("importance", "FZ0 without", "{:+.4f}"),
    ("gain", "trees' gain", "{:.1%}"),
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


def _means(importance: pd.DataFrame, model: str) -> pd.DataFrame:
    own = importance[importance["model"] == model]
    figures = ["effect", "family_effect", "importance", "gain"]
    return own.groupby(["feature", "family"], as_index=False, sort=False)[figures].mean()


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """By effect, and by importance where the model has no effects."""
    return table.sort_values(["effect", "importance"], ascending=False, kind="stable").reset_index(drop=True)
