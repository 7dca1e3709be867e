"""The served margin over history: the very engine of the server, decided bar by bar, its state carried on.

At each bar of the grid ``models.margin.engine.decide`` is given what the server would give it at that close:
the champion's forecast as its first candidate, the last one that answered as the second, the forecast of the
rules rung's method as the third, and the market as it was known. Where a bar is missing the decision is that
of a timer tick: the newest bar is an old one, the forecasts made on it age, and rules 5 and 6 see to the
rest. The clock is the bar's close. No orders, no positions and no other sources take part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.margin.draft import validity_s
from models.margin.engine import decide
from models.margin.limits import Limits, Ratio
from models.margin.types import (
    MODES,
    RUNGS,
    VALUES,
    Candidate,
    Candidates,
    Decision,
    EngineState,
    MarketState,
    Overrides,
    Rates,
)
from training.margin.tape import RULES_MODEL, Asked, Tape
from training.parallel import Workers, side_by_side

Array = NDArray[np.float64]

_NO_ORDERS = Overrides()


def plain_limiter(limits: Limits) -> Limits:
    """What a release is compared with: a rate falls after 6 hours of asking for it, by 5 % an hour; all else
    as given."""
    return replace(limits, release_ratio=Ratio(0.0), fall_after_s=21600.0, down_limit_1h=Ratio(0.05))


@dataclass(frozen=True)
class Run:
    """One way to serve: which model is the champion, within which limits, from which state on."""

    champion: str
    limits: Limits
    state: EngineState = field(default_factory=EngineState)


@dataclass(frozen=True)
class Answered:
    """What the engine answered for one contract, a row a decision; values in the order of ``VALUES``.

    Attributes:
        symbol, first: of the tape.
        base, required, served, multiplier: shape (time, 4), fractions of notional (the last a ratio).
        rung, mode: (time,), places in ``RUNGS`` and ``MODES``.
        rules: (time, 4), places in ``names``: which rules moved the value, comma-separated.
    """

    symbol: str
    first: int
    base: Array
    required: Array
    served: Array
    multiplier: Array
    rung: NDArray[np.int8]
    mode: NDArray[np.int8]
    rules: NDArray[np.int32]
    names: tuple[str, ...]


def simulate(tapes: Sequence[Tape], runs: Iterable[Run], workers: Workers) -> list[list[Answered]]:
    """Each run's answers, a contract each, in the order of runs and tapes, whoever worked.

    Some 0.1 ms a decision. Raises ``KeyError`` where a tape lacks a run's champion or the rules model.
    """
    jobs = [(tape, run) for run in runs for tape in tapes]
    done = dict(side_by_side(_job, jobs, workers))
    each = len(tapes)
    return [[done[begin + i] for i in range(each)] for begin in range(0, len(jobs), each)]


def _job(job: tuple[Tape, Run]) -> Answered:
    return served(*job)


def served(tape: Tape, run: Run) -> Answered:
    """Decide one contract at every row of its tape."""
    limits, state = run.limits, run.state
    champions = _candidates(tape, tape.asked[run.champion], "champion", run.champion, limits)
    goods = _candidates(tape, tape.asked[run.champion], "last_good", run.champion, limits)
    rules = _candidates(tape, tape.asked[RULES_MODEL], "rules", RULES_MODEL, limits)
    answers = _Answers()
    good: Candidate | None = None
    newest_rules: Candidate | None = None
    for row, (market, now_s) in enumerate(_markets(tape)):
        champion = champions[row]
        # The rules rung answers from the newest bar, however old it is; the limits say for how long.
        newest_rules = rules[row] or newest_rules
        decision, state = decide(
            Candidates(champion, good, newest_rules), market, limits, _NO_ORDERS, state, now_s
        )
        if champion is not None and decision.rung == "champion":
            good = goods[row]
        answers.add(decision)
    return answers.arrays(tape)


def _candidates(tape: Tape, asked: Asked, rung: str, version: str, limits: Limits) -> list[Candidate | None]:
    """A candidate a row; None where there is no forecast."""
    bars = limits.dead_after_bars if rung == "rules" else None
    lasts_s = validity_s(tape.interval_s, limits, bars=bars)
    found: list[Candidate | None] = []
    rows = zip(
        tape.time_s.tolist(),
        asked.known.tolist(),
        asked.requirement.tolist(),
        asked.var.tolist(),
        asked.breaker.tolist(),
        asked.confidence.tolist(),
        asked.drift.tolist(),
        strict=True,
    )
    for made_s, known, need, var, (long, short), confidence, drift in rows:
        if not known:
            found.append(None)
            continue
        breaker = None if math.isnan(long) or math.isnan(short) else (long, short)
        until_s = made_s + lasts_s
        found.append(
            Candidate(rung, _rates(need), _rates(var), made_s, until_s, version, breaker, confidence, drift)
        )
    return found


def _markets(tape: Tape) -> Iterable[tuple[MarketState, float]]:
    """The market as it was known at each row, and the row's time."""
    close: float | None = None
    last_close_s: float | None = None
    last_return: float | None = None
    rows = zip(
        tape.time_s.tolist(),
        tape.close.tolist(),
        tape.last_return.tolist(),
        tape.bars.tolist(),
        tape.month.tolist(),
        strict=True,
    )
    for time_s, bar_close, bar_return, bars, month in rows:
        if not math.isnan(bar_close):
            close, last_close_s = bar_close, time_s
            last_return = None if math.isnan(bar_return) else bar_return
        cycle = tape.cycles[month]
        yield (
            MarketState(
                known_symbol=True,
                interval_s=tape.interval_s,
                last_close_s=last_close_s,
                bars=bars,
                close=close,
                base_rates=cycle.base,
                long_run_var=cycle.long_run_var,
                horizons_s=tape.horizons_s,
                last_return=last_return,
                extreme_losses=cycle.extreme_losses,
                stressed_rates=cycle.stressed_rates,
            ),
            time_s,
        )


def _rates(values: Sequence[float]) -> Rates:
    a, b, c, d = values
    return a, b, c, d


class _Answers:
    """Decisions as they come, for arrays at the end."""

    def __init__(self) -> None:
        self.base: list[Rates] = []
        self.required: list[Rates] = []
        self.served: list[Rates] = []
        self.multiplier: list[Rates] = []
        self.rung: list[int] = []
        self.mode: list[int] = []
        self.rules: list[tuple[int, ...]] = []
        self.names: dict[str, int] = {"": 0}

    def add(self, decision: Decision) -> None:
        self.base.append(decision.base_rates)
        self.required.append(decision.required_rates)
        self.served.append(decision.served_rates)
        self.multiplier.append(decision.multipliers)
        self.rung.append(_RUNG[decision.rung])
        self.mode.append(_MODE[decision.mode])
        self.rules.append(self._rules(decision) if decision.traces else _NONE_BOUND)

    def _rules(self, decision: Decision) -> tuple[int, ...]:
        joined = (",".join(decision.rules(value)) for value in range(len(VALUES)))
        return tuple(self.names.setdefault(name, len(self.names)) for name in joined)

    def arrays(self, tape: Tape) -> Answered:
        return Answered(
            tape.symbol,
            tape.first,
            np.array(self.base),
            np.array(self.required),
            np.array(self.served),
            np.array(self.multiplier),
            np.array(self.rung, dtype=np.int8),
            np.array(self.mode, dtype=np.int8),
            np.array(self.rules, dtype=np.int32),
            tuple(self.names),
        )


_RUNG: Mapping[str, int] = {name: place for place, name in enumerate(RUNGS)}
_MODE: Mapping[str, int] = {name: place for place, name in enumerate(MODES)}
_NONE_BOUND = (0,) * len(VALUES)
