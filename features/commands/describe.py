"""What is in a folder of bars: a table for the terminal and a picture of prices, volatility and order
flow."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from rich.table import Table

from features.bars import OPTIONAL_COLUMNS, Market
from features.columns import EXTRA_COLUMNS
from features.commands.pictures import check_format, label_times, save, style
from features.durations import format_duration, window_bars

DAY, YEAR = pd.Timedelta(days=1), pd.Timedelta(days=365)
#: Points drawn along the time axis at most; more do not show.
DRAWN_POINTS = 2000
#: Symbols drawn in colour; beyond it lines cannot be told apart.
DRAWN_SYMBOLS = 10


def summary(market: Market) -> pd.DataFrame:
    """One row a symbol, indexed by it.

    ``first`` and ``last`` open time; ``bars``; ``missing`` bars between them and the ``longest_hole``
    (Timedelta); ``volatility``, the annualised standard deviation of log returns (fraction; 365 days; NaN
    below two returns); ``worst`` and ``best`` one-bar log return; ``turnover`` a day in quote currency
    (volume * close where there is no quote volume); ``flow``, whether the taker columns are there.
    """
    returns = market.log_returns()
    has_quote = "quote_volume" in market
    rows = {}
    for symbol in market.symbols:
        here = market.close[symbol].notna()
        times = pd.DatetimeIndex(market.times[here.to_numpy()])
        span = 1 + (times[-1] - times[0]) // market.interval
        steps = times.to_series().diff().max() if len(times) > 1 else market.interval
        quote = (
            market["quote_volume"][symbol] if has_quote else market["volume"][symbol] * market.close[symbol]
        )
        rows[symbol] = {
            "first": times[0] - market.interval,
            "last": times[-1] - market.interval,
            "bars": len(times),
            "missing": span - len(times),
            "longest_hole": steps - market.interval,
            "volatility": returns[symbol].std() * np.sqrt(YEAR / market.interval),
            "worst": returns[symbol].min(),
            "best": returns[symbol].max(),
            "turnover": quote.mean() * (DAY / market.interval),
            "flow": "taker_buy_volume" in market,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def summary_table(market: Market, title: str) -> Table:
    """The summary for people."""
    columns = ", ".join(_optional(market)) or "none"
    table = Table(
        title=f"{title}: {len(market.symbols)} symbols, {format_duration(market.interval)} bars",
        caption=f"times UTC; volatility annualised; leader first; optional columns: {columns}",
    )
    for name in ("symbol", "first bar", "last bar"):
        table.add_column(name, no_wrap=True)
    for name in ("bars", "missing", "longest hole", "volatility", "worst bar", "best bar", "turnover / day"):
        table.add_column(name, justify="right")
    table.add_column("flow")
    for symbol, row in summary(market).iterrows():
        hole = format_duration(row["longest_hole"]) if row["missing"] else "-"
        table.add_row(
            str(symbol),
            f"{row['first']:%Y-%m-%d %H:%M}",
            f"{row['last']:%Y-%m-%d %H:%M}",
            f"{row['bars']:,}",
            f"{row['missing']:,}",
            hole,
            _share(row["volatility"], ".0%"),
            _share(np.expm1(row["worst"]), "+.1%"),
            _share(np.expm1(row["best"]), "+.1%"),
            _amount(row["turnover"]),
            "yes" if row["flow"] else "no",
        )
    return table


def _optional(market: Market) -> list[str]:
    """Optional columns of bars by name, those beyond them by how many there are of each group."""
    groups = [c.group for name, c in EXTRA_COLUMNS.items() if name in market]
    counts = [f"{groups.count(group)} of the group {group}" for group in dict.fromkeys(groups)]
    return [*(c for c in OPTIONAL_COLUMNS if c in market), *counts]


def _share(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _amount(value: float) -> str:
    """Three digits and a thousands letter: 1234567 is 1.23M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def draw(market: Market, title: str, out: Path) -> Path:
    """Draw prices (indexed, log scale), volatility and taker imbalance over time, into a file whose suffix is
    one of ``pictures.FORMATS``. At most ``DRAWN_SYMBOLS`` symbols are in colour, the others grey. Written
    atomically. Raises ``ValueError`` for another suffix."""
    check_format(out)
    window = max(DAY, min(7 * DAY, (market.times[-1] - market.times[0]) / 30))
    bars = window_bars(window, market.interval)
    every = max(1, len(market.times) // DRAWN_POINTS)

    close = market.close
    indexed = 100 * close / close.bfill().iloc[0]
    returns = market.log_returns()
    least = max(2, bars // 2)
    volatility = returns.rolling(bars, min_periods=least).std() * np.sqrt(YEAR / market.interval)
    panels = [
        ("price, first bar = 100", indexed, "log"),
        (f"volatility a year, {_days(window)}", 100 * volatility, "linear"),
    ]
    if "taker_buy_volume" in market:
        bought, volume = (
            market[c].rolling(bars, min_periods=least).sum() for c in ("taker_buy_volume", "volume")
        )
        panels.append((f"taker imbalance, {_days(window)}", 100 * (2 * bought / volume - 1), "linear"))

    with style():
        figure = Figure(figsize=(11, 2.7 * len(panels) + 0.6), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (label, frame, scale) in zip(axes, panels, strict=True):
            _lines(axis, frame.iloc[::every])
            axis.set_title(label, loc="left", fontsize=9, fontweight="bold")
            axis.set_yscale(scale)
            axis.grid(axis="y", alpha=0.25, linewidth=0.6)
            axis.margins(x=0.01)
        _label_axes(axes)
        if len(panels) == 3:
            axes[2].axhline(0, color="black", linewidth=0.7)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=8)
        figure.suptitle(f"{title}, {format_duration(market.interval)} bars", x=0.01, ha="left", fontsize=11)
        return save(figure, out)


def _days(window: pd.Timedelta) -> str:
    days = window / DAY
    return f"{days:.0f} days" if days >= 1.5 else "1 day"


def _lines(axis: Axes, frame: pd.DataFrame) -> None:
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    # Later symbols first, so that the leader lies on top.
    for i, symbol in reversed(list(enumerate(frame.columns))):
        coloured = i < DRAWN_SYMBOLS
        axis.plot(
            frame.index.to_numpy(),
            frame[symbol].to_numpy(),
            color=colours[i] if coloured else "0.8",
            linewidth=1.4 if i == 0 else 0.8,
            alpha=1.0 if i == 0 else 0.75,
            label=str(symbol) if coloured else None,
        )


def _label_axes(axes: np.ndarray[tuple[int], np.dtype[np.object_]]) -> None:
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_locator(NullLocator())
    for axis in axes[1:]:
        axis.yaxis.set_major_formatter("{x:g} %")
    label_times(axes[-1])
