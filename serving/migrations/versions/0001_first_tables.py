"""The first tables: bars, contracts, decisions and the publication number."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bars",
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("interval_s", sa.Integer(), primary_key=True),
        sa.Column("symbol", sa.String(64), primary_key=True),
        sa.Column("open_time", sa.BigInteger(), primary_key=True),
        *(
            sa.Column(name, sa.Float(53), nullable=False)
            for name in ("open", "high", "low", "close", "volume")
        ),
        *(
            sa.Column(name, sa.Float(53))
            for name in ("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")
        ),
    )
    op.create_index("bars_by_time", "bars", ["source", "interval_s", "open_time"])
    op.create_table(
        "contracts",
        sa.Column("symbol", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer(), nullable=False, unique=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("decided_close", sa.BigInteger()),
        sa.Column("state", sa.JSON()),
        sa.Column("memory", sa.JSON()),
        sa.Column("published", sa.JSON()),
    )
    op.create_table(
        "decisions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("symbol", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("decision_time", sa.BigInteger()),
        sa.Column("made_at", sa.Float(53), nullable=False),
        sa.Column("trigger", sa.String(8), nullable=False),
        sa.Column("rung", sa.String(16), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.UniqueConstraint("symbol", "seq", name="one_decision_a_number"),
    )
    op.create_index(
        "one_decision_a_bar",
        "decisions",
        ["symbol", "decision_time"],
        unique=True,
        sqlite_where=sa.text("trigger = 'bar'"),
        postgresql_where=sa.text("trigger = 'bar'"),
    )
    publication = op.create_table(
        "publication",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(publication, [{"id": 1, "version": 0}])


def downgrade() -> None:
    for table in ("publication", "decisions", "contracts", "bars"):
        op.drop_table(table)
