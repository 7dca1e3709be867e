"""Decide again on what a record says the engine saw: the same must come out, to the bit.

What another engine decided (``serving.audit.version``) is tried all the same. Where it comes out otherwise,
or its inputs cannot be read, that is said apart: it takes that version's code to tell.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.margin import engine
from models.margin.types import Inputs
from serving.audit.chain import canonical
from serving.audit.defects import Defect, Part
from serving.audit.version import engine_version

#: ``inputs`` as a record has them to the decision and the state that it leaves, both as JSON.
Decide = Callable[[Mapping[str, Any]], tuple[dict[str, Any], dict[str, Any]]]

UNKNOWN = "unknown"


def decide_again(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask this version's engine. Raises whatever it raises on inputs of another layout."""
    decision, state = engine.decide(*Inputs.from_json(inputs).arguments())
    return decision.to_json(), state.to_json()


@dataclass
class Recomputed:
    """How many decisions came out the same (``same``), and how many of other engines did not, by engine."""

    same: int = 0
    by_others: Counter[str] = field(default_factory=Counter)
    #: The first of them, in words.
    example: str | None = None


@dataclass
class Replay:
    """One contract's decisions, decided again one after the other."""

    symbol: str
    told: Recomputed
    decide: Decide = decide_again
    version: str = field(default_factory=engine_version)
    #: Canonical JSON of the state that the decision before left; None where that is not known.
    left: str | None = None

    def follow(self, seq: int, record: Mapping[str, Any]) -> Iterator[Defect]:
        """Decide again; what differs. The record is the one that was hashed."""
        before, self.left = self.left, None
        decision = record.get("decision")
        inputs = decision.get("inputs") if isinstance(decision, Mapping) else None
        if not isinstance(inputs, Mapping):
            yield Defect(
                self.symbol, seq, "cannot be decided again", "the record has no decision with inputs"
            )
            return
        made_by = str(record.get("engine", UNKNOWN))
        own = made_by == self.version
        began = _text(inputs.get("state"))
        if before is not None and own and began != before:
            where = first_difference(json.loads(before), inputs.get("state"), "inputs.state")
            yield Defect(self.symbol, seq, "state differs", f"{where}, by the decision before")
        try:
            again, left = self.decide(inputs)
        except Exception as error:  # an engine refuses another's inputs with whatever error they run into
            words = f"{type(error).__name__}: {error}"
            yield from self._not_the_same(seq, made_by, "cannot be decided again", words)
            return
        where = first_difference(again, decision, "decision")
        if where is not None:
            yield from self._not_the_same(seq, made_by, "decided differently", where)
            return
        self.told.same += 1
        if own:
            self.left = canonical(left)

    def _not_the_same(self, seq: int, made_by: str, part: Part, words: str) -> Iterator[Defect]:
        if made_by == self.version:
            yield Defect(self.symbol, seq, part, words)
            return
        self.told.by_others[made_by] += 1
        if self.told.example is None:
            self.told.example = f"{self.symbol}/{seq}: {words}"


def first_difference(right: Any, found: Any, path: str) -> str | None:
    """Where two JSON values differ first, in words; None where they are the same to the bit."""
    a, b = _text(right), _text(found)
    if a == b:
        return None
    if isinstance(right, Mapping) and isinstance(found, Mapping):
        for key in sorted({*right, *found}):
            if key not in right or key not in found:
                return f"{path}.{key} is {'missing' if key in right else 'more than there should be'}"
            where = first_difference(right[key], found[key], f"{path}.{key}")
            if where is not None:
                return where
    if isinstance(right, list | tuple) and isinstance(found, list | tuple):
        for i, (one, other) in enumerate(zip(right, found, strict=False)):
            where = first_difference(one, other, f"{path}[{i}]")
            if where is not None:
                return where
        return f"{path} has {len(found)} entries, should have {len(right)}"
    return f"{path} is {b}, should be {a}"


def _text(value: Any) -> str:
    try:
        return canonical(value)
    except ValueError:  # a number that JSON has not, written into a record
        return repr(value)
