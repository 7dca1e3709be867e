"""What the safety engine is given, remembers and answers: plain frozen values, all of them JSON-able.

Rates are fractions of notional. VaR is a log loss over the kind's horizon at the kind's level, positive
against the side. Times are seconds since 1970 UTC. Four values belong to a contract (``VALUES``) and always
travel together, as ``Rates``; they are plain floats, since four numbers are quicker without an array.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeGuard

from models.margin.limits import Limits

SIDES: Final = ("long", "short")
KINDS: Final = ("initial", "maintenance")
#: The ladder, best first.
RUNGS: Final = ("champion", "last_good", "rules", "static", "cap")
#: How alive the feed is, best first. Only ``fresh`` lets a rate fall.
MODES: Final = ("fresh", "degraded", "stale", "dead")
#: The order of the four values in every ``Rates``.
VALUES: Final = tuple((side, kind) for side in SIDES for kind in KINDS)

#: long initial, long maintenance, short initial, short maintenance.
Rates = tuple[float, float, float, float]

_LARGEST: Final = sys.float_info.max


class StateError(ValueError):
    """A stored state or input cannot be read back; the message names the field, its value and the remedy."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What one kind of margin must withstand: ES at ``level`` over ``horizon_s`` seconds."""

    level: float
    horizon_s: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one rung asks for: the required rates, and the VaR (log loss) that belongs to each of them."""

    rung: str
    requirement: Rates
    var: Rates
    made_at_s: float
    valid_until_s: float
    model_version: str = ""


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
    """

    known_symbol: bool
    interval_s: float
    last_close_s: float | None
    bars: int
    close: float | None
    base_rates: Rates
    long_run_var: Rates
    horizons_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What people have ordered (rule 17). Nothing can be ordered yet; the place in the signature stands."""


@dataclass(frozen=True, slots=True)
class Served:
    """What was in force from ``time_s`` on, the close it referred to, and the VaR it rests on, if any."""

    time_s: float
    rates: Rates
    close: float | None
    var: Rates | None


@dataclass(frozen=True, slots=True)
class EngineState:
    """What the rules remember of a contract between decisions. A new contract starts with ``EngineState()``.

    Attributes:
        served: what was in force over the last 24 hours, oldest first, the last decision last.
        rung, mode, model_version: those of the last decision.
        valid_until_s: when the last decision expires.
        base_rates: the last base rates that were usable.
    """

    served: tuple[Served, ...] = ()
    rung: str | None = None
    mode: str | None = None
    model_version: str = ""
    valid_until_s: float | None = None
    base_rates: Rates | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values; ``from_json`` gives an equal state, to the bit."""
        return {**_plain(self), "served": [_plain(s) for s in self.served]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EngineState:
        """Read what ``to_json`` wrote. Raises ``StateError`` for anything else, a NaN say."""
        _check_keys(cls, content)
        if not isinstance(content["served"], list | tuple):
            raise _unreadable("served", content["served"], "a list")
        served = tuple(_served(item, f"served[{i}]") for i, item in enumerate(content["served"]))
        times = [s.time_s for s in served]
        if times != sorted(times):
            raise _unreadable("served", times, "in order of time")
        for name, allowed in (("rung", (None, *RUNGS)), ("mode", (None, *MODES))):
            if content[name] not in allowed:
                raise _unreadable(name, content[name], f"one of {allowed}")
        if not isinstance(content["model_version"], str):
            raise _unreadable("model_version", content["model_version"], "a text")
        valid, base = content["valid_until_s"], content["base_rates"]
        return cls(
            served,
            content["rung"],
            content["mode"],
            content["model_version"],
            None if valid is None else _number(valid, "valid_until_s"),
            None if base is None else _rates(base, "base_rates"),
        )


@dataclass(frozen=True, slots=True)
class RuleTrace:
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
            "candidates": _encode(_plain(self.candidates)),
            "market": _encode(_plain(self.market)),
            "limits": self.limits.to_json(),
            "overrides": _plain(self.overrides),
            "state": self.state.to_json(),
            "now_s": _encode(self.now_s),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Inputs:
        """Read what ``to_json`` wrote. Raises ``StateError`` for a field that is missing or unknown."""
        _check_keys(cls, content)
        for kind, name in ((Candidates, "candidates"), (MarketState, "market"), (Overrides, "overrides")):
            _check_keys(kind, content[name])
        return cls(
            Candidates(**{rung: _candidate(c) for rung, c in content["candidates"].items()}),
            MarketState(**_decode(content["market"])),
            Limits(**content["limits"]),
            Overrides(**content["overrides"]),
            EngineState.from_json(content["state"]),
            _decode(content["now_s"]),
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
            "traces": [_plain(t) for t in self.traces],
        }
        if with_inputs:
            content["inputs"] = self.inputs.to_json()
        return content


def is_number(value: object) -> TypeGuard[float]:
    """A finite real number, and not a truth value."""
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False
    return -_LARGEST <= value <= _LARGEST


def is_time(value: object) -> TypeGuard[float]:
    """Seconds since 1970 within some 30,000 years of it, which milliseconds are not."""
    return is_number(value) and abs(value) < 1e12


def is_rates(values: object) -> TypeGuard[Rates]:
    """Four finite numbers above 0."""
    if not isinstance(values, tuple) or len(values) != len(VALUES):
        return False
    a, b, c, d = values
    if not (is_number(a) and is_number(b) and is_number(c) and is_number(d)):
        return False
    return a > 0 and b > 0 and c > 0 and d > 0


def _unreadable(field: str, value: object, expected: str) -> StateError:
    return StateError(
        f"{field} is {value!r}; it must be {expected}; "
        f"restore the stored text, or start the contract anew with EngineState()"
    )


def _check_keys(kind: type, content: Mapping[str, Any]) -> None:
    wanted = {f.name for f in fields(kind)}
    if not isinstance(content, Mapping) or set(content) != wanted:
        keys = sorted(content) if isinstance(content, Mapping) else content
        raise _unreadable(kind.__name__, keys, f"an object with exactly {sorted(wanted)}")


def _number(value: object, field: str) -> float:
    if not is_number(value):
        raise _unreadable(field, value, "a finite number")
    return value


def _rates(values: object, field: str) -> Rates:
    rates = tuple(values) if isinstance(values, list | tuple) else values
    if not is_rates(rates):
        raise _unreadable(field, values, "four finite numbers above 0")
    return rates


def _served(item: Mapping[str, Any], field: str) -> Served:
    _check_keys(Served, item)
    close, var = item["close"], item["var"]
    return Served(
        _number(item["time_s"], f"{field}.time_s"),
        _rates(item["rates"], f"{field}.rates"),
        None if close is None else _number(close, f"{field}.close"),
        None if var is None else _rates(var, f"{field}.var"),
    )


def _encode(value: Any) -> Any:
    """Strict JSON of whatever arrived: numbers that are not finite by name, foreign objects by their text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if is_number(value) else {"float": repr(float(value))}
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    return [_encode(v) for v in value] if isinstance(value, list | tuple) else repr(value)


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return float(value["float"]) if set(value) == {"float"} else {k: _decode(v) for k, v in value.items()}
    return tuple(_decode(v) for v in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """The fields of one of the classes above, by name; anything else as it is."""
    if value is None or not hasattr(value, "__dataclass_fields__"):
        return value
    return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}


def _candidate(content: Any) -> Any:
    if not isinstance(content, Mapping):
        return _decode(content)
    _check_keys(Candidate, content)
    return Candidate(**_decode(content))
