r"""Chains of hashes: each link holds the hash of the one before, so nothing in between can be changed alone.

A link is SHA-256 of three lines: what the chain is of (its domain), the hash before, the content as
canonical JSON. The first link follows ``genesis``, SHA-256 of the domain's line alone. All hashes are 64
hexadecimal digits in lower case.

Canonical JSON is ASCII text: keys in order, no white space, everything beyond ASCII escaped (``\u00e9``),
floats in the fewest digits that read back to the same float (Python's ``repr``; ``-0.0`` stays, ``1.0`` is
not ``1``), integers of any size in full, no NaN and no infinity. Reading it and writing it again gives the
same text.

    >>> canonical({"b": [1, 1.0, -0.0], "a": "\u00e9"})
    '{"a":"\\u00e9","b":[1,1.0,-0.0]}'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

#: What json writes as objects and arrays.
_NESTED = (dict, list, tuple)
_HASH = re.compile(r"[0-9a-f]{64}")


class CanonicalText(str):
    """JSON text that ``canonical`` wrote. The store writes it as it is."""

    __slots__ = ()


def canonical(content: Any) -> CanonicalText:
    """The one text of a JSON value. Raises ``ValueError`` for NaN, infinity and keys that are no text (their
    order would change when they are read back), ``TypeError`` for what is no JSON value."""
    if isinstance(content, _NESTED):
        _refuse_keys(content)
    return CanonicalText(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False))


def digest(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return sha256(text.encode()).hexdigest()


def genesis(domain: str) -> str:
    """What the first link of a domain's chain follows. Raises ``ValueError`` for a domain that is empty or
    not one line."""
    return digest(f"{_line(domain)}\n")


def link(domain: str, previous: str, content: Mapping[str, Any]) -> str:
    """The hash of a link.

    Args:
        domain: what the chain is of, one line; links of different domains never have the same hash.
        previous: the hash of the link before, ``genesis(domain)`` for the first.
        content: what happened, JSON values.

    Raises ``ValueError`` for a ``previous`` that is no hash, and what ``genesis`` and ``canonical`` raise.
    """
    if not is_hash(previous):
        raise ValueError(
            f"the hash before is {previous!r}; give 64 hexadecimal digits in lower case, "
            f"genesis(domain) for the first link"
        )
    return digest(f"{_line(domain)}\n{previous}\n{canonical(dict(content))}")


def is_hash(value: object) -> bool:
    """Whether a value is written as a hash is."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _line(domain: str) -> str:
    if not domain or "\n" in domain or "\r" in domain:
        raise ValueError(f"the domain is {domain!r}; give one line of text")
    return domain


def _refuse_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(
                    f"key {key!r} is no text; canonical JSON has only keys of text: write {str(key)!r}"
                )
        items: Iterable[Any] = value.values()
    else:
        items = value
    for item in items:
        if isinstance(item, _NESTED):
            _refuse_keys(item)
