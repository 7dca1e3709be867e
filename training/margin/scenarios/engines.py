"""What models and the engine itself have done: a model that returns a constant, a restart in the middle of a
raise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.margin.scenarios.background import background, moments, newest_bar, seconds, seen_at, ticks
from training.margin.scenarios.calm import HOUR_S
from training.margin.scenarios.tape import Tape

EVERY_S = 300.0


def constant_model() -> Tape:
    """The champion asks for the same whatever happens, while volatility grows to six times within a day."""
    made = background(
        "2026-02-03 00:00", "2026-02-06 00:00", interval_s=HOUR_S, seed=2, hourly_volatility=0.005
    )
    grows = made.bar("2026-02-04 00:00")
    factor = np.ones(len(made.times_s))
    factor[grows:] = np.minimum(1 + 5 * np.arange(len(factor) - grows) / 24, 6.0)
    returns = np.diff(np.log(made.closes), prepend=np.log(made.closes[0]))
    made = replace(made, closes=made.closes[0] * np.exp(np.cumsum(factor * returns)))
    constant = np.full(len(factor), made.volatility[made.begins])
    contract = made.contract(constant, bars_late=0)
    return Tape(
        name="constant-model",
        title="A model that returns a constant",
        contract="constructed",
        moments=moments(contract),
        side="long",
        marks=((float(made.times_s[grows]), "volatility grows"), (float(made.times_s[grows + 24]), "to 6 x")),
    )


def restart_mid_raise() -> Tape:
    """The champion asks for 1.75 times as much; 40 minutes into the raise the engine is started anew."""
    made = background("2026-02-03 06:00", "2026-02-03 12:00", seed=12, hourly_volatility=0.005)
    volatility = made.volatility.copy()
    rise = made.bar("2026-02-03 09:00")
    volatility[rise:] *= 1.75
    contract = made.contract(volatility, bars_late=0)
    restarted_s = seconds("2026-02-03 09:40")
    found = []
    for now_s in ticks("2026-02-03 06:00", "2026-02-03 12:00", EVERY_S):
        moment = seen_at(contract, newest_bar(contract, float(now_s)), float(now_s))
        found.append(replace(moment, restarted=bool(now_s == restarted_s)))
    return Tape(
        name="restart-mid-raise",
        title="A restart in the middle of a raise",
        contract="constructed",
        moments=tuple(found),
        side="long",
        marks=((float(made.times_s[rise]), "asks 1.75 x"), (restarted_s, "restart")),
    )
