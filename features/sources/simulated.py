"""A simulated market: bars with the traits of crypto markets that a margin model lives on, from a seed.

Per symbol, in steps of at most an hour (rates below are per hour):

- *volatility* = base x market regime (a Markov chain over calm, normal, stressed) x exp(slow common + own OU
  log volatility) x hour-of-day and weekend pattern x exp(what order flow has added) x the crash;
- *order flow* comes in bursts that excite further bursts (a Hawkes process in discrete time) and leave a
  signed pressure. Volume and taker imbalance show a burst at once, volatility follows it with a delay of
  hours: flow leads;
- *returns* = common factor (betas around one) + own noise + jumps, which come more often after bursts;
  negative common returns raise the slow volatility (leverage);
- *one crash*, at 60 to 85 % of the history unless told: sellers first, then a fall of a fifth and more within
  two hours, a partial rebound, and days of high volatility. A history below ``_CRASH_NEEDS`` has none.

Highs and lows come from the path inside each bar: a few steps, with the extremes of the Brownian bridge
between them (Karatzas and Shreve 1991, 2.8). Everything is vectorised over symbols, the path over time as
well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market, check_bars
from features.durations import format_duration

Array = NDArray[np.float64]

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
FIRST_OPEN = pd.Timestamp("2024-01-01", tz="UTC")

_NAMES = (
    *("ALPHA", "BETA", "GAMMA", "DELTA", "EPSILON", "ZETA", "ETA", "THETA", "IOTA", "KAPPA", "LAMBDA", "MU"),
    *("NU", "XI", "OMICRON", "PI", "RHO", "SIGMA", "TAU", "UPSILON", "PHI", "CHI", "PSI", "OMEGA"),
)
_HOURS_PER_YEAR = 365.0 * 24.0

# Annual volatility that the first symbol and the last have in an ordinary hour; with regimes, bursts and
# jumps the whole history comes out at about 55 and 90 %.
_FIRST_VOLATILITY, _LAST_VOLATILITY = 0.37, 0.52

# Market regimes calm, normal, stressed: factor on volatility, and the mean stay.
_REGIME_FACTOR = np.array([0.65, 1.0, 1.9])
_REGIME_STAY_HOURS = np.array([240.0, 150.0, 40.0])
# Where a regime that ends goes (row: from, column: to).
_REGIME_NEXT = np.array([[0.0, 0.9, 0.1], [0.65, 0.0, 0.35], [0.15, 0.85, 0.0]])

# Ornstein-Uhlenbeck log volatilities: reversion per hour and stationary deviation, common and own.
_COMMON_REVERSION, _COMMON_DEVIATION = 1 / 120, 0.25
_OWN_REVERSION, _OWN_DEVIATION = 1 / 24, 0.22
_LEVERAGE = -0.35

# Bursts of orders: background per hour, offspring per burst (below 1: stationary), decay, and delay to
# volatility.
_BURST_RATE, _BURST_OFFSPRING, _BURST_DECAY = 0.05, 0.55, 1 / 3
_FOLLOW_RATE = 1 / 2
_BURST_TO_VOLATILITY, _BURST_TO_VOLUME = 0.28, 0.30
_PRESSURE_TO_IMBALANCE, _MOST_IMBALANCE = 0.10, 0.25
_EXCITEMENT_CAP = 6.0

# Jumps: per hour and unit of excitement, size as a multiple of one hour's volatility.
_JUMP_RATE, _JUMP_PER_EXCITEMENT, _JUMP_HOURS = 1 / 400, 1 / 200, 3.0
_COMMON_JUMP_RATE = 1 / 900
_JUMP_VOLATILITY_CAP = 2.5  # times the median: a jump on top of the crash stays within what has been seen

_CRASH_NEEDS = pd.Timedelta(days=10)
_CRASH_WARNING_HOURS, _CRASH_FALL_HOURS, _CRASH_HALF_LIFE_HOURS = 4.0, 2.0, 30.0

_HOURLY_TURNOVER = 2.0e7
_PATH_STEPS = 4


@dataclass(frozen=True)
class _State:
    """What the slow loop gives: (step, symbol) arrays, the common ones with one column."""

    volatility: Array  # per square-root hour
    common_noise: Array  # standard normal, (step, 1)
    excitement: Array
    pressure: Array


def simulated_symbols(count: int) -> tuple[str, ...]:
    """Names of the simulated contracts, the leader first."""
    return tuple(_NAMES[i] if i < len(_NAMES) else f"S{i + 1:03d}" for i in range(count))


def simulate(
    symbols: int = 10,
    days: int = 365,
    interval: pd.Timedelta = HOUR,
    seed: int = 7,
    start: pd.Timestamp = FIRST_OPEN,
    crash_at: float | None = None,
) -> Market:
    """Simulate a market whose first bar opens at ``start``. The same arguments give the same bars.

    Args:
        symbols: number of contracts, at least one; the first is the leader, the largest and calmest.
        days: length of the history.
        interval: bar length, 1 s to 1 d, a whole part or multiple of an hour.
        seed: of everything random.
        start: open time of the first bar, on the interval's grid.
        crash_at: when the crash begins, as a fraction of the history; None lets the seed choose.

    Raises ``ValueError`` for anything else.
    """
    if symbols < 1 or days < 1:
        raise ValueError(f"symbols is {symbols} and days is {days}; give at least 1 of each")
    whole = (HOUR % interval if interval <= HOUR else interval % HOUR) == pd.Timedelta(0)
    if not (pd.Timedelta(seconds=1) <= interval <= DAY and whole and DAY % interval == pd.Timedelta(0)):
        raise ValueError(
            f"interval {format_duration(interval)} cannot be simulated; give 1s to 24h such that an hour is "
            f"a whole number of bars, or a bar a whole number of hours that divides a day"
        )
    if crash_at is not None and not 0 < crash_at < 1:
        raise ValueError(
            f"crash_at is {crash_at}; give the fraction of the history before it, within 0 and 1"
        )
    rng = np.random.default_rng(seed)
    steps_per_bar = max(1, interval // HOUR)
    step_hours = (interval / HOUR) / steps_per_bar
    bars = int(pd.Timedelta(days=days) / interval)
    crash = _crash_path(rng, bars * steps_per_bar, symbols, step_hours, crash_at)
    opens = pd.date_range(start, periods=bars * steps_per_bar, freq=interval / steps_per_bar, unit="ns")
    state = _walk(rng, opens, symbols, step_hours, crash)
    return _bars(rng, state, interval, opens, steps_per_bar, step_hours, crash)


@dataclass(frozen=True)
class _Crash:
    """Per step: extra log volatility and signed pressure (step, 1), and log drift (step, symbol)."""

    log_volatility: Array
    pressure: Array
    drift: Array


def _crash_path(
    rng: np.random.Generator, steps: int, symbols: int, step_hours: float, crash_at: float | None
) -> _Crash:
    chosen = rng.uniform(0.60, 0.85)  # drawn in any case: where the crash lies changes nothing else
    at = int(steps * (chosen if crash_at is None else crash_at))
    leader_fall = rng.uniform(0.16, 0.22)
    falls = leader_fall * np.concatenate([[1.0], rng.uniform(1.0, 1.5, symbols - 1)])
    hours = (np.arange(steps)[:, np.newaxis] - at) * step_hours
    if steps * step_hours < _CRASH_NEEDS / HOUR:
        hours = np.full_like(hours, -np.inf)
    falling = (hours >= 0) & (hours < _CRASH_FALL_HOURS)
    rebound = (hours >= _CRASH_FALL_HOURS) & (hours < _CRASH_FALL_HOURS + 12)
    warning = (hours >= -_CRASH_WARNING_HOURS) & (hours < _CRASH_FALL_HOURS)
    after = np.where(hours >= 0, np.maximum(hours, 0.0), np.inf)
    drift = np.log1p(-falls) * (
        falling / max(1, int(falling.sum())) - 0.25 * rebound / max(1, int(rebound.sum()))
    )
    return _Crash(
        log_volatility=np.log(3.5) * np.exp2(-after / _CRASH_HALF_LIFE_HOURS),
        pressure=np.where(warning, -1.5, 0.0),
        drift=drift,
    )


def _diurnal(opens: pd.DatetimeIndex) -> Array:
    """Volatility factor by hour of the day (highest at 15:00 UTC) and at weekends; (step, 1)."""
    hour = (opens.hour + opens.minute / 60 + opens.second / 3600).to_numpy(dtype="float64")
    phase = 2 * np.pi * (hour - 15) / 24
    wave = 0.22 * np.cos(phase) + 0.08 * np.cos(2 * phase)
    factor: Array = np.exp(wave) * np.where(opens.day_of_week.to_numpy() >= 5, 0.75, 1.0)
    return factor[:, np.newaxis]


def _regimes(rng: np.random.Generator, steps: int, step_hours: float) -> NDArray[np.int64]:
    """A path of the market's regime, by stays of exponential length."""
    path = np.empty(steps, dtype="int64")
    now, regime = 0, 1
    while now < steps:
        stay = max(1, round(rng.exponential(_REGIME_STAY_HOURS[regime]) / step_hours))
        path[now : now + stay] = regime
        now += stay
        regime = int(rng.choice(3, p=_REGIME_NEXT[regime]))
    return path


def _walk(
    rng: np.random.Generator, opens: pd.DatetimeIndex, symbols: int, step_hours: float, crash: _Crash
) -> _State:
    """The recursions over time, vectorised over symbols."""
    steps = len(opens)
    common_noise = rng.standard_normal((steps, 1))
    common_shock = _LEVERAGE * common_noise[:, 0] + np.sqrt(1 - _LEVERAGE**2) * rng.standard_normal(steps)
    own_shock = rng.standard_normal((steps, symbols))
    luck = rng.random((steps, symbols))
    # Bursts lean to one side for the whole market, a little.
    side = np.where(
        rng.random((steps, symbols)) < 0.5 + 0.15 * np.sign(rng.standard_normal((steps, 1))), 1.0, -1.0
    )

    keep_common, keep_own = np.exp(-_COMMON_REVERSION * step_hours), np.exp(-_OWN_REVERSION * step_hours)
    keep_burst, keep_follow = np.exp(-_BURST_DECAY * step_hours), np.exp(-_FOLLOW_RATE * step_hours)
    common_scale = _COMMON_DEVIATION * np.sqrt(1 - keep_common**2)
    own_scale = _OWN_DEVIATION * np.sqrt(1 - keep_own**2)

    common, own = 0.0, np.zeros(symbols)
    burst, pressure, follow = np.zeros(symbols), np.zeros(symbols), np.zeros(symbols)
    log_volatility, excitement, pressures = (np.empty((steps, symbols)) for _ in range(3))
    extra = np.maximum(-crash.pressure[:, 0], 0.0) * step_hours
    for t in range(steps):
        # Volatility is set by what bursts left up to the step before, never by this step's: flow leads.
        log_volatility[t] = common + own + _BURST_TO_VOLATILITY * follow
        follow = keep_follow * follow + (1 - keep_follow) * burst
        rate = _BURST_RATE + _BURST_OFFSPRING * _BURST_DECAY * burst
        arrived = luck[t] > np.exp(-rate * step_hours)
        burst = np.minimum(keep_burst * burst + arrived + extra[t], _EXCITEMENT_CAP)
        pressure = keep_burst * pressure + arrived * side[t] - extra[t]
        common = keep_common * common + common_scale * common_shock[t]
        own = keep_own * own + own_scale * own_shock[t]
        excitement[t], pressures[t] = burst, pressure

    base = np.geomspace(_FIRST_VOLATILITY, _LAST_VOLATILITY, symbols) / np.sqrt(_HOURS_PER_YEAR)
    regime = _REGIME_FACTOR[_regimes(rng, steps, step_hours)][:, np.newaxis]
    volatility = base * regime * _diurnal(opens) * np.exp(log_volatility + crash.log_volatility)
    return _State(volatility, common_noise, excitement, pressures)


def _returns(
    rng: np.random.Generator, state: _State, step_hours: float, crash: _Crash
) -> tuple[Array, Array]:
    """Log-price increments and their diffusive variance, both (step, path step, symbol)."""
    steps, symbols = state.volatility.shape
    shape = (steps, _PATH_STEPS, symbols)
    beta = np.concatenate([[0.9], rng.uniform(0.70, 0.88, symbols - 1)])
    # The common noise of the whole step is the one that moved the slow volatility; bridge it over the path
    # steps.
    fine = rng.standard_normal((steps, _PATH_STEPS, 1))
    fine += state.common_noise[:, :, np.newaxis] / np.sqrt(_PATH_STEPS) - fine.mean(axis=1, keepdims=True)
    noise = beta * fine + np.sqrt(1 - beta**2) * rng.standard_normal(shape)
    deviation = (state.volatility * np.sqrt(step_hours / _PATH_STEPS))[:, np.newaxis, :]
    moves = deviation * noise

    own_rate = (_JUMP_RATE + _JUMP_PER_EXCITEMENT * state.excitement) * step_hours
    own = (rng.random((steps, symbols)) < own_rate) * rng.standard_normal((steps, symbols))
    shared = (rng.random((steps, 1)) < _COMMON_JUMP_RATE * step_hours) * rng.standard_normal((steps, 1))
    lean = 0.5 * np.tanh(state.pressure)  # jumps tend to go where the orders push
    usual = np.median(state.volatility, axis=0)
    jump_scale = _JUMP_HOURS * np.minimum(state.volatility, _JUMP_VOLATILITY_CAP * usual)
    jump = jump_scale * (own + (own != 0) * lean + shared * beta)
    place = rng.integers(_PATH_STEPS, size=steps)
    moves[np.arange(steps), place] += jump
    moves += (crash.drift / _PATH_STEPS)[:, np.newaxis, :]
    return moves, np.broadcast_to(deviation**2, shape)


def _bars(
    rng: np.random.Generator,
    state: _State,
    interval: pd.Timedelta,
    opens: pd.DatetimeIndex,
    steps_per_bar: int,
    step_hours: float,
    crash: _Crash,
) -> Market:
    steps, symbols = state.volatility.shape
    moves, variance = _returns(rng, state, step_hours, crash)
    start = np.log(np.geomspace(40_000.0, 0.5, symbols)) if symbols > 1 else np.log([40_000.0])
    path = start + np.cumsum(moves.reshape(-1, symbols), axis=0)
    before = np.vstack([start, path[:-1]])
    # Highest and lowest point of the Brownian bridge between two points of the path.
    gap, spread = (path - before) ** 2, 2 * variance.reshape(-1, symbols)
    highest = (before + path + np.sqrt(gap - spread * np.log(rng.random(path.shape)))) / 2
    lowest = (before + path - np.sqrt(gap - spread * np.log(rng.random(path.shape)))) / 2

    per_bar = (-1, steps_per_bar * _PATH_STEPS, symbols)
    # Exponentiate once and take the extremes of prices, so that rounding never puts a close above its high.
    points = np.exp(path).reshape(per_bar)
    opening = np.exp(before).reshape(per_bar)[:, 0]
    close = points[:, -1]
    high = np.maximum(np.exp(highest).reshape(per_bar).max(axis=1), np.maximum(opening, points.max(axis=1)))
    low = np.minimum(np.exp(lowest).reshape(per_bar).min(axis=1), np.minimum(opening, points.min(axis=1)))

    # Activity wanders over weeks, as real levels do, besides following bursts and volatility.
    drift = 0.2 * np.cumsum(rng.standard_normal((steps, symbols)), axis=0) * np.sqrt(step_hours / 720)
    ordinary = np.geomspace(1.0, 0.02, symbols) if symbols > 1 else np.ones(1)
    turnover = (
        _HOURLY_TURNOVER
        * step_hours
        * ordinary
        * (state.volatility / np.median(state.volatility, axis=0)) ** 0.8
        * np.exp(_BURST_TO_VOLUME * state.excitement + drift + 0.3 * rng.standard_normal((steps, symbols)))
    )
    step_return = moves.sum(axis=1) / (state.volatility * np.sqrt(step_hours))
    pushed = _MOST_IMBALANCE * np.tanh(_PRESSURE_TO_IMBALANCE / _MOST_IMBALANCE * state.pressure)
    lean = 0.08 * np.tanh(step_return / 2) + pushed
    share = 1 / (1 + np.exp(-2 * (lean + 0.06 * rng.standard_normal((steps, symbols)))))

    per_step = (-1, steps_per_bar, symbols)
    quote = turnover.reshape(per_step).sum(axis=1)
    bought = (turnover * share).reshape(per_step).sum(axis=1)
    mean_price = np.clip(points.mean(axis=1), low, high)
    size = 1500 * ordinary**0.3 * np.exp(0.1 * state.excitement.reshape(per_step).mean(axis=1))
    columns = {
        **{"open": opening, "high": high, "low": low, "close": close},
        **{"volume": quote / mean_price, "quote_volume": quote, "trades": 1.0 + rng.poisson(quote / size)},
        **{"taker_buy_volume": bought / mean_price, "taker_buy_quote_volume": bought},
    }
    names = simulated_symbols(symbols)
    times = pd.Series(opens[::steps_per_bar])
    tables = {
        name: pd.DataFrame({"open_time": times, **{c: v[:, i] for c, v in columns.items()}})
        for i, name in enumerate(names)
    }
    return Market.from_bars(
        {name: check_bars(table, interval, f"simulated {name}") for name, table in tables.items()}, interval
    )
