"""Files of trades into bars with trade columns, piece by piece: memory does not grow with the files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from features.atomic import written_whole
from features.bars import BarError, check_bars
from features.durations import format_duration
from features.sources.trades import checked_trades
from features.sources.trades_binance import symbol_of
from features.sources.trades_pieces import TradeChoice
from features.trades.bars import TradeBars
from features.trades.checks import CheckSettings, TapeReport, TradeChecks
from features.trades.settings import TradeSettings
from features.trades.tables import SIDED, Table, bar_table, joined

#: Bars of a row group: as many as are held before they are written.
_GROUP = 10_000


def make_trade_bars(
    files: Sequence[Path],
    interval: pd.Timedelta,
    out: Path,
    choice: TradeChoice,
    checks: CheckSettings | None = None,
    settings: TradeSettings | None = None,
    replace: bool = False,
) -> tuple[str, list[str]]:
    """Write ``SYMBOL.parquet`` into ``out``, whole or not at all.

    Args:
        files: trades of one symbol, oldest first, see ``features.sources.trades``.
        interval: the bar length.
        out: the folder.
        choice: which trades of the files.
        checks: what is believed.
        settings: of the trade columns.
        replace: whether a file that is there may be replaced.

    Returns what was counted, as a sentence, and warnings. Raises ``TradeError`` and ``BarError``, and
    ``ValueError`` where the file is there already.
    """
    path = out / f"{choice.symbol}.parquet"
    if path.exists() and not replace:
        raise ValueError(f"{path} is there already; give --replace to write it anew, or another folder")
    bars, checking = TradeBars(interval, settings), TradeChecks(checks)
    sided = choice.side_column is not None
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with (
            written_whole(path) as draft,
            _BarFile(draft, interval, sided) as file,
            _progress(files) as moved,
        ):
            for piece, trades in checked_trades(files, choice, checking):
                file.write(bars.add(trades))
                moved(piece.where, piece.share)
            file.write(bars.finish())
            warnings = checking.finish(sided)
            file.finish(str(path))
    except BaseException:
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
    return _told(path, file.bars, interval, checking.report), warnings + _partial(checking.report, interval)


def symbol_in(files: Sequence[Path]) -> str:
    """The symbol that the names of all files tell. Raises ``ValueError`` where they tell none or several."""
    names = {symbol_of(path) for path in files}
    if len(names) != 1 or None in names:
        raise ValueError(
            f"the names of the files tell the symbols {sorted(n for n in names if n)}; give --symbol"
        )
    return str(names.pop())


class _BarFile:
    """A parquet file of bars that is written in groups."""

    def __init__(self, path: Path, interval: pd.Timedelta, sided: bool) -> None:
        self._path, self._interval, self._sided = path, interval, sided
        self._held: list[Table] = []
        self._waiting = 0
        self._writer: pq.ParquetWriter | None = None
        self.bars = 0

    def __enter__(self) -> _BarFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: Table) -> None:
        bars = len(table["open_time_ns"])
        if bars:
            self._held.append(table)
            self._waiting += bars
        if self._waiting >= _GROUP:
            self._flush()

    def finish(self, where: str) -> None:
        """Raises ``BarError`` where there are no bars."""
        self._flush()
        if self._writer is None:
            raise BarError(where, "no trades, so no bars", "give files that have trades")

    def _flush(self) -> None:
        table = bar_table(joined(self._held))
        self._held, self._waiting = [], 0
        if table.empty:
            return
        if not self._sided:
            table = table.drop(columns=list(SIDED))
        checked = check_bars(table, self._interval, str(self._path))
        times = pa.array(checked["open_time"].astype("int64").to_numpy(), pa.timestamp("ns", tz="UTC"))
        group = pa.table(
            {"open_time": times, **{c: checked[c].to_numpy() for c in checked.columns if c != "open_time"}}
        )
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, group.schema)
        self._writer.write_table(group)
        self.bars += len(table)


@contextmanager
def _progress(files: Sequence[Path]) -> Iterator[_Moved]:
    """A bar on a terminal, nothing elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    quiet = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        yield _Moved(progress, [str(path) for path in files])


class _Moved:
    """Takes how far each file is read."""

    def __init__(self, progress: Progress, files: list[str]) -> None:
        self._progress, self._files = progress, files
        self._task = progress.add_task("reading trades", total=float(len(files)))

    def __call__(self, where: str, share: float) -> None:
        done = self._files.index(where) if where in self._files else 0
        self._progress.update(self._task, completed=done + share, description=Path(where).name)


def _told(path: Path, bars: int, interval: pd.Timedelta, report: TapeReport) -> str:
    first, last = pd.Timestamp(report.first_ns or 0), pd.Timestamp(report.last_ns or 0)
    return (
        f"{path}: {bars:,} bars of {format_duration(interval)} from {report.trades:,} trades, "
        f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC; {report.missing_ids:,} ids missing"
    )


def _partial(report: TapeReport, interval: pd.Timedelta) -> list[str]:
    """A first or last bar that the tape holds in part: more than a tenth of it lies outside."""
    step = interval // pd.Timedelta(1, unit="ns")
    late = (report.first_ns or 0) % step / step
    early = 1 - (report.last_ns or 0) % step / step
    edges = [name for name, share in (("first", late), ("last", early)) if share > 0.1]
    if not edges:
        return []
    which = " and the ".join(edges)
    return [f"the tape begins or ends within a bar: the {which} bar may hold only a part of its trades"]
