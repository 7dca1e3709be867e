"""Ranges hold what lies within them, and refuse bounds that hold nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from models.search_space import Choice, Integer, Range, Real


def test_bounds_belong_to_a_range() -> None:
    assert [x in Real(0.5, 2.0) for x in (0.5, 1.25, 2.0, 0.49, 2.01, math.nan)] == [True] * 3 + [False] * 3
    assert [n in Integer(1, 3) for n in (1, 3, 0, 4, 2.5)] == [True, True, False, False, False]
    assert [v in Choice(("gamma", "tweedie")) for v in ("gamma", "normal")] == [True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real(2.0, 1.0), "2.0 to 1.0; give finite bounds, the lower one first"),
        (lambda: Real(1.0, math.inf), "1.0 to inf"),
        (lambda: Integer(3, 3), "3 to 3"),
        (lambda: Real(0.0, 1.0, log=True), "begins at 0.0; begin above 0"),
        (lambda: Integer(-1, 5, log=True), "begins at -1"),
        (lambda: Choice(("one",)), "at least two to choose from"),
        (lambda: Choice((1, 1)), "each once"),
    ],
)
def test_a_range_of_nothing_is_refused(make: Callable[[], Range], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
