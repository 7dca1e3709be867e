"""Orders taken, confirmed, ended and written down, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError

from serving.audit.chain import genesis
from serving.errors import (
    InvalidInputError,
    OverrideConflictError,
    RefusedError,
    UnknownOverrideError,
    UnknownSymbolError,
)
from serving.overrides.book import DOMAIN
from serving.overrides.desk import MOST_OVER, OverrideDesk
from serving.store.engine import store_engine
from serving.store.overrides import read_events
from serving.store.tables import OverrideEvent

Make = Callable[..., Any]


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    """Number, order, event and identity of every row."""
    with engine.begin() as connection:
        found = connection.execute(
            select(
                OverrideEvent.seq, OverrideEvent.override, OverrideEvent.event, OverrideEvent.identity
            ).order_by(OverrideEvent.seq)
        )
        return [tuple(row) for row in found]


def ids(desk: OverrideDesk, symbol: str, now_s: float) -> list[str]:
    return [o.id for o in desk.in_force(symbol, now_s).orders]


def test_an_order_stands_at_once_and_is_a_row(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(engine)
    taken = desk.set(order(kind="floor", multiplier=2.5, symbol="A"), "ana", now_s)
    assert (taken["id"], taken["state"], taken["symbol"], taken["multiplier"]) == ("o1", "standing", "A", 2.5)
    assert taken["history"][0]["by"] == "ana"
    assert taken["expires_at"] == "2023-11-14T23:13:20Z"
    assert ids(desk, "A", now_s) == ["o1"]
    assert ids(desk, "B", now_s) == []
    ended = desk.end("o1", "ben", "calm again", now_s + 5)
    assert ended["state"] == "ended"
    assert ended["history"][1]["reason"] == "calm again"
    assert ids(desk, "A", now_s + 5) == []
    assert rows(engine) == [(1, "o1", "set", "ana"), (2, "o1", "ended", "ben")]


def test_with_two_persons_an_order_waits_for_another(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(engine, two_person=True)
    assert desk.set(order(), "ana", now_s)["state"] == "pending"
    assert ids(desk, "A", now_s) == []
    for same in ("ana", "Ana", "ANA"):
        with pytest.raises(OverrideConflictError, match="cannot be the second person") as caught:
            desk.confirm("o1", same, now_s)
        assert caught.value.body["error"]["field"] == "by"
    assert ids(desk, "A", now_s) == []
    assert desk.confirm("o1", "ben", now_s)["state"] == "standing"
    assert ids(desk, "A", now_s) == ["o1"]
    with pytest.raises(OverrideConflictError, match="o1 is standing; there is nothing to confirm"):
        desk.confirm("o1", "eve", now_s)
    assert desk.end("o1", "ana", "over", now_s)["state"] == "ended", (
        "an end restores the rules: one is enough"
    )
    assert [r[2] for r in rows(engine)] == ["set", "confirmed", "ended"]


def test_with_two_persons_a_kill_switch_is_set_by_one_and_ended_by_two(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(engine, two_person=True)
    assert desk.set(order(kind="kill"), "ana", now_s)["state"] == "standing"
    assert ids(desk, "B", now_s) == ["o1"]
    assert desk.end("o1", "ana", "the model is back", now_s)["state"] == "ending"
    assert ids(desk, "B", now_s) == ["o1"]
    for again in ("ana", "ben"):
        with pytest.raises(OverrideConflictError, match="ana asked for the end of o1 already"):
            desk.end("o1", again, "really", now_s)
    with pytest.raises(OverrideConflictError, match="ana asked for its end, and cannot be the second"):
        desk.confirm("o1", "ana", now_s)
    ended = desk.confirm("o1", "ben", now_s)
    assert ended["state"] == "ended"
    assert [(e["event"], e["by"], e["reason"]) for e in ended["history"]] == [
        ("set", "ana", "a test"),
        ("end asked", "ana", "the model is back"),
        ("ended", "ben", "the model is back"),
    ]
    assert ids(desk, "B", now_s) == []


def test_without_two_persons_one_ends_a_kill_switch(
    sqlite: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(sqlite)
    desk.set(order(kind="kill"), "ana", now_s)
    assert desk.end("o1", "ana", "over", now_s)["state"] == "ended"


def test_a_pending_order_is_withdrawn_by_one(
    sqlite: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(sqlite, two_person=True)
    desk.set(order(), "ana", now_s)
    assert desk.end("o1", "ana", "a mistake", now_s)["state"] == "ended"
    with pytest.raises(OverrideConflictError, match="o1 is ended"):
        desk.confirm("o1", "ben", now_s)


def test_what_needed_a_second_person_still_does_when_the_setting_is_off(
    sqlite: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    make_desk(sqlite, two_person=True).set(order(), "ana", now_s)
    desk = make_desk(sqlite, two_person=False)
    assert ids(desk, "A", now_s) == []
    with pytest.raises(OverrideConflictError, match="second person"):
        desk.confirm("o1", "ana", now_s)
    desk.confirm("o1", "ben", now_s)
    assert ids(desk, "A", now_s) == ["o1"]


REFUSED: list[tuple[str, Callable[[OverrideDesk, Make, float], Any], type[RefusedError]]] = [
    ("unknown symbol", lambda d, o, t: d.set(o(symbol="X"), "ana", t), UnknownSymbolError),
    ("in the past", lambda d, o, t: d.set(o(lasts_s=-1.0), "ana", t), InvalidInputError),
    ("too long", lambda d, o, t: d.set(o(lasts_s=86401.0), "ana", t), InvalidInputError),
    ("no multiplier", lambda d, o, t: d.set(o(kind="cap"), "ana", t), InvalidInputError),
    ("above the cap", lambda d, o, t: d.set(o(kind="floor", multiplier=2.1), "ana", t), InvalidInputError),
    ("above the pending cap", lambda d, o, t: d.set(o(kind="floor", multiplier=1.6, symbol="B"), "ana", t),
     InvalidInputError),
    ("beyond the limits", lambda d, o, t: d.set(o(kind="cap", multiplier=99.0), "ana", t), InvalidInputError),
    ("no such order to confirm", lambda d, _, t: d.confirm("o9", "ana", t), UnknownOverrideError),
    ("no such order to end", lambda d, _, t: d.end("1", "ana", "x", t), UnknownOverrideError),
    ("nothing to confirm", lambda d, _, t: d.confirm("o3", "ana", t), OverrideConflictError),
    ("over", lambda d, _, t: d.end("o3", "ana", "x", t), OverrideConflictError),
    ("its time is up", lambda d, _, t: d.end("o1", "ana", "x", t + 3600), OverrideConflictError),
    ("confirmed too late", lambda d, _, t: d.confirm("o5", "eve", t + 3600), OverrideConflictError),
]  # fmt: skip


def test_what_is_refused_leaves_everything_as_it_was(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(engine)
    desk.set(order(kind="cap", multiplier=2.0), "ana", now_s)
    desk.set(order(kind="floor", multiplier=1.0, symbol="A"), "ana", now_s)
    desk.set(order(), "ana", now_s)  # o3
    desk.end("o3", "ana", "over", now_s)
    two = make_desk(engine, two_person=True)
    two.set(order(kind="cap", multiplier=1.5, symbol="B"), "ana", now_s)  # o5, pending
    desk.refresh()
    before, book = rows(engine), desk.book
    for name, ask, error in REFUSED:
        with pytest.raises(error) as caught:
            ask(desk, order, now_s)
        told = caught.value.body["error"]
        assert told["field"], name
        assert told["remedy"], name
        assert rows(engine) == before, name
        assert desk.book == book, name
        assert [ids(desk, s, now_s) for s in "AB"] == [["o1", "o2"], ["o1"]], name


def test_a_confirmation_is_checked_against_limits_that_became_narrower(
    sqlite: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    from models.margin.limits import Limits

    make_desk(sqlite, two_person=True).set(order(kind="floor", multiplier=8.0), "ana", now_s)
    desk = OverrideDesk(sqlite, Limits(cap_multiplier=5.0), two_person=True, longest_s=86400.0)
    with pytest.raises(InvalidInputError, match="at most cap_multiplier, 5"):
        desk.confirm("o1", "ben", now_s)
    assert len(rows(sqlite)) == 1


def test_a_restart_finds_every_order_and_goes_on_with_the_chain(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    before = make_desk(engine)
    before.set(order(kind="rung", rung="static"), "ana", now_s)
    before.set(order(kind="floor", multiplier=1.5, symbol="B", lasts_s=7200.0), "ben", now_s)
    before.end("o1", "ben", "over", now_s)
    after = make_desk(engine)
    assert after.book == before.book
    assert after.book.defects == ()
    assert ids(after, "B", now_s) == ["o2"]
    assert after.set(order(), "ana", now_s)["id"] == "o4"
    with engine.begin() as connection:
        events = read_events(connection)
    assert events[0].previous_hash == genesis(DOMAIN)
    assert [e.previous_hash for e in events[1:]] == [e.hash for e in events[:-1]]


def test_another_desk_on_the_store_sees_what_the_first_took(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    one, two = make_desk(engine), make_desk(engine)
    one.set(order(kind="cap", multiplier=2.0), "ana", now_s)
    assert ids(two, "A", now_s) == []
    with pytest.raises(InvalidInputError, match="at most 2, the cap of o1"):
        two.set(order(kind="floor", multiplier=3.0), "ben", now_s)
    two.refresh()
    assert ids(two, "A", now_s) == ["o1"]
    two.end("o1", "ben", "over", now_s)
    one.refresh()
    assert one.book == two.book


def test_orders_given_at_once_are_a_chain_all_the_same(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    """Two servers' desks, four threads."""
    engines = [engine, store_engine(engine.url.render_as_string(hide_password=False))]
    desks = [make_desk(e) for e in engines]
    failed: list[BaseException] = []

    def give(desk: OverrideDesk) -> None:
        try:
            for _ in range(5):
                desk.set(order(), "ana", now_s)
        except BaseException as error:  # told in the thread that asks
            failed.append(error)

    threads = [threading.Thread(target=give, args=(desks[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engines[1].dispose()
    assert failed == []
    last = make_desk(engine)
    assert (last.book.newest, last.book.defects) == (20, ())


def test_expiry_is_written_down_once(engine: Engine, make_desk: Make, order: Make, now_s: float) -> None:
    desk = make_desk(engine, two_person=True)
    desk.set(order(kind="kill", lasts_s=10.0), "ana", now_s)
    desk.set(order(lasts_s=20.0), "ana", now_s)
    desk.set(order(lasts_s=30.0), "ana", now_s)
    desk.end("o3", "ana", "a mistake", now_s)
    assert desk.note_expired(now_s + 9.5) == 0
    assert desk.note_expired(now_s + 10) == 1
    assert desk.note_expired(now_s + 25) == 1
    assert desk.note_expired(now_s + 50) == 0
    assert rows(engine)[-2:] == [(5, "o1", "expired", "server"), (6, "o2", "expired", "server")]


def test_two_desks_write_an_expiry_down_once(
    engine: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    one, two = make_desk(engine), make_desk(engine)
    one.set(order(lasts_s=10.0), "ana", now_s)
    two.refresh()
    assert one.note_expired(now_s + 11) == 1
    assert two.note_expired(now_s + 11) == 0
    assert [r[2] for r in rows(engine)] == ["set", "expired"]


@pytest.mark.parametrize(
    "change", ["UPDATE override_events SET identity = 'eve'", "DELETE FROM override_events"]
)
def test_rows_are_appended_only(
    engine: Engine, make_desk: Make, order: Make, now_s: float, change: str
) -> None:
    desk = make_desk(engine)
    desk.set(order(), "ana", now_s)
    with pytest.raises(DBAPIError, match="appended only"), engine.begin() as connection:
        connection.execute(text(change))
    assert rows(engine) == [(1, "o1", "set", "ana")]


def test_a_row_that_was_altered_all_the_same_is_told(
    sqlite: Engine, make_desk: Make, order: Make, now_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    make_desk(sqlite).set(order(kind="kill"), "ana", now_s)
    with sqlite.begin() as connection:
        connection.execute(text("DROP TRIGGER override_events_no_update"))
        connection.execute(text("UPDATE override_events SET identity = 'eve'"))
    desk = make_desk(sqlite)
    status = desk.status(now_s)
    assert status["defects"] == ["override event 1 was altered: its hash is another"]
    assert "was altered" in caplog.text
    assert ids(desk, "A", now_s) == ["o1"], "an order is not lifted by tampering with it"
    desk.refresh()
    assert len(desk.status(now_s)["defects"]) == 1


def test_the_list_tells_what_stands_waits_and_is_over(
    sqlite: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(sqlite, two_person=True)
    desk.set(order(), "ana", now_s)
    desk.set(order(kind="kill"), "ana", now_s)
    desk.end("o2", "ana", "x", now_s)
    desk.set(order(lasts_s=5.0), "ana", now_s)
    desk.set(order(), "ana", now_s)
    desk.end("o5", "ana", "x", now_s)
    found = desk.listing(now_s + 6)
    assert [(o["id"], o["state"]) for o in found["standing"]] == [("o2", "ending")]
    assert [(o["id"], o["state"]) for o in found["pending"]] == [("o1", "pending")]
    assert [(o["id"], o["state"]) for o in found["ended"]] == [("o5", "ended"), ("o4", "expired")]
    assert (found["newest_event"], found["head"]) == (6, desk.book.head)
    assert desk.status(now_s + 6) == {"pending": 1, "ending": 1, "kill_switch": True, "defects": []}


def test_of_what_is_over_the_newest_are_listed(
    sqlite: Engine, make_desk: Make, order: Make, now_s: float
) -> None:
    desk = make_desk(sqlite)
    for _ in range(MOST_OVER + 1):
        desk.set(order(lasts_s=1.0), "ana", now_s)
    found = desk.listing(now_s + 2)
    assert (len(found["ended"]), found["ended_in_all"]) == (MOST_OVER, MOST_OVER + 1)
    assert found["ended"][0]["id"] == f"o{MOST_OVER + 1}"
