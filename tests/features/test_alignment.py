"""Finer bars at other times or of other prices: found, and told from those of another venue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.bars import Market
from features.resample import merged
from features.sources.alignment import distances, refuse_misaligned
from features.sources.simulated import simulate

QUARTER, HOUR = pd.Timedelta(minutes=15), pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def fine() -> Market:
    return simulate(symbols=2, days=20, interval=QUARTER, seed=2)


@pytest.fixture(scope="module")
def coarse(fine: Market) -> Market:
    return Market(HOUR, merged(fine.columns, QUARTER, HOUR))


def moved(market: Market, by: pd.Timedelta) -> Market:
    """The same bars, at times that are counted otherwise."""
    return replace(market, columns={c: f.set_axis(f.index + by) for c, f in market.columns.items()})


def check(coarse: Market, fine: Market) -> None:
    refuse_misaligned(coarse, coarse.with_finer(fine).finer[QUARTER], "folder")


def test_distances_by_hand() -> None:
    """Two finer bars to a bar, whose closes rise by a tenth each; the bars say what stood one before."""
    logs = 0.1 * np.arange(80)
    close = np.exp(logs[1::2] - 0.1)
    found = distances(close, np.exp(logs), 2)
    assert found == pytest.approx([0.1, 0.0, 0.1, 0.2, 0.3])
    assert distances(close[:31], np.exp(logs[:62]), 2) is None, "29 bars with finer ones around them"
    assert distances(close[:32], np.exp(logs[:64]), 2) is not None
    holed = np.exp(logs)
    holed[10] = np.nan
    assert distances(close, holed, 2) == pytest.approx([0.1, 0.0, 0.1, 0.2, 0.3])
    for nothing in (np.full(40, np.nan), close):
        assert distances(nothing, np.full(80, np.nan), 2) is None


def test_bars_of_one_source_and_of_two_venues_fit(coarse: Market, fine: Market) -> None:
    check(coarse, fine)
    rng = np.random.default_rng(1)
    basis = np.exp(3e-3 + 2e-4 * rng.standard_normal(fine.close.shape))
    check(coarse, replace(fine, columns={**fine.columns, "close": fine.close * basis}))


def test_a_few_bars_tell_nothing(coarse: Market, fine: Market) -> None:
    check(coarse, moved(fine.since(fine.times[-100]), -QUARTER))


def test_a_price_that_stands_still_fits(coarse: Market, fine: Market) -> None:
    flat = {c: f * 0 + 5.0 for c, f in fine.columns.items()}
    check(Market(HOUR, {c: f * 0 + 5.0 for c, f in coarse.columns.items()}), Market(QUARTER, flat))


@pytest.mark.parametrize(
    ("bars", "words"),
    [(-4, "1h earlier"), (-1, "15m earlier"), (1, "15m later"), (4, "1h later")],
)
def test_times_that_are_counted_otherwise_are_refused(
    coarse: Market, fine: Market, bars: int, words: str
) -> None:
    with pytest.raises(ValueError, match=f"folder: bars of ALPHA agree with those above {words} .*0.00%"):
        check(coarse, moved(fine, bars * QUARTER))
    # Of another venue as well.
    rng = np.random.default_rng(1)
    basis = np.exp(2e-4 * rng.standard_normal(fine.close.shape))
    other = replace(fine, columns={**fine.columns, "close": fine.close * basis})
    with pytest.raises(ValueError, match=f"those above {words}"):
        check(coarse, moved(other, bars * QUARTER))


def test_another_price_is_refused(coarse: Market, fine: Market) -> None:
    dearer = {c: f * (1.1 if c in ("open", "high", "low", "close") else 1.0) for c, f in fine.columns.items()}
    with pytest.raises(ValueError, match=r"folder: closes of ALPHA are 9.5% from those of the bars above"):
        check(coarse, Market(QUARTER, dearer))
