"""One market from folders of bars, finer bars, books and series: what is read, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.bars import BarError, Market
from features.fingerprint import fingerprint
from features.resample import merged
from features.sources.market import MarketSource, read_market
from features.sources.parquet import write_folder
from features.sources.simulated import simulate

MINUTE, QUARTER, HOUR = (pd.Timedelta(minutes=m) for m in (1, 15, 60))
START = pd.Timestamp("2024-01-01", tz="UTC")


@pytest.fixture(scope="module")
def fine() -> Market:
    """Four days of 15 min bars, from the first of January."""
    return simulate(symbols=2, days=4, interval=QUARTER, seed=2)


@pytest.fixture(scope="module")
def coarse(fine: Market) -> Market:
    return Market(HOUR, merged(fine.columns, QUARTER, HOUR))


@pytest.fixture
def source(tmp_path: Path, fine: Market, coarse: Market) -> MarketSource:
    write_folder(coarse, tmp_path / "bars")
    write_folder(fine, tmp_path / "fine")
    return MarketSource(tmp_path / "bars", symbols=coarse.symbols, finer=(tmp_path / "fine",))


def written(path: Path, table: pd.DataFrame) -> Path:
    path.parent.mkdir(exist_ok=True)
    table.to_parquet(path)
    return path


def funding(symbol: str = "ALPHA") -> pd.DataFrame:
    times = pd.date_range(START, periods=12, freq="8h")
    return pd.DataFrame(
        {"symbol": symbol, "funding_time": times, "funding_interval_hours": 8, "funding_rate": 0.0001}
    )


def index() -> pd.DataFrame:
    table = pd.DataFrame({"open_time": pd.date_range(START, periods=96, freq="1h")})
    return table.assign(**dict.fromkeys(("open", "high", "low", "close"), 55.0))


def test_finer_bars_lie_beneath_those_that_were_read(source: MarketSource, coarse: Market) -> None:
    market = read_market(source)
    assert sorted(market.finer) == [QUARTER, 2 * QUARTER]
    given = market.finer[QUARTER]
    assert len(given.times) == 4 * len(market.times)
    pd.testing.assert_frame_equal(given.close.iloc[3::4], market.close, check_exact=True, check_freq=False)
    assert fingerprint(market) == fingerprint(read_market(source)) != fingerprint(coarse)
    assert not read_market(replace(source, finer=())).finer


def test_relative_paths_are_those_of_now(
    source: MarketSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "series" / "funding.parquet", funding())
    written(tmp_path / "book" / "ALPHA.parquet", pd.DataFrame({"open_time": [START], "book_spread": [0.1]}))
    relative = MarketSource(
        Path("bars"), None, source.symbols, (Path("fine"),), Path("book"), (Path("series"),)
    )
    fixed = relative.absolute()
    expected = fingerprint(read_market(relative))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fingerprint(read_market(fixed)) == expected
    assert fixed.absolute() == fixed


def test_since_cuts_the_bars_and_all_that_belongs_to_them(source: MarketSource, coarse: Market) -> None:
    since = START + pd.Timedelta(days=2)
    market = read_market(replace(source, since=since))
    assert market.times[0] == since
    assert len(market.times) == 2 * 24 + 1
    assert len(market.finer[QUARTER].times) == 4 * len(market.times)
    pd.testing.assert_frame_equal(market.close, coarse.close.loc[since:], check_exact=True, check_freq=False)
    with pytest.raises(ValueError, match=r"bars closed since 2024-02-01 .* the last one did at 2024-01-05"):
        read_market(replace(source, since=pd.Timestamp("2024-02-01", tz="UTC")))


def test_bars_that_are_there_are_not_made_of_finer_ones(
    source: MarketSource, tmp_path: Path, fine: Market
) -> None:
    """The minutes begin on the last day, and the quarters of an hour four days before."""
    minutes = simulate(symbols=2, days=4, interval=MINUTE, seed=9)
    write_folder(minutes.since(minutes.times[-1] - pd.Timedelta(days=1)), tmp_path / "minutes")
    given = (tmp_path / "minutes", *source.finer)
    market = read_market(replace(source, finer=given))
    assert sorted(market.finer) == [MINUTE, 5 * MINUTE, QUARTER, 2 * QUARTER]
    assert market.finer[QUARTER].close.equals(fine.close)
    assert market.finer[2 * QUARTER].close.notna().to_numpy().all(), "of quarters, not of minutes"
    assert market.finer[5 * MINUTE].close.iloc[0].isna().all()
    assert fingerprint(market) == fingerprint(read_market(replace(source, finer=given[::-1])))


def test_a_symbol_without_finer_bars_has_none(source: MarketSource, tmp_path: Path) -> None:
    (tmp_path / "fine" / "BETA.parquet").unlink()
    beneath = read_market(source).finer[QUARTER].close
    assert beneath["BETA"].isna().all()
    assert beneath["ALPHA"].notna().all()


def test_finer_folders_that_do_not_fit_are_refused(
    source: MarketSource, tmp_path: Path, fine: Market, coarse: Market
) -> None:
    def refused(folder: Path, message: str, *others: Path) -> None:
        with pytest.raises(ValueError, match=message):
            read_market(replace(source, finer=(*others, folder)))

    refused(tmp_path / "bars", r"bars: bars of 1h do not divide bars of 1h into two or more")
    write_folder(Market(2 * HOUR, merged(coarse.columns, HOUR, 2 * HOUR)), tmp_path / "two")
    refused(tmp_path / "two", r"two: bars of 2h do not divide bars of 1h")
    renamed = {c: f.set_axis(["X", "Y"], axis=1) for c, f in fine.columns.items()}
    write_folder(Market(QUARTER, renamed), tmp_path / "others")
    refused(tmp_path / "others", r"others holds files of \['X', 'Y'\], .* give a folder of the same symbols")
    refused(tmp_path / "nothing", "nothing holds no parquet files")
    write_folder(fine, tmp_path / "again")
    refused(tmp_path / "again", "fine and .*again both hold bars of 15m", *source.finer)


def test_book_columns_and_series_lie_beside_the_bars(
    source: MarketSource, tmp_path: Path, coarse: Market
) -> None:
    table = pd.DataFrame({"open_time": [START, START + 2 * HOUR], "book_spread": [0.001, 0.002]})
    written(tmp_path / "book" / "BETA.parquet", table)
    written(tmp_path / "book" / "ELSEWHERE.parquet", table)
    files = written(tmp_path / "series" / "a.parquet", funding()), written(tmp_path / "b.parquet", index())
    market = read_market(
        replace(source, book=tmp_path / "book", context=(tmp_path / "series", tmp_path / "b.parquet"))
    )
    assert files[0].parent == tmp_path / "series"
    spread = market["book_spread"]
    assert spread["BETA"].iloc[:4].tolist() == pytest.approx([0.001, np.nan, 0.002, np.nan], nan_ok=True)
    assert spread["ALPHA"].isna().all(), "absent, not zero"
    assert market["funding_rate"]["ALPHA"].notna().all()
    assert market["funding_rate"]["BETA"].isna().all()
    assert (market["implied_volatility"] == 0.55).to_numpy().all()
    assert "open_interest" not in market
    assert market.close.equals(coarse.close)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"book_spread": [0.1, -1.0]},
            r"BETA.parquet, row 1: book_spread = -1.0: .* number in \[0, 2\]",
        ),
        ({"book_spread": ["0.1", "much"]}, r"BETA.parquet: a column is not numeric"),
        ({"open": [1.0, 1.0]}, r"BETA.parquet: columns \['open'\] are not of features.columns; .* bar table"),
        ({"open_time": START}, r"BETA.parquet, row 1: open_time = .* occurs twice"),
    ],
)
def test_a_bad_book_table_is_refused(
    source: MarketSource, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    table = pd.DataFrame({"open_time": [START, START + HOUR], "book_spread": [0.1, 0.2]}).assign(**change)
    written(tmp_path / "book" / "BETA.parquet", table)
    with pytest.raises(BarError, match=message):
        read_market(replace(source, book=tmp_path / "book"))


def test_a_book_folder_that_holds_none_is_refused(source: MarketSource, tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "BETA.parquet").write_bytes(b"no parquet")
    with pytest.raises(BarError, match=r"BETA.parquet: the file cannot be read as parquet"):
        read_market(replace(source, book=tmp_path / "book"))
    with pytest.raises(ValueError, match="series holds no parquet files, and the market is of"):
        read_market(replace(source, book=tmp_path / "series"))


def test_columns_that_the_bars_have_are_not_replaced(source: MarketSource, tmp_path: Path) -> None:
    for symbol in ("ALPHA", "BETA"):
        path = tmp_path / "bars" / f"{symbol}.parquet"
        pd.read_parquet(path).assign(funding_rate=0.0).to_parquet(path)
    feed = written(tmp_path / "feed.parquet", funding())
    with pytest.raises(ValueError, match=r"feed.parquet and the bars both hold \['funding_rate'\]"):
        read_market(replace(source, context=(feed,)))


def test_files_of_no_series_or_of_one_twice_are_refused(source: MarketSource, tmp_path: Path) -> None:
    first = written(tmp_path / "first.parquet", funding())
    second = written(tmp_path / "second.parquet", funding("BETA"))
    with pytest.raises(ValueError, match=r"first.parquet and .*second.parquet both hold funding; join them"):
        read_market(replace(source, context=(first, second)))
    bars = tmp_path / "bars" / "ALPHA.parquet"
    with pytest.raises(BarError, match=r"ALPHA.parquet: columns .* are of no series that is known"):
        read_market(replace(source, context=(bars,)))
    (tmp_path / "text.parquet").write_text("open,high")
    for broken in ("text.parquet", "absent.parquet"):
        with pytest.raises(BarError, match=f"{broken}: the file cannot be read as parquet"):
            read_market(replace(source, context=(tmp_path / broken,)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no parquet files"):
        read_market(replace(source, context=(tmp_path / "empty",)))
    too_large = funding().assign(funding_rate=1.0)
    with pytest.raises(BarError, match=r"third.parquet, row 0: funding_rate = 1.0"):
        read_market(replace(source, context=(written(tmp_path / "third.parquet", too_large),)))


def test_finer_bars_of_other_times_are_refused(source: MarketSource, tmp_path: Path, fine: Market) -> None:
    """Bars that an hour's close was taken for the open of would be told by those beneath what comes."""
    late = {c: f.set_axis(f.index + HOUR) for c, f in merged(fine.columns, QUARTER, HOUR).items()}
    write_folder(Market(HOUR, late), tmp_path / "bars")
    with pytest.raises(ValueError, match=r"fine: bars of ALPHA agree with those above 1h earlier"):
        read_market(source)


@pytest.mark.realdata
def test_real_bars_lie_over_finer_ones_and_beside_series(real_data: Path) -> None:
    bars = real_data / "bars" / "binance-spot"
    series = (real_data / "funding", real_data / "dvol")
    market = read_market(MarketSource(bars / "1h", finer=(bars / "15m", bars / "30m"), context=series))
    assert len(market.symbols) == 7
    for interval, first in ((QUARTER, "2024-12-30"), (2 * QUARTER, "2024-01-01")):
        beneath = market.finer[interval].close.iloc[HOUR // interval - 1 :: HOUR // interval]
        since = slice(pd.Timestamp(first, tz="UTC") + HOUR, None)
        assert beneath.loc[: since.start - QUARTER].isna().to_numpy().all()
        assert beneath.loc[since].equals(market.close.loc[since])
    assert market["funding_rate"].notna().to_numpy().mean() > 0.999
    assert 0.95 < market["implied_volatility"].notna().to_numpy().mean() < 1, "the index has holes"
