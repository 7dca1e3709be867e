"""Book columns against a slow reference that is read in one sitting, on tapes with all that books do; and the
same bits however the snapshots are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from math import fsum, log
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.books.bars import BookBars, Closed, book_table
from features.books.checks import check_books
from features.books.snapshots import Books

SECOND = 10**9
START = pd.Timestamp("2024-05-01", tz="UTC").value
LEVELS = 10


def tape(rows: int, seed: int, tick: float = 0.5) -> Books:
    """Books around a wandering mid, with holes in time, repeated times, thin, locked, crossed, one-sided and
    empty ones."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([0, 1, 100_000_000, SECOND, 1_500_000_000, 12 * SECOND, 31 * SECOND, 95 * SECOND], rows)
    gaps[rng.random(rows) < 0.9] = 700_000_000
    mid = 100 + tick * np.cumsum(rng.integers(-1, 2, rows))
    sides = []
    for sign in (-1, 1):
        steps = rng.integers(1, 4, (rows, LEVELS))
        price = mid[:, np.newaxis] + sign * tick * np.cumsum(steps, axis=1)
        size = rng.integers(1, 40, (rows, LEVELS)) / 4
        held = rng.choice([0, 1, 3, LEVELS], rows, p=[0.04, 0.06, 0.1, 0.8])
        absent = np.arange(LEVELS) >= held[:, np.newaxis]
        price[absent], size[absent] = np.nan, np.nan
        sides += [price, size]
    bid_px, bid_sz, ask_px, ask_sz = sides
    shift = rng.choice([0.0, 1.0, 1.5], rows, p=[0.8, 0.15, 0.05])  # 1: locked, above: crossed
    ask_px -= (shift * (ask_px[:, 0] - bid_px[:, 0]))[:, np.newaxis]
    there = np.isfinite(ask_px)
    ask_sz[~there] = np.nan
    return check_books(Books(START + np.cumsum(gaps), bid_px, bid_sz, ask_px, ask_sz), "the tape")


def levels_of(price: np.ndarray, size: np.ndarray) -> list[tuple[float, float]]:
    return [(float(p), float(s)) for p, s in zip(price, size, strict=True) if not np.isnan(p)]


def reference(
    books: Books, interval_ns: int, hole_ns: int = 30 * SECOND, recovery_ns: int = 5 * SECOND
) -> dict[int, dict[str, float]]:
    """By open time the columns of each bar, the newest included, as ``features.books`` defines them."""
    times = [int(t) for t in books.time_ns]
    bids = [levels_of(p, s) for p, s in zip(books.bid_px, books.bid_sz, strict=True)]
    asks = [levels_of(p, s) for p, s in zip(books.ask_px, books.ask_sz, strict=True)]
    last = len(times) - 1
    bars: dict[int, dict[str, Any]] = {}

    def bar(open_ns: int) -> dict[str, Any]:
        return bars.setdefault(
            open_ns, {"kinds": [], "stood": [], "changes": [], "depletions": 0, "answers": []}
        )

    def kind(i: int) -> str:
        if not bids[i] and not asks[i]:
            return "empty"
        if not bids[i] or not asks[i]:
            return "one_sided"
        bid, ask = bids[i][0][0], asks[i][0][0]
        return "open" if bid < ask else "locked" if bid == ask else "crossed"

    sound = [i for i in range(len(times)) if kind(i) in ("open", "locked")]
    for i, time in enumerate(times):
        bar(time // interval_ns * interval_ns)["kinds"].append(kind(i))
        end = min(times[min(i + 1, last)], time + hole_ns)
        opened = time // interval_ns * interval_ns
        while i in sound and opened < end:
            length = min(end, opened + interval_ns) - max(time, opened)
            if length > 0:
                bar(opened)["stood"].append((i, length))
            opened += interval_ns

    def standing(side: list[tuple[float, float]], price: float, sign: int) -> float:
        return fsum(s for p, s in side if sign * p >= sign * price)

    for before, i in pairwise(sound):
        if times[i] - times[before] > hole_ns:
            continue
        here = bar(times[i] // interval_ns * interval_ns)
        here["changes"].append((before, i))
        for sides, sign in ((bids, 1), (asks, -1)):
            price, size = sides[before][0]
            left = standing(sides[i], price, sign)
            if left > size / 2 or sign * sides[i][0][0] > sign * price:
                continue
            here["depletions"] += 1
            then = next((j for j in sound if times[j] >= times[i] + recovery_ns), None)
            if then is not None and times[then] <= times[i] + recovery_ns + hole_ns:
                back = min(max((standing(sides[then], price, sign) - left) / (size - left), 0), 1)
                if sign * sides[then][-1][0] > sign * price:
                    back = 1
                bar(times[then] // interval_ns * interval_ns)["answers"].append(back)

    def total(i: int, n: int) -> tuple[float, float]:
        return fsum(s for _, s in bids[i][:n]), fsum(s for _, s in asks[i][:n])

    def notional(i: int, n: int) -> float:
        return fsum(p * s for p, s in bids[i][:n] + asks[i][:n])

    def imbalance(i: int, n: int) -> float:
        bid, ask = total(i, n)
        return (bid - ask) / (bid + ask)

    def micro(i: int) -> float:
        (bid, bid_size), (ask, ask_size) = bids[i][0], asks[i][0]
        return (bid * ask_size + ask * bid_size) / (bid_size + ask_size)

    def mid(i: int) -> float:
        return (bids[i][0][0] + asks[i][0][0]) / 2

    def flow(before: int, i: int, m: int) -> float | None:
        if min(len(bids[before]), len(bids[i]), len(asks[before]), len(asks[i])) <= m:
            return None
        (p0, q0), (p1, q1) = bids[before][m], bids[i][m]
        (a0, r0), (a1, r1) = asks[before][m], asks[i][m]
        bought = q1 - q0 if p1 == p0 else q1 if p1 > p0 else -q0
        sold = r1 - r0 if a1 == a0 else r1 if a1 < a0 else -r0
        return bought - sold

    def columns(held: dict[str, Any]) -> dict[str, float]:
        kinds, stood, changes = held["kinds"], held["stood"], held["changes"]
        known = sum(length for _, length in stood)
        opened = [(i, length) for i, length in stood if kind(i) == "open"]

        def mean(pairs: list[tuple[int, int]], value: Any) -> float:
            time = sum(length for _, length in pairs)
            return fsum(value(i) * length for i, length in pairs) / time if time else np.nan

        out = {"snapshots": float(len(kinds)), "coverage": known / interval_ns}
        for name in ("locked", "crossed", "one_sided", "empty"):
            out[name] = kinds.count(name) / len(kinds) if kinds else np.nan
        rest: dict[str, float] = {}
        spreads = [(asks[i][0][0] - bids[i][0][0]) / mid(i) for i, _ in opened]
        rest["spread"] = mean(opened, lambda i: (asks[i][0][0] - bids[i][0][0]) / mid(i))
        rest["spread_max"] = max(spreads, default=np.nan)
        for n in (1, 5, 10):
            rest[f"depth_{n}"] = log(mean(stood, lambda i, n=n: notional(i, n))) if stood else np.nan
            rest[f"imbalance_{n}"] = mean(stood, lambda i, n=n: imbalance(i, n))
            rest[f"imbalance_{n}_last"] = imbalance(stood[-1][0], n) if stood else np.nan
        size = mean(stood, lambda i: sum(total(i, LEVELS)) / (len(bids[i]) + len(asks[i])))
        for m in range(LEVELS):
            flows = [f for f in (flow(a, b, m) for a, b in changes) if f is not None]
            rest[f"ofi_{m + 1}"] = fsum(flows) / size if flows else np.nan
        wide = [(i, length) for i, length in stood if asks[i][-1][0] > bids[i][-1][0]]
        rest["slope"] = mean(
            wide, lambda i: log(notional(i, LEVELS) * mid(i) / (asks[i][-1][0] - bids[i][-1][0]))
        )
        rest["microprice"] = mean(opened, lambda i: log(micro(i) / mid(i)))
        rest["microprice_last"] = log(micro(opened[-1][0]) / mid(opened[-1][0])) if opened else np.nan
        rest["microprice_drift"] = fsum(log(micro(b) / micro(a)) for a, b in changes) if changes else np.nan
        rest["depletions"] = float(held["depletions"]) if changes else np.nan
        rest["resilience"] = fsum(held["answers"]) / len(held["answers"]) if held["answers"] else np.nan
        enough = known / interval_ns >= 0.5
        return {**out, **{name: value if enough else np.nan for name, value in rest.items()}}

    found = {opened: columns(held) for opened, held in sorted(bars.items())}
    return {opened: row for opened, row in found.items() if row["snapshots"] or row["coverage"]}


def whole(parts: list[Closed]) -> Closed:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def at_once(books: Books, interval: pd.Timedelta) -> Closed:
    bars = BookBars(interval)
    return whole([bars.add(books), bars.finish()])


@pytest.mark.parametrize("interval", ["1s", "10s", "60s", "3600s"])
@pytest.mark.parametrize("seed", [1, 2])
def test_it_agrees_with_the_reference(interval: str, seed: int) -> None:
    books = tape(1500, seed)
    found = at_once(books, pd.Timedelta(interval))
    expected = reference(books, pd.Timedelta(interval) // pd.Timedelta(1, unit="ns"))
    assert found["open_time_ns"].tolist() == list(expected)
    for name in BookBars(pd.Timedelta(interval)).columns:
        column = np.array([row[name.removeprefix("book_")] for row in expected.values()])
        np.testing.assert_allclose(found[name], column, rtol=1e-12, atol=1e-12, err_msg=name)
        assert np.isfinite(column).any(), name


@pytest.mark.parametrize("interval", ["1s", "10s", "3600s"])
def test_no_cut_of_the_snapshots_changes_a_bit(interval: str) -> None:
    books, step = tape(700, 3), pd.Timedelta(interval)
    expected = at_once(books, step)
    rng = np.random.default_rng(9)
    for pieces in (len(books), 40, 5):
        bars, parts, first = BookBars(step), [], 0
        cuts = np.append(np.sort(rng.choice(len(books), pieces - 1, replace=False)), len(books))
        for cut in cuts:
            parts.append(bars.add(books.rows(slice(first, cut))))
            first = cut
            if rng.random() < 0.2:  # the process ends and another one goes on
                bars = BookBars.from_json(json.loads(json.dumps(bars.to_json(), allow_nan=False)))
            if rng.random() < 0.2:  # the clock closes what no later snapshot can change
                following = books.time_ns[min(cut, len(books) - 1)]
                parts.append(bars.close_until(int(following)))
        found = whole([*parts, bars.finish()])
        for name, column in expected.items():
            np.testing.assert_array_equal(found[name], column, err_msg=name)


def test_rows_do_not_know_what_comes_later() -> None:
    books, step = tape(600, 4), pd.Timedelta("10s")
    cut = 400
    bars = BookBars(step)
    known = bars.add(books.rows(slice(0, cut)))
    everything = BookBars(step).add(books)
    for name, column in known.items():
        np.testing.assert_array_equal(everything[name][: len(column)], column, err_msg=name)


def test_a_table_has_the_columns_in_their_order() -> None:
    bars = BookBars(pd.Timedelta("10s"), levels=5)
    table = book_table(bars.add(tape(300, 5)))
    assert list(table.columns) == ["open_time", *bars.columns]
    assert "book_depth_5" in table and "book_ofi_5" in table
    assert not {"book_depth_10", "book_ofi_6"} & set(table.columns)
    assert str(table["open_time"].dtype) == "datetime64[ns, UTC]"


def test_levels_that_the_source_does_not_have_change_nothing() -> None:
    books = tape(400, 6).with_levels(3)
    few, many = BookBars(pd.Timedelta("10s"), levels=3), BookBars(pd.Timedelta("10s"), levels=10)
    expected, found = few.add(books), many.add(books)
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
    np.testing.assert_array_equal(np.isnan(found["book_ofi_4"]), True)
    assert np.isfinite(found["book_depth_10"]).any()
