"""What a search for settings found, for people."""

from __future__ import annotations

from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from models.coverage import ScoreDifference
from training.study import SHIPPED
from training.tuning import Tuned, refused

TOP = 10


def show_study(found: Tuned, reference: str) -> None:
    """Print the top trials, the importances, and what the best settings are worth."""
    console = Console(width=None if Console().is_terminal else 160)
    completed = sorted(
        (t for t in found.trials if t.state == TrialState.COMPLETE), key=lambda t: (t.value, t.number)
    )
    shown = Table(title=f"Settings by mean FZ0 less that of {reference}")
    shown.add_column("trial", justify="right")
    shown.add_column("difference", justify="right")
    for name in found.shipped.params:
        shown.add_column(name, justify="right")
    top = completed[:TOP]
    for trial in top if found.shipped in top else [*top, found.shipped]:
        number = f"{trial.number} (shipped)" if trial.user_attrs.get(SHIPPED) else str(trial.number)
        values = (_text(trial.params[name]) for name in found.shipped.params)
        shown.add_row(number, f"{trial.value:+.4f}", *values)
    console.print(shown)
    lost = refused(found.trials)
    say = [
        f"{len(completed)} completed, {len(found.trials) - len(completed) - len(lost)} pruned, "
        f"{len(lost)} refused by the data"
    ]
    if found.importances:
        told = ", ".join(f"{name} {share:.0%}" for name, share in found.importances.items())
        say.append(f"importance (fANOVA, completed trials only): {told}")
    else:
        say.append("importance: too few completed trials that differ to tell")
    if found.searched is None or found.held_back is None:
        say.append("nothing found is better than the shipped settings")
    else:
        fold = found.held_back_fold
        say.append(f"best less shipped, on the blocks searched (flattered): {_difference(found.searched)}")
        say.append(
            f"best less shipped, held back {fold.test_start:%Y-%m-%d} to {fold.test_end:%Y-%m-%d}: "
            f"{_difference(found.held_back)}"
        )
    for line in say:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _difference(found: ScoreDifference) -> str:
    return f"FZ0 {found.mean:+.4f}, HAC t {found.t:+.2f}"


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
