"""Bar tables of one symbol as one."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from features.bars import BarError
from features.sources.merge import merge_bars

MakeBars = Callable[..., pd.DataFrame]


def test_order_overlap_and_holes(bars_of_closes: MakeBars) -> None:
    bars = bars_of_closes([1.0, 2.0, 3.0, 4.0, 5.0])
    merged = merge_bars({"late": bars.iloc[3:], "early": bars.iloc[:2], "middle": bars.iloc[1:2]})
    pd.testing.assert_frame_equal(merged, bars.iloc[[0, 1, 3, 4]].reset_index(drop=True))


def test_a_contradiction_names_both_sources_the_bar_and_the_column(bars_of_closes: MakeBars) -> None:
    bars = bars_of_closes([1.0, 2.0, 3.0])
    other = bars.iloc[1:].assign(volume=[2.0, 3.0])
    with pytest.raises(BarError) as caught:
        merge_bars({"a.csv": bars, "b.csv": other})
    assert str(caught.value) == (
        "b.csv: volume = 2.0: in the bar of 2024-01-01 01:00:00 UTC it is 1.0 in a.csv "
        "(2 rows break this rule); keep the file that is right"
    )


def test_other_columns_are_refused(bars_of_closes: MakeBars) -> None:
    bars = bars_of_closes([1.0, 2.0, 3.0])
    with pytest.raises(BarError, match=r"b\.csv: its columns .* are not those of a\.csv"):
        merge_bars({"a.csv": bars, "b.csv": bars.assign(trades=1.0)})
    with pytest.raises(ValueError, match="at least one"):
        merge_bars({})
