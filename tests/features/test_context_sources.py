"""Context series: what is refused, when each is known, and when it is too old."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.bars import BarError, Market
from features.cli import main
from features.sources.as_of import with_context
from features.sources.context import (
    Context,
    check_funding,
    check_index,
    check_liquidations,
    check_open_interest,
    read_context,
)
from features.sources.parquet import read_folder, write_folder

MakeMarket = Callable[..., Market]
START = pd.Timestamp("2024-01-01", tz="UTC")


def hours(*numbers: float) -> list[pd.Timestamp]:
    return [START + pd.Timedelta(hours=n) for n in numbers]


def funding(at: tuple[float, ...] = (0, 8), symbol: str = "A", interval: int = 8) -> pd.DataFrame:
    rates = [0.0001 * (k + 1) for k in range(len(at))]
    return pd.DataFrame(
        {
            "symbol": symbol,
            "funding_time": hours(*at),
            "funding_interval_hours": interval,
            "funding_rate": rates,
        }
    )


def index(at: tuple[float, ...] = (0, 1), close: float = 60.0) -> pd.DataFrame:
    closes = [close + k for k in range(len(at))]
    return pd.DataFrame(
        {"open_time": hours(*at), "open": closes, "high": closes, "low": closes, "close": closes}
    )


def liquidations(*rows: tuple[float, str, str, float, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["hour", "symbol", "side", "size", "price"])
    return table.assign(time=hours(*table.pop("hour")))


@pytest.fixture
def market(market_of_closes: MakeMarket) -> Market:
    """A and B, 60 hourly bars; the first closes at 01:00, and bar 5 (close 06:00) of B is missing."""
    bars = market_of_closes({"A": [1.0] * 60, "B": [1.0] * 60})
    columns = {c: f.copy() for c, f in bars.columns.items()}
    for frame in columns.values():
        frame.iloc[5, 1] = np.nan
    return Market(bars.interval, columns)


def test_funding_is_known_at_its_time_and_for_two_intervals(market: Market) -> None:
    tables = pd.concat([funding((2, 10, 18)), funding((2, 6), "B", interval=4)], ignore_index=True)
    rate = with_context(market, Context(funding=check_funding(tables, "x")))["funding_rate"]
    assert np.isnan(rate.loc[START + pd.Timedelta(hours=1), "A"]), "not settled yet"
    assert rate["A"].loc[hours(2, 9, 10, 18)].tolist() == pytest.approx([1e-4, 1e-4, 2e-4, 3e-4])
    assert rate["A"].loc[hours(34)[0]] == pytest.approx(3e-4), "16 h old"
    assert np.isnan(rate["A"].loc[hours(35)[0]])
    # Rates of 4 h count twice, for 8 h; they are old after 8 h.
    assert rate["B"].loc[hours(2, 14)].tolist() == pytest.approx([2e-4, 4e-4])
    assert np.isnan(rate["B"].loc[hours(15)[0]])
    assert np.isnan(rate["B"].loc[hours(6)[0]]), "a missing bar is missing in every column"


def test_an_index_is_known_at_its_close_by_all_symbols(market: Market) -> None:
    table = check_index(index((0, 1, 26)), "x")
    implied = with_context(market, Context(index=table))["implied_volatility"]
    for symbol in ("A", "B"):
        # The bar that opens at 01:00 is known at 02:00 and no sooner; nothing stands for more than 3 h.
        expected = [0.60, 0.61, 0.61, 0.61, 0.61]
        assert implied[symbol].loc[hours(1, 2, 3, 4, 5)].tolist() == pytest.approx(expected)
        assert np.isnan(implied[symbol].loc[hours(6, 7, 26)]).all()
        assert implied[symbol].loc[hours(27)].tolist() == pytest.approx([0.62])


def test_a_value_that_changes_later_changes_nothing_before(market: Market) -> None:
    table = funding((2, 10, 18))
    later = table.assign(funding_rate=table["funding_rate"].where(table.index < 2, 0.05))
    before, after = (
        with_context(market, Context(funding=check_funding(t, "x")))["funding_rate"] for t in (table, later)
    )
    cut = START + pd.Timedelta(hours=17)
    pd.testing.assert_frame_equal(after.loc[:cut], before.loc[:cut])
    assert not after.equals(before)


def test_open_interest_is_absent_beyond_its_age(market: Market) -> None:
    table = pd.DataFrame({"symbol": "A", "time": hours(1.5, 2.5), "open_interest": [10.0, 0.0]})
    found = with_context(market, Context(open_interest=check_open_interest(table, "x")))["open_interest"]
    assert found["A"].loc[hours(2, 3, 4)].tolist() == [10.0, 0.0, 0.0]
    assert np.isnan(found["A"].loc[hours(1, 5)]).all()
    assert found["B"].isna().all()


def test_liquidations_are_summed_by_bar_and_side_while_the_feed_lives(market: Market) -> None:
    table = liquidations(
        (0.5, "A", "sell", 1, 9),
        (2.0, "A", "sell", 1, 10),
        (2.9, "A", "sell", 2, 10),
        (2.9, "A", "buy", 1, 11),
        (9.0, "B", "buy", 3, 10),
    )
    joined = with_context(market, Context(liquidations=check_liquidations(table, "x")))
    longs, shorts = joined["liquidations_long"], joined["liquidations_short"]
    # The feed begins within the first bar: of that bar not all is known.
    assert np.isnan(longs["A"].loc[hours(1)[0]])
    assert longs["A"].loc[hours(2, 3, 4)].tolist() == [0.0, 30.0, 0.0], "02:00 opens the bar that closes at 3"
    assert shorts["A"].loc[hours(2, 3, 4)].tolist() == [0.0, 11.0, 0.0]
    assert shorts["B"].loc[hours(10)].tolist() == [30.0]
    # Between 02:54 and 09:00 the feed is silent for more than 6 h at 09:00, but just alive at 08:00.
    assert longs["A"].loc[hours(8)].tolist() == [0.0]
    # The bar that closes at 09:00 has the liquidation of 09:00 at its close, and at its open that of 02:54.
    assert longs["A"].loc[hours(9, 10, 15)].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(longs["A"].loc[hours(16, 17)]).all(), "not zero: nobody knows"


def test_series_that_are_not_given_are_absent(market: Market) -> None:
    assert set(with_context(market, Context()).columns) == set(market.columns)
    only = with_context(market, Context(index=check_index(index(), "x")))
    assert set(only.columns) - set(market.columns) == {"implied_volatility"}


def test_an_empty_table_is_known_nowhere(market: Market) -> None:
    empty = liquidations((0.5, "A", "sell", 1, 9)).iloc[:0]
    tables = Context(
        check_funding(funding().iloc[:0], "x"),
        check_index(index().iloc[:0], "x"),
        None,
        check_liquidations(empty, "x"),
    )
    joined = with_context(market, tables)
    for name in ("funding_rate", "implied_volatility", "liquidations_long"):
        assert joined[name].isna().to_numpy().all(), name


A_LIQUIDATION = liquidations((0.5, "A", "sell", 1.0, 9.0))


@pytest.mark.parametrize(
    ("check", "table", "message"),
    [
        (check_funding, funding().drop(columns="symbol"), r"x: columns \['symbol'\] are missing"),
        (check_funding, funding().assign(funding_rate=0.2), "row 0: funding_rate = 0.2: .* not percent"),
        (check_funding, funding().assign(funding_rate=[0, np.nan]), "row 1: funding_rate = nan: .* finite"),
        (check_funding, funding().assign(funding_rate="much"), "funding_rate is not numeric"),
        (check_funding, funding().assign(funding_interval_hours=[8, 0]), "row 1: funding_interval_hours = 0"),
        (check_funding, funding((0, 0)), "row 1: funding_time = .* occurs twice"),
        (
            check_funding,
            funding((8, 0)),
            "row 1: .* earlier than the one before.*; sort the table by symbol and",
        ),
        (
            check_funding,
            funding().assign(funding_time=funding()["funding_time"].dt.tz_convert("Asia/Tokyo")),
            r"funding_time is datetime64\[.*Asia/Tokyo\], not in UTC; give UTC times",
        ),
        (
            check_funding,
            funding().assign(funding_time=funding()["funding_time"].dt.tz_localize(None)),
            "not in UTC",
        ),
        (
            check_funding,
            funding().assign(
                funding_time=pd.to_datetime([1_704_067_200, 1_704_096_000], unit="ms", utc=True)
            ),
            "row 0: funding_time = 1970-01-20 .*: funding_time is not between 2009 and 2100.* check the unit",
        ),
        (
            check_funding,
            funding().assign(funding_time=pd.Series(np.array([1, 2]) * 10**17).astype("datetime64[ms, UTC]")),
            "row 0: .* is not between 2009 and 2100",
        ),
        (check_funding, funding().assign(symbol=["A", None]), "row 1: symbol = .*: symbol is missing"),
        (check_index, index().assign(close=0.6), "row 0: close = 0.6: .* in percent points: 55 for 55 %"),
        (check_index, index((0, 0.5)), "row 1: open_time = .* is not on the 1h grid"),
        (check_index, index((0, 0)), "row 1: open_time = .* occurs twice"),
        (check_index, index().assign(high=50.0), "row 0: high = 50.0: high is below open, low or close"),
        (check_index, index().assign(low=70.0, high=80.0), "row 0: low = 70.0: low is above open or close"),
        (
            check_open_interest,
            pd.DataFrame({"symbol": "A", "time": hours(1), "open_interest": [-1.0]}),
            "row 0: open_interest = -1.0: open_interest is negative",
        ),
        (check_liquidations, A_LIQUIDATION.assign(side="long"), "row 0: side = long: .* sell closes a long"),
        (check_liquidations, A_LIQUIDATION.assign(size=-1.0), "row 0: size = -1.0: size is not above 0"),
        (check_liquidations, A_LIQUIDATION.assign(price=np.inf), "row 0: price = inf: price is not finite"),
    ],
)
def test_bad_series_are_refused(
    check: Callable[[pd.DataFrame, str], pd.DataFrame], table: pd.DataFrame, message: str
) -> None:
    with pytest.raises(BarError, match=message) as caught:
        check(table, "x")
    assert caught.value.remedy


def test_the_command_writes_bars_with_series_beside_them(
    tmp_path: Path, market: Market, capsys: pytest.CaptureFixture[str]
) -> None:
    bars, out, file = tmp_path / "bars", tmp_path / "out", tmp_path / "funding.parquet"
    write_folder(market, bars)
    funding((0, 8, 16)).to_parquet(file)
    assert main(["context", str(bars), "--funding", str(file), "--out", str(out)]) == 0
    assert "funding_rate: known in 53.3% of the bars, and for none of ['B']" in capsys.readouterr().out
    found = read_folder(out, symbols=["A", "B"])
    expected = with_context(market, read_context(funding=file))
    pd.testing.assert_frame_equal(found["funding_rate"], expected["funding_rate"], check_freq=False)

    assert main(["context", str(bars), "--funding", str(file), "--out", str(bars)]) == 2
    assert "A.parquet and 1 more are there already; give --replace" in capsys.readouterr().err
    assert "funding_rate" not in read_folder(bars)

    assert main(["context", str(bars), "--out", str(tmp_path / "no")]) == 2
    assert "no series given; give --funding" in capsys.readouterr().err
    file.write_bytes(b"no parquet")
    assert main(["context", str(bars), "--funding", str(file), "--out", str(tmp_path / "no")]) == 2
    assert "cannot be read as parquet" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
