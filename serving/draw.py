"""``python -m serving draw``: what was decided for one contract, from the store, as a picture.

Price, required and served rate of one side and kind, the multiplier, and which rung answered, over time.
Rates are fractions of notional, drawn in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sqlalchemy import select

from features.commands.pictures import check_format, label_times, save, style
from models.margin.types import KINDS, RUNGS, SIDES
from serving.store.engine import StoreError, store_engine
from serving.store.tables import DecisionRow

_RUNG_COLOURS = dict(zip(RUNGS, ("#ffffff", "#dbe9f6", "#fdf0d5", "#f9d5c2", "#f2b8b5"), strict=True))


@dataclass(frozen=True)
class Picture:
    """Which decisions to draw. Times are UTC; None leaves that end open."""

    symbol: str
    side: str = "long"
    kind: str = "maintenance"
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None


def served_series(database: str, picture: Picture) -> pd.DataFrame:
    """One row a decision: ``close, required_rate, served_rate, base_rate, rung``, indexed by decision time.

    Raises ``ValueError`` for a side or kind that does not exist, and where nothing was decided in the span;
    ``StoreError`` where there is no store.
    """
    for name, value, known in (("side", picture.side, SIDES), ("kind", picture.kind, KINDS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {list(known)}")
    file = Path(database.removeprefix("sqlite:///"))
    if database.startswith("sqlite:///") and not file.exists():
        raise StoreError(f"there is no store at {file}; name the database that the server uses")
    query = select(DecisionRow.decision_time, DecisionRow.rung, DecisionRow.record).where(
        DecisionRow.symbol == picture.symbol, DecisionRow.decision_time.is_not(None)
    )
    if picture.start is not None:
        query = query.where(DecisionRow.decision_time >= int(picture.start.timestamp()))
    if picture.end is not None:
        query = query.where(DecisionRow.decision_time <= int(picture.end.timestamp()))
    engine = store_engine(database)
    try:
        with engine.connect() as connection:
            found = connection.execute(query.order_by(DecisionRow.seq)).all()
    finally:
        engine.dispose()
    rows = []
    for time_s, rung, record in found:
        decision = record["decision"]
        value = next(v for v in decision["values"] if (v["side"], v["kind"]) == (picture.side, picture.kind))
        rates = {name: value[name] for name in ("required_rate", "served_rate", "base_rate")}
        rows.append({"time": time_s, "close": decision["inputs"]["market"]["close"], "rung": rung, **rates})
    if not rows:
        raise ValueError(
            f"no decision on {picture.symbol} lies in the span; replay bars into the server, or widen it"
        )
    frame = pd.DataFrame(rows).drop_duplicates("time", keep="last").set_index("time")
    frame.index = pd.to_datetime(frame.index, unit="s", utc=True)
    return frame


def draw(database: str, picture: Picture, out: Path) -> Path:
    """Draw the series into a file whose suffix is one of ``pictures.FORMATS``, written whole.

    Raises what ``served_series`` does, and ``ValueError`` for another suffix.
    """
    check_format(out)
    series = served_series(database, picture)
    with style():
        figure = Figure(figsize=(10, 6), layout="constrained")
        price, rate, multiplier = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 2))
        _shade(series, (price, rate, multiplier))
        price.plot(series.index, series["close"], color="#333333", linewidth=1.2)
        price.set_title(f"{picture.symbol}: price", loc="left", fontweight="bold", fontsize=9)
        for column, colour, line in (
            ("required_rate", "#d95f02", "-"),
            ("served_rate", "#1f77b4", "-"),
            ("base_rate", "#888888", "--"),
        ):
            label = column.removesuffix("_rate")
            rate.step(
                series.index, 100 * series[column], where="post", color=colour, linestyle=line, label=label
            )
        title = f"{picture.kind} margin of a {picture.side}, % of notional"
        rate.set_title(title, loc="left", fontweight="bold", fontsize=9)
        rate.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
        multiplier.step(
            series.index, series["served_rate"] / series["base_rate"], where="post", color="#1f77b4"
        )
        multiplier.axhline(1, color="#888888", linestyle="--", linewidth=1)
        multiplier.set_title("multiplier (served / base)", loc="left", fontweight="bold", fontsize=9)
        label_times(multiplier)
        for axis in (price, rate, multiplier):
            axis.grid(axis="y", alpha=0.25, linewidth=0.6)
            axis.margins(x=0.01)
        return save(figure, out)


def _shade(series: pd.DataFrame, axes: tuple[Axes, ...]) -> None:
    """A background for every stretch on which another rung than the champion answered, named at its start."""
    changes = series["rung"].ne(series["rung"].shift()).cumsum()
    for _, stretch in series.groupby(changes):
        rung = str(stretch["rung"].iloc[0])
        if rung == RUNGS[0]:
            continue
        for axis in axes:
            axis.axvspan(
                stretch.index[0], stretch.index[-1], color=_RUNG_COLOURS[rung], linewidth=0, zorder=0
            )
        axes[0].annotate(
            rung, (stretch.index[0], 1), xycoords=("data", "axes fraction"), va="top", fontsize=8
        )
