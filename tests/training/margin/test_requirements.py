"""Margin tables of requirements that can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from models.margin.requirement import margin_rates
from training.margin.requirements import MARGIN_COLUMNS, rates_of, requirement_table

TIMES = pd.date_range("2026-01-01 01:00", periods=3, freq="h", tz="UTC", unit="ns")


def forecasts(es: dict[str, float], model: str = "m", symbols: str = "AB") -> pd.DataFrame:
    """ES by horizon, the short's 1.5 times the long's; A's forecasts, B's twice as large."""
    lines = [
        {
            **{"time": time, "symbol": symbol, "horizon": horizon, "side": side, "level": level},
            **{"model": model, "var": 0.5 * loss, "es": loss},
        }
        for time in TIMES
        for symbol in symbols
        for horizon, base in es.items()
        for level in (0.99, 0.999)
        for side in ("long", "short")
        for loss in [
            base * (1.5 if side == "short" else 1) * (2 if symbol == "B" else 1) * (3 if level > 0.99 else 1)
        ]
    ]
    return pd.DataFrame(lines)


def test_rates_by_hand() -> None:
    table = requirement_table(forecasts({"1h": 0.02, "4h": 0.04}), "m")
    assert list(table.columns) == MARGIN_COLUMNS
    assert len(table) == 3 * 2 * 2 * 2
    first = table[(table["time"] == TIMES[0]) & (table["symbol"] == "B")].set_index(["side", "kind"])
    assert first["served_rate"].to_dict() == {
        ("long", "initial"): pytest.approx(1 - math.exp(-0.08)),
        ("long", "maintenance"): pytest.approx(1 - math.exp(-0.04)),
        ("short", "initial"): pytest.approx(math.exp(0.12) - 1),
        ("short", "maintenance"): pytest.approx(math.exp(0.06) - 1),
    }
    assert (table["required_rate"] == table["served_rate"]).all()
    assert table["multiplier"].isna().all()
    assert set(table["series"]) == {"m requirement"}


def test_it_agrees_with_the_engine_s_own_function() -> None:
    losses = (0.05, 0.02, 800.0, 0.9)
    long = np.array([True, True, False, False])
    np.testing.assert_allclose(rates_of(np.array(losses), long), margin_rates(losses), rtol=1e-15)
    assert np.isnan(rates_of(np.array([np.nan]), np.array([True])))


def test_initial_is_at_least_maintenance() -> None:
    table = requirement_table(forecasts({"1h": 0.04, "4h": 0.03}), "m")
    wide = table.pivot(index=["time", "symbol", "side"], columns="kind", values="served_rate")
    assert (wide["initial"] == wide["maintenance"]).all()


def test_a_buffer_is_served_and_not_required() -> None:
    plain = requirement_table(forecasts({"1h": 0.02, "4h": 0.04}), "m")
    more = requirement_table(forecasts({"1h": 0.02, "4h": 0.04}), "m", buffer=0.25, series="buffered")
    np.testing.assert_allclose(more["served_rate"], 1.25 * plain["served_rate"])
    np.testing.assert_array_equal(more["required_rate"], plain["required_rate"])
    assert set(more["series"]) == {"buffered"}


def test_base_rates_of_another_series_give_the_multiplier() -> None:
    given = forecasts({"1h": 0.02, "4h": 0.04})
    base = requirement_table(given, "m")[["time", "symbol", "side", "kind", "served_rate"]]
    base = base.rename(columns={"served_rate": "base_rate"}).sample(frac=1, random_state=1)
    found = requirement_table(given, "m", buffer=0.25, base=base[base["symbol"] == "A"])
    of_a = found["symbol"] == "A"
    np.testing.assert_allclose(found.loc[of_a, "multiplier"], 1.25)
    assert found.loc[~of_a, "multiplier"].isna().all()


def test_levels_and_kinds_are_chosen() -> None:
    given = forecasts({"1h": 0.02, "4h": 0.04}, symbols="A")
    table = requirement_table(given, "m", {"initial": 0.999, "maintenance": 0.99})
    by_kind = table[table["side"] == "long"].groupby("kind")["served_rate"].first()
    assert by_kind["initial"] == pytest.approx(1 - math.exp(-0.12))
    assert by_kind["maintenance"] == pytest.approx(1 - math.exp(-0.02))
    alone = requirement_table(given, "m", horizons={"maintenance": "4h"})
    assert set(alone["kind"]) == {"maintenance"}
    assert alone["served_rate"].iloc[0] == pytest.approx(1 - math.exp(-0.04))


def test_a_time_without_every_value_is_left_out() -> None:
    given = forecasts({"1h": 0.02, "4h": 0.04})
    lacking = (given["time"] == TIMES[1]) & (given["symbol"] == "A") & (given["horizon"] == "4h")
    table = requirement_table(given[~lacking], "m")
    assert table[table["symbol"] == "A"]["time"].unique().tolist() == [TIMES[0], TIMES[2]]
    assert table[table["symbol"] == "B"]["time"].nunique() == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "x"}, "no forecast of 'x', only of"),
        ({"level": 0.95}, "at level 0.95, only over"),
        ({"horizons": {"maintenance": "2h"}}, "no forecast over 2h"),
        ({"horizons": {"variation": "1h"}}, "kinds"),
        ({"buffer": -0.1}, "buffer is -0.1"),
    ],
)
def test_what_the_forecasts_lack_is_refused(change: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"model": "m", **change}
    with pytest.raises(ValueError, match=words):
        requirement_table(forecasts({"1h": 0.02, "4h": 0.04}), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("es", [np.nan, 0.0, np.inf])
def test_an_impossible_es_is_refused(es: float) -> None:
    given = forecasts({"1h": 0.02, "4h": 0.04})
    given.loc[0, "es"] = es
    with pytest.raises(ValueError, match="not a finite number above 0"):
        requirement_table(given, "m")


def test_a_row_that_is_there_twice_is_refused() -> None:
    given = forecasts({"1h": 0.02, "4h": 0.04})
    with pytest.raises(ValueError, match="twice"):
        requirement_table(pd.concat([given, given.iloc[:1]]), "m")
