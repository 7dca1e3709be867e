"""A search over policies that can be interrupted: what is measured is written down at once, and not redone.

The folder has ``policies.parquet``, a row per policy and kind (``policy.measured``), and ``inputs.json``, of
what they were measured on. A folder of other inputs is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from features.atomic import written_whole
from features.bars import Market
from features.fingerprint import fingerprint
from models.artifact import code_version
from models.settings import MarginSettings
from training.margin.policy import POLICY_COLUMNS, Policy, Trial, try_policies
from training.parallel import Workers

POLICIES, INPUTS = "policies.parquet", "inputs.json"
#: Called with what is done and how many policies there are.
Progress = Callable[[int, int], None]


class StudyError(ValueError):
    """A folder holds the policies of another study; the message says what differs, and the remedy."""


def inputs_of(
    forecasts: pd.DataFrame, market: Market, margin: MarginSettings, champion: str
) -> dict[str, str]:
    """What decides the measures beside the policy, as digests where it is long."""
    rows = pd.util.hash_pandas_object(forecasts, index=False).to_numpy()
    settings = json.dumps(margin.model_dump(mode="json"), sort_keys=True)
    return {
        "forecasts": hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest(),
        "bars": fingerprint(market),
        "margin_settings": hashlib.sha256(settings.encode()).hexdigest(),
        "champion": champion,
        "code": code_version(),
    }


def study(
    on: Trial,
    policies: Sequence[Policy],
    inputs: dict[str, str],
    folder: Path,
    workers: Workers,
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:
    """Measure the policies that the folder does not have yet, and return all that it has then.

    Raises ``StudyError`` where the folder's policies were measured on other inputs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder, inputs)
    waiting = [policy for policy in policies if policy not in known]
    progress(len(policies) - len(waiting), len(policies))
    for done, (policy, rows) in enumerate(try_policies(on, waiting, workers), start=1):
        known[policy] = rows
        _write(folder, inputs, known)
        progress(len(policies) - len(waiting) + done, len(policies))
    return pd.concat(known.values(), ignore_index=True)


def _known(folder: Path, inputs: dict[str, str]) -> dict[Policy, pd.DataFrame]:
    """What the folder has, by policy."""
    if not (folder / INPUTS).exists():
        return {}
    there = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    if there != inputs:
        differ = sorted(key for key in {*there, *inputs} if there.get(key) != inputs.get(key))
        raise StudyError(
            f"{folder} has policies that were measured on other {', '.join(differ)}; choose another folder, "
            f"or remove its {POLICIES} and {INPUTS}"
        )
    if not (folder / POLICIES).exists():
        return {}
    table = pd.read_parquet(folder / POLICIES)
    found = {}
    for _, rows in table.groupby(POLICY_COLUMNS, sort=False):
        found[Policy(*rows[POLICY_COLUMNS].iloc[0].tolist())] = rows.reset_index(drop=True)
    return found


def _write(folder: Path, inputs: dict[str, str], known: dict[Policy, pd.DataFrame]) -> None:
    # The inputs first: a table without them would be taken for nothing, and never for another study's.
    with written_whole(folder / INPUTS) as draft:
        draft.write_text(json.dumps(inputs, indent=2) + "\n", encoding="utf-8")
    with written_whole(folder / POLICIES) as draft:
        pd.concat(known.values(), ignore_index=True).to_parquet(draft, index=False)
