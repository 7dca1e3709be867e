"""Bars once each, decisions once each, one decider: on SQLite and on PostgreSQL."""

import numpy as np
import pytest
from sqlalchemy import Engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError

from serving.store.bars import ContradictionError, SymbolBars, add_bars, newest_close, read_bars, read_closes
from serving.store.decisions import (
    NewDecision,
    SecondDeciderError,
    list_contracts,
    publication,
    read_contracts,
    save_decisions,
)
from serving.store.engine import StoreError, store_engine
from serving.store.lease import sole_decider
from serving.store.migrate import migrate
from serving.store.tables import Bar, Base, DecisionRow

HOUR = 3600


def bars(first: int, count: int, value: float = 1.0) -> SymbolBars:
    values = np.full((count, 9), value) + np.arange(count)[:, None]
    return SymbolBars(np.arange(first, first + count) * HOUR, values)


def decision(seq: int, trigger: str = "bar", time: int = HOUR) -> NewDecision:
    return NewDecision(
        "A", seq, trigger, time, float(time), "rules", "fresh", "fhs", {"n": seq}, {"s": seq}, {}, {"p": seq}
    )


def test_migrations_make_the_tables_of_the_models_and_run_once(engine: Engine) -> None:
    migrate(engine)
    made = inspect(engine)
    assert set(Base.metadata.tables) <= set(made.get_table_names())
    for name, table in Base.metadata.tables.items():
        assert {c["name"]: c["nullable"] for c in made.get_columns(name)} == {
            c.name: c.nullable for c in table.columns
        }
        assert {i["name"] for i in made.get_indexes(name)} >= {i.name for i in table.indexes}


def test_a_newer_store_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version"):
        migrate(engine)


def test_a_store_in_no_folder_is_refused() -> None:
    with pytest.raises(StoreError, match="does not exist"):
        store_engine("sqlite:////nowhere/at/all.db")


def test_bars_are_stored_once_and_read_back_to_the_bit(engine: Engine) -> None:
    values = np.random.default_rng(1).random((5, 9))
    values[:, 6] = np.nan
    batch = SymbolBars(np.arange(1, 6) * HOUR, values)
    with engine.begin() as connection:
        assert add_bars(connection, "feed", HOUR, {"A": batch}).repeats == 0
    with engine.begin() as connection:
        again = add_bars(connection, "feed", HOUR, {"A": batch, "B": bars(1, 2)})
        assert (again.repeats, set(again.new)) == (5, {"B"})
        found = read_bars(connection, "feed", HOUR, "A", 2 * HOUR)
        assert found.closes_s.tolist() == [2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR]
        np.testing.assert_array_equal(found.values, values[1:])
        times, prices = read_closes(connection, "feed", HOUR, "A", 3 * HOUR)
        assert times.tolist() == [HOUR, 2 * HOUR, 3 * HOUR]
        np.testing.assert_array_equal(prices, values[:3, 3])
        assert newest_close(connection, "feed", HOUR) == 5 * HOUR
        assert newest_close(connection, "other", HOUR) is None


def test_a_contradiction_stores_nothing_of_its_batch(engine: Engine) -> None:
    with engine.begin() as connection:
        add_bars(connection, "feed", HOUR, {"A": bars(3, 1)})
    changed = bars(2, 2)
    changed.values[1] = 1.0
    changed.values[1, 3] = 7.0
    with pytest.raises(ContradictionError) as caught, engine.begin() as connection:
        add_bars(connection, "feed", HOUR, {"B": bars(1, 3), "A": changed})
    error = caught.value
    assert (error.symbol, error.row, error.column) == ("A", 1, "close")
    assert (error.stored, error.sent) == (1.0, 7.0)
    with engine.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(Bar)) == 1
        # Another source says something else about the same bar, and may.
        assert add_bars(connection, "second", HOUR, {"A": changed}).repeats == 0


def test_contracts_keep_their_order_of_arrival(engine: Engine) -> None:
    with engine.begin() as connection:
        list_contracts(connection, ["Z", "A"])
        list_contracts(connection, ["A", "M"])
        assert [c.symbol for c in read_contracts(connection)] == ["Z", "A", "M"]


def test_decision_and_state_are_stored_together(engine: Engine) -> None:
    with engine.begin() as connection:
        list_contracts(connection, ["A"])
        assert publication(connection) == 0
        assert save_decisions(connection, [decision(1)]).version == 1
        assert save_decisions(connection, [decision(2, "tick")]).version == 2
        (stored,) = read_contracts(connection)
    assert (stored.seq, stored.decided_close, stored.state) == (2, HOUR, {"s": 2})
    assert stored.published == {"p": 2}


@pytest.mark.parametrize("seq", [1, 3])
def test_a_decision_that_does_not_follow_the_newest_is_refused(engine: Engine, seq: int) -> None:
    with engine.begin() as connection:
        list_contracts(connection, ["A"])
        save_decisions(connection, [decision(1)])
    with pytest.raises(SecondDeciderError, match="another"), engine.begin() as connection:
        save_decisions(connection, [decision(seq, "tick")])
    with engine.begin() as connection:
        assert publication(connection) == 1


def test_a_bar_cannot_be_decided_twice(engine: Engine) -> None:
    with engine.begin() as connection:
        list_contracts(connection, ["A"])
        save_decisions(connection, [decision(1)])
        save_decisions(connection, [decision(2, "model")])
    with pytest.raises(IntegrityError), engine.begin() as connection:
        save_decisions(connection, [decision(3)])
    with engine.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(DecisionRow)) == 2
        assert read_contracts(connection)[0].seq == 2


def test_what_is_not_json_is_not_stored(engine: Engine) -> None:
    broken = decision(1)
    broken.record["x"] = float("nan")
    with engine.begin() as connection:
        list_contracts(connection, ["A"])
    with pytest.raises(Exception, match="JSON compliant"), engine.begin() as connection:
        save_decisions(connection, [broken])


def test_one_process_decides(engine: Engine) -> None:
    other = store_engine(engine.url.render_as_string(hide_password=False))
    pauses: list[float] = []
    with sole_decider(engine):
        with (
            pytest.raises(StoreError, match="another server decides"),
            sole_decider(other, wait_s=0.6, pause=pauses.append),
        ):
            raise AssertionError("two hold the lease")
        assert len(pauses) == 2
    with sole_decider(other, wait_s=0):
        pass
    other.dispose()
