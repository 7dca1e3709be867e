"""One contract and what is known of it, as functions that tests bend to their case.

Base rates are 10 % and 5 %, bars are hourly, horizons 4 h and 1 h. ``T0`` is a whole hour.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.types import (
    Candidate,
    Candidates,
    Decision,
    EngineState,
    MarketState,
    Open,
    Overrides,
    Rates,
    Served,
)

T0 = 1_700_000_000.0 - 1_700_000_000.0 % 3600
HOUR = 3600.0
BASE = (0.10, 0.05, 0.10, 0.05)
VAR = (0.08, 0.04, 0.08, 0.04)
#: A fall is followed at once, by 5 % an hour, and every change is published.
STEPS_ALONE = Limits(
    release_ratio=0.0, publish_step=0.0, down_limit_1h=0.05, up_limit_1h=0.25, up_limit_24h=0.60
)
#: What ``step`` and ``answer`` decide by unless told otherwise: steps up that are easily computed by hand.
USUAL = Limits(up_limit_1h=0.25, up_limit_24h=0.60)


@pytest.fixture
def t0() -> float:
    return T0


@pytest.fixture
def steps_alone() -> Limits:
    return STEPS_ALONE


@pytest.fixture
def market() -> Callable[..., MarketState]:
    def make(now_s: float = T0, **changes: object) -> MarketState:
        """Bars are fresh as of ``now_s``; there is no long-run variance."""
        known = MarketState(True, HOUR, now_s, 1000, 100.0, BASE, (0.0, 0.0, 0.0, 0.0), (4 * HOUR, HOUR))
        return replace(known, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    def make(
        requirement: Rates, rung: str = "champion", made_at_s: float = T0, **changes: object
    ) -> Candidate:
        made = Candidate(rung, requirement, VAR, made_at_s, made_at_s + 2 * HOUR, "v1")
        return replace(made, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def served() -> Callable[..., EngineState]:
    def make(rates: Rates, time_s: float = T0, **changes: object) -> EngineState:
        """A contract whose last decision served these rates from the champion, at a close of 100."""
        state = EngineState(
            served=(Served(time_s, rates, None),),
            open=(Open(time_s, 100.0, VAR, None),),
            rates=rates,
            rung="champion",
            mode="fresh",
            model_version="v1",
            valid_until_s=time_s + 2 * HOUR,
            base_rates=BASE,
        )
        return replace(state, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def step(market: Callable[..., MarketState]) -> Callable[..., tuple[Decision, EngineState]]:
    """``decide`` at ``now_s`` over a fresh feed, unless told otherwise; each candidate goes to its rung."""

    def make(
        *given: Candidate,
        now_s: float = T0,
        state: EngineState | None = None,
        limits: Limits | None = None,
        seen: MarketState | None = None,
        overrides: Overrides | None = None,
    ) -> tuple[Decision, EngineState]:
        return decide(
            Candidates(**{c.rung: c for c in given}),
            market(now_s) if seen is None else seen,
            limits or USUAL,
            overrides or Overrides(),
            state or EngineState(),
            now_s,
        )

    return make


@pytest.fixture
def answer(step: Callable[..., tuple[Decision, EngineState]]) -> Callable[..., Decision]:
    """The decision of ``step`` alone."""

    def make(*given: Candidate, **named: object) -> Decision:
        return step(*given, **named)[0]

    return make
