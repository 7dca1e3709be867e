"""Files of trades, made here in every form that they are published in."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.sources import trades_parquet
from features.sources.trades import checked_trades, read_trades
from features.sources.trades_binance import symbol_of
from features.sources.trades_pieces import TradeChoice
from features.trades.arrays import Trades
from features.trades.checks import TradeChecks, TradeError

START = pd.Timestamp("2025-01-01", tz="UTC")
SCALE = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
CHOICE = TradeChoice(symbol="BTCUSDT")


def lines(form: str, market: str, unit: str = "ms", headed: bool = False, trades: int = 6) -> list[str]:
    """Rows as they are published: one trade a second from 100 upwards, 0.5 each, buys and sales in turn; an
    aggregated row stands for two."""
    rows = []
    if headed:
        rows.append(
            "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
            if form == "aggTrades"
            else "id,price,qty,quote_qty,time,is_buyer_maker"
        )
    for i in range(trades):
        time = int(START.timestamp() + i) * SCALE[unit]
        price, maker = f"{100 + i}.10", ("False", "True")[i % 2]
        middle = f"{2 * i},{2 * i + 1}" if form == "aggTrades" else f"{(100.1 + i) * 0.5:.8f}"
        row = f"{70 + i},{price},0.50000000,{middle},{time},{maker if market == 'spot' else maker.lower()}"
        rows.append(row + (",True" if market == "spot" else ""))
    return rows


def csv(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def zipped(path: Path, rows: list[str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".csv").name, "\n".join(rows) + "\n")
    return path


def parquet(path: Path, **columns: object) -> Path:
    n = 4
    table = {
        "timestamp": pd.date_range(START, periods=n, freq="1s", unit="us"),
        "price": [100.0, 101, 102, 103],
        "size": [1.0, 2, 3, 4],
        "side": ["buy", "sell", "Sell", "BUY"],
        **columns,
    }
    pd.DataFrame({k: v for k, v in table.items() if v is not None}).to_parquet(path)
    return path


def everything(path: Path, choice: TradeChoice = CHOICE) -> Trades:
    return Trades.joined([piece.trades for piece in read_trades(path, choice)])


@pytest.mark.parametrize(("market", "headed"), [("spot", False), ("usdm", False), ("usdm", True)])
@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("form", ["aggTrades", "trades"])
@pytest.mark.parametrize("write", [csv, zipped])
def test_every_published_form_gives_the_same_trades(
    tmp_path: Path, write: Callable[..., Path], form: str, market: str, unit: str, headed: bool
) -> None:
    suffix = "zip" if write is zipped else "csv"
    path = write(tmp_path / f"BTCUSDT-{form}-2025-01.{suffix}", lines(form, market, unit, headed))
    assert symbol_of(path) == "BTCUSDT"
    found = everything(path)
    np.testing.assert_array_equal(found.time_ns, START.value + np.arange(6) * 10**9)
    np.testing.assert_array_equal(found.price, [100.1, 101.1, 102.1, 103.1, 104.1, 105.1])
    np.testing.assert_array_equal(found.size, [0.5] * 6)
    # The aggressor sells where the buyer is the maker.
    assert found.buy.tolist() == [True, False] * 3
    assert found.id is not None and found.id.tolist() == [70, 71, 72, 73, 74, 75]
    assert (None if found.count is None else found.count.tolist()) == (
        [2] * 6 if form == "aggTrades" else None
    )


def test_parquet_of_trades(tmp_path: Path) -> None:
    found = everything(parquet(tmp_path / "a.parquet", trade_id=[4, 5, 6, 9], received_at=None, more=[0] * 4))
    assert found.buy.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(found.time_ns, START.value + np.arange(4) * 10**9)
    assert found.id is not None and found.id.tolist() == [4, 5, 6, 9]
    plain = everything(parquet(tmp_path / "b.parquet"))
    assert plain.id is None
    numbers = [int(START.timestamp() + i) * 1000 for i in range(4)]
    np.testing.assert_array_equal(everything(parquet(tmp_path / "c.parquet", timestamp=numbers)).time_ns,
                                  plain.time_ns)  # fmt: skip
    words = pd.Categorical(["buy", "sell", "sell", "buy"])
    assert everything(parquet(tmp_path / "d.parquet", side=words)).buy.tolist() == [True, False, False, True]
    decimals = [Decimal(n) for n in (1, 2, 3, 4)]
    assert everything(parquet(tmp_path / "e.parquet", size=decimals)).size.tolist() == [1, 2, 3, 4]


def test_a_file_is_read_in_pieces_whose_rows_are_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trades_parquet, "BATCH", 3)
    path = parquet(tmp_path / "a.parquet", symbol=["A", "BTCUSDT", "A", "BTCUSDT"])
    pieces = list(read_trades(path, CHOICE))
    assert [np.asarray(p.rows).tolist() for p in pieces] == [[1], [3]]
    assert [p.share for p in pieces] == [0.75, 1.0]
    assert Trades.joined([p.trades for p in pieces]).price.tolist() == [101, 103]


def test_symbols_and_markets_are_chosen_or_asked_for(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet", symbol=["BTCUSDT"] * 3 + ["ETHUSDT"], market=["spot", "spot", "usdm", "usdm"]
    )
    assert len(everything(path, TradeChoice(symbol="BTCUSDT", market="spot"))) == 2
    assert len(everything(path, TradeChoice(symbol="ETHUSDT"))) == 1
    with pytest.raises(
        TradeError, match=r"row 2: market = usdm: BTCUSDT trades in several.*choose one market"
    ):
        everything(path)
    with pytest.raises(
        TradeError, match=r"no trades with symbol XRP; choose one of \['BTCUSDT', 'ETHUSDT'\]"
    ):
        everything(path, TradeChoice(symbol="XRP"))
    with pytest.raises(TradeError, match=r"no trades with market cm; choose one of \['spot', 'usdm'\]"):
        everything(path, TradeChoice(symbol="BTCUSDT", market="cm"))


def test_the_column_of_the_side_is_named_or_left_out(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", side=None, side_inferred=["buy"] * 4)
    with pytest.raises(TradeError, match=r"columns \['side'\] are missing; .* one of \['side_inferred'\]"):
        everything(path)
    assert everything(path, TradeChoice(symbol="A", side_column="side_inferred")).buy.all()
    assert len(everything(path, TradeChoice(symbol="A", side_column=None))) == 4


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"side": ["buy", "sell", "hold", "buy"]}, "row 2: side = 'hold': the side is neither buy nor sell"),
        ({"side": ["buy", None, "sell", "buy"]}, "row 1: side = None: the side is neither"),
        ({"price": None}, r"columns \['price'\] are missing"),
        ({"price": ["1", "2", "3", "4"]}, "column price is .*string, not numbers; give plain numbers"),
        ({"size": [1.0, None, 2, 3]}, "row 1: size = None: size is missing"),
        ({"timestamp": pd.date_range("2025", periods=4, freq="1s")}, "has no time zone; give UTC times"),
        (
            {"timestamp": pd.date_range("2025", periods=4, freq="1s", tz="Europe/Berlin")},
            "time zone Europe/Berlin, not in UTC; convert it",
        ),
        ({"timestamp": ["2025-01-01"] * 4}, "column timestamp is .*string, not a time"),
        (
            {"timestamp": pd.to_datetime([1735689600000] * 4, unit="us", utc=True)},
            "row 0: timestamp = 1970-01-21 .*in another unit than the type says",
        ),
        (
            {"timestamp": [1735689600000, 1735689600001, 1735689600001000, 1735689600002]},
            "row 2: timestamp = 1735689600001000: a time in us, and the rows before it are in ms",
        ),
        ({"timestamp": [5, 6, 7, 8]}, "row 0: timestamp = 5: not a time from 2009 to 2100"),
        ({"trade_id": ["a", "b", "c", "d"]}, "column trade_id is .*string, not whole numbers"),
    ],
)  # fmt: skip
def test_parquet_that_is_refused(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    with pytest.raises(TradeError, match=words):
        everything(parquet(tmp_path / "a.parquet", **columns))


def test_a_stated_unit_is_held_to(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", lines("trades", "usdm", "ms"))
    assert len(everything(path, TradeChoice(symbol="A", time_unit="ms"))) == 6
    with pytest.raises(
        TradeError, match="row 0: time = 1735689600000: a time in ms, and the unit is stated to be us"
    ):
        everything(path, TradeChoice(symbol="A", time_unit="us"))


def changed(rows: list[str], row: int, old: str, new: str) -> list[str]:
    assert old in rows[row]
    return [r.replace(old, new) if i == row else r for i, r in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(lines("trades", "usdm"), 3, "103.10", "abc"), "row 3: price = 'abc': not a number"),
        (changed(lines("trades", "usdm", headed=True), 3, "102.10", ""), "row 2: price = '': not a number"),
        (changed(lines("aggTrades", "spot"), 1, ",True,", ",maybe,"), "row 1: buyer_is_maker = 'maybe': not"),
        (changed(lines("trades", "usdm"), 2, ",0.5", ""), "row 2: Expected 6 columns, got 5"),
        (changed(lines("trades", "usdm"), 4, "1735689604000", "1735689604000000"),
         "row 4: time = 1735689604000000: a time in us, and the rows before it are in ms"),
        (changed(lines("trades", "usdm"), 1, "50.55", "5055.0"), "row 1: quote_qty = 5055.*price times"),
        (changed(lines("aggTrades", "usdm"), 1, ",2,3,", ",3,1,"), "row 1: last_trade_id = 1: the last"),
        (["id,price,qty,base_qty,time,is_buyer_maker", "1,2,3,4,1735689604000,true"], "coin-margined"),
        (["open_time,open,high,low,close", "1,2,3,4,5"], "the first line is 'open_time,open"),
        (["1,2,3"], "the first line is '1,2,3'; give archives of aggTrades or trades"),
        ([], "the file has no trades; leave it out"),
    ],
)  # fmt: skip
def test_archives_that_are_refused(tmp_path: Path, rows: list[str], words: str) -> None:
    with pytest.raises(TradeError, match=words):
        everything(csv(tmp_path / "trades.csv", rows))


def test_rows_are_named_beyond_the_first_block(tmp_path: Path) -> None:
    many = lines("trades", "usdm", trades=120_000)
    path = csv(tmp_path / "trades.csv", changed(many, 110_000, ",0.5", ",x"))
    with pytest.raises(TradeError, match="row 110000: size = 'x0000000': not a number"):
        everything(path)
    zero = csv(tmp_path / "zero.csv", changed(changed(many, 110_000, ",0.50000000", ",0.0"), 110_000,
                                              f"{110100.1 * 0.5:.8f}", "0.0"))  # fmt: skip
    with pytest.raises(TradeError, match=r"row 110000: size = 0\.0: size is not a number above 0"):
        list(checked_trades([zero], CHOICE, TradeChecks()))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TradeError, match="the file does not exist"):
        everything(tmp_path / "none.csv")
    (tmp_path / "a.parquet").write_text("PAR?")
    with pytest.raises(TradeError, match="cannot be read as parquet"):
        everything(tmp_path / "a.parquet")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(TradeError, match=r"not a whole zip archive"):
        everything(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "")
        archive.writestr("b.csv", "")
    with pytest.raises(TradeError, match="holds 2 CSV files, not one"):
        everything(tmp_path / "two.zip")
    whole = zipped(tmp_path / "whole.zip", lines("trades", "usdm", trades=30_000)).read_bytes()
    (tmp_path / "torn.zip").write_bytes(whole[:5000] + bytes(20) + whole[5020:])
    with pytest.raises(TradeError, match=r"not a whole zip archive|not a number|Expected|not CSV"):
        everything(tmp_path / "torn.zip")
    with pytest.raises(TradeError, match="coin-margined futures, whose sizes count contracts"):
        everything(csv(tmp_path / "BTCUSD_PERP-aggTrades-2024-01.csv", lines("aggTrades", "usdm")))
    with pytest.raises(ValueError, match="no trade files given"):
        list(checked_trades([], CHOICE, TradeChecks()))
    pq.write_table(pq.read_table(parquet(tmp_path / "b.parquet")).slice(0, 0), tmp_path / "b.parquet")
    with pytest.raises(TradeError, match="the file has no trades; leave it out"):
        list(checked_trades([tmp_path / "b.parquet"], CHOICE, TradeChecks()))
