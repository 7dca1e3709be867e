"""Order books as three venues sent them: locked by rounding, a hole of hours, several tapes in one file; and
funding and implied volatility beside real bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import Market, check_bars
from features.books.bars import BookBars, book_table
from features.columns import BOOK_COLUMNS
from features.durations import window_bars
from features.pipeline import Pipeline, all_features
from features.sources.as_of import with_context
from features.sources.books import joined, read_book_columns, read_books, tapes_in
from features.sources.context import read_context
from features.sources.join import with_tables
from features.sources.parquet import read_folder

TEN = pd.Timedelta("10s")


def features_of(family: str, market: Market) -> list[str]:
    return [n for f in all_features() if f.family == family and f.lacks(market) is None for n in f.outputs]


def in_range(table: pd.DataFrame) -> bool:
    """Whether all that is known lies in the range that ``features.columns`` states."""
    return all(
        ((table[c.name] >= (-np.inf if c.low is None else c.low)) | table[c.name].isna()).all()
        and ((table[c.name] <= (np.inf if c.high is None else c.high)) | table[c.name].isna()).all()
        for c in BOOK_COLUMNS
        if c.name in table
    )


def bars_of_mid(path: Path) -> pd.DataFrame:
    """10 s bars of the mid, for a grid to put the columns on."""
    parts = [
        pd.Series((b.bid_px[:, 0] + b.ask_px[:, 0]) / 2, b.time_ns.astype("datetime64[ns]"))
        for b in read_books(path)
    ]
    ohlc = pd.concat(parts).tz_localize("UTC").resample("10s").ohlc().dropna()
    table = ohlc.assign(volume=1.0).rename_axis("open_time").reset_index()
    high, low = table[["open", "high", "close"]].max(axis=1), table[["open", "low", "close"]].min(axis=1)
    return check_bars(table.assign(high=high, low=low), TEN, "mid")


@pytest.mark.realdata
def test_a_book_that_is_locked_by_rounding_and_has_a_hole(real_data: Path) -> None:
    path = real_data / "book" / "standx-BTCUSD-1s.parquet"
    table, counts = read_book_columns([path], TEN)
    assert counts.snapshots == 214_335 and counts.locked == 99_135 and counts.crossed == 0
    assert counts.holes == 2 and counts.longest_hole == pd.Timedelta(seconds=6440)
    assert in_range(table)
    steps = table["open_time"].diff()
    assert steps.max() > pd.Timedelta("105min"), "no rows in the hole but those of the book that still stood"
    after = int(steps.argmax())
    known = table["book_coverage"] >= 0.5
    assert table.loc[known, "book_depth_10"].notna().all() and table.loc[~known, "book_depth_10"].isna().all()
    # 1 in 5 bars of 10 s is locked from end to end, and has depth and imbalance all the same.
    assert 0.15 < table["book_spread"].isna().mean() < 0.25
    assert table["book_ofi_10"].iloc[1:after].notna().mean() > 0.99

    market = with_tables(Market.from_bars({"A": bars_of_mid(path)}, TEN), {"A": table})
    names = features_of("book", market)
    assert "book_ofi_integrated_1h" in names
    pipeline = Pipeline.fit(market.until(market.times[len(market.times) // 2]), names)
    state = pipeline.states["book_ofi_integrated_1min"]
    assert min(state["weights"]) > -0.05, "buying at any level is buying"
    frame = pipeline.batch(market)
    assert not np.isinf(frame.values).any()
    assert np.nanmax(np.abs(frame.values)) <= 10
    warm = frame.times > market.times[0] + pd.Timedelta("18h")
    share = np.isfinite(frame.values[warm & market.close["A"].notna().to_numpy()]).mean(axis=(0, 1))
    seldom = {n for n, s in zip(names, share, strict=True) if s < 0.97}
    # Where the book is locked from end to end it has no spread and no lean.
    assert seldom == {
        "book_microprice_now",
        *(f"book_{n}_1min" for n in ("spread", "spread_max", "microprice")),
    }
    assert share.min() > 0.75
    for row in (len(market.times) - 1, 20_000):
        window = market.until(market.times[row]).last(window_bars(pipeline.look_back, TEN))
        np.testing.assert_allclose(
            pipeline.online(window).values[0], frame.values[row], rtol=1e-9, atol=1e-12
        )


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "tapes"), [("hyperliquid-BTC-ETH-SOL-35min", 4), ("binance-bookticker-11min", 6)]
)
def test_several_tapes_of_clean_books(real_data: Path, name: str, tapes: int) -> None:
    path = real_data / "book" / f"{name}.parquet"
    found = tapes_in(path)
    assert len(found) == tapes
    for tape in found:
        table, counts = read_book_columns([path], TEN, tape)
        assert counts.locked == counts.crossed == counts.empty == 0
        assert in_range(table)
        inside = table.iloc[1:-1]
        assert (
            inside[inside["book_coverage"] > 0.9][["book_spread", "book_ofi_1", "book_slope"]]
            .notna()
            .all(axis=None)
        )
        assert (table["book_spread"].dropna() < 0.002).all()


@pytest.mark.realdata
def test_replaying_snapshots_one_by_one_gives_the_same_bits(real_data: Path) -> None:
    path = real_data / "book" / "hyperliquid-BTC-ETH-SOL-35min.parquet"
    expected, _ = read_book_columns([path], TEN, {"symbol": "ETH"})
    bars, rows = BookBars(TEN), []
    for books in read_books(path, {"symbol": "ETH"}):
        rows += [bars.add(books.rows(slice(i, i + 1))) for i in range(len(books))]
    found = book_table(joined([*rows, bars.finish()]))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.realdata
def test_funding_and_implied_volatility_beside_bars(real_data: Path) -> None:
    context = read_context(
        funding=real_data / "funding" / "binance-usdm.parquet", index=real_data / "dvol" / "BTC-1h.parquet"
    )
    bars = read_folder(real_data / "bars" / "binance-spot" / "1h", symbols=["BTCUSDT", "SOLUSDT"])
    market = with_context(bars, context)
    assert market["funding_rate"].notna().to_numpy().mean() > 0.999
    # 52 holes, most of 23 h: of those, 3 h stand.
    assert 0.95 < market["implied_volatility"].notna().to_numpy().mean() < 0.99
    names = features_of("context", market)
    frame = Pipeline.fit(market, names).batch(market)
    assert not np.isinf(frame.values).any()
    assert np.nanmax(np.abs(frame.values)) <= 10
    warm = frame.times > market.times[0] + pd.Timedelta(days=17)
    assert np.isfinite(frame.values[warm]).mean() > 0.95
    # Options ask for more than what then happens, most of the time: the variance risk premium.
    premium = frame["implied_premium"][:, 0]
    assert np.nanmedian(premium) > 0
