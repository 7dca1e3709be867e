"""Why a margin moved, in words: one decision against the one before it, rule by rule.

Everything is read from the two records; nothing is decided or forecast again. Rates are percent of notional.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from serving.audit.seal import Columns, is_sealed
from serving.board import utc_text
from serving.store.trail import StoredDecision

Record = Mapping[str, Any]
#: Digits behind the point that two rates are told apart with.
_MOST_DIGITS = 6
#: Requirements above what is served by less than this are no margin that is held back (fraction of notional).
_NOTHING_HELD = 5e-7

_RUNGS = {
    "champion": "the promoted model",
    "last_good": "the last good forecast of the promoted model, upwards only",
    "rules": "filtered historical simulation of recent bars",
    "static": "the base rate times a stress factor",
    "cap": "the most that is allowed",
}


def explain(
    row: StoredDecision,
    record: Record,
    before: tuple[StoredDecision, Record] | None,
    side: str | None = None,
    kind: str | None = None,
) -> list[str]:
    """The lines that tell of a decision.

    Args:
        row, record: the decision.
        before: the contract's decision before it, None where there is none.
        side, kind: tell of these values only.

    Raises ``ValueError`` where a record is not laid out as decisions are.
    """
    try:
        return list(_lines(row, record, before, side, kind))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the record of {row.name} cannot be told ({type(error).__name__}: {error}); "
            f"it was made by another version, or altered: `audit verify` says which"
        ) from error


def _lines(
    row: StoredDecision,
    record: Record,
    before: tuple[StoredDecision, Record] | None,
    side: str | None,
    kind: str | None,
) -> Iterator[str]:
    decision = record["decision"]
    old = None if before is None else before[1]["decision"]
    yield from _head(row, decision, before)
    values = [v for v in decision["values"] if side in (None, v["side"]) and kind in (None, v["kind"])]
    was = {} if old is None else {_value(v): v for v in old["values"]}
    yield ""
    yield from _moved(values, was)
    yield from _changed(decision, old)
    yield from _asked(decision, None if old is None else old["rung"], values, was)
    told = {_value(v) for v in values}
    yield from _rules([t for t in decision["traces"] if _concerns(t, told)], len(decision["values"]))
    yield from _held_back(values)
    yield from _reasons(record.get("explanation") or [], values, was)


def _head(
    row: StoredDecision, decision: Record, before: tuple[StoredDecision, Record] | None
) -> Iterator[str]:
    c: Columns = row.columns
    bar = (
        "no bar yet" if decision["bar_close_s"] is None else f"the bar to {utc_text(decision['bar_close_s'])}"
    )
    asked_by = {
        "bar": "its bar came",
        "gap": "other contracts' bars came and its own did not",
        "tick": "time passed",
        "model": "another model was promoted",
        "override": "an order began, changed or ended",
        "start": "the server started",
    }.get(c.trigger, c.trigger)
    yield f"{row.name}: decided {utc_text(c.made_at)} on {bar}, because {asked_by}"
    yield f"in force until {utc_text(decision['valid_until_s'])} or the next decision"
    if row.hash is None:
        yield "older than the audit chain: nothing shows that this record is as it was made"
    elif is_sealed(c, row.record, row.previous_hash, row.record_hash, row.hash):
        yield f"hash {row.hash}"
    else:
        yield f"ALTERED: row and record do not give the hash {row.hash}; run `audit verify`"
    if before is None:
        yield "the first decision of the contract that is stored; there is none before it to compare with"
    else:
        yield f"compared with {before[0].name}, decided {utc_text(before[0].columns.made_at)}"


def _moved(values: Sequence[Record], was: Mapping[tuple[str, str], Record]) -> Iterator[str]:
    yield "Served"
    for value in values:
        old = was.get(_value(value))
        name = f"  {value['side']} {value['kind']}".ljust(20)
        base = f"base rate {_percent(value['base_rate'])}"
        if old is None:
            yield f"{name} {_percent(value['served_rate'])}, multiplier {value['multiplier']:.3f} of {base}"
            continue
        if old["base_rate"] != value["base_rate"]:
            base = f"base rate {_change(old['base_rate'], value['base_rate'])}"
        if old["served_rate"] == value["served_rate"] and old["multiplier"] == value["multiplier"]:
            stays = f"stays at {_percent(value['served_rate'])}"
            yield f"{name} {stays}, multiplier {value['multiplier']:.3f} of {base}"
            continue
        verb = _verb(old["multiplier"], value["multiplier"])
        yield (
            f"{name} {verb}: {_change(old['served_rate'], value['served_rate'])}, multiplier "
            f"{old['multiplier']:.3f} -> {value['multiplier']:.3f} of {base}"
        )


def _changed(decision: Record, old: Record | None) -> Iterator[str]:
    """Rung, model and mode."""
    rung, mode, version = decision["rung"], decision["mode"], decision["model_version"]
    model = f", version {version}" if version else ""
    now = f"Answered by {rung} ({_RUNGS.get(rung, rung)}{model})"
    yield ""
    if old is None:
        yield now
    elif old["rung"] != rung:
        yield f"{now}; before, by {old['rung']}"
    elif old["model_version"] != version:
        yield f"{now}; before, by version {old['model_version']}"
    else:
        yield f"{now}, as before"
    if old is None or old["mode"] == mode:
        yield f"The feed is {mode}" + ("" if old is None else ", as before")
    else:
        yield f"The feed is {mode}; before, it was {old['mode']}"


def _asked(
    decision: Record,
    old_rung: str | None,
    values: Sequence[Record],
    was: Mapping[tuple[str, str], Record],
) -> Iterator[str]:
    yield ""
    by_another = "" if old_rung in (None, decision["rung"]) else f" (before: by {old_rung})"
    yield f"Required by {decision['rung']}{by_another}, before any rule"
    for value in values:
        old = was.get(_value(value))
        name = f"  {value['side']} {value['kind']}".ljust(20)
        now = value["required_rate"]
        yield f"{name} {_percent(now) if old is None else _change(old['required_rate'], now)}"


def _rules(traces: Sequence[Record], all_values: int) -> Iterator[str]:
    """The traces in order; those that say the same of several values on one line."""
    yield ""
    if not traces:
        yield "No rule moved anything: what is served is what is required"
        return
    yield "Rule by rule"
    for (rule, name, why), group in groupby(traces, lambda t: (t["rule"], t["name"], t["why"])):
        label = f"rule {rule}, {name}" if rule else name
        yield f"  {label}: {why}"
        steps = [t for t in group if t["before"] is not None or t["after"] is not None]
        alike = {(t["before"], t["after"]) for t in steps}
        if len(steps) == all_values > 1 and len(alike) == 1:
            yield f"    all values  {_step(steps[0])}"
            continue
        for t in steps:
            place = " ".join(str(x) for x in (t["side"], t["kind"]) if x is not None) or "all values"
            yield f"    {place.ljust(18)} {_step(t)}"


def _held_back(values: Sequence[Record]) -> Iterator[str]:
    yield ""
    held = [v for v in values if v["required_rate"] - v["served_rate"] > _NOTHING_HELD]
    if not held:
        yield "Nothing is held back: every value served is at least what is required"
        return
    yield "Held back: the rules serve less than is required"
    for v in held:
        name = f"  {v['side']} {v['kind']}".ljust(20)
        by = f", by {', '.join(v['rules'])}" if v["rules"] else ""
        yield (
            f"{name} {_percent(v['required_rate'] - v['served_rate'])} of notional "
            f"(required {_percent(v['required_rate'])}, served {_percent(v['served_rate'])}){by}"
        )


def _reasons(
    told: Sequence[Record], values: Sequence[Record], was: Mapping[tuple[str, str], Record]
) -> Iterator[str]:
    """The model's own reasons, of the value whose requirement moved most."""
    if not values:
        return

    def move(value: Record) -> float:
        old = was.get(_value(value))
        return 0.0 if old is None else abs(value["required_rate"] / old["required_rate"] - 1)

    most = max(values, key=move)
    entry = next((e for e in told if (e["side"], e["kind"]) == _value(most)), None)
    if entry is None:
        return
    yield ""
    yield (
        f"Why the model requires {_percent(most['required_rate'])} of a {most['side']} ({most['kind']}), "
        f"where {entry['against']} would require {_percent(entry['average_rate'])}"
    )
    for reason in entry["reasons"]:
        yield f"  {reason['words']}"


def _value(value: Record) -> tuple[str, str]:
    return value["side"], value["kind"]


def _concerns(trace: Record, told: set[tuple[str, str]]) -> bool:
    return any(trace["side"] in (None, side) and trace["kind"] in (None, kind) for side, kind in told)


def _step(trace: Record) -> str:
    before, after = trace["before"], trace["after"]
    if before is None or after is None:
        return _percent(after if before is None else before)
    return _change(before, after)


def _verb(old: float, new: float) -> str:
    return "rises" if new > old else "falls" if new < old else "moves"


def _percent(rate: float, digits: int = 2) -> str:
    return f"{100 * rate:.{digits}f} %"


def _change(old: float, new: float) -> str:
    """Two rates with as many digits as it takes to tell them apart."""
    if old == new:
        return f"{_percent(new)}, unchanged"
    for digits in range(2, _MOST_DIGITS + 1):
        if _percent(old, digits) != _percent(new, digits):
            return f"{_percent(old, digits)} -> {_percent(new, digits)}"
    return f"{_percent(old)} -> {_percent(new)} ({_verb(old, new)} by less than a millionth of a percent)"
