"""Values to JSON and back: strict for what the engine wrote, faithful for whatever arrived."""

import json
import math
from typing import NamedTuple

import pytest

from models.margin.codec import Foreign, StateError, decode, encode, is_pair, plain, read
from models.margin.types import Candidate, EngineState, Health, Judged, Served


class Point(NamedTuple):
    x: float
    name: str | None


def test_what_counts_as_a_pair() -> None:
    assert is_pair((0.1, 2))
    junk = (
        None,
        (0.1,),
        (0.1, 0.1, 0.1),
        [0.1, 0.1],
        (0.1, 0.0),
        (0.1, -1.0),
        (math.nan, 0.1),
        ("a", "b"),
        "ab",
    )
    assert not any(is_pair(v) for v in junk)


def test_plain_and_read_are_each_others_inverse() -> None:
    points = (Point(1.5, None), Point(2.0, "b"))
    assert plain(points) == [{"x": 1.5, "name": None}, {"x": 2.0, "name": "b"}]
    assert read(tuple[Point, ...], plain(points), "points") == points
    assert read(tuple[Point, ...], [], "points") == ()
    assert read(tuple[float, int], [1, 2], "pair") == (1, 2)
    health = Health(3, ((1, 3), ()), Judged(1.0, 2.0, (0.1, 0.2)), True)
    assert read(Health, json.loads(json.dumps(plain(health))), "health") == health


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (float, math.nan, "a is nan; it must be a finite number"),
        (float, "1", "a is '1'; it must be a finite number"),
        (float, True, "a is True; it must be a finite number"),
        (int, 1.0, "a is 1.0; it must be of type int"),
        (int, True, "a is True; it must be of type int"),
        (bool, 1, "a is 1; it must be of type bool"),
        (str, None, "a is None; it must be of type str"),
        (tuple[float, float], [1.0], r"a is \[1.0\]; it must be a list of 2"),
        (tuple[float, ...], "ab", "a is 'ab'; it must be a list"),
        (tuple[float, ...], [1.0, None], r"a\[1\] is None; it must be a finite number"),
        (Point, {"x": 1.0}, r"a is \['x'\]; it must be an object with exactly \['name', 'x'\]"),
        (Point, {"x": 1.0, "name": None, "z": 1}, r"a is \['name', 'x', 'z'\]; it must be an object"),
        (Point, [1.0, None], r"a is \[1.0, None\]; it must be an object"),
        (Point, {"x": None, "name": None}, "a.x is None; it must be a finite number"),
        (str | None, 1.0, "a is 1.0; it must be of type str"),
    ],
)
def test_what_the_engine_did_not_write_is_refused(kind, content, message) -> None:
    with pytest.raises(StateError, match=f"{message}.*; restore the stored text, or start the contract anew"):
        read(kind, content, "a")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (10**400, 10**400),
        ("x", "x"),
        (0.1, 0.1),
        (-0.0, -0.0),
        (math.inf, {"float": "inf"}),
        (-math.inf, {"float": "-inf"}),
        ((1.0, (2.0, None)), [1.0, [2.0, None]]),
        ([1.0, (2.0,)], {"list": [1.0, [2.0]]}),
        ((), []),
    ],
)
def test_whatever_arrives_is_written_as_strict_json_and_read_back(value, written) -> None:
    assert encode(value) == written
    text = json.dumps(encode(value), allow_nan=False)
    again = decode(json.loads(text))
    assert again == value
    assert type(again) is type(value)


def test_nan_survives_and_a_foreign_object_is_its_text() -> None:
    assert math.isnan(decode(json.loads(json.dumps(encode(math.nan)))))
    for thing in ({1, 2}, {"a": math.nan}, 2j, Point(1.0, "a")):
        again = decode(json.loads(json.dumps(encode(thing), allow_nan=False)))
        assert again == Foreign(repr(thing))
        assert again != Foreign("other")
        assert again != repr(thing)
        assert repr(again) == repr(thing)
        assert encode(again) == encode(thing)
        assert len({again, Foreign(repr(thing))}) == 1


def test_an_object_of_other_fields_is_refused() -> None:
    candidate = Candidate("rules", (0.1,) * 4, (0.1,) * 4, 0.0, 1.0)
    content = encode(candidate, Candidate)
    assert decode(content, Candidate) == candidate
    assert encode(candidate) == {"foreign": repr(candidate)}
    del content["var"]
    with pytest.raises(StateError, match=r"Candidate is .* it must be an object with exactly"):
        decode(content, Candidate)
    with pytest.raises(StateError, match=r"value is \{'a': 1\}; it must be a number, text or list"):
        decode([{"a": 1}])
    for kind in ("float", "list", "foreign"):
        with pytest.raises(StateError, match="it must be a number, text or list"):
            decode({kind: "1", "z": 1})
    with pytest.raises(StateError, match="it must be a number, text or list"):
        decode({})


def test_a_memory_has_rates_exactly_where_something_was_served() -> None:
    served = EngineState(served=(Served(0.0, (0.1,) * 4, None),), rates=(0.1,) * 4).to_json()
    with pytest.raises(StateError, match=r"rates is None; it must be there with what was served"):
        EngineState.from_json(served | {"rates": None})
    with pytest.raises(StateError, match=r"rates is .* and absent without"):
        EngineState.from_json(served | {"served": []})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buffer": [0.0, -0.1, 0.0, 0.0]}, "buffer is .* at least 0"),
        ({"waiting_s": [0.0, None, None]}, "waiting_s is .* a list of 4"),
        ({"since_s": [0.0, None, 0.0, 0.0]}, r"since_s\[1\] is None"),
        ({"out_of_band": [1.0, 0.0]}, r"out_of_band\[0\] is 1.0; it must be of type int"),
        ({"breaker_until_s": math.inf}, "breaker_until_s is inf"),
        ({"resumed_s": "now"}, "resumed_s is 'now'"),
        ({"base_rates": [0.1, 0.1, 0.1, 0.0]}, "base_rates is .* four finite numbers above 0"),
        ({"open": [{"time_s": 0.0, "close": -1.0, "var": [0.1] * 4, "breaker": None}]}, "close is -1.0"),
        ({"rung": "best"}, "rung is 'best'"),
        ({"health": {}}, "health is .* an object with exactly"),
        ({"health": plain(Health(waiting=Judged(0.0, 0.0, (0.1, 0.1))))}, "health.waiting.close is 0.0"),
    ],
)
def test_each_part_of_a_memory_is_checked(change, message) -> None:
    with pytest.raises(StateError, match=message):
        EngineState.from_json(EngineState().to_json() | change)


def test_open_times_out_of_order_are_refused(served) -> None:
    content = served((0.2, 0.1, 0.2, 0.1)).to_json()
    content["open"] = [*content["open"], content["open"][0] | {"time_s": 0.0}]
    with pytest.raises(StateError, match=r"open is .* in order of time"):
        EngineState.from_json(content)
