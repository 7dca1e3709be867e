"""What the order book says: spread, depth, imbalance, order flow by level, resilience.

Made of the columns of group ``book`` (``features.columns``; what each is: ``features.books.bars``). Books
differ by symbol and venue and drift, so every feature is measured against the symbol's own last day, a whole
daily cycle: a logarithm of a ratio or a difference of logarithms (held within +-``LOG_RATIO_BOUND``), a
difference in units of its own deviation (held within +-``SCORE_BOUND``), or a difference of shares. None has
a unit. Signs: positive imbalance, order flow and microprice are pressure to buy. Window means take the known
bars; NaN while fewer than half are known (a hole in the feed), at a missing bar, and where the measure does
not vary at all.

With x a column, mean_w its mean over the window w, and rms the root mean square over a day.

Sources: Cont, Kukanov and Stoikov 2014; Cont, Cucuringu and Zhang 2023 (integrated order-flow imbalance, the
first principal component of the levels).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd

from features.bars import Market
from features.columns import BOOK_LEVELS
from features.durations import window_bars
from features.flow import SCORE_BOUND
from features.pipeline import Feature, State
from features.volatility import DAY, HOUR, LOG_RATIO_BOUND
from features.windows import Array, log_ratio, quotient, rolling_mean

log = logging.getLogger(__name__)

#: Books forget fast: a minute to an hour, by the name that features carry. Those shorter than a bar are one
#: bar, and so are left out where bars are as long as the longest.
WINDOWS = {"1min": pd.Timedelta("1min"), "10min": pd.Timedelta("10min"), "1h": HOUR}
SHORT, LONG = ("1min", "10min"), ("1h",)
#: What every window is held against.
USUAL = DAY

Windows = tuple[str, ...]
#: Arrays (time, symbol) by the name of a feature.
Named = dict[str, Array]
Measure = Callable[[Market, Windows, State], Named]


def _column(market: Market, name: str) -> Array:
    return market[f"book_{name}"].to_numpy(dtype="float64")


def _bars(market: Market, window: str) -> int:
    return window_bars(WINDOWS[window], market.interval)


def _over_a_day(market: Market, values: Array) -> Array:
    return rolling_mean(values, window_bars(USUAL, market.interval))


def _rms(market: Market, values: Array) -> Array:
    return np.sqrt(_over_a_day(market, values**2))


def _ratios(name: str, values: Array, market: Market, windows: Windows) -> Named:
    """ln(mean_w / mean over a day)."""
    usual = _over_a_day(market, values)
    return {
        f"{name}_{w}": log_ratio(rolling_mean(values, _bars(market, w)), usual, LOG_RATIO_BOUND)
        for w in windows
    }


def _differences(name: str, values: Array, market: Market, windows: Windows) -> Named:
    """mean_w less the mean over a day."""
    usual = _over_a_day(market, values)
    return {
        f"{name}_{w}": (rolling_mean(values, _bars(market, w)) - usual).clip(
            -LOG_RATIO_BOUND, LOG_RATIO_BOUND
        )
        for w in windows
    }


def _scores(name: str, values: Array, market: Market, windows: Windows, independent: bool) -> Named:
    """(mean_w - mean over a day) / rms; times the root of the bars of w where bars are ``independent``, as
    flows nearly are and states of the book are not. About +-1 is ordinary."""
    usual, rms, out = _over_a_day(market, values), _rms(market, values), {}
    for w in windows:
        difference = rolling_mean(values, _bars(market, w)) - usual
        scale = np.sqrt(_bars(market, w)) if independent else 1.0
        out[f"{name}_{w}"] = quotient(difference * scale, rms).clip(-SCORE_BOUND, SCORE_BOUND)
    return out


def _sizes(name: str, values: Array, market: Market, windows: Windows) -> Named:
    """ln(root mean square over w / rms): how much of it there is, whatever the side."""
    rms = _rms(market, values)
    return {
        f"{name}_{w}": log_ratio(np.sqrt(rolling_mean(values**2, _bars(market, w))), rms, LOG_RATIO_BOUND)
        for w in windows
    }


def _now(name: str, newest: Array, usually: Array, market: Market, windows: Windows) -> Named:
    """(newest - mean of ``usually`` over a day) / its rms; beside the longest window alone."""
    if windows != LONG:
        return {}
    score = quotient(newest - _over_a_day(market, usually), _rms(market, usually))
    return {f"{name}_now": score.clip(-SCORE_BOUND, SCORE_BOUND)}


def _spread(market: Market, windows: Windows, _: State) -> Named:
    """Mean and largest relative spread of the bars, as ln against their usual."""
    out = _ratios("spread", _column(market, "spread"), market, windows)
    return out | _ratios("spread_max", _column(market, "spread_max"), market, windows)


def _levels(levels: int, market: Market, windows: Windows, _: State) -> Named:
    """Over the best levels of both sides: ln of depth less its usual; imbalance as a score, of windows and at
    the close of the newest bar; and its size, ln(rms_w / rms): how one-sided the book is, whatever the side.
    """
    n, imbalance = levels, _column(market, f"imbalance_{levels}")
    return (
        _differences(f"depth_{n}", _column(market, f"depth_{n}"), market, windows)
        | _scores(f"imbalance_{n}", imbalance, market, windows, independent=False)
        | _sizes(f"one_sidedness_{n}", imbalance, market, windows)
        | _now(f"imbalance_{n}", _column(market, f"imbalance_{n}_last"), imbalance, market, windows)
    )


def _slope(market: Market, windows: Windows, _: State) -> Named:
    """ln of the size a unit of distance, less its usual: low where the book is thin close to the mid."""
    return _differences("slope", _column(market, "slope"), market, windows)


def _microprice(market: Market, windows: Windows, _: State) -> Named:
    """Microprice against mid, over windows and at the newest close, and the microprice's own drift, as
    scores."""
    lean, drift = _column(market, "microprice"), _column(market, "microprice_drift")
    return (
        _scores("microprice", lean, market, windows, independent=False)
        | _scores("microprice_drift", drift, market, windows, independent=True)
        | _now("microprice", _column(market, "microprice_last"), lean, market, windows)
    )


def _flow(name: str, flow: Array, market: Market, windows: Windows) -> Named:
    """A flow as a score, over windows and of the newest bar, and its size."""
    return (
        _scores(name, flow, market, windows, independent=True)
        | _sizes(f"{name}_size", flow, market, windows)
        | _now(name, flow, flow, market, windows)
    )


def _best_flow(market: Market, windows: Windows, _: State) -> Named:
    """Order-flow imbalance of the best level, see ``_flow``."""
    return _flow("ofi", _column(market, "ofi_1"), market, windows)


FLOW_LEVELS = BOOK_LEVELS[-1]
#: Order flows beyond this many of their root mean squares count as these in the fit: one absurd snapshot
#: must not be the component.
FLOW_BOUND = 5.0


def _flows(market: Market) -> Array:
    """(time, symbol, level)."""
    return np.stack([_column(market, f"ofi_{m}") for m in range(1, FLOW_LEVELS + 1)], axis=-1)


def fit_component(market: Market) -> State:
    """``weights`` of the levels in the first principal component of their order flows, whose magnitudes add
    up to 1 and whose sum is not negative (positive is buying), and ``explained``, its share of the variance.

    Every symbol's flows are divided by their own root mean square, over levels, so that all weigh alike. With
    no variance at all the weights are equal.
    """
    parts = []
    for flows in np.moveaxis(_flows(market), 1, 0):
        known = flows[np.isfinite(flows).all(axis=1)]
        scale = np.sqrt(np.mean(known**2)) if len(known) else 0.0
        if scale > 0:
            unit = known / scale
            by_level = FLOW_BOUND * np.sqrt(np.mean(unit**2, axis=0))
            parts.append(unit.clip(-by_level, by_level))
    rows = np.concatenate(parts) if parts else np.zeros((0, FLOW_LEVELS))
    covariance = np.cov(rows, rowvar=False) if len(rows) > 1 else np.zeros((FLOW_LEVELS, FLOW_LEVELS))
    if not np.trace(covariance) > 0:
        log.warning("the order flow of %s does not vary; all levels weigh alike", list(market.symbols))
        return {"weights": [1 / FLOW_LEVELS] * FLOW_LEVELS, "explained": 1.0}
    values, vectors = np.linalg.eigh(covariance)
    first = vectors[:, -1] * (-1.0 if vectors[:, -1].sum() < 0 else 1.0)
    return {
        "weights": (first / np.abs(first).sum()).tolist(),
        "explained": float(values[-1] / np.trace(covariance)),
    }


def _integrated_flow(market: Market, windows: Windows, state: State) -> Named:
    """Integrated order-flow imbalance, the weighted sum of that of all levels (``fit_component``, learned on
    the training window), see ``_flow``."""
    flow = np.zeros(market.close.shape)
    for m, weight in enumerate(state["weights"], start=1):
        flow += weight * _column(market, f"ofi_{m}")
    return _flow("ofi_integrated", flow, market, windows)


def _resilience(market: Market, windows: Windows, _: State) -> Named:
    """How often best prices are depleted, as ln against its usual; and how much of it comes back, mean over
    the bars that tell it less the same over a day, NaN where the window has none."""
    back, depletions = _column(market, "resilience"), _column(market, "depletions")
    # As NaN as a mean over the day: a bar without a depletion tells nothing, but its book is known.
    warm = np.isfinite(_over_a_day(market, depletions))
    day = rolling_mean(back, window_bars(USUAL, market.interval), least=1)
    usual = np.where(warm, day, np.nan)
    out = _ratios("depletions", depletions, market, windows)
    for w in windows:
        out[f"resilience_{w}"] = (rolling_mean(back, _bars(market, w), least=1) - usual).clip(-1, 1)
    return out


def _disorder(market: Market, windows: Windows, _: State) -> Named:
    """Share of locked snapshots, and of those that are crossed or lack a side, less their usual."""
    broken = _column(market, "crossed") + _column(market, "one_sided") + _column(market, "empty")
    out = _differences("locked", _column(market, "locked"), market, windows)
    return out | _differences("disorder", broken, market, windows)


def _updates(market: Market, windows: Windows, _: State) -> Named:
    """How many snapshots came, as ln against its usual: activity, where a feed sends each change."""
    return _ratios("updates", _column(market, "snapshots"), market, windows)


def _over(windows: Windows, measure: Measure, market: Market, state: State) -> Mapping[str, pd.DataFrame]:
    return market.frames({f"book_{n}": v for n, v in measure(market, windows, state).items()})


def _features(
    measure: Measure,
    names: tuple[str, ...],
    needs: Iterable[str],
    now: str | None = None,
    fit: Callable[[Market], State] | None = None,
) -> Iterator[Feature]:
    """The measure over the short windows, and over the longest with what it says ``now``."""
    columns = ("close", *(f"book_{column}" for column in needs))
    for windows in (SHORT, LONG):
        outputs = [f"book_{name}_{w}" for name in names for w in windows]
        if now is not None and windows == LONG:
            outputs.append(f"book_{now}_now")
        compute = partial(_over, windows, measure)
        below = WINDOWS[LONG[0]] if windows == SHORT else None
        yield Feature(tuple(outputs), "book", USUAL, columns, compute, fit, below=below)


def _of_levels(levels: int) -> Iterator[Feature]:
    n = levels
    return _features(
        partial(_levels, n),
        (f"depth_{n}", f"imbalance_{n}", f"one_sidedness_{n}"),
        (f"depth_{n}", f"imbalance_{n}", f"imbalance_{n}_last"),
        now=f"imbalance_{n}",
    )


_SPREADS = ("spread", "spread_max")
_EVERY_FLOW = tuple(f"ofi_{m}" for m in range(1, FLOW_LEVELS + 1))

FEATURES = (
    *_features(_spread, _SPREADS, _SPREADS),
    *(feature for levels in BOOK_LEVELS for feature in _of_levels(levels)),
    *_features(_slope, ("slope",), ("slope",)),
    *_features(
        _microprice,
        ("microprice", "microprice_drift"),
        ("microprice", "microprice_last", "microprice_drift"),
        now="microprice",
    ),
    *_features(_best_flow, ("ofi", "ofi_size"), ("ofi_1",), now="ofi"),
    *_features(
        _integrated_flow,
        ("ofi_integrated", "ofi_integrated_size"),
        _EVERY_FLOW,
        now="ofi_integrated",
        fit=fit_component,
    ),
    *_features(_resilience, ("depletions", "resilience"), ("depletions", "resilience")),
    *_features(_disorder, ("locked", "disorder"), ("locked", "crossed", "one_sided", "empty")),
    *_features(_updates, ("updates",), ("snapshots",)),
)
