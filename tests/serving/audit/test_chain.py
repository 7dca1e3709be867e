"""Links of hashes: what they cover, and that their text survives being stored."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, Column, Engine, Integer, MetaData, Table, Text, cast, insert, select

from serving.audit.chain import canonical, digest, genesis, is_hash, link

DOMAIN = "foremargin.test/1"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_reading_the_text_and_writing_it_again_gives_the_same_text(value: Any) -> None:
    text = canonical(value)
    assert text.isascii()
    assert canonical(json.loads(text)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": 2, "B": 3}, '{"B":3,"a":2,"b":1}'),
        ([1, 1.0, -0.0, 0.0], "[1,1.0,-0.0,0.0]"),
        ((0.1, 1e16, 5e-324, 1.7976931348623157e308), "[0.1,1e+16,5e-324,1.7976931348623157e+308]"),
        (2**70, "1180591620717411303424"),
        ({"é": "\U0001f4c8\n"}, '{"\\u00e9":"\\ud83d\\udcc8\\n"}'),
        ([True, None], "[true,null]"),
    ],
)
def test_the_text_of_a_value(value: Any, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}])
def test_numbers_that_json_has_not_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(value)


def test_keys_that_are_no_text_are_refused() -> None:
    # As numbers 2 comes before 10, as the texts that are read back it does not.
    with pytest.raises(ValueError, match="key 2 is no text"):
        canonical([{"a": {2: 1, 10: 1}}])


def test_a_link_is_three_lines_and_the_first_follows_the_genesis() -> None:
    first = genesis(DOMAIN)
    assert first == sha256(b"foremargin.test/1\n").hexdigest()
    text = f'{DOMAIN}\n{first}\n{{"n":1}}'
    assert link(DOMAIN, first, {"n": 1}) == sha256(text.encode()).hexdigest() == digest(text)
    assert is_hash(first)
    assert not is_hash(first.upper())


def test_a_link_depends_on_its_domain_on_the_link_before_and_on_each_value() -> None:
    first = genesis(DOMAIN)
    made = {
        link(DOMAIN, first, {"a": 1, "b": 2}),
        link(DOMAIN + "x", first, {"a": 1, "b": 2}),
        link(DOMAIN, genesis(DOMAIN + "x"), {"a": 1, "b": 2}),
        link(DOMAIN, first, {"a": 1.0, "b": 2}),
        link(DOMAIN, first, {"a": 0.0, "b": 2}),
        link(DOMAIN, first, {"a": -0.0, "b": 2}),
        link(DOMAIN, first, {"a": "1", "b": 2}),
        link(DOMAIN, first, {"a": 1}),
    }
    assert len(made) == 8
    assert link(DOMAIN, first, {"b": 2, "a": 1}) in made


@pytest.mark.parametrize("previous", ["", "0" * 63, "G" * 64, "A" * 64])
def test_what_is_no_hash_is_not_linked_to(previous: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal"):
        link(DOMAIN, previous, {})


@pytest.mark.parametrize("domain", ["", "a\nb", "a\r"])
def test_a_domain_is_one_line(domain: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        genesis(domain)


def test_the_text_survives_both_databases(engine: Engine) -> None:
    value = {
        "zero": [0.0, -0.0],
        "integer": [2**63, -(2**70), 10**25],
        "float": [0.1 + 0.2, 1e16, 5e-324, 1.7976931348623157e308, 100.0],
        "text": '\x00 é \U0001f4c8 \\ " /',
        "": [],
    }
    table = Table("round_trip", MetaData(), Column("id", Integer, primary_key=True), Column("value", JSON))
    table.create(engine)
    text = canonical(value)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "value": value})
    with engine.begin() as connection:
        assert canonical(connection.scalar(select(table.c.value))) == text
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 2, "value": text})
        stored = connection.scalar(select(cast(table.c.value, Text)).where(table.c.id == 2))
    assert stored == text
