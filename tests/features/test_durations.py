"""Durations in words and in bars."""

from __future__ import annotations

import pandas as pd
import pytest

from features.durations import format_duration, parse_duration, whole_bars, window_bars


@pytest.mark.parametrize(
    ("text", "seconds", "again"),
    [
        ("30s", 30, "30s"),
        ("15m", 900, "15m"),
        ("90min", 5400, "90m"),
        ("4H", 14400, "4h"),
        ("2d", 172800, "2d"),
    ],
)
def test_text_and_back(text: str, seconds: int, again: str) -> None:
    duration = parse_duration(text)
    assert duration == pd.Timedelta(seconds=seconds)
    assert format_duration(duration) == again


@pytest.mark.parametrize("text", ["", "0h", "-1h", "1.5h", "h", "1w", "1h 30m"])
def test_other_text_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="as in '15m'"):
        parse_duration(text)


def test_horizons_are_whole_bars_and_windows_are_rounded_up() -> None:
    hour, quarter = pd.Timedelta(hours=1), pd.Timedelta(minutes=15)
    assert whole_bars(hour, quarter) == 4
    with pytest.raises(ValueError, match="15m is not a whole number of 1h bars"):
        whole_bars(quarter, hour)
    assert [window_bars(quarter, hour), window_bars(hour, hour), window_bars(5 * quarter, hour)] == [1, 1, 2]
