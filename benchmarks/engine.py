"""How long one decision takes: ``python -m benchmarks.engine`` (from the repository's root).

Decides 300 contracts once an hour over two simulated days, on one core, for three kinds of day, and compares
with the least that any engine has to do (``no-op``: take the candidate's rates, divide by the base, build the
answer). Prints microseconds a decision and milliseconds for 300 contracts; the median over the hours, and the
worst.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import Candidate, Candidates, Decision, EngineState, Inputs, MarketState, Overrides

CONTRACTS, HOURS = 300, 48
BASE = (0.10, 0.05, 0.10, 0.05)
Case = tuple[Candidates, MarketState, float]


def calm(hour: int) -> tuple[float, float]:
    """Requirement as a multiple of the base, and the close: a slow breath within the limits."""
    return 1.2 + 0.05 * math.sin(hour), 100.0


def moving(hour: int) -> tuple[float, float]:
    """A requirement that meets a limit at each decision."""
    return (6.0 if hour % 8 < 4 else 0.3), 100.0


def crashing(hour: int) -> tuple[float, float]:
    """As ``moving``, and prices that breach the VaR now and then."""
    return moving(hour)[0], 100.0 * 0.97 ** (hour % 16)


def tape(day: Callable[[int], tuple[float, float]]) -> Iterator[Case]:
    for hour in range(HOURS):
        now_s = 1_700_000_400.0 + 3600.0 * hour
        times, close = day(hour)
        a, b, c, d = (times * base for base in BASE)
        var = (0.6 * a, 0.6 * b, 0.6 * c, 0.6 * d)
        champion = Candidate("champion", (a, b, c, d), var, now_s, now_s + 7200.0, "1")
        rules = replace(champion, rung="rules", requirement=BASE)
        market = MarketState(
            True, 3600.0, now_s, 5000, close, BASE, (0.04, 0.02, 0.04, 0.02), (14400.0, 3600.0)
        )
        yield Candidates(champion=champion, rules=rules), market, now_s


def no_op(
    candidates: Candidates,
    market: MarketState,
    limits: Limits,
    overrides: Overrides,
    state: EngineState,
    now_s: float,
) -> tuple[Decision, EngineState]:
    champion = candidates.champion
    assert champion is not None
    a, b, c, d = (r / base for r, base in zip(champion.requirement, market.base_rates, strict=True))
    decision = Decision(
        now_s,
        market.last_close_s,
        champion.valid_until_s,
        "champion",
        "fresh",
        market.base_rates,
        champion.requirement,
        champion.requirement,
        (a, b, c, d),
        champion.var,
        champion.model_version,
        (),
        Inputs(candidates, market, limits, overrides, state, now_s),
    )
    return decision, state


def measure(engine: Callable[..., tuple[Decision, EngineState]], cases: list[Case]) -> tuple[float, float]:
    """Median and worst seconds for all contracts at one hour."""
    limits, overrides = Limits(), Overrides()
    states = [EngineState()] * CONTRACTS
    seconds = []
    for candidates, market, now_s in cases:
        start = time.perf_counter()
        for i in range(CONTRACTS):
            _, states[i] = engine(candidates, market, limits, overrides, states[i], now_s)
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    return seconds[len(seconds) // 2], seconds[-1]


def main() -> None:
    print(f"{'engine':8}{'day':10}{'us a decision':>15}{f'ms for {CONTRACTS}':>13}{'worst ms':>10}")
    for name, engine in (("no-op", no_op), ("decide", decide)):
        for day in (calm, moving, crashing):
            median_s, worst_s = measure(engine, list(tape(day)))
            print(
                f"{name:8}{day.__name__:10}{median_s / CONTRACTS * 1e6:15.1f}"
                f"{median_s * 1e3:13.2f}{worst_s * 1e3:10.2f}"
            )


if __name__ == "__main__":
    main()
