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
from collections.abc import Mapping
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

#: Books forget fast: minutes to hours, by the name that features carry. Shorter than a bar is one bar.
WINDOWS = {"1min": pd.Timedelta("1min"), "10min": pd.Timedelta("10min"), "1h": HOUR}
#: What every window is held against.
USUAL = DAY


def _column(market: Market, name: str) -> Array:
    return market[f"book_{name}"].to_numpy(dtype="float64")


def _usual_bars(market: Market) -> int:
    return window_bars(USUAL, market.interval)


def _by_window(market: Market, values: Array) -> dict[str, Array]:
    """mean_w for each window."""
    return {w: rolling_mean(values, window_bars(length, market.interval)) for w, length in WINDOWS.items()}


def _ratios(market: Market, values: Array) -> dict[str, Array]:
    """ln(mean_w / mean over a day)."""
    usual = rolling_mean(values, _usual_bars(market))
    return {w: log_ratio(mean, usual, LOG_RATIO_BOUND) for w, mean in _by_window(market, values).items()}


def _differences(market: Market, values: Array) -> dict[str, Array]:
    """mean_w less the mean over a day."""
    usual = rolling_mean(values, _usual_bars(market))
    return {
        w: (mean - usual).clip(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
        for w, mean in _by_window(market, values).items()
    }


def _scores(market: Market, values: Array, independent: bool) -> dict[str, Array]:
    """(mean_w - mean over a day) / rms; times the root of the bars of w where bars are ``independent``, as
    flows nearly are and states of the book are not. About +-1 is ordinary."""
    usual = rolling_mean(values, _usual_bars(market))
    rms = np.sqrt(rolling_mean(values**2, _usual_bars(market)))
    out = {}
    for w, mean in _by_window(market, values).items():
        scale = np.sqrt(window_bars(WINDOWS[w], market.interval)) if independent else 1.0
        out[w] = quotient((mean - usual) * scale, rms).clip(-SCORE_BOUND, SCORE_BOUND)
    return out


def _sizes(market: Market, values: Array) -> dict[str, Array]:
    """ln(root mean square over w / rms): how much of it there is, whatever the side."""
    rms = np.sqrt(rolling_mean(values**2, _usual_bars(market)))
    return {
        w: log_ratio(np.sqrt(mean), rms, LOG_RATIO_BOUND) for w, mean in _by_window(market, values**2).items()
    }


def _now(market: Market, newest: Array, usually: Array) -> Array:
    """(newest - mean of ``usually`` over a day) / its rms."""
    usual, rms = (rolling_mean(v, _usual_bars(market)) for v in (usually, usually**2))
    return quotient(newest - usual, np.sqrt(rms)).clip(-SCORE_BOUND, SCORE_BOUND)


def _named(name: str, values: Mapping[str, Array]) -> dict[str, Array]:
    return {f"book_{name}_{w}": array for w, array in values.items()}


def _spread(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Mean and largest relative spread of the bars, as ln against their usual."""
    out = _named("spread", _ratios(market, _column(market, "spread")))
    return market.frames(out | _named("spread_max", _ratios(market, _column(market, "spread_max"))))


def _state_of(levels: int, market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Over the best levels of both sides: ln of depth less its usual; imbalance as a score, of windows and at
    the close of the newest bar; and its size, ln(rms_w / rms): how one-sided the book is, whatever the side.
    """
    imbalance, last = _column(market, f"imbalance_{levels}"), _column(market, f"imbalance_{levels}_last")
    return market.frames(
        _named(f"depth_{levels}", _differences(market, _column(market, f"depth_{levels}")))
        | _named(f"imbalance_{levels}", _scores(market, imbalance, independent=False))
        | _named(f"one_sidedness_{levels}", _sizes(market, imbalance))
        | {f"book_imbalance_{levels}_now": _now(market, last, imbalance)}
    )


def _slope(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """ln of the size a unit of distance, less its usual: low where the book is thin close to the mid."""
    return market.frames(_named("slope", _differences(market, _column(market, "slope"))))


def _microprice(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Microprice against mid, over windows and at the newest close, and the microprice's own drift, as
    scores."""
    lean, drift = _column(market, "microprice"), _column(market, "microprice_drift")
    return market.frames(
        _named("microprice", _scores(market, lean, independent=False))
        | _named("microprice_drift", _scores(market, drift, independent=True))
        | {"book_microprice_now": _now(market, _column(market, "microprice_last"), lean)}
    )


def _best_flow(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Order-flow imbalance of the best level, see ``_flow``."""
    return _flow(market, "ofi", _column(market, "ofi_1"))


def _flow(market: Market, name: str, flow: Array) -> Mapping[str, pd.DataFrame]:
    """A flow as a score, over windows and of the newest bar, and its size."""
    return market.frames(
        _named(name, _scores(market, flow, independent=True))
        | _named(f"{name}_size", _sizes(market, flow))
        | {f"book_{name}_now": _now(market, flow, flow)}
    )


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


def _integrated_flow(market: Market, state: State) -> Mapping[str, pd.DataFrame]:
    """Integrated order-flow imbalance, the weighted sum of that of all levels (``fit_component``, learned on
    the training window), see ``_flow``."""
    flow = np.zeros(market.close.shape)
    for m, weight in enumerate(state["weights"], start=1):
        flow += weight * _column(market, f"ofi_{m}")
    return _flow(market, "ofi_integrated", flow)


def _resilience(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """How often best prices are depleted, as ln against its usual; and how much of it comes back, mean over
    the bars that tell it less the same over a day, NaN where the window has none."""
    back, usual_bars = _column(market, "resilience"), _usual_bars(market)
    # As NaN as a mean over the day: a bar without a depletion tells nothing, but its book is known.
    warm = np.isfinite(rolling_mean(_column(market, "depletions"), usual_bars))
    usual = np.where(warm, rolling_mean(back, usual_bars, least=1), np.nan)
    recent = {
        w: rolling_mean(back, window_bars(length, market.interval), least=1) for w, length in WINDOWS.items()
    }
    return market.frames(
        _named("depletions", _ratios(market, _column(market, "depletions")))
        | _named("resilience", {w: (mean - usual).clip(-1, 1) for w, mean in recent.items()})
    )


def _disorder(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """Share of locked snapshots, and of those that are crossed or lack a side, less their usual."""
    locked = _differences(market, _column(market, "locked"))
    broken = sum(_column(market, name) for name in ("crossed", "one_sided", "empty"))
    return market.frames(
        _named("locked", locked) | _named("disorder", _differences(market, np.asarray(broken)))
    )


def _updates(market: Market, _: State) -> Mapping[str, pd.DataFrame]:
    """How many snapshots came, as ln against its usual: activity, where a feed sends each change."""
    return market.frames(_named("updates", _ratios(market, _column(market, "snapshots"))))


def _outputs(*names: str) -> tuple[str, ...]:
    return tuple(f"book_{name}_{w}" for name in names for w in WINDOWS)


def _needs(*names: str) -> tuple[str, ...]:
    return ("close", *(f"book_{name}" for name in names))


def _level_feature(levels: int) -> Feature:
    return Feature(
        (
            *_outputs(f"depth_{levels}", f"imbalance_{levels}", f"one_sidedness_{levels}"),
            f"book_imbalance_{levels}_now",
        ),
        *("book", USUAL, _needs(f"depth_{levels}", f"imbalance_{levels}", f"imbalance_{levels}_last")),
        partial(_state_of, levels),
    )


FEATURES = (
    Feature(_outputs("spread", "spread_max"), "book", USUAL, _needs("spread", "spread_max"), _spread),
    *(_level_feature(levels) for levels in BOOK_LEVELS),
    Feature(_outputs("slope"), "book", USUAL, _needs("slope"), _slope),
    Feature(
        (*_outputs("microprice", "microprice_drift"), "book_microprice_now"),
        *("book", USUAL, _needs("microprice", "microprice_last", "microprice_drift"), _microprice),
    ),
    Feature((*_outputs("ofi", "ofi_size"), "book_ofi_now"), "book", USUAL, _needs("ofi_1"), _best_flow),
    Feature(
        (*_outputs("ofi_integrated", "ofi_integrated_size"), "book_ofi_integrated_now"),
        *("book", USUAL, _needs(*(f"ofi_{m}" for m in range(1, FLOW_LEVELS + 1)))),
        *(_integrated_flow, fit_component),
    ),
    Feature(
        _outputs("depletions", "resilience"), "book", USUAL, _needs("depletions", "resilience"), _resilience
    ),
    Feature(
        _outputs("locked", "disorder"),
        *("book", USUAL, _needs("locked", "crossed", "one_sided", "empty"), _disorder),
    ),
    Feature(_outputs("updates"), "book", USUAL, _needs("snapshots"), _updates),
)
