"""Trees as RFC 6962 has them, against hashes written out by hand."""

from __future__ import annotations

from hashlib import sha256

import pytest

from serving.audit.merkle import path, root, root_by_path

#: The texts and roots that Certificate Transparency implementations test themselves with.
_KNOWN_TEXTS = [bytes.fromhex(t).decode("latin-1") for t in ("", "00", "10", "2021", "3031")]


def leaf(text: str) -> bytes:
    return sha256(b"\x00" + text.encode()).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def test_roots_that_others_publish() -> None:
    assert root([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root(_KNOWN_TEXTS[:1]) == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root(_KNOWN_TEXTS[:2]) == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert root(_KNOWN_TEXTS[:3]) == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert root(_KNOWN_TEXTS[:4]) == "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
    assert root(_KNOWN_TEXTS[:5]) == "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"


def test_the_left_half_is_a_power_of_two() -> None:
    a, b, c = (leaf(t) for t in "abc")
    assert root(["a", "b", "c"]) == node(node(a, b), c).hex()
    assert path(["a", "b", "c"], 1) == [a.hex(), c.hex()]
    assert path(["a", "b", "c"], 2) == [node(a, b).hex()]


@pytest.mark.parametrize("size", [*range(1, 10), 64, 65, 300])
def test_every_leaf_has_a_path_to_the_root_and_to_no_other(size: int) -> None:
    texts = [f"text {i}" for i in range(size)]
    top = root(texts)
    for i in range(0, size, max(1, size // 13)):
        nodes = path(texts, i)
        assert root_by_path(texts[i], i, size, nodes) == top
        assert root_by_path("another", i, size, nodes) != top
        if size > 1:
            changed = [*nodes[:-1], "0" * 64]
            assert root_by_path(texts[i], i, size, changed) != top


def test_order_and_each_text_matter() -> None:
    assert len({root(["a", "b"]), root(["b", "a"]), root(["a"]), root(["a", "b", "b"]), root(["ab"])}) == 5


def test_a_node_is_no_leaf() -> None:
    inner = (leaf("a") + leaf("b")).decode("latin-1")
    assert root([inner]) != root(["a", "b"])


def test_what_is_no_path_is_refused() -> None:
    texts = ["a", "b", "c"]
    with pytest.raises(IndexError, match="no leaf 3 among 3"):
        path(texts, 3)
    with pytest.raises(ValueError, match="leaf 3 of 3"):
        root_by_path("a", 3, 3, [])
    with pytest.raises(ValueError, match="has 1 hashes; leaf 0 of 3 needs 2"):
        root_by_path("a", 0, 3, ["0" * 64])
    with pytest.raises(ValueError, match="no hash"):
        root_by_path("c", 2, 3, ["00"])
