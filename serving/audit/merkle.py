"""Merkle trees as RFC 6962 (section 2.1) has them: one root binds many texts, a short path shows one of them.

A leaf's hash is SHA-256 of the byte 0 and the text, a node's SHA-256 of the byte 1 and the hashes of its two
halves, so that no node can be passed off as a leaf. The left half is the largest power of two below the
number of leaves. The root of no leaves is SHA-256 of nothing. Hashes are 64 hexadecimal digits in lower case.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def root(leaves: Sequence[str]) -> str:
    """The root over these texts, in this order."""
    return _root([_leaf(text) for text in leaves]).hex()


def path(leaves: Sequence[str], index: int) -> list[str]:
    """What shows that leaf ``index`` is under the root: the hashes beside its way up, the lowest first.
    Raises ``IndexError``."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"there is no leaf {index} among {len(leaves)}; they count from 0")
    return [node.hex() for node in _path([_leaf(text) for text in leaves], index)]


def root_by_path(leaf: str, index: int, size: int, nodes: Sequence[str]) -> str:
    """The root that a path leads to from leaf ``index`` of ``size``; compare it with the one that is known.

    Raises ``ValueError`` where the path is not as long as the tree is high, or holds what is no hash.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} of {size} does not exist; the index counts from 0")
    turns = _turns(index, size)
    if len(turns) != len(nodes):
        raise ValueError(f"the path has {len(nodes)} hashes; leaf {index} of {size} needs {len(turns)}")
    node = _leaf(leaf)
    for on_the_left, beside in zip(turns, nodes, strict=True):
        other = bytes.fromhex(beside)
        if len(other) != sha256().digest_size:
            raise ValueError(f"{beside!r} in the path is no hash; it must be 64 hexadecimal digits")
        node = _node(other, node) if on_the_left else _node(node, other)
    return node.hex()


def _leaf(text: str) -> bytes:
    return sha256(b"\x00" + text.encode()).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _half(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _root(hashes: list[bytes]) -> bytes:
    if not hashes:
        return sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    half = _half(len(hashes))
    return _node(_root(hashes[:half]), _root(hashes[half:]))


def _path(hashes: list[bytes], index: int) -> list[bytes]:
    if len(hashes) == 1:
        return []
    half = _half(len(hashes))
    left, right = hashes[:half], hashes[half:]
    if index < half:
        return [*_path(left, index), _root(right)]
    return [*_path(right, index - half), _root(left)]


def _turns(index: int, size: int) -> list[bool]:
    """By hash of a path, lowest first: whether it stands on the left."""
    if size == 1:
        return []
    half = _half(size)
    return [*_turns(index, half), False] if index < half else [*_turns(index - half, size - half), True]
