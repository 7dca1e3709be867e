"""Tapes to build bars from, and the slow, readable way to build them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import frexp, fsum, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.trades.arrays import Trades
from features.trades.settings import TradeSettings

NS = 10**9
START_NS = int(pd.Timestamp("2025-03-01", tz="UTC").value)


@pytest.fixture(scope="session")
def tape() -> Callable[..., Trades]:
    """Trades at the given seconds after 2025-03-01 UTC; sizes are positive for buys, negative for sells."""

    def make(seconds: list[float], prices: list[float], signed: list[float], **more: Any) -> Trades:
        sizes = np.array(signed, dtype="float64")
        return Trades(
            START_NS + np.round(np.array(seconds) * NS).astype("int64"),
            np.array(prices, dtype="float64"),
            np.abs(sizes),
            sizes > 0,
            **{name: np.array(values, dtype="int64") for name, values in more.items()},
        )

    return make


@pytest.fixture(scope="session")
def random_tape() -> Callable[..., Trades]:
    """``trades`` trades over ``hours``: bursts, runs, ties of time, sizes over five decades, ids in order."""

    def make(trades: int, hours: float, seed: int, silences: int = 3) -> Trades:
        rng = np.random.default_rng(seed)
        gaps = rng.exponential(1.0, trades) * (rng.random(trades) < 0.7)
        gaps[rng.integers(0, trades, silences)] += gaps.sum() / 20
        # To the millisecond, as exchanges tell it.
        time_ms = np.round(np.cumsum(gaps) / gaps.sum() * hours * 3.6e6).astype("int64")
        flips = rng.random(trades) < 0.3
        buy = np.cumsum(flips) % 2 == 0
        price = np.round(100 + np.cumsum(np.where(buy, 0.01, -0.01) * (rng.random(trades) < 0.4)), 2)
        size = np.maximum(np.round(rng.lognormal(-1.0, 2.0, trades), 4), 0.0001)
        return Trades(START_NS + time_ms * 10**6, price, size, buy, np.arange(trades) + 1000)

    return make


def _mean(values: list[float]) -> Fraction:
    return sum((Fraction(v) for v in values), Fraction(0)) / len(values)


def _dispersion(values: list[float], trades: int) -> float:
    if trades < 3 or not any(values):
        return nan
    mean = _mean(values)
    return sqrt(sum((Fraction(v) - mean) ** 2 for v in values) / len(values)) / float(mean)


def _columns_of_one_bar(rows: list[dict[str, Any]], large: list[float | None]) -> dict[str, float]:
    """Exact numbers, and the formulas as they are written in ``features.trades.detail``."""
    prices, sizes = [r["price"] for r in rows], [r["size"] for r in rows]
    signed = [r["size"] if r["buy"] else -r["size"] for r in rows]
    quote = [Fraction(p) * Fraction(v) for p, v in zip(prices, sizes, strict=True)]
    volume = fsum(sizes)
    vwap = float(sum(quote)) / volume
    bought = [v for v, r in zip(sizes, rows, strict=True) if r["buy"]]
    sold = [v for v, r in zip(sizes, rows, strict=True) if not r["buy"]]
    bought_quote = float(sum((q for q, r in zip(quote, rows, strict=True) if r["buy"]), Fraction(0)))
    sold_quote = float(sum((q for q, r in zip(quote, rows, strict=True) if not r["buy"]), Fraction(0)))
    runs = [1]
    for now, before in zip(rows[1:], rows[:-1], strict=True):
        if now["buy"] == before["buy"]:
            runs[-1] += 1
        else:
            runs.append(1)
    n = len(rows)
    d = [Fraction(b) - Fraction(a) for a, b in pairwise(prices)]
    s = [Fraction(x) for x in signed]
    gaps = [(b["time_ns"] - a["time_ns"]) / NS for a, b in pairwise(rows)]
    kyle = roll = correlation = nan
    if n >= 10:
        ms, md = sum(s[1:]) / (n - 1), sum(d) / (n - 1)
        spread = sum((x - ms) ** 2 for x in s[1:])
        if spread > 0:
            kyle = float(sum((x - ms) * (y - md) for x, y in zip(s[1:], d, strict=True)) / spread) / vwap
        covariance = sum((x - md) * (y - md) for x, y in zip(d[1:], d[:-1], strict=True))
        if abs(covariance) < 1e-9 * sum(x * x for x in d):  # the wobble of floats that are prices
            covariance = Fraction(0)
        if covariance <= 0:
            roll = 2 * sqrt(-covariance / (n - 2)) / vwap
        m = sum(s) / n
        variance = sum((x - m) ** 2 for x in s)
        if variance > 0:
            correlation = float(sum((x - m) * (y - m) for x, y in zip(s[1:], s[:-1], strict=True)) / variance)
    known = all(size is not None for size in large)
    big = [(v, r["buy"]) for v, r, x in zip(sizes, rows, large, strict=True) if v >= (x or 0)]
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": volume,
        "quote_volume": float(sum(quote)),
        "trades": float(sum(r["count"] for r in rows)),
        "taker_buy_volume": fsum(bought),
        "taker_buy_quote_volume": bought_quote,
        "large_trade_share": fsum(v for v, _ in big) / volume if known else nan,
        "large_trade_imbalance": fsum(v if buy else -v for v, buy in big) / volume if known else nan,
        "size_dispersion": _dispersion(sizes, n),
        "trade_gap_s": float(_mean(gaps)) if gaps else nan,
        "trade_gap_dispersion": _dispersion(gaps, n),
        "run_mean": n / len(runs),
        "run_longest": float(max(runs)),
        "kyle_lambda": kyle,
        "roll_spread": roll,
        "flow_autocorrelation": correlation,
        "buy_sell_gap": (bought_quote / fsum(bought)) / (sold_quote / fsum(sold)) - 1
        if bought and sold
        else nan,
    }


class _SlowUsual:
    """Large size and volume of a day, each trade remembered on its own."""

    def __init__(self, settings: TradeSettings) -> None:
        self.s, self.large, self.day = settings, None, None
        self.memory: dict[float, float] = {}
        self.volume = self.seconds = 0.0
        self.sizes: list[float] = []
        self.since = 0

    def end(self, time_ns: int) -> None:
        seconds = (time_ns - self.since) / NS
        keep = 0.5 ** (seconds / self.s.usual_half_life_s)
        self.memory = {edge: w * keep for edge, w in self.memory.items()}
        for size in self.sizes:
            mantissa, exponent = frexp(size)  # size = mantissa 2^exponent, mantissa in [1/2, 1)
            edge = int(mantissa * 32) / 32 * 2.0**exponent
            self.memory[edge] = self.memory.get(edge, 0.0) + 1
        self.volume = self.volume * keep + fsum(self.sizes)
        self.seconds = self.seconds * keep + seconds
        self.sizes, self.since = [], time_ns
        if self.seconds >= self.s.usual_warm_up_s:
            self.day = self.volume * 86400 / self.seconds
            most = (1 - self.s.large_quantile) * fsum(self.memory.values())
            self.large = None
            above = 0.0
            for edge in sorted(self.memory, reverse=True):
                above += self.memory[edge]
                if above > most:
                    mantissa, exponent = frexp(edge)
                    self.large = (int(mantissa * 32) + 1) / 32 * 2.0**exponent
                    break


@pytest.fixture(scope="session")
def slow_bars() -> Callable[..., pd.DataFrame]:
    """The bars of ``TradeBars``, trade by trade in plain Python."""

    def build(trades: Trades, interval: pd.Timedelta, settings: TradeSettings) -> pd.DataFrame:
        step, silence = int(interval.value), round(settings.longest_silence_s * NS)
        refresh = round(settings.usual_refresh_s * NS)
        usual = _SlowUsual(settings)
        bucket: float | None = None
        inside: list[tuple[float, float]] = []  # (volume, signed), shares of the open bucket
        imbalances: list[float] = []
        out: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        large: list[float | None] = []

        def vpin() -> float:
            n = settings.vpin_buckets
            return fsum(imbalances[-n:]) / n if len(imbalances) >= n else nan

        for i in range(len(trades)):
            time = int(trades.time_ns[i])
            row = {
                "time_ns": time,
                "price": float(trades.price[i]),
                "size": float(trades.size[i]),
                "buy": bool(trades.buy[i]),
                "id": None if trades.id is None else int(trades.id[i]),
                "count": 1 if trades.count is None else int(trades.count[i]),
            }
            last = rows[-1] if rows else None
            if last is not None and time // step != last["time_ns"] // step:
                bar = last["time_ns"] // step
                out.append({"open_time_ns": bar * step, **_columns_of_one_bar(rows, large), "vpin": vpin()})
                missing = row["id"] is not None and row["id"] != last["id"] + 1
                bar += 1
                while not missing and bar < time // step and (bar + 1) * step <= last["time_ns"] + silence:
                    flat = {
                        **dict.fromkeys(("open", "high", "low", "close"), last["price"]),
                        **dict.fromkeys(("volume", "quote_volume", "trades"), 0.0),
                        **dict.fromkeys(("taker_buy_volume", "taker_buy_quote_volume"), 0.0),
                    }
                    out.append({"open_time_ns": bar * step, **flat, "vpin": vpin()})
                    bar += 1
                rows, large = [], []
            if last is None:
                usual.since = time
            elif time - last["time_ns"] > silence:
                usual.end(last["time_ns"])
                usual.since = time
                bucket = None if usual.day is None else usual.day / settings.buckets_per_day
                inside, imbalances = [], []
            elif time // refresh != last["time_ns"] // refresh:
                usual.end(time // refresh * refresh)
                bucket = None if usual.day is None else usual.day / settings.buckets_per_day
            usual.sizes.append(row["size"])
            rows.append(row)
            large.append(usual.large)
            if bucket is not None:
                left, sign = row["size"] / bucket, 1 if row["buy"] else -1
                while left > 0:
                    room = 1 - fsum(v for v, _ in inside)
                    taken = min(left, room)
                    inside.append((taken, sign * taken))
                    left -= taken
                    if fsum(v for v, _ in inside) > 1 - 1e-9:
                        imbalances.append(abs(fsum(x for _, x in inside)))
                        inside = []
        if rows:
            bar = rows[-1]["time_ns"] // step
            out.append({"open_time_ns": bar * step, **_columns_of_one_bar(rows, large), "vpin": vpin()})
        return pd.DataFrame(out)

    return build
