"""On real hours of 2022 to 2025 the names keep their meaning from quarter to quarter, and a crisis is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.bars import Market
from features.regime_chain import REGIMES
from features.sources.parquet import read_folder
from training.regime_refits import CHAINS, followed, quarterly_refits, stability

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def market(real_data: Path) -> Market:
    return read_folder(real_data / "bars" / "binance-spot" / "1h")


def test_regimes_mean_the_same_from_refit_to_refit(market: Market) -> None:
    found = stability(market, quarterly_refits(market))
    assert len(found) == 26
    mean = found.groupby("chain")[["agreement", "distance"]].mean()
    # 96 % and 0.04 when written, and in the worst quarter 90 % and 0.09.
    assert (mean["agreement"] > 0.94).all()
    assert (mean["distance"] < 0.05).all()
    assert (found["agreement"] > 0.85).all()
    assert (found["distance"] < 0.12).all()


@pytest.mark.parametrize("prefix", CHAINS.values())
def test_regimes_are_ordered_by_the_volatility_that_follows_out_of_sample(
    market: Market, prefix: str
) -> None:
    frames = followed(market, quarterly_refits(market))
    probability = np.stack([frames[f"{prefix}_{name}"].to_numpy() for name in REGIMES])
    likeliest = np.where(np.isnan(probability).any(axis=0), -1, np.nan_to_num(probability).argmax(axis=0))
    squared = (market.log_returns() ** 2).loc[frames[f"{prefix}_calm"].index[0] :].to_numpy()
    following = sum(squared[k : len(squared) - 4 + k] for k in range(1, 5))
    level = [np.sqrt(np.nanmedian(following[likeliest[:-4] == k])) for k in range(4)]
    assert level == sorted(level)
    assert level[3] > 3 * level[0]
