"""The command line of this room. ``main`` returns an exit code, after one line on stderr where it is not 0.

====  =====================================================================================
code  meaning
====  =====================================================================================
0     done; of ``promote`` and ``nightly``: promoted, or "kept champion"
2     bad bars, arguments or settings
3     the gate refused to train: too little (new) data, too many holes, a flat price
4     another run of the same command holds the lock
5     the MLflow store does not answer
6     the MLflow store, or an artifact in it, cannot be used (the message says why)
====  =====================================================================================
"""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from models.artifact import ArtifactError
from models.registry import RegistryError, RegistryUnreachableError
from training.commands.ablate import ablate_command
from training.commands.backtest import backtest_command
from training.commands.benchmark import benchmark_command
from training.commands.impulse import impulse_command
from training.commands.margin import margin_command
from training.commands.margin_report import margin_report_command
from training.commands.nightly import nightly_command
from training.commands.policy import policy_command
from training.commands.promote import promote_command
from training.commands.regimes import regimes_command
from training.commands.scenarios import scenarios_command
from training.commands.train import train_command
from training.commands.tune import tune_command
from training.commands.unseen import unseen_command
from training.dataset import TrainingRefusedError
from training.lock import LockedError

app = typer.Typer(help="Make models, and choose among them.", no_args_is_help=True, add_completion=False)
app.command("train")(train_command)
app.command("backtest")(backtest_command)
app.command("margin")(margin_command)
app.command("margin-report")(margin_report_command)
app.command("policy")(policy_command)
app.command("benchmark")(benchmark_command)
app.command("unseen")(unseen_command)
app.command("ablate")(ablate_command)
app.command("regimes")(regimes_command)
app.command("tune")(tune_command)
app.command("scenarios")(scenarios_command)
app.command("impulse")(impulse_command)
app.command("promote")(promote_command)
app.command("nightly")(nightly_command)

#: First match counts: the special before the general.
EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (TrainingRefusedError, 3),
    (LockedError, 4),
    (RegistryUnreachableError, 5),
    (RegistryError, 6),
    (ArtifactError, 6),
    (ValueError, 2),
    (OSError, 2),
)


def main(argv: list[str]) -> int:
    """Run one command and return its exit code (see the module)."""
    try:
        app(argv, prog_name="python -m training")
    except SystemExit as stop:  # how typer ends: 0, or 2 after it has explained a usage error
        return stop.code if isinstance(stop.code, int) else 0
    except tuple(kind for kind, _ in EXIT_CODES) as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    return 0


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"[training] {'.'.join(str(part) for part in e['loc'])}: {e['msg']} (given {e['input']!r})"
            for e in error.errors()
        )
    return " ".join(str(error).split())
