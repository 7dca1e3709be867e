"""Which bars are refused, with row, field, value and remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from serving.errors import InvalidInputError
from serving.requests import BarsRequest, MultipliersRequest, checked_bars, refuse_repeated_symbols

HOUR = pd.Timedelta(hours=1)


def bar(hour: int = 0, symbol: str = "AAA", **changes: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "open_time": f"2025-01-01T{hour:02}:00:00Z",
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 5.0,
    } | changes


def check(*bars: dict[str, Any]) -> Any:
    import json

    return checked_bars(BarsRequest.model_validate_json(json.dumps({"bars": bars})).bars, HOUR)


def test_bars_come_out_by_symbol_with_absent_columns_unknown() -> None:
    full = {"quote_volume": 55.0, "trades": 3, "taker_buy_volume": 2.0, "taker_buy_quote_volume": 22.0}
    found = check(bar(0), bar(0, "BBB", **full), bar(1))
    assert list(found) == ["AAA", "BBB"]
    opened = int(pd.Timestamp("2025-01-01T00:00Z").timestamp())
    assert found["AAA"].closes_s.tolist() == [opened + 3600, opened + 7200]
    np.testing.assert_array_equal(found["AAA"].values[0], [10, 12, 9, 11, 5, *[np.nan] * 4])
    np.testing.assert_array_equal(found["BBB"].values[0], [10, 12, 9, 11, 5, 55, 3, 2, 22])


def test_other_zones_are_converted() -> None:
    found = check(bar(open_time="2025-01-01T02:00:00+02:00"))
    assert found["AAA"].closes_s.tolist() == [int(pd.Timestamp("2025-01-01T01:00Z").timestamp())]


@pytest.mark.parametrize(
    ("bars", "row", "field", "value", "words"),
    [
        ([bar(0), bar(1, high=9.5)], 1, "high", 9.5, "high is below open"),
        ([bar(0, "BBB"), bar(0, low=11.5)], 1, "low", 11.5, "low is above"),
        ([bar(0, close=0.0, low=0.0)], 0, "low", 0.0, "not above 0"),
        ([bar(0, volume=-1.0)], 0, "volume", -1.0, "negative"),
        ([bar(0, open_time="2025-01-01T00:30:00Z")], 0, "open_time", "2025-01-01T00:30:00+00:00", "1h grid"),
        ([bar(1), bar(0, "BBB"), bar(0)], 2, "open_time", "2025-01-01T00:00:00+00:00", "earlier"),
        ([bar(0), bar(0)], 1, "open_time", "2025-01-01T00:00:00+00:00", "twice"),
        ([bar(0, trades=3), bar(1)], 1, "trades", None, "other bars of the symbol have it"),
        ([bar(0, taker_buy_volume=6.0)], 0, "taker_buy_volume", 6.0, "above volume"),
    ],
)
def test_a_bar_that_breaks_a_rule_is_named(
    bars: list[dict[str, Any]], row: int, field: str, value: object, words: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check(*bars)
    error = caught.value.body["error"]
    assert error["row"] == row
    assert error["field"] == f"bars.{row}.{field}"
    assert error["value"] == value
    assert words in error["message"]
    assert error["remedy"]


@pytest.mark.parametrize(
    "changes",
    [
        {"open": "10"},
        {"open": True},
        {"open": None},
        {"open": float("nan")},
        {"open": float("inf")},
        {"open_time": 1735689600},
        {"open_time": "2025-01-01T00:00:00"},
        {"open_time": "yesterday"},
        {"symbol": ""},
        {"symbol": "A A"},
        {"symbol": 5},
        {"colour": "red"},
    ],
)
def test_other_types_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check(bar(**changes))


def test_a_request_names_what_it_wants() -> None:
    assert MultipliersRequest().symbols is None
    for wrong in ({"symbols": []}, {"side": "up"}, {"kind": "margin"}, {"other": 1}, {"symbols": "AAA"}):
        with pytest.raises(ValidationError):
            MultipliersRequest.model_validate(wrong)
    with pytest.raises(InvalidInputError, match="AAA is named twice"):
        refuse_repeated_symbols(["AAA", "BBB", "AAA"])
