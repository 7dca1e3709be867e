"""What the safety engine is given, remembers and answers: plain frozen values, all of them JSON-able.

Rates are fractions of notional. VaR is a log loss over the kind's horizon at the kind's level, positive
against the side. Times are seconds since 1970 UTC. Four values belong to a contract (``VALUES``) and always
travel together, as ``Rates``; they are plain floats, since four numbers are quicker without an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeGuard

from models.margin.codec import (
    Rates,
    StateError,
    decode,
    encode,
    is_number,
    is_rates,
    plain,
    read,
    unreadable,
)
from models.margin.limits import Limits
from models.margin.overrides import Overrides

__all__ = ["Overrides", "Rates", "StateError", "is_number", "is_rates"]

SIDES: Final = ("long", "short")
KINDS: Final = ("initial", "maintenance")
#: The ladder, best first.
RUNGS: Final = ("champion", "last_good", "rules", "static", "cap")
#: How alive the feed is, best first. Only ``fresh`` lets a rate fall.
MODES: Final = ("fresh", "degraded", "stale", "dead")
#: The order of the four values in every ``Rates``.
VALUES: Final = tuple((side, kind) for side in SIDES for kind in KINDS)
#: Indices of the two kinds in a ``Rates``.
INITIAL, MAINTENANCE = (0, 2), (1, 3)

#: A value for a long and one for a short.
Pair = tuple[float, float]
#: Open positions of one side: equity over notional, ascending or not, and the notional that has it.
Positions = tuple[tuple[float, float], ...]
ZEROS: Final[Rates] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Tail:
    """What one kind of margin must withstand: ES at ``level`` over ``horizon_s`` seconds."""

    level: float
    horizon_s: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one rung asks for.

    Attributes:
        requirement, var: the required rates, and the VaR (log loss) that belongs to each of them.
        breaker: the 99.9 % VaR over the maintenance horizon, long and short (rule 12); None where unknown.
        confidence: 1 for a forecast like those it was judged on, 0 for one that doubts itself (rule 8).
        drift: how far the inputs lie outside what the model was fitted on, 0 inside, 1 far out (rule 19).
    """

    rung: str
    requirement: Rates
    var: Rates
    made_at_s: float
    valid_until_s: float
    model_version: str = ""
    breaker: Pair | None = None
    confidence: float = 1.0
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """What each rung that forecasts asks for; None where it has nothing to say."""

    champion: Candidate | None = None
    last_good: Candidate | None = None
    rules: Candidate | None = None


@dataclass(frozen=True, slots=True)
class MarketState:
    """What is known of the contract and its feed.

    Attributes:
        known_symbol: whether the venue lists the contract.
        interval_s: bar length.
        last_close_s: close time of the newest bar; None where there is none.
        bars: how many bars of history there are.
        close: the newest close price; None where there is none.
        base_rates: the venue's static rates, or the through-the-cycle ones; initial >= maintenance.
        long_run_var: margin rates for the 99 % VaR of a normal with the long-run variance before the
            decision, over each kind's horizon; 0 where it is unknown (see ``base_rate``).
        horizons_s: horizon of initial and of maintenance margin.
        other_closes: the newest close in other sources of the same contract (rule 7).
        last_return: log return of the newest bar; None where unknown (rule 12).
        extreme_losses: the one-bar loss (log) of long and short that the contract's own history exceeded
            in 0.03 % of bars; 0 where unknown (rule 12).
        stressed_rates: the 90 % quantile of past requirements; 0 where unknown (rule 12).
        positions: open positions by side (rule 18); empty where the venue tells none.
    """

    known_symbol: bool
    interval_s: float
    last_close_s: float | None
    bars: int
    close: float | None
    base_rates: Rates
    long_run_var: Rates
    horizons_s: tuple[float, float]
    other_closes: tuple[float, ...] = ()
    last_return: float | None = None
    extreme_losses: Pair = (0.0, 0.0)
    stressed_rates: Rates = ZEROS
    positions: tuple[Positions, Positions] = ((), ())


class Served(NamedTuple):
    """What was in force from ``time_s`` on, and what had been asked for where rule 11 waits for a fall."""

    time_s: float
    rates: Rates
    asked: Rates | None


class Open(NamedTuple):
    """A decision whose horizon may still run: the close it referred to, and the VaR it rests on, if any."""

    time_s: float
    close: float
    var: Rates
    breaker: Pair | None


class Judged(NamedTuple):
    """A champion forecast of maintenance margin that waits for its outcome (rule 19)."""

    time_s: float
    close: float
    var: Pair


class Health(NamedTuple):
    """How the champion has done live (rule 19).

    Attributes:
        judged: how many forecasts have matured, one after the other, never two at once.
        breaches: the numbers of those that were breached, long and short, within the window.
        waiting: the forecast that is judged next.
        distrusted: whether red has struck the champion; it stays until the count is green again.
    """

    judged: int = 0
    breaches: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    waiting: Judged | None = None
    distrusted: bool = False


_NEW_HEALTH: Final = Health()


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the rules remember of a contract between decisions. A new contract starts with ``EngineState()``.

    Attributes:
        served: what was in force and asked for over the last 24 hours, oldest first.
        open: decisions whose horizon may still run, oldest first.
        rates: what is in force; None before the first decision.
        rung, mode, model_version: those of the last decision.
        valid_until_s: when the last decision expires.
        base_rates: the last base rates that were usable.
        out_of_band: bars in a row on which a model was outside the band, and the last such bar (rule 4).
        breaker_until_s: until when the circuit breaker holds (rule 12).
        resumed_s: when the feed came back last (rule 14).
        waiting_s: since when a maintenance rise, or an initial fall, waits its turn (rule 15).
        since_s: since when each rate has been in force (rules 10 and 11).
        buffer: how much of the buffer is there, a fraction of each rate (rule 13).
        health: how the champion has done live (rule 19).
    """

    served: tuple[Served, ...] = ()
    open: tuple[Open, ...] = ()
    rates: Rates | None = None
    rung: str | None = None
    mode: str | None = None
    model_version: str = ""
    valid_until_s: float | None = None
    base_rates: Rates | None = None
    out_of_band: tuple[int, float] = (0, 0.0)
    breaker_until_s: float | None = None
    resumed_s: float | None = None
    waiting_s: tuple[float | None, float | None, float | None, float | None] = (None, None, None, None)
    since_s: Rates | None = None
    buffer: Rates = ZEROS
    health: Health = _NEW_HEALTH

    def to_json(self) -> dict[str, Any]:
        """JSON values; ``from_json`` gives an equal state, to the bit."""
        content: dict[str, Any] = plain(self)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EngineState:
        """Read what ``to_json`` wrote. Raises ``StateError`` for anything else, a NaN say."""
        state: EngineState = read(cls, content, "state")
        for name, entries in (("served", state.served), ("open", state.open)):
            times = [entry.time_s for entry in entries]
            if times != sorted(times):
                raise unreadable(name, times, "in order of time")
        for name, rates in (
            ("rates", state.rates),
            ("base_rates", state.base_rates),
            *((f"served[{i}].rates", s.rates) for i, s in enumerate(state.served)),
            *((f"served[{i}].asked", s.asked) for i, s in enumerate(state.served)),
            *((f"open[{i}].var", o.var) for i, o in enumerate(state.open)),
        ):
            if rates is not None and not is_rates(rates):
                raise unreadable(name, rates, "four finite numbers above 0")
        if bool(state.served) != (state.rates is not None):
            raise unreadable("rates", state.rates, "there with what was served, and absent without")
        waiting = state.health.waiting
        for name, close in (
            *((f"open[{i}].close", o.close) for i, o in enumerate(state.open)),
            *(() if waiting is None else (("health.waiting.close", waiting.close),)),
        ):
            if close <= 0:
                raise unreadable(name, close, "above 0")
        if min(state.buffer) < 0:
            raise unreadable("buffer", state.buffer, "four numbers of at least 0")
        for name, value, allowed in (("rung", state.rung, RUNGS), ("mode", state.mode, MODES)):
            if value is not None and value not in allowed:
                raise unreadable(name, value, f"one of {allowed}")
        return state


class RuleTrace(NamedTuple):
    """What a rule did, in plain words; rule 0 is the ladder. ``before`` and ``after`` are rates, if any."""

    rule: int
    name: str
    side: str | None
    kind: str | None
    before: float | None
    after: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that one decision saw, so that it can be made again: ``decide(*inputs.arguments())``."""

    candidates: Candidates
    market: MarketState
    limits: Limits
    overrides: Overrides
    state: EngineState
    now_s: float

    def arguments(self) -> tuple[Candidates, MarketState, Limits, Overrides, EngineState, float]:
        """The arguments of ``decide``, in order."""
        return self.candidates, self.market, self.limits, self.overrides, self.state, self.now_s

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values: a number that is not finite is written as its name."""
        return {
            "candidates": {rung: encode(getattr(self.candidates, rung), Candidate) for rung in RUNGS[:3]},
            "market": encode(self.market, MarketState),
            "limits": self.limits.to_json(),
            "overrides": plain(self.overrides),
            "state": self.state.to_json(),
            "now_s": encode(self.now_s),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Inputs:
        """Read what ``to_json`` wrote. Raises ``StateError`` for a field that is missing or unknown."""
        names = {"candidates", "market", "limits", "overrides", "state", "now_s"}
        if not isinstance(content, Mapping) or set(content) != names:
            raise unreadable("inputs", content, f"an object with exactly {sorted(names)}")
        candidates: Mapping[str, Any] = content["candidates"]
        return cls(
            Candidates(**{rung: decode(c, Candidate) for rung, c in candidates.items()}),
            decode(content["market"], MarketState),
            Limits(**content["limits"]),
            read(Overrides, content["overrides"], "overrides"),
            EngineState.from_json(content["state"]),
            decode(content["now_s"]),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for the four values of one contract (``VALUES`` gives their order).

    Attributes:
        decided_at_s: when it was decided.
        bar_close_s: close time of the newest bar it saw; None without bars.
        valid_until_s: when it expires.
        rung: which step of the ladder answered.
        mode: how alive the feed was.
        base_rates, required_rates, served_rates: fractions of notional; required is what the rung asked for.
        multipliers: served / base rate.
        var: the VaR behind the requirement (log losses); None on the rungs that forecast nothing.
        model_version: the model that answered; empty below ``last_good``.
        traces: what the rules did, in order.
        inputs: everything that the engine saw.
    """

    decided_at_s: float
    bar_close_s: float | None
    valid_until_s: float
    rung: str
    mode: str
    base_rates: Rates
    required_rates: Rates
    served_rates: Rates
    multipliers: Rates
    var: Rates | None
    model_version: str
    traces: tuple[RuleTrace, ...]
    inputs: Inputs

    def rules(self, value: int) -> tuple[str, ...]:
        """Names of the rules that moved value ``value`` (an index into ``VALUES``), in order, each once."""
        side, kind = VALUES[value]
        moved = (t.name for t in self.traces if (t.side, t.kind) == (side, kind) and t.before != t.after)
        return tuple(dict.fromkeys(moved))

    def to_json(self, *, with_inputs: bool = True) -> dict[str, Any]:
        """Strict JSON values (no NaN, no infinity): the decision, an entry a value, what the rules did."""
        values = [
            {
                "side": side,
                "kind": kind,
                "base_rate": self.base_rates[i],
                "required_rate": self.required_rates[i],
                "served_rate": self.served_rates[i],
                "multiplier": self.multipliers[i],
                "var": None if self.var is None else self.var[i],
                "rules": list(self.rules(i)),
            }
            for i, (side, kind) in enumerate(VALUES)
        ]
        content: dict[str, Any] = {
            "decided_at_s": self.decided_at_s,
            "bar_close_s": self.bar_close_s,
            "valid_until_s": self.valid_until_s,
            "rung": self.rung,
            "mode": self.mode,
            "model_version": self.model_version,
            "values": values,
            "traces": [plain(t) for t in self.traces],
        }
        if with_inputs:
            content["inputs"] = self.inputs.to_json()
        return content


def is_time(value: object) -> TypeGuard[float]:
    """Seconds since 1970 within some 30,000 years of it, which milliseconds are not."""
    if type(value) is float:
        return -1e12 < value < 1e12
    return is_number(value) and abs(value) < 1e12
