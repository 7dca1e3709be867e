"""Does the challenger earn the champion's place? Judged on decision times that neither of them has seen.

**Rows.** From the later of both training ends plus an embargo of the largest horizon, to the end of the bars.
The baselines forecast the same times walk-forward, as they would have run. All are compared on the rows that
all have, as they would have been served: calibrated, where the model asks for it, since its own training.

**Checks**, all of which must pass:

1. *cover*: the challenger forecasts every horizon, level and symbol that the champion does.
2. *answers*: it answers at least ``ANSWERED`` of the rows that the champion and the baselines answer.
3. *fz0*: against the champion and against each baseline, at no horizon and level a mean FZ0 difference with
   a HAC t above ``worse_t``; and over all horizons and levels together, none with a t above
   ``worse_t_overall``. So "no worse" means: not noticeably worse. An equal model passes, and the newer of two
   equals is preferred.
4. *coverage*: no cell (symbol, side, horizon, level) rejected on non-overlapping rows. For n cells a cell is
   rejected where its p-value is below ``error / n`` (Bonferroni, valid however the cells depend on each
   other). With too many hits the p-value is twice the smaller of Kupiec's and of conditional coverage's,
   which also sees hits in clusters, and the error ``too_many_hits_error``; with too few hits it is Kupiec's,
   and the error ``too_few_hits_error``.

With fewer than ``minimum_days`` of common rows nothing is known, and the champion stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.durations import format_duration, parse_duration, whole_bars
from models.artifact import Artifact, ArtifactError, read_artifact
from models.coverage import diebold_mariano
from models.forecast.discovery import model_class
from models.registry import Registry, Version
from training.backtest import Progress, backtest, keep_levels
from training.dataset import History, ModelLookup, Task, read_history
from training.evaluation import ROW_KEYS, cell_coverage, common_rows, panel, summary, with_losses
from training.importance import family_of
from training.settings import GateSettings, TrainingSettings
from training.train import CHALLENGER

CHAMPION = "champion"
#: Share of the rows answered by others that a challenger must answer: a model may not pick its rows.
ANSWERED = 0.99


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: ``value`` against ``bound``, in words."""

    name: str
    value: str
    bound: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """Promote or not, and why. Versions by number; ``champion`` is None where there was none."""

    challenger: int
    champion: int | None
    promote: bool
    reason: str
    checks: tuple[Check, ...]
    table: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        return {
            "challenger": self.challenger,
            "champion": self.champion,
            "promote": self.promote,
            "reason": self.reason,
            "checks": [asdict(check) for check in self.checks],
            "table": self.table.to_dict("list"),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Verdict:
        checks = tuple(Check(**check) for check in content["checks"])
        return cls(**(content | {"checks": checks, "table": pd.DataFrame(content["table"])}))


def judge(
    registry: Registry,
    challenger: Version,
    bars: Path,
    settings: TrainingSettings,
    cache: Path,
    progress: Progress = lambda *_: None,
    lookup: ModelLookup = model_class,
) -> Verdict:
    """Compare a version with the champion and the baselines on the bars of a folder; nothing is moved.

    ``cache`` keeps copies of the artifacts. A champion whose artifact cannot be used any more is left out and
    said so: it cannot serve either. What a version looks at and the data lacks is said as well, since it was
    judged without. Raises ``ArtifactError`` where the challenger's cannot be used,
    ``BarError`` or ``ValueError`` where the bars cannot.
    """
    champion = registry.champion()
    number = champion.number if champion else None

    def stays(reason: str, *checks: Check) -> Verdict:
        return Verdict(challenger.number, number, False, reason, checks, pd.DataFrame())

    if champion is not None and champion.number == challenger.number:
        return stays(f"{champion} is champion already")
    if champion is not None and champion.fingerprint == challenger.fingerprint:
        return stays(f"the challenger is the same model as the champion ({champion})")
    new = read_artifact(registry.fetch(challenger, cache), lookup)
    old, note = None, ""
    if champion is not None:
        try:
            old = read_artifact(registry.fetch(champion, cache), lookup)
        except ArtifactError as error:
            note = f"; the champion was left out, since it cannot be used: {error}"
    if old is not None:
        uncovered = _uncovered(new, old)
        if uncovered:
            return stays(
                f"the challenger lacks {uncovered} of the champion", Check("cover", uncovered, "all", False)
            )
    task = Task(new.info.horizons, new.info.levels)
    levels = tuple(level for level in settings.levels if level in new.info.levels)
    if not levels:
        raise ValueError(
            f"the challenger has levels {list(new.info.levels)}, the settings ask for "
            f"{list(settings.levels)}; compare at levels that it has"
        )
    source = settings.source(bars, new.info.interval, new.info.symbols)
    history = read_history(source, settings.baselines, task, lookup)
    times = history.market.times
    seen = max(a.info.train_end for a in (new, old) if a is not None)
    unseen = times[times > seen + task.embargo]
    for label, artifact in ((CHALLENGER, new), (CHAMPION, old)):
        lacking = () if artifact is None else artifact.pipeline.missing(history.market)
        if lacking:
            families = ", ".join(sorted({family_of(name) for name in lacking}))
            note += f"; the {label} was judged without {families}, which this data lacks"
    days = (unseen[-1] - unseen[0]) / pd.Timedelta(days=1) if len(unseen) else 0.0
    span = Check(
        "span", f"{days:.1f} days", f">= {settings.gate.minimum_days}", days >= settings.gate.minimum_days
    )
    if not span.passed:
        return stays(
            f"only {days:.1f} days of bars are new to both (they begin {format_duration(task.embargo)} after "
            f"{seen:%Y-%m-%d %H:%M}); bring newer bars, or a challenger trained to an earlier end",
            span,
        )
    start, end = unseen[0], unseen[-1]
    baselines = [lookup(name) for name in settings.baselines]
    forecasts = [backtest(history, baselines, task, start, end, levels, progress)]
    for label, artifact in ((CHAMPION, old), (CHALLENGER, new)):
        if artifact is not None:
            forecasts.append(_forecasts(artifact, label, history, start, end, levels))
    scored = with_losses(_shared_horizons(forecasts), history.market)
    rivals = [m for m in scored["model"].unique() if m != CHALLENGER]
    answered = _answered(scored)
    table = summary(scored, history.market.interval)
    checks = (span, answered, *comparison_checks(scored, rivals, settings.gate, history.market.interval))
    failed = [c for c in checks if not c.passed]
    reason = (
        f"no worse than {' and '.join(rivals)} on {days:.0f} days, coverage not rejected"
        if not failed
        else "; ".join(f"{c.name}: {c.value}, bound {c.bound}" for c in failed)
    )
    return Verdict(challenger.number, number, not failed, reason + note, checks, table)


def comparison_checks(
    scored: pd.DataFrame, rivals: list[str], gate: GateSettings, interval: pd.Timedelta
) -> tuple[Check, ...]:
    """The FZ0 and coverage checks on scored rows (see the module)."""
    shared = common_rows(scored)
    horizons = sorted(shared["horizon"].unique(), key=parse_duration)
    levels = sorted(shared["level"].unique())
    checks = []
    for rival in rivals:
        own, other = [], []
        for horizon in horizons:
            for level in levels:
                ours, theirs = (panel(shared, m, horizon, level) for m in (CHALLENGER, rival))
                own.append(_by_time(ours.times, ours.fz0))
                other.append(_by_time(theirs.times, theirs.fz0))
                found = diebold_mariano(ours.fz0, theirs.fz0, whole_bars(parse_duration(horizon), interval))
                checks.append(
                    Check(
                        f"FZ0 {horizon} {100 * level:g} % against {rival}",
                        f"{found.mean:+.4f}, t {found.t:+.2f}",
                        f"t <= {gate.worse_t:g}",
                        found.t <= gate.worse_t,
                    )
                )
        longest = whole_bars(parse_duration(horizons[-1]), interval)
        found = diebold_mariano(
            pd.concat(own, axis=1).sort_index().to_numpy(),
            pd.concat(other, axis=1).sort_index().to_numpy(),
            longest,
        )
        checks.append(
            Check(
                f"FZ0 overall against {rival}",
                f"{found.mean:+.4f}, t {found.t:+.2f}",
                f"t <= {gate.worse_t_overall:g}",
                found.t <= gate.worse_t_overall,
            )
        )
    return (*checks, *coverage_checks(cell_coverage(shared, CHALLENGER, interval), gate))


def coverage_checks(cells: pd.DataFrame, gate: GateSettings) -> tuple[Check, Check]:
    """The cell nearest to rejection on either side, against the Bonferroni bound of all tested cells."""
    tested = cells.dropna(subset=["pof_p"])
    checks = []
    for name, side, error in (
        ("too many hits", tested["hit_ratio"] > 1, gate.too_many_hits_error),
        ("too few hits", tested["hit_ratio"] <= 1, gate.too_few_hits_error),
    ):
        p = tested["pof_p"].copy()
        if name == "too many hits":
            p = np.minimum(1.0, 2 * np.minimum(p, tested["conditional_p"]))
        p = p.loc[side]
        bound = error / max(1, len(tested))
        if p.empty:
            checks.append(Check(f"coverage, {name}", "no such cell", f"p >= {bound:.1e}", True))
            continue
        worst = tested.loc[p.index].iloc[int(p.to_numpy().argmin())]
        checks.append(
            Check(
                f"coverage, {name}",
                f"p {p.min():.1e} at {worst['symbol']} {worst['side']} {worst['horizon']} "
                f"{100 * worst['level']:g} %, hit ratio {worst['hit_ratio']:.2f}",
                f"p >= {bound:.1e}",
                bool(p.min() >= bound),
            )
        )
    return checks[0], checks[1]


def _by_time(times: pd.DatetimeIndex, scores: Any) -> pd.DataFrame:
    return pd.DataFrame(scores, index=times)


def _uncovered(new: Artifact, old: Artifact) -> str:
    lacking = [
        *(f"horizon {format_duration(h)}" for h in old.info.horizons if h not in new.info.horizons),
        *(f"level {level:g}" for level in old.info.levels if level not in new.info.levels),
        *(f"symbol {s}" for s in old.info.symbols if s not in new.info.symbols),
    ]
    if old.info.interval != new.info.interval:
        lacking.append(f"bar interval {format_duration(old.info.interval)}")
    return ", ".join(lacking)


def _forecasts(
    artifact: Artifact,
    label: str,
    history: History,
    start: pd.Timestamp,
    end: pd.Timestamp,
    levels: tuple[float, ...],
) -> pd.DataFrame:
    """What an artifact forecasts in [start, end], calibrated as it would have been served: from its own first
    time out of sample, whenever that was."""
    own = History(history.market.select(artifact.info.symbols), (type(artifact.model),))
    settings = None if artifact.calibration is None else artifact.calibration.settings
    times, seen = own.market.times, artifact.info.train_end + max(artifact.info.horizons)
    first = start if settings is None else times[times > seen][0]
    forecast, _ = own.calibrated(own.forecast(artifact.model, artifact.pipeline, first, end), settings)
    table = forecast.to_table(label)
    return keep_levels(table[table["time"] >= start], levels)


def _shared_horizons(forecasts: list[pd.DataFrame]) -> pd.DataFrame:
    """Everybody's rows at the horizons and levels that everybody has: an older champion may have fewer."""
    shared = reduce(
        set[tuple[str, float]].intersection,
        ({(str(h), float(x)) for h, x in zip(t["horizon"], t["level"], strict=True)} for t in forecasts),
    )
    keys = pd.MultiIndex.from_tuples(sorted(shared), names=["horizon", "level"])
    together = pd.concat(forecasts, ignore_index=True)
    return together[pd.MultiIndex.from_frame(together[["horizon", "level"]]).isin(keys)]


def _answered(scored: pd.DataFrame) -> Check:
    """The share of the rows of all other models that the challenger has too."""
    others = scored[scored["model"] != CHALLENGER].groupby(ROW_KEYS)["model"].nunique()
    wanted = others.index[others == scored.loc[scored["model"] != CHALLENGER, "model"].nunique()]
    own = pd.MultiIndex.from_frame(scored.loc[scored["model"] == CHALLENGER, ROW_KEYS])
    share = float(wanted.isin(own).mean()) if len(wanted) else 0.0
    return Check("answers", f"{share:.2%} of the rows", f">= {ANSWERED:.0%}", share >= ANSWERED)


def promote(
    registry: Registry, verdict: Verdict, checkpoint: Callable[[str], None] = lambda _: None
) -> Version | None:
    """Move the champion alias if the verdict says so, and return the new champion; None where the old one
    stays."""
    if not verdict.promote:
        return None
    return registry.promote(registry.version(verdict.challenger), verdict.reason, checkpoint)
