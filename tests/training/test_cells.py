"""Tests of one symbol and side at a time: a right ES stands, one that is too small falls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.expected_shortfall import law_tail
from training.cells import cell_tests

HOUR = pd.Timedelta(hours=1)
LEVEL = 0.975


def scored(rows: int, shrink: float, horizon: str = "1h") -> pd.DataFrame:
    """Normal losses of changing scale, with the right VaR and an ES that is short of the right one."""
    rng = np.random.default_rng(4)
    scale = 0.01 * np.exp(rng.normal(0, 0.3, rows))
    loss = scale * rng.standard_normal(rows)
    v, e = law_tail(LEVEL, float("inf"))
    return pd.DataFrame(
        {
            "time": pd.date_range("2026-01-01", periods=rows, freq="h", tz="UTC"),
            **{"symbol": "A", "side": "long", "horizon": horizon, "level": LEVEL, "model": "m"},
            **{
                "loss": loss,
                "var": v * scale,
                "es": shrink * e * scale,
                "hit": loss > v * scale,
                "fz0": loss,
            },
        }
    )


def test_an_es_that_is_too_small_is_found() -> None:
    right, small = (cell_tests(scored(8000, shrink), "m", HOUR).iloc[0] for shrink in (1.0, 0.85))
    assert right["es_p"] > 0.05
    assert small["es_p"] < 0.001
    assert right["pof_p"] == small["pof_p"] > 0.05
    assert (right["model"], right["symbol"], right["rows"]) == ("m", "A", 8000)
    np.testing.assert_allclose(right["fz0"], scored(8000, 1.0)["fz0"].mean())


def test_overlapping_losses_are_thinned_before_they_are_tested() -> None:
    """Ten hits must be promised in every 4th row: with 1,600 rows they are, with one less they are not."""
    assert 0 < cell_tests(scored(1600, 1.0, "4h"), "m", HOUR)["es_p"].iloc[0] < 1
    assert np.isnan(cell_tests(scored(1599, 1.0, "4h"), "m", HOUR)["es_p"].iloc[0])
    assert 0 < cell_tests(scored(1599, 1.0, "1h"), "m", HOUR)["es_p"].iloc[0] < 1
