"""What confidence and drift are worth on real bars: ``python benchmarks/confidence.py FORECASTS BARS``.

FORECASTS is a forecast table of ``python -m training backtest``, which holds both, BARS the folder of bars
that it was made from. Told of the last of its models, over all horizons and sides:

- by quarter: the share of forecasts with confidence below 1 and below 0.5, with any drift and with 0.25 or
  more (yellow for rule 19), and the greatest drift;
- by confidence and by drift: hits for each promised one at each level; the standard error of those at 99 %,
  days being drawn together; the same of the first model (the rules rung's method, where it is ``ewma``); and
  the part of all loss beyond ES at 99 % that fell there, over the part of forecasts that did.

``--until TIME`` leaves out later decision times, ``--since TIME`` earlier ones.

With ``--broken TIME`` it fits the model ``refined`` on the bars up to TIME instead, breaks the feed of the
last contract 60 days later in some ways, and tells the drift and confidence of that contract and the greatest
drift of any other from then on, and what learning, judging and keeping cost. It needs no forecasts and takes
a minute or two: ``python benchmarks/confidence.py BARS --broken 2023-09-30``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features.bars import Market
from features.pipeline import FeatureFrame
from features.sources.market import MarketSource, read_market
from models.forecast.confidence import Confidence
from training.dataset import History, Task, read_history
from training.evaluation import with_losses

KEYS = ["time", "symbol", "horizon", "side", "level"]
PRICES = ("open", "high", "low", "close")
HOURS = (0, 1, 4, 24, 96)


def told(scored: pd.DataFrame, reference: str) -> pd.DataFrame:
    """A line a group of rows of ``scored``, whose column ``group`` names it."""
    lines = []
    losses = scored[scored["level"] == 0.99]
    beyond = np.maximum(losses["loss"] - losses["es"], 0)
    for group, rows in scored.groupby("group", observed=True):
        line: dict[str, object] = {"": group, "forecasts": rows.groupby(["time", "symbol"]).ngroups}
        for level, own in rows.groupby("level"):
            line[f"{level:.1%}"] = own["hit"].mean() / (1 - level)
        one = rows[rows["level"] == 0.99]
        day = one.groupby(one["time"].dt.floor("D"))["hit"].agg(["sum", "count"])
        spread = np.sqrt(((day["sum"] - one["hit"].mean() * day["count"]) ** 2).sum()) / len(one)
        line["error"] = spread / 0.01
        line[f"{reference} 99.0%"] = one["reference_hit"].mean() / 0.01
        line["beyond ES"] = (beyond[one.index].sum() / beyond.sum()) / (len(one) / len(losses))
        lines.append(line)
    return pd.DataFrame(lines).set_index("")


def served(forecasts: Path, bars: Path, since: str | None, until: str | None) -> None:
    """Print the tables of a forecast table."""
    table = pd.read_parquet(forecasts)
    if "confidence" not in table:
        sys.exit(f"{forecasts} has no column confidence; make it anew with python -m training backtest")
    if since is not None:
        table = table[table["time"] >= pd.Timestamp(since, tz="UTC")]
    if until is not None:
        table = table[table["time"] <= pd.Timestamp(until, tz="UTC")]
    market = read_market(MarketSource(bars))
    models = list(dict.fromkeys(table["model"]))
    scored = with_losses(table, market)
    own, first = scored[scored["model"] == models[-1]], scored[scored["model"] == models[0]]
    own = own.merge(first[[*KEYS, "hit"]].rename(columns={"hit": "reference_hit"}), on=KEYS)
    once = own[(own["level"] == 0.99) & (own["side"] == "long") & (own["horizon"] == own["horizon"].iloc[0])]
    quarters = once.groupby(once["time"].dt.tz_localize(None).dt.to_period("Q").astype(str))
    shares = pd.DataFrame(
        {
            "forecasts": quarters.size(),
            "confidence < 1": quarters["confidence"].agg(lambda c: (c < 1).mean()),
            "confidence < 0.5": quarters["confidence"].agg(lambda c: (c < 0.5).mean()),
            "drift > 0": quarters["drift"].agg(lambda d: (d > 0).mean()),
            "drift >= 0.25": quarters["drift"].agg(lambda d: (d >= 0.25).mean()),
            "greatest drift": quarters["drift"].max(),
        }
    )
    print(f"\n{models[-1]}: shares of forecasts\n{shares.to_string(float_format='{:.4f}'.format)}")
    for name, edges, right in (
        ("confidence", [-0.01, 0.25, 0.5, 0.75, 0.95, 0.9999, 1.0], True),
        ("drift", [0, 1e-9, 0.025, 0.05, 0.1, 0.25, 1.01], False),
    ):
        grouped = own.assign(group=pd.cut(own[name], edges, right=right))
        print(f"\nhits over those promised, by {name}")
        print(told(grouped, models[0]).to_string(float_format="{:.2f}".format))


def broken_feeds(
    market: Market, symbol: str, at: int
) -> dict[str, Callable[[dict[str, pd.DataFrame]], None]]:
    """Ways to break the prices of one contract from bar ``at`` on, by name."""

    def times(columns: dict[str, pd.DataFrame], factor: np.ndarray) -> None:
        for name in PRICES:
            columns[name][symbol] = columns[name][symbol].to_numpy() * factor

    bars = np.arange(len(market.times))
    noise = np.exp(np.random.default_rng(1).normal(0, 0.05, len(bars)))

    def stopped(columns: dict[str, pd.DataFrame]) -> None:
        last = columns["close"][symbol].iloc[at]
        for name in PRICES:
            columns[name][symbol] = np.where(bars > at, last, columns[name][symbol])

    def ranges(columns: dict[str, pd.DataFrame]) -> None:
        for name, factor in (("high", 1.05), ("low", 0.95)):
            columns[name][symbol] = np.where(bars >= at, factor, 1) * columns[name][symbol]

    return {
        "nothing": lambda columns: None,  # noqa: ARG005 - the form of the others
        "one bar ten times too high": lambda c: times(c, np.where(bars == at, 10.0, 1.0)),
        "all bars a hundred times too high": lambda c: times(c, np.where(bars >= at, 100.0, 1.0)),
        "the price stops": stopped,
        "each bar off by 5 %, at random": lambda c: times(c, np.where(bars >= at, noise, 1.0)),
        "highs and lows 5 % too far": ranges,
    }


def broken(bars: Path, train_end: str) -> None:
    """Fit, and print what broken feeds do."""
    end = pd.Timestamp(train_end, tz="UTC")
    task = Task((pd.Timedelta(hours=1), pd.Timedelta(hours=4)), (0.99, 0.999))
    history = read_history(MarketSource(bars), ["refined"], task)
    (refined,) = history.models
    history = History(history.market.until(end + pd.Timedelta(days=70)), history.models, history.source)
    began = time.perf_counter()
    window = history.window(refined, end, task)
    fit = window.fit(refined())
    fitted = time.perf_counter()
    usual = Confidence.learned(fit.model, window.dataset.features)
    learned = time.perf_counter()
    size = len(json.dumps(usual.to_json(), indent=1)) / 1024
    market = history.market.since(end - fit.pipeline.look_back)
    at = int(market.times.searchsorted(end + pd.Timedelta(days=60)))
    symbol = market.symbols[-1]
    lines = []
    for name, breaks in broken_feeds(market, symbol, at).items():
        columns = {column: frame.copy() for column, frame in market.columns.items()}
        breaks(columns)
        frame = fit.pipeline.batch(Market(market.interval, columns)).between(market.times[at], None)
        said = fit.model.predict(frame)
        found = pd.DataFrame(usual.judge(frame, said)._asdict(), said.rows)
        own, rest = found.xs(symbol, level="symbol"), found.drop(symbol, level="symbol")
        line: dict[str, object] = {"": name}
        for hour in HOURS:
            row = own.reindex([market.times[at + hour]]).iloc[0]
            line[f"{hour} h"] = f"{row['drift']:.2f} ({row['confidence']:.2f})"
        lines.append(line | {"others": f"{rest['drift'].max():.2f}"})
    print(
        f"\n{symbol}: drift (confidence) so long after its feed breaks at {market.times[at]:%Y-%m-%d %H:%M}"
    )
    print(pd.DataFrame(lines).set_index("").to_string())
    print(f"\nfit {fitted - began:.1f} s, learning {learned - fitted:.1f} s, confidence.json {size:.0f} KiB")
    print(f"judging 300 contracts: {judging_ms(usual, frame, fit.model):.1f} ms, the median of 50")


def judging_ms(usual: Confidence, frame: FeatureFrame, model: object) -> float:
    """Of one close of 300 contracts, the forecast itself left out."""
    count = 300
    values = np.resize(frame.values[-1], (count, len(frame.names)))[np.newaxis]
    names = tuple(f"S{i}" for i in range(count))
    wide = FeatureFrame(frame.times[-1:], names, frame.names, frame.interval, values)
    said, took = model.predict(wide), []  # type: ignore[attr-defined]
    for _ in range(50):
        began = time.perf_counter()
        usual.judge(wide, said)
        took.append(time.perf_counter() - began)
    return 1000 * float(np.median(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FORECASTS BARS, or BARS")
    parser.add_argument("--since")
    parser.add_argument("--until")
    parser.add_argument(
        "--broken", metavar="TIME", help="the end of training of a model whose feed is broken"
    )
    given = parser.parse_args()
    if len(given.folders) != (2 if given.broken is None else 1):
        parser.error("give FORECASTS and BARS, or BARS with --broken")
    if given.broken is not None:
        broken(given.folders[0], given.broken)
    else:
        served(*given.folders, given.since, given.until)


if __name__ == "__main__":
    main()
