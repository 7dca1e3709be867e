"""Which limits to serve within: every policy of a grid through the engine, and which others dominate.

A policy is a level and six limits. Other levels than that of the settings are stood in for by a ``scale``:
the requirement of every rung times a constant, which is what the ES of another level differs by, nearly.
Everything else is the engine as it serves, so a point is what the venue would have had.

The frontier is of three things, all to be small: the average margin, the total shortfall, and one measure of
procyclicality. A policy is dominated where another is no worse in all three and better in one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.bars import Market
from models.margin.limits import Limits, Ratio
from models.margin.types import KINDS
from models.settings import MarginSettings
from training.margin.losses import rate_losses, static_rates
from training.margin.procyclicality import procyclicality, procyclicality_by_contract
from training.margin.ratio import margin_ratios
from training.margin.served import ServedMargin
from training.margin.shortfall import shortfall_row
from training.margin.simulation import Run, served
from training.margin.table import served_margin
from training.margin.tape import RULES_MODEL, Tape, horizons_of, levels_of, tapes
from training.parallel import Workers, side_by_side

Array = NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Policy:
    """One point of the grid: ``scale`` of every requirement, and limits of the same names in ``Limits``."""

    scale: float = 1.0
    floor_of_base: float = Limits.floor_of_base
    release_ratio: float = Limits.release_ratio
    fall_after_s: float = Limits.fall_after_s
    down_limit_1h: float = Limits.down_limit_1h
    up_limit_1h: float = Limits.up_limit_1h
    up_limit_24h: float = Limits.up_limit_24h

    def limits(self, others: Limits) -> Limits:
        """These limits, and the others for what a policy leaves open. Raises ``LimitsError`` where they are
        impossible."""
        return replace(
            others,
            floor_of_base=Ratio(self.floor_of_base),
            release_ratio=Ratio(self.release_ratio),
            fall_after_s=self.fall_after_s,
            down_limit_1h=Ratio(self.down_limit_1h),
            up_limit_1h=Ratio(self.up_limit_1h),
            up_limit_24h=Ratio(self.up_limit_24h),
        )


#: The names of a policy's columns.
POLICY_COLUMNS = [field.name for field in fields(Policy)]


def shipped(limits: Limits) -> Policy:
    """The policy that the settings' limits are."""
    return Policy(1.0, **{name: getattr(limits, name) for name in POLICY_COLUMNS[1:]})


def grid(axes: Mapping[str, Sequence[float | tuple[float, ...]]], default: Policy) -> list[Policy]:
    """Every combination of the axes; what has no axis is the default's.

    An axis is named by a column of a policy, or by several, comma-separated, whose values belong together
    (``up_limit_1h,up_limit_24h``) and are then tuples. The default is among the policies, first. Raises
    ``ValueError`` for a name that no policy has or an empty axis, and ``LimitsError`` for a combination that
    is impossible.
    """
    for axis, points in axes.items():
        strangers = [name for name in axis.split(",") if name not in POLICY_COLUMNS]
        if strangers or not points:
            raise ValueError(f"axis {axis!r} is {list(points)}; give values to some of {POLICY_COLUMNS}")
    found = []
    for chosen in itertools.product(*axes.values()):
        values: dict[str, float] = {}
        for axis, point in zip(axes, chosen, strict=True):
            together = point if isinstance(point, tuple) else (point,)
            values |= dict(zip(axis.split(","), together, strict=True))
        found.append(replace(default, **values))
    for policy in found:
        if not 0 < policy.scale < np.inf:
            raise ValueError(f"a scale is {policy.scale!r}; it must be a finite number above 0")
    for policy in found:
        policy.limits(Limits())
    return list(dict.fromkeys((default, *found)))


@dataclass(frozen=True)
class Trial:
    """What every policy is tried on.

    Attributes:
        champion: the model that the engine is given.
        limits: for what a policy leaves open.
        times: the grid of decision times; ``interval`` is its step.
        tapes: one a contract.
        horizons: of each kind.
        losses: of each kind, shape (time, contract), in rate terms.
        static: of each kind, shape (contract,): ES of all losses before the first decision.
    """

    champion: str
    limits: Limits
    times: pd.DatetimeIndex
    interval: pd.Timedelta
    tapes: tuple[Tape, ...]
    horizons: Mapping[str, str]
    losses: Mapping[str, Array]
    static: Mapping[str, Array]


def trial(forecasts: pd.DataFrame, market: Market, margin: MarginSettings, champion: str) -> Trial:
    """What policies of a champion are tried on. Raises as ``training.margin.tape.tapes`` does, and
    ``ValueError`` where a symbol has no loss before the first decision."""
    times, contracts = tapes(forecasts, market, margin, tuple(dict.fromkeys((champion, RULES_MODEL))))
    own = market.select([tape.symbol for tape in contracts])
    horizons, levels = horizons_of(margin), levels_of(margin)
    first = int(market.times.searchsorted(times[0]))
    losses, static = {}, {}
    for kind in KINDS:
        rows = rate_losses(own, horizons[kind])[first : first + len(times)]
        losses[kind] = rows.reshape(len(times), -1)
        static[kind] = static_rates(own, times[0], horizons[kind], levels[kind]).ravel()
    return Trial(champion, margin.limits, times, market.interval, tuple(contracts), horizons, losses, static)


def try_policies(
    on: Trial, policies: Sequence[Policy], workers: Workers
) -> Iterator[tuple[Policy, pd.DataFrame]]:
    """Each policy with its measures (``measured``), in the order in which they are done."""
    jobs = [(on, policy) for policy in policies]
    for position, rows in side_by_side(_job, jobs, workers):
        yield policies[position], rows


def _job(job: tuple[Trial, Policy]) -> pd.DataFrame:
    return measured(*job)


def measured(on: Trial, policy: Policy) -> pd.DataFrame:
    """Serve all contracts within a policy and measure what was served, a row a kind.

    Columns: those of the policy; ``kind``; of ``shortfall.shortfall_row`` all; ``scale_to_static`` and
    ``ratio`` (``ratio``, no interval); and of ``procyclicality.procyclicality`` all, mean and worst over the
    contracts.
    """
    run = Run(on.champion, policy.limits(on.limits))
    answers = [served(tape.scaled(policy.scale), run) for tape in on.tapes]
    rows: list[dict[str, Any]] = []
    margins: dict[tuple[str, str], ServedMargin] = {}
    for kind in KINDS:
        margin = served_margin(
            "policy",
            kind,
            on.times,
            answers,
            on.losses[kind],
            horizon=on.horizons[kind],
            interval=on.interval,
        )
        margins["policy", kind] = margin
        reference = np.broadcast_to(on.static[kind], margin.rate.shape)
        ratio = margin_ratios(on.times, margin.loss, {"policy": margin.rate}, reference, resamples=0)
        rows.append(
            {
                **asdict(policy),
                "kind": kind,
                **shortfall_row(margin),
                "scale_to_static": ratio["policy"].scale,
                "ratio": ratio["policy"].ratio,
            }
        )
    moves = procyclicality(procyclicality_by_contract(margins)).drop(columns="series")
    return pd.DataFrame(rows).merge(moves, on="kind", how="left")


def non_dominated(values: Array) -> NDArray[np.bool_]:
    """Which rows no other row is as small as in all columns, and smaller than in one; shape (row, column).

    Of equal rows each stands. NaN is refused with ``ValueError``.
    """
    if np.isnan(values).any():
        raise ValueError("a measure is NaN; a policy without a known loss or rate cannot be compared")
    stands = np.ones(len(values), dtype=bool)
    for i, row in enumerate(values):
        better = (values <= row).all(axis=1) & (values < row).any(axis=1)
        stands[i] = not better.any()
    return stands
