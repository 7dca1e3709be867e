"""A tape: what the safety engine is given from moment to moment; and playing it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.margin.engine import decide
from models.margin.limits import Limits
from models.margin.overrides import Overrides
from models.margin.types import Candidate, Candidates, Decision, EngineState, MarketState


@dataclass(frozen=True)
class Moment:
    """One decision of a tape.

    Attributes:
        now_s: what the engine's clock shows.
        market: what it sees of the contract.
        champion, rules: what the rungs ask for; ``last_good`` is remembered by ``play``.
        price: the true price, for the picture; NaN where nobody trades.
        overrides: the orders in force.
        restarted: the engine was ended and started anew just before.
        true_s: the true time; None where the clock is right.
    """

    now_s: float
    market: MarketState
    champion: Candidate | None
    rules: Candidate | None
    price: float
    overrides: Overrides = field(default_factory=Overrides)
    restarted: bool = False
    true_s: float | None = None


@dataclass(frozen=True)
class Tape:
    """A named scenario.

    Attributes:
        name: how commands and tests call it.
        title: what its picture is called.
        contract: the symbol, for the picture.
        moments: what is given, in order.
        side: whose margin is drawn.
        marks: (true time in seconds, words) of what happened in the world.
        price_of: what the price panel shows, with its unit.
    """

    name: str
    title: str
    contract: str
    moments: tuple[Moment, ...]
    side: str
    marks: tuple[tuple[float, str], ...]
    price_of: str = "price, USD"


#: Makes a tape; every call makes the same.
MakeTape = Callable[[], Tape]


def play(
    tape: Tape,
    limits: Limits | None = None,
    *,
    restart: Callable[[EngineState], EngineState] | None = None,
) -> list[Decision]:
    """Decide every moment of a tape, as the server does: the state is carried on, and the champion's newest
    forecast that answered becomes the last good one.

    ``restart`` is what a restart makes of the state; the default writes it as JSON and reads it back.
    """
    limits = limits or Limits()
    again = restart or _restored
    state, good, decisions = EngineState(), None, []
    for moment in tape.moments:
        if moment.restarted:
            state = again(state)
        candidates = Candidates(moment.champion, good, moment.rules)
        decision, state = decide(candidates, moment.market, limits, moment.overrides, state, moment.now_s)
        if decision.rung == "champion" and moment.champion is not None:
            good = replace(moment.champion, rung="last_good")
        decisions.append(decision)
    return decisions


def _restored(state: EngineState) -> EngineState:
    return EngineState.from_json(json.loads(json.dumps(state.to_json())))


def true_times(tape: Tape) -> NDArray[np.float64]:
    """(moment,) true times, seconds since 1970 UTC."""
    return np.array([m.now_s if m.true_s is None else m.true_s for m in tape.moments])


def served(decisions: Sequence[Decision]) -> NDArray[np.float64]:
    """(moment, 4) served rates, in the order of ``VALUES``."""
    return np.array([d.served_rates for d in decisions])


def required(decisions: Sequence[Decision]) -> NDArray[np.float64]:
    """(moment, 4) rates that the rung that answered asked for."""
    return np.array([d.required_rates for d in decisions])
