"""Frozen values to JSON and back, and what counts as a number.

``plain`` and ``read`` are strict, for what the engine itself wrote. ``encode`` and ``decode`` keep whatever
arrived from outside, NaN included, so that a decision on bad input can be made again.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, TypeGuard, get_args, get_origin, get_type_hints

#: long initial, long maintenance, short initial, short maintenance.
Rates = tuple[float, float, float, float]

_LARGEST: Final = sys.float_info.max


class StateError(ValueError):
    """A stored state or input cannot be read back; the message names the field, its value and the remedy."""


def is_number(value: object) -> TypeGuard[float]:
    """A finite real number, and not a truth value."""
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False
    return -_LARGEST <= value <= _LARGEST


def is_rates(values: object) -> TypeGuard[Rates]:
    """Four finite numbers above 0."""
    if not isinstance(values, tuple) or len(values) != 4:
        return False
    a, b, c, d = values
    if type(a) is type(b) is type(c) is type(d) is float:  # nearly always
        return 0.0 < a <= _LARGEST and 0.0 < b <= _LARGEST and 0.0 < c <= _LARGEST and 0.0 < d <= _LARGEST
    return all(is_number(v) and v > 0 for v in values)


def is_pair(values: object) -> TypeGuard[tuple[float, float]]:
    """Two finite numbers above 0."""
    return isinstance(values, tuple) and len(values) == 2 and all(is_number(v) and v > 0 for v in values)


def unreadable(field: str, value: object, expected: str) -> StateError:
    return StateError(
        f"{field} is {value!r}; it must be {expected}; "
        f"restore the stored text, or start the contract anew with EngineState()"
    )


def plain(value: Any) -> Any:
    """A dataclass or named tuple as an object of its fields, a tuple as a list, anything else as it is."""
    kind: Any = type(value)
    names = _names(kind)
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def read(kind: Any, content: Any, field: str) -> Any:
    """What ``plain`` wrote, as a value of type ``kind``. Raises ``StateError`` for anything else."""
    if isinstance(kind, types.UnionType):
        own = next(k for k in get_args(kind) if k is not types.NoneType)
        return None if content is None else read(own, content, field)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(content, list | tuple):
            raise unreadable(field, content, "a list")
        if inner[-1] is Ellipsis:
            inner = (inner[0],) * len(content)
        if len(inner) != len(content):
            raise unreadable(field, content, f"a list of {len(inner)}")
        pairs = enumerate(zip(inner, content, strict=True))
        return tuple(read(k, c, f"{field}[{i}]") for i, (k, c) in pairs)
    names = _names(kind)
    if names is not None:
        _check_keys(kind, content, field)
        hints = _hints(kind)
        return kind(**{name: read(hints[name], content[name], f"{field}.{name}") for name in names})
    if kind is float:
        if not is_number(content):
            raise unreadable(field, content, "a finite number")
    elif type(content) is not kind:
        raise unreadable(field, content, f"of type {kind.__name__}")
    return content


class Foreign:
    """Something that arrived and has no place here, read back: all that is left of it is its text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foreign) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def encode(value: Any, kind: Any = None) -> Any:
    """Strict JSON of whatever arrived: a ``kind`` as an object of its fields, numbers that are not finite by
    name, a list apart from a tuple (which the rules believe), anything else by its text.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if is_number(value) else {"float": repr(float(value))}
    if isinstance(value, list):
        return {"list": [encode(v) for v in value]}
    if kind is not None and isinstance(value, kind):
        names: tuple[str, ...] = _names(kind) or ()
        return {name: encode(getattr(value, name)) for name in names}
    return [encode(v) for v in value] if type(value) is tuple else {"foreign": repr(value)}


def decode(value: Any, kind: type | None = None) -> Any:
    """What ``encode`` wrote. Raises ``StateError`` for an object that is none of its own, and no ``kind``."""
    if isinstance(value, list):
        return tuple(decode(v) for v in value)
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"float"}:
        return float(value["float"])
    if set(value) == {"list"}:
        return [decode(v) for v in value["list"]]
    if set(value) == {"foreign"}:
        return Foreign(value["foreign"])
    if kind is None:
        raise unreadable("value", dict(value), "a number, text or list")
    _check_keys(kind, value, kind.__name__)
    return kind(**{name: decode(v) for name, v in value.items()})


def _check_keys(kind: Any, content: Any, field: str) -> None:
    wanted = set(_names(kind) or ())
    if not isinstance(content, Mapping) or set(content) != wanted:
        shown = sorted(content) if isinstance(content, Mapping) else content
        raise unreadable(field, shown, f"an object with exactly {sorted(wanted)}")


@cache
def _names(kind: Any) -> tuple[str, ...] | None:
    if is_dataclass(kind):
        return tuple(f.name for f in fields(kind))
    return getattr(kind, "_fields", None)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
