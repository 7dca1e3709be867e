"""A scenario as a picture: price, what was asked for and served, which rung and rule acted when.

Rates are drawn in percent of notional, one side of the contract, both kinds. Times are the true ones (UTC).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from features.commands.pictures import check_format, label_times, save, style
from models.margin.types import MODES, RUNGS, SIDES, VALUES, Candidate, Decision, EngineState
from training.margin.scenarios.tape import Tape, play, served, true_times

Array = NDArray[np.float64]

CHAMPION, RULES_ENGINE, SERVED, FORGETFUL = "#d95f02", "#3a9a5b", "#1f4e9c", "#b02a7b"
_RUNG_COLOUR = "#5b7fb5"
_MODE_COLOURS = dict(zip(MODES, ("#b9c3cf", "#e0b450", "#d9762b", "#a63a2e"), strict=True))
#: Above so many times the highest served rate a panel ends; what asks for more is named in its title.
_HEADROOM = 2.2
_UNCOUNTED = 0  # the ladder notes every rung that is not the champion; the bars show it already


def draw_scenario(tape: Tape, out: Path) -> Path:
    """Play a tape and draw it into a file whose suffix is one of ``pictures.FORMATS``, written whole.

    Raises ``ValueError`` for another suffix.
    """
    check_format(out)
    decisions = play(tape)
    rows = _rows(decisions)
    with style():
        height = 6.2 + 0.22 * len(rows)
        figure = Figure(figsize=(10, height), layout="constrained")
        figure.suptitle(tape.title, fontweight="bold", fontsize=11, x=0.01, ha="left")
        price, initial, maintenance, acts = figure.subplots(
            4, 1, sharex=True, height_ratios=(1.7, 2.2, 2.2, 0.22 * len(rows))
        )
        times = pd.to_datetime(true_times(tape), unit="s", utc=True)
        _draw_price(tape, price, times)
        first = 2 * SIDES.index(tape.side)
        forgetful = (
            play(tape, restart=lambda _: EngineState()) if any(m.restarted for m in tape.moments) else None
        )
        for axis, value in ((initial, first), (maintenance, first + 1)):
            _draw_rates(tape, axis, times, decisions, value, forgetful)
        figure.legend(*initial.get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False)
        _draw_acts(acts, times, rows)
        for axis in (price, initial, maintenance, acts):
            for at_s, _ in tape.marks:
                axis.axvline(_time(at_s), color="#999999", linewidth=0.8, linestyle=":", zorder=0)
            axis.margins(x=0.01)
        label_times(acts)
        acts.set_xlabel("UTC")
        return save(figure, out)


def _draw_price(tape: Tape, axis: Axes, times: pd.DatetimeIndex) -> None:
    prices = np.array([m.price for m in tape.moments])
    axis.step(times, prices, where="post", color="#333333", linewidth=1.2)
    if np.nanmax(prices) > 100 * np.nanmin(prices):
        axis.set_yscale("log")
    elif np.nanmax(prices) >= 10_000:
        axis.yaxis.set_major_formatter("{x:,.0f}")
    _title(axis, f"{tape.contract}: {tape.price_of}")
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.margins(y=0.08)
    if axis.get_yscale() == "linear":  # room above the line for the words
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + 0.35 * (high - low))
    else:
        axis.set_ylim(top=200 * axis.get_ylim()[1])
    last = None
    for at_s, words in tape.marks:
        near = last is not None and at_s - last < 0.2 * (tape.moments[-1].now_s - tape.moments[0].now_s)
        axis.annotate(
            words,
            (_time(at_s), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -16 if near else -6),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="#444444",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.5},
        )
        last = None if near else at_s


def _draw_rates(
    tape: Tape,
    axis: Axes,
    times: pd.DatetimeIndex,
    decisions: Sequence[Decision],
    value: int,
    forgetful: Sequence[Decision] | None,
) -> None:
    given = served(decisions)[:, value]
    asks = {
        "champion asks": (_asked([m.champion for m in tape.moments], value), CHAMPION, 1.1),
        "rules engine asks": (_asked([m.rules for m in tape.moments], value), RULES_ENGINE, 1.1),
    }
    side, kind = VALUES[value]
    title = f"{kind} margin of a {side}, % of notional"
    top, beyond = _HEADROOM * given.max(), []
    for label, (rates, colour, width) in asks.items():
        axis.step(times, 100 * rates, where="post", color=colour, linewidth=width, label=label)
        if np.nanmax(rates) > top:
            highest = f"{100 * np.nanmax(rates):,.0f}" if np.nanmax(rates) < 10 else "more than 1,000"
            beyond.append(f"{label} up to {highest} %")
    if beyond:
        title += f"; not shown: {', '.join(beyond)}"
    if forgetful is not None:
        axis.step(
            times,
            100 * served(forgetful)[:, value],
            where="post",
            color=FORGETFUL,
            linestyle="--",
            linewidth=1.2,
            label="served, had the state been lost",
        )
    axis.step(times, 100 * given, where="post", color=SERVED, linewidth=2.0, label="served")
    lines = [given, *(rates[rates <= top] for rates, _, _ in asks.values())]
    axis.set_ylim(0, 108 * max(float(line.max()) for line in lines if line.size))
    _title(axis, title)
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)


def _asked(candidates: Sequence[Candidate | None], value: int) -> Array:
    return np.array([math.nan if c is None else c.requirement[value] for c in candidates])


#: A row of the lowest panel: its name, whether it is a stretch or single acts, and at which moments.
_Row = tuple[str, str, NDArray[np.bool_], NDArray[np.bool_]]


def _rows(decisions: Sequence[Decision]) -> list[_Row]:
    """Rungs and modes that occurred, then the rules that acted: moved a rate (first), or noted something."""
    rung = np.array([d.rung for d in decisions])
    mode = np.array([d.mode for d in decisions])
    none = np.zeros(len(decisions), dtype=bool)
    rows: list[_Row] = [
        (f"rung: {r}".replace("_", " "), _RUNG_COLOUR, rung == r, none) for r in RUNGS if (rung == r).any()
    ]
    rows += [(f"feed: {m}", _MODE_COLOURS[m], mode == m, none) for m in MODES if (mode == m).any()]
    acted = {(t.rule, t.name) for d in decisions for t in d.traces if t.rule != _UNCOUNTED}
    for number, name in sorted(acted):
        traces = [[t for t in d.traces if t.name == name] for d in decisions]
        moved = np.array([any(t.before != t.after for t in found) for found in traces])
        noted = np.array([bool(found) for found in traces]) & ~moved
        rows.append((f"rule {number}, {name}", "", moved, noted))
    return rows


def _draw_acts(axis: Axes, times: pd.DatetimeIndex, rows: Sequence[_Row]) -> None:
    ends = [*times[1:], times[-1] + (times[-1] - times[-2])]
    for y, (_, colour, moved, noted) in enumerate(rows):
        if colour:
            for begin, end in _stretches(moved):
                span = [times[begin], ends[end]]
                axis.plot(span, [y, y], color=colour, linewidth=7, solid_capstyle="butt")
            continue
        axis.plot(times[noted], np.full(noted.sum(), y), "|", color="#b5b5b5", markersize=6)
        axis.plot(times[moved], np.full(moved.sum(), y), "|", color="#111111", markersize=7)
    axis.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(axis="y", alpha=0.2, linewidth=0.5)
    axis.tick_params(axis="y", length=0)
    _title(axis, "who answered; which rule moved a rate (black), or noted something (grey)")


def _stretches(there: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last place of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _title(axis: Axes, words: str) -> None:
    axis.set_title(words, loc="left", fontsize=9, color="#222222")


def _time(at_s: float) -> pd.Timestamp:
    return pd.Timestamp(at_s, unit="s", tz="UTC")
