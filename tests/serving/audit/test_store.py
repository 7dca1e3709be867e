"""What the store itself does for the trail: it chains, refuses changes, and keeps what is older."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import SQLAlchemyError

from serving.audit.chain import canonical, digest, genesis
from serving.audit.seal import Columns, domain, hash_of, is_sealed
from serving.store.decisions import NewDecision, list_contracts, read_contracts, save_decisions
from serving.store.engine import StoreError, reading_engine, store_engine
from serving.store.migrate import MIGRATIONS, migrate
from serving.store.tables import DecisionRow
from serving.store.trail import find_decision, find_row, in_force, read_decisions, read_trail

HOUR = 3600
RECORD = {"b": [1, 0.1, -0.0, 2**70], "a": "é", "decision": {"values": []}}


def decision(seq: int, symbol: str = "A") -> NewDecision:
    return NewDecision(
        symbol, seq, "bar", seq * HOUR, seq * HOUR + 0.25, "rules", "fresh", "fhs", RECORD, {"s": seq}, {}, {}
    )


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with engine.begin() as connection:
        list_contracts(connection, ["A", "B"])
        save_decisions(connection, [decision(1), decision(1, "B")])
        save_decisions(connection, [decision(2)])
    return engine


def test_each_decision_is_chained_to_the_one_before(filled: Engine) -> None:
    trail = read_trail(filled)
    rows = {row.name: row for row in read_decisions(filled, trail.last_id)}
    assert rows["A/1"].previous_hash == genesis(domain("A")) != rows["B/1"].previous_hash
    assert rows["A/2"].previous_hash == rows["A/1"].hash
    for row in rows.values():
        assert row.record == canonical(RECORD)
        assert row.record_hash == digest(canonical(RECORD))
        assert row.hash == hash_of(row.columns, str(row.previous_hash), str(row.record_hash))
        assert is_sealed(row.columns, row.record, row.previous_hash, row.record_hash, row.hash)
    assert rows["A/1"].columns == Columns("A", 1, HOUR, HOUR + 0.25, "bar", "rules", "fresh", "fhs")
    assert {name: c.head for name, c in trail.contracts.items()} == {
        "A": rows["A/2"].hash,
        "B": rows["B/1"].hash,
    }
    with filled.begin() as connection:
        assert {c.symbol: c.head for c in read_contracts(connection)}["A"] == rows["A/2"].hash
        assert connection.scalars(select(DecisionRow.record)).first() == RECORD


def test_the_same_decisions_have_the_same_hashes_on_both_databases(filled: Engine) -> None:
    # Made once; a change of it breaks every chain that stands.
    heads = {name: c.head for name, c in read_trail(filled).contracts.items()}
    assert heads == {
        "A": "9727b327043d979671f49ad6f534ce2d79a92d871e1e6460379dc3bf80f7634b",
        "B": "0aa3819750e9ecf998031bd5352691e4d9c2354d190e8a2bbab0c7e74ef3e72f",
    }


def test_what_was_saved_tells_number_and_hashes(engine: Engine) -> None:
    with engine.begin() as connection:
        list_contracts(connection, ["A"])
        saved = save_decisions(connection, [decision(1)])
        (contract,) = read_contracts(connection)
    assert (saved.version, saved.hashes) == (1, {"A": contract.head})


@pytest.mark.parametrize("table", ["decisions", "day_roots"])
@pytest.mark.parametrize("change", ["UPDATE {} SET hash = hash", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_database_refuses_changes(filled: Engine, table: str, change: str) -> None:
    if "TRUNCATE" in change and filled.dialect.name == "sqlite":
        change = "DELETE FROM {}"  # SQLite has no other way to empty a table
    with filled.begin() as connection:
        late = NewDecision(**{**vars(decision(3)), "made_at": 5 * 86400.0})
        save_decisions(connection, [late])
    with pytest.raises(SQLAlchemyError, match="appended only"), filled.begin() as connection:
        connection.execute(text(change.format(table)))


def migrated_to(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_decisions_that_stood_before_keep_no_hash_and_the_chain_begins_after_them(database: str) -> None:
    engine = store_engine(database)
    migrated_to(engine, "0003")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO contracts (symbol, position, seq) VALUES ('A', 0, 1)"))
        connection.execute(
            text(
                "INSERT INTO decisions (symbol, seq, made_at, trigger, rung, mode, model_version, record) "
                "VALUES ('A', 1, 7.0, 'tick', 'cap', 'dead', '', :record)"
            ),
            {"record": '{"decision" :1}'},
        )
    reader = reading_engine(database)
    with pytest.raises(StoreError, match="older version"):
        read_trail(reader)
    migrate(engine)
    with engine.begin() as connection:
        save_decisions(connection, [decision(2)])
    trail = read_trail(reader)
    old, new = read_decisions(reader, trail.last_id)
    assert (old.previous_hash, old.record_hash, old.hash) == (None, None, None)
    assert json.loads(old.record) == {"decision": 1}
    assert new.previous_hash == genesis(domain("A"))
    reader.dispose()
    engine.dispose()


def test_the_migration_can_be_taken_back(database: str) -> None:
    engine = store_engine(database)
    migrate(engine)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    migrate(engine)
    with engine.begin() as connection:
        list_contracts(connection, ["A"])
        save_decisions(connection, [decision(1)])
    engine.dispose()


def test_decisions_are_found_by_number_row_and_time(filled: Engine) -> None:
    with filled.begin() as connection:
        second = find_decision(connection, "A", 2)
        assert second is not None
        assert find_row(connection, second.id) == second
        assert in_force(connection, "A", 2 * HOUR + 0.25) == second
        assert in_force(connection, "A", 2 * HOUR) == find_decision(connection, "A", 1)
        assert in_force(connection, "A", HOUR) is None
        assert find_decision(connection, "A", 3) is find_row(connection, 99) is None


def test_rows_are_read_in_pieces_up_to_the_moment_of_the_trail(
    filled: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.store.trail._ROWS", 2)
    trail = read_trail(filled)
    rows = read_decisions(filled, trail.last_id)
    first = next(rows)
    with filled.begin() as connection:
        save_decisions(connection, [decision(3)])
    assert [first.name, *(r.name for r in rows)] == ["A/1", "B/1", "A/2"]
    assert [r.name for r in read_decisions(filled, trail.last_id, "A")] == ["A/1", "A/2"]


def test_a_reader_cannot_write_and_makes_no_writer_wait(filled: Engine) -> None:
    reader = reading_engine(filled.url.render_as_string(hide_password=False))
    with reader.begin() as reading:
        assert reading.scalar(text("SELECT count(*) FROM decisions")) == 3
        with filled.begin() as connection:
            save_decisions(connection, [decision(3)])
        with pytest.raises(SQLAlchemyError, match=r"read-?only"):
            reading.execute(text("UPDATE contracts SET seq = 0"))
    reader.dispose()


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        reading_engine(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "no #% database.db"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        read_trail(reading_engine(f"sqlite:///{file}"))
