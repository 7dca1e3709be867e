"""The command that makes bars from files of trades: what it writes, says and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.cli import main
from features.commands import trades as command
from features.sources.parquet import read_folder
from features.trades.arrays import Trades
from features.trades.bars import TradeBars
from features.trades.tables import SIDED, bar_table, joined

MINUTE = pd.Timedelta(minutes=1)


@pytest.fixture(scope="module")
def simple_tape() -> Trades:
    """Two hours, a trade a second and none in minute 50; the side moves the price."""
    rng = np.random.default_rng(3)
    seconds = np.array([s for s in range(7200) if s // 60 != 50])
    buy = rng.random(len(seconds)) < 0.5
    price = np.round(100 + np.cumsum(np.where(buy, 0.01, -0.01)), 2)
    start = int(pd.Timestamp("2025-03-01", tz="UTC").value)
    size = np.round(rng.lognormal(0, 1, len(seconds)), 3) + 0.001
    return Trades(start + seconds * 10**9, price, size, buy, np.arange(len(seconds)))


@pytest.fixture
def archive(tmp_path: Path, simple_tape: Trades) -> Callable[..., str]:
    """An archive of some rows of the tape, as it would be published."""

    def make(name: str, rows: slice, keep: Callable[[int], bool] = lambda _: True) -> str:
        t = simple_tape.rows(rows)
        assert t.id is not None
        lines = [
            f"{t.id[i]},{t.price[i]},{t.size[i]},{t.price[i] * t.size[i]:.8f},{t.time_ns[i] // 10**6},"
            f"{str(not t.buy[i]).lower()}\n"
            for i in range(len(t))
            if keep(i)
        ]
        (tmp_path / name).write_text("".join(lines))
        return str(tmp_path / name)

    return make


def test_archives_become_a_bar_file(
    tmp_path: Path, archive: Callable[..., str], simple_tape: Trades,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    files = [
        archive("AUSDT-trades-2025-03-01.csv", slice(0, 3000)),
        archive("AUSDT-trades-2.csv", slice(3000, None)),
    ]
    out = tmp_path / "bars"
    monkeypatch.setattr(command, "_GROUP", 7)
    assert main(["trades", "--in", *files, "--interval", "1m", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert (
        "AUSDT.parquet: 120 bars of 1m from 7,140 trades, 2025-03-01 00:00:00 to 2025-03-01 01:59:59 UTC; "
        "0 ids missing" in told.out
    )
    bars = TradeBars(MINUTE)
    expected = bar_table(joined([bars.add(simple_tape), bars.finish()]))
    pd.testing.assert_frame_equal(pd.read_parquet(out / "AUSDT.parquet"), expected)
    assert pq.ParquetFile(out / "AUSDT.parquet").num_row_groups > 1
    market = read_folder(out)
    assert (market.interval, market.symbols) == (MINUTE, ("AUSDT",))
    assert market["volume"].iloc[50].item() == 0 and "run_mean" in market

    assert main(["trades", "--in", files[0], "--interval", "1m", "--out", str(out)]) == 2
    assert "is there already; give --replace" in capsys.readouterr().err
    assert main(["trades", "--in", files[0], "--interval", "1h", "--out", str(out), "--replace"]) == 0
    told = capsys.readouterr()
    assert "1 bars of 1h from 3,000 trades" in told.out
    assert "the last bar may hold only a part of its trades" in told.err


def test_what_is_refused_leaves_nothing_behind(
    tmp_path: Path, archive: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    good = archive("AUSDT-trades-1.csv", slice(0, 3000))
    out = tmp_path / "bars"
    run = ["--interval", "1m", "--out", str(out), "--symbol", "A"]
    assert main(["trades", "--in", good, good, *run]) == 2
    assert "in the order of their times, and leave out those that overlap" in capsys.readouterr().err
    gaps = archive("gaps.csv", slice(0, 3000), lambda i: i % 3 > 0)
    assert main(["trades", "--in", gaps, *run]) == 2
    assert "ids are missing (33.3%, at most 1 in a row), more than 20.0%" in capsys.readouterr().err
    assert not out.exists()
    assert main(["trades", "--in", gaps, *run, "--most-missing-ids", "0.5"]) == 0
    assert "999 ids are missing (33.3%" in capsys.readouterr().err
    before = (out / "A.parquet").read_bytes()
    assert main(["trades", "--in", str(tmp_path / "none.csv"), *run, "--replace"]) == 2
    assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("A.parquet", before)]


def test_bars_without_sides(tmp_path: Path, simple_tape: Trades, capsys: pytest.CaptureFixture[str]) -> None:
    t = simple_tape
    table = pd.DataFrame(
        {"timestamp": pd.to_datetime(t.time_ns, utc=True), "price": t.price, "size": t.size, "side": "sell"}
    )
    table.to_parquet(tmp_path / "t.parquet")
    run = ["trades", "--in", str(tmp_path / "t.parquet"), "--symbol", "A", "--interval", "1m", "--out"]
    assert main([*run, str(tmp_path / "wrong")]) == 0
    assert "disagrees with the tick rule" in capsys.readouterr().err
    assert main([*run, str(tmp_path / "none"), "--no-side"]) == 0
    assert capsys.readouterr().err == ""
    columns = set(pd.read_parquet(tmp_path / "none" / "A.parquet").columns)
    assert not columns & set(SIDED) and {"volume", "roll_spread", "large_trade_share"} <= columns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--in", "t.csv"], "the names of the files tell the symbols []; give --symbol"),
        (["--in", "A-trades-1.csv", "B-trades-1.csv"], "tell the symbols ['A', 'B']; give --symbol"),
        (["--symbol", "A"], "no trade files given"),
        (["--symbol", "A", "none.parquet"], "the file does not exist"),
    ],
)
def test_bad_arguments_end_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "bars"
    assert main(["trades", *arguments, "--interval", "1m", "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.splitlines()) == 1
    assert not out.exists()
