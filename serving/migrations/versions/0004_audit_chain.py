"""Decisions as chains of hashes, closed days with their roots, and both appended only.

Decisions that stand keep null hashes: a hash made now would vouch for what nobody watched. A migration that
copies one of these tables (Alembic's batch mode on SQLite) drops its triggers and must make them again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_APPENDED_ONLY = ("decisions", "day_roots")
_HASHES = ("previous_hash", "record_hash", "hash")


def upgrade() -> None:
    for name in _HASHES:
        op.add_column("decisions", sa.Column(name, sa.String(64)))
    op.add_column("contracts", sa.Column("head", sa.String(64)))
    op.add_column("publication", sa.Column("day", sa.String(10)))
    op.create_table(
        "day_roots",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("root", sa.String(64), nullable=False),
        sa.Column("leaves", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'rows of % are appended only', TG_TABLE_NAME; END $$"
        )
        for table in _APPENDED_ONLY:
            op.execute(
                f"CREATE TRIGGER {table}_appended_only BEFORE UPDATE OR DELETE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            )
            op.execute(
                f"CREATE TRIGGER {table}_never_emptied BEFORE TRUNCATE ON {table} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
        return
    for table in _APPENDED_ONLY:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are appended only'); END"
            )


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in _APPENDED_ONLY:
        if postgresql:
            op.execute(f"DROP TRIGGER {table}_appended_only ON {table}")
            op.execute(f"DROP TRIGGER {table}_never_emptied ON {table}")
        else:
            for change in ("update", "delete"):
                op.execute(f"DROP TRIGGER {table}_no_{change}")
    if postgresql:
        op.execute("DROP FUNCTION refuse_change()")
    op.drop_table("day_roots")
    for table, names in (("publication", ("day",)), ("contracts", ("head",)), ("decisions", _HASHES)):
        for name in names:
            op.drop_column(table, name)
