"""Every rule, found by discovery: numbered, named, documented, pure, and in its place."""

import copy
import importlib
import math
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import models.margin
from models.margin.draft import STAGES, Rule, rule
from models.margin.engine import RULES
from models.margin.limits import Limits
from models.margin.types import Candidates, Inputs, Overrides
from models.margin.validity import open_case

ROOT = Path(models.margin.__file__).resolve().parents[2]
FOUND = {
    item
    for module in pkgutil.iter_modules(models.margin.__path__)
    for item in vars(importlib.import_module(f"models.margin.{module.name}")).values()
    if isinstance(item, Rule)
}


def test_every_rule_that_is_written_is_applied_once() -> None:
    assert set(RULES) == FOUND
    assert len(RULES) == len(FOUND)


def test_every_numbered_rule_stands_and_each_part_has_its_own_name() -> None:
    assert {r.number for r in RULES} == set(range(20))
    assert len({r.name for r in RULES}) == len(RULES)
    # Release and publish step are two parts of one rule, as are a forced rung and the other orders.
    assert sorted(r.number for r in RULES) == sorted([*range(20), 11, 17])


def test_the_order_is_that_of_the_stages_and_the_bounds_come_last() -> None:
    places = [STAGES.index(r.stage) for r in RULES]
    assert places == sorted(places)
    assert [r.number for r in RULES][-2:] == [2, 3]


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="rule 99 names stage 'afterwards'"):
        rule(99, "x", "afterwards")


def test_the_page_for_the_reader_has_every_rule() -> None:
    page = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    for r in RULES:
        if r.number:
            assert re.search(rf"^\| {r.number} \|", page, re.MULTILINE), r.name


@pytest.mark.parametrize("r", RULES, ids=lambda r: r.name)
def test_a_rule_is_documented(r: Rule) -> None:
    assert r.apply.__doc__
    assert r.apply.__doc__.strip().endswith(".")


@pytest.mark.parametrize("r", RULES, ids=lambda r: r.name)
@pytest.mark.parametrize("hard", [False, True], ids=["easy", "hard"])
def test_a_rule_is_pure(r: Rule, hard: bool, market, candidate, served, t0) -> None:
    """The same case and draft give the same draft, and neither is changed."""
    now_s = t0 + 30000 if hard else t0 + 60
    asks = (9.0, math.nan, 0.01, 0.02) if hard else (0.2, 0.1, 0.2, 0.1)
    case = Inputs(
        Candidates(champion=candidate(asks), rules=candidate((0.2, 0.3, 0.2, 0.1), "rules")),
        market(t0, base_rates=(math.nan,) * 4 if hard else (0.1, 0.05, 0.1, 0.05)),
        Limits(),
        Overrides(),
        served((0.3, 0.2, 0.3, 0.2)),
        now_s,
    )
    settled, draft = open_case(case)
    draft = draft._replace(base_rates=(0.1, 0.05, 0.1, 0.05), rates=(0.01, 0.9, 0.2, 0.1), rung="champion")
    before = copy.deepcopy((settled, draft))
    first, second = r(settled, draft), r(settled, draft)
    assert first == second
    assert repr((settled, draft)) == repr(before)


def test_the_engine_loads_nothing_heavy() -> None:
    heavy = ["torch", "lightgbm", "pandas", "scipy", "mlflow", "sklearn", "bentoml", "pydantic", "sqlalchemy"]
    code = (
        "import sys, models.margin.engine, models.margin.fhs\n"
        "import models.margin.base_rate, models.margin.requirement\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_the_state_machine_alone_needs_not_even_numpy() -> None:
    code = "import sys, models.margin.engine\nprint('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"
