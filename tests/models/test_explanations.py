"""Contributions: their shapes, their mean over models, and cells that a model does not have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.explanations import Cell, Contributions, cell_places, weighted_mean

HOUR = pd.Timedelta(hours=1)
CELL = Cell(HOUR, "long", 0.99)
TIMES = pd.date_range("2024-01-01", periods=2, freq=HOUR, tz="UTC", unit="ns")


def part(
    rows: int, inputs: tuple[str, ...], baseline: float, effects: list[float], values: float = 1.0
) -> Contributions:
    """The last ``rows`` of two, each with the same effects."""
    given = np.tile(effects, (rows, 1, 1)).astype("float64")
    return Contributions(
        pd.MultiIndex.from_product([TIMES[-rows:], ["A"]], names=["time", "symbol"]),
        (CELL,),
        inputs,
        np.full((rows, len(inputs)), values),
        np.full((rows, len(inputs)), -values),
        np.full((rows, 1), baseline),
        given,
    )


def test_the_mean_is_weighted_and_over_the_parts_that_have_the_row() -> None:
    first, second = part(2, ("a", "b"), -4.0, [0.1, 0.2]), part(1, ("b", "c"), -1.0, [0.5, -0.6], 2.0)
    mean = weighted_mean([first, second], [2.0, 1.0])
    assert mean.inputs == ("a", "b", "c")
    assert mean.baseline[:, 0] == pytest.approx([-4.0, -3.0])
    assert mean.effects[:, 0] == pytest.approx(np.array([[0.1, 0.2, 0.0], [0.2 / 3, 0.3, -0.2]]))
    # What each says of the same input is the same; of an input of its own, a part tells its rows.
    assert mean.values == pytest.approx(np.array([[1, 1, np.nan], [1, 1, 2]]), nan_ok=True)
    assert mean.scores == pytest.approx(np.array([[-1, -1, np.nan], [-1, -1, -2]]), nan_ok=True)
    assert mean.log_es[:, 0] == pytest.approx([-3.7, (2 * -3.7 - 1.1) / 3])


def test_parts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="other cells or rows"):
        weighted_mean([part(1, ("a",), 0, [0.0]), part(2, ("a",), 0, [0.0])], [1, 1])


def test_shapes_and_numbers_are_checked() -> None:
    good = part(1, ("a",), 0.0, [0.0])
    with pytest.raises(ValueError, match=r"effects has shape \(1, 1, 2\)"):
        Contributions(
            good.rows, good.cells, good.inputs, good.values, good.scores, good.baseline, np.zeros((1, 1, 2))
        )
    with pytest.raises(ValueError, match="not finite"):
        part(1, ("a",), float("inf"), [0.0])


def test_a_cell_is_found_or_named() -> None:
    horizons, sides, levels = (HOUR, 4 * HOUR), ("long", "short"), (0.99, 0.999)
    asked = [CELL, Cell(4 * HOUR, "short", 0.999)]
    assert cell_places(asked, horizons, sides, levels) == [(0, 0, 0), (1, 1, 1)]
    with pytest.raises(
        ValueError, match=r"no forecast of 2h short at 0\.9; the model has horizons \['1h', '4h'\]"
    ):
        cell_places([Cell(2 * HOUR, "short", 0.9)], horizons, sides, levels)
