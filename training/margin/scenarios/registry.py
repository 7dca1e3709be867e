"""Every named scenario, by name."""

from __future__ import annotations

from types import MappingProxyType

from training.margin.scenarios.engines import constant_model, restart_mid_raise
from training.margin.scenarios.feeds import (
    clock_that_jumps_back,
    feed_one_hour_behind,
    repeated_bar,
    resume_after_a_pause,
)
from training.margin.scenarios.incidents import (
    october_2025_bitcoin,
    october_2025_usde,
    paired_clamp,
    print_as_a_close,
    print_within_a_bar,
)
from training.margin.scenarios.tape import MakeTape, Tape

SCENARIOS = MappingProxyType[str, MakeTape](
    {
        "paired-clamp": paired_clamp,
        "october-2025-bitcoin": october_2025_bitcoin,
        "october-2025-usde": october_2025_usde,
        "resume-after-a-pause": resume_after_a_pause,
        "repeated-bar": repeated_bar,
        "feed-one-hour-behind": feed_one_hour_behind,
        "print-within-a-bar": print_within_a_bar,
        "print-as-a-close": print_as_a_close,
        "constant-model": constant_model,
        "clock-that-jumps-back": clock_that_jumps_back,
        "restart-mid-raise": restart_mid_raise,
    }
)


def tape(name: str) -> Tape:
    """The tape of that name. Raises ``ValueError`` for an unknown one."""
    if name not in SCENARIOS:
        raise ValueError(f"there is no scenario {name!r}; choose one of {list(SCENARIOS)}")
    return SCENARIOS[name]()
