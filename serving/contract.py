"""One contract as the loop holds it: the engine's state, and what must survive a restart beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from models.margin.base_rate import Cycle
from models.margin.types import Candidate, EngineState, Rates
from serving.outlook import Forecast, Seen
from serving.rules_rung import WeeklyTail
from serving.store.decisions import StoredContract

#: What the state of the first engine held.
_FIRST_STATE = {"served", "rung", "mode", "model_version", "valid_until_s", "base_rates"}


@dataclass(frozen=True)
class MonthlyRates:
    """What stands for a month (see ``models.margin.base_rate``), and the settings it came from."""

    month_s: int
    settings: str
    cycle: Cycle

    def to_json(self) -> dict[str, Any]:
        cycle = {name: list(values) for name, values in self.cycle._asdict().items()}
        return {"month_s": self.month_s, "settings": self.settings, **cycle}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MonthlyRates | None:
        """None for what was stored before there were extremes; it is found anew."""
        if not set(Cycle._fields) <= set(content):
            return None
        long, short = content["extreme_losses"]
        cycle = Cycle(
            _rates(content["base"]),
            _rates(content["long_run_var"]),
            (long, short),
            _rates(content["stressed_rates"]),
        )
        return cls(content["month_s"], content["settings"], cycle)


@dataclass(frozen=True)
class Memory:
    """What is remembered beside the engine's state.

    Attributes:
        last_good: the newest champion forecast that answered, for the second rung.
        tail: the rules rung's residual tail of the week.
        rates: base rates and extremes of the month.
        champion: the version of the champion at the last decision, empty for none.
        overrides: ids of the orders that the last decision obeyed, oldest first.
    """

    last_good: Seen | None = None
    tail: WeeklyTail | None = None
    rates: MonthlyRates | None = None
    champion: str = ""
    overrides: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "last_good": None if self.last_good is None else _seen_to_json(self.last_good),
            "tail": None if self.tail is None else self.tail.to_json(),
            "rates": None if self.rates is None else self.rates.to_json(),
            "champion": self.champion,
            "overrides": list(self.overrides),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Memory:
        good, tail, rates = content["last_good"], content["tail"], content["rates"]
        return cls(
            None if good is None else _seen_from_json(good),
            None if tail is None else WeeklyTail.from_json(tail),
            None if rates is None else MonthlyRates.from_json(rates),
            content["champion"],
            tuple(content.get("overrides", ())),  # absent from what was stored before there were any
        )


@dataclass(frozen=True)
class Contract:
    """``seq`` is the number of the newest decision, 0 before the first; ``decided_close_s`` the newest bar's
    close that was decided on."""

    symbol: str
    seq: int = 0
    decided_close_s: int | None = None
    state: EngineState = field(default_factory=EngineState)
    memory: Memory = field(default_factory=Memory)

    @classmethod
    def stored(cls, row: StoredContract) -> Contract:
        """As the store has it. Raises ``models.margin.types.StateError`` or ``KeyError`` where it cannot be
        read."""
        return cls(
            row.symbol,
            row.seq,
            row.decided_close,
            EngineState() if row.state is None else _state_from_json(row.state),
            Memory() if row.memory is None else Memory.from_json(row.memory),
        )


def as_last_good(champion: Seen) -> Seen:
    """The champion's forecast as the second rung's candidate."""
    return Seen(replace(champion.candidate, rung="last_good"), champion.forecast)


def _state_from_json(content: Mapping[str, Any]) -> EngineState:
    """The engine's state. One of a server that knew rules 1 to 6, 9, 10 and 16 alone goes on with the rates
    and decisions that it remembers; what the other rules remember begins anew."""
    if set(content) != _FIRST_STATE:
        return EngineState.from_json(content)
    served = content["served"]
    known = [s for s in served if s["close"] is not None and s["var"] is not None]
    return EngineState.from_json(
        {
            **EngineState().to_json(),
            **content,
            "served": [{"time_s": s["time_s"], "rates": s["rates"], "asked": None} for s in served],
            "open": [{**{k: s[k] for k in ("time_s", "close", "var")}, "breaker": None} for s in known],
            "rates": served[-1]["rates"] if served else None,
        }
    )


def _seen_to_json(seen: Seen) -> dict[str, Any]:
    c = seen.candidate
    return {
        "requirement": list(c.requirement),
        "var": list(c.var),
        "made_at_s": c.made_at_s,
        "valid_until_s": c.valid_until_s,
        "model_version": c.model_version,
        "breaker": None if c.breaker is None else list(c.breaker),
        "confidence": c.confidence,
        "drift": c.drift,
        "forecast": seen.forecast.to_json(),
    }


def _seen_from_json(content: Mapping[str, Any]) -> Seen:
    # The last three are absent from what was stored before the rules looked at them.
    breaker = content.get("breaker")
    return Seen(
        Candidate(
            "last_good",
            _rates(content["requirement"]),
            _rates(content["var"]),
            content["made_at_s"],
            content["valid_until_s"],
            content["model_version"],
            None if breaker is None else (breaker[0], breaker[1]),
            content.get("confidence", 1.0),
            content.get("drift", 0.0),
        ),
        Forecast.from_json(content["forecast"]),
    )


def _rates(values: list[float]) -> Rates:
    a, b, c, d = values
    return a, b, c, d
